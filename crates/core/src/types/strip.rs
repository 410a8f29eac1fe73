//! What the engine does not read of types is left out of the workflow resource (spec 08 A15.3). Cache keys are
//! computed over stripped types.

use flyte_idl::core::{LiteralType, TypedInterface, literal_type::Type};

/// A top-level key of an annotation that keeps it: flytekit sets it where it belongs to the cache key.
const CACHE_KEY_METADATA: &str = "cache-key-metadata";

/// Clears descriptions, metadata of types, and annotations without the key `cache-key-metadata`, at every level.
pub fn strip(interface: &mut TypedInterface) {
    let maps = [&mut interface.inputs, &mut interface.outputs];
    for variable in maps
        .into_iter()
        .flatten()
        .flat_map(|map| map.variables.values_mut())
    {
        variable.description.clear();
        if let Some(literal_type) = &mut variable.r#type {
            strip_type(literal_type);
        }
    }
}

fn strip_type(literal_type: &mut LiteralType) {
    literal_type.metadata = None;
    let is_kept = literal_type
        .annotation
        .as_ref()
        .and_then(|annotation| annotation.annotations.as_ref())
        .is_some_and(|annotations| annotations.fields.contains_key(CACHE_KEY_METADATA));
    if !is_kept {
        literal_type.annotation = None;
    }
    if let Some(structure) = &mut literal_type.structure {
        structure.dataclass_type.values_mut().for_each(strip_type);
    }
    match &mut literal_type.r#type {
        Some(Type::CollectionType(inner) | Type::MapValueType(inner)) => strip_type(inner),
        Some(Type::UnionType(union)) => union.variants.iter_mut().for_each(strip_type),
        Some(Type::StructuredDatasetType(dataset)) => dataset
            .columns
            .iter_mut()
            .filter_map(|column| column.literal_type.as_mut())
            .for_each(strip_type),
        Some(Type::Simple(_) | Type::Schema(_) | Type::Blob(_) | Type::EnumType(_)) | None => {}
    }
}
