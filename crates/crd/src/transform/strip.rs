//! What the engine does not read of types is left out (spec 08 A15.3). Cache keys are computed over stripped
//! types, so both paths (embedded and offloaded closure) must strip alike.

use flyte_idl::core::{LiteralType, TypedInterface, VariableMap, literal_type::Type};

/// A top-level key of an annotation that keeps it: it is part of the cache key.
const CACHE_KEY_METADATA: &str = "cache-key-metadata";

pub(super) fn interface(interface: Option<&mut TypedInterface>) {
    if let Some(interface) = interface {
        for variables in [&mut interface.inputs, &mut interface.outputs]
            .into_iter()
            .flatten()
        {
            strip_variables(variables);
        }
    }
}

fn strip_variables(variables: &mut VariableMap) {
    for variable in variables.variables.values_mut() {
        variable.description.clear();
        if let Some(kind) = &mut variable.r#type {
            literal_type(kind);
        }
    }
}

fn literal_type(kind: &mut LiteralType) {
    kind.metadata = None;
    let kept = kind
        .annotation
        .as_ref()
        .and_then(|annotation| annotation.annotations.as_ref())
        .is_some_and(|annotations| annotations.fields.contains_key(CACHE_KEY_METADATA));
    if !kept {
        kind.annotation = None;
    }
    if let Some(structure) = &mut kind.structure {
        structure.dataclass_type.values_mut().for_each(literal_type);
    }
    match &mut kind.r#type {
        Some(Type::CollectionType(inner) | Type::MapValueType(inner)) => literal_type(inner),
        Some(Type::UnionType(union)) => union.variants.iter_mut().for_each(literal_type),
        Some(Type::StructuredDatasetType(dataset)) => {
            dataset
                .columns
                .iter_mut()
                .filter_map(|column| column.literal_type.as_mut())
                .for_each(literal_type);
        }
        Some(Type::Simple(_) | Type::Schema(_) | Type::Blob(_) | Type::EnumType(_)) | None => {}
    }
}
