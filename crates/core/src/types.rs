//! The type system: which type fits which, what type a literal has, and how types print (spec 08 A9 to A11).

mod castable;
mod infer;
mod json_schema;
mod strip;

use std::collections::BTreeMap;

use flyte_idl::{
    core::{LiteralType, SimpleType, literal_type::Type},
    text::prototext,
};

use crate::excerpt::{excerpt, excerpt_with};

pub use castable::castable;
pub use infer::{UnknownLiteral, of_literal, of_scalar};
pub use strip::strip;

/// A simple type.
pub fn simple(simple: SimpleType) -> LiteralType {
    of(Type::Simple(simple as i32))
}

/// A list of `element`.
pub fn collection(element: LiteralType) -> LiteralType {
    of(Type::CollectionType(Box::new(element)))
}

/// A map from text to `value`.
pub fn map(value: LiteralType) -> LiteralType {
    of(Type::MapValueType(Box::new(value)))
}

/// One of several types.
pub fn union(variants: Vec<LiteralType>) -> LiteralType {
    of(Type::UnionType(flyte_idl::core::UnionType { variants }))
}

/// A type without metadata, annotation and structure.
pub fn of(kind: Type) -> LiteralType {
    LiteralType {
        r#type: Some(kind),
        ..Default::default()
    }
}

/// Whether a type is the given simple one.
pub fn is_simple(literal_type: &LiteralType, simple: SimpleType) -> bool {
    literal_type.r#type == Some(Type::Simple(simple as i32))
}

/// The simple type as Go's getter reads it: NONE for every type that is not simple.
pub(crate) fn simple_or_none(literal_type: &LiteralType) -> i32 {
    match literal_type.r#type {
        Some(Type::Simple(simple)) => simple,
        _ => SimpleType::None as i32,
    }
}

/// A type as error messages about mismatches show it: `None` when absent, its prototext, and for a STRUCT at
/// the top a form of its own whose entries lack their closing braces, in order of keys (spec 08 A11). Only the beginning of
/// a large one.
pub fn text(literal_type: Option<&LiteralType>) -> String {
    let Some(literal_type) = literal_type else {
        return "None".to_owned();
    };
    if !is_simple(literal_type, SimpleType::Struct) {
        return excerpt(literal_type);
    }
    match &literal_type.structure {
        Some(structure) => excerpt_with(&structure.dataclass_type, fields_text),
        None => fields_text(&BTreeMap::new()),
    }
}

/// The text of a STRUCT with these fields.
fn fields_text(fields: &BTreeMap<String, LiteralType>) -> String {
    let text = |literal_type: &LiteralType| {
        if !is_simple(literal_type, SimpleType::Struct) {
            return prototext(literal_type);
        }
        let structure = literal_type.structure.as_ref();
        structure.map_or_else(
            || fields_text(&BTreeMap::new()),
            |structure| fields_text(&structure.dataclass_type),
        )
    };
    let entries: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("dataclass_type:{{key:{key} value:{{{}}}", text(value)))
        .collect();
    format!("simple: STRUCT structure{{{}}}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::TypeStructure;

    use super::*;

    #[test]
    fn types_print_as_in_error_messages() {
        let dataclass = |entries: &[(&str, LiteralType)]| LiteralType {
            structure: Some(TypeStructure {
                dataclass_type: entries
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.clone()))
                    .collect::<BTreeMap<_, _>>(),
                ..Default::default()
            }),
            ..simple(SimpleType::Struct)
        };
        let point = dataclass(&[
            ("y", simple(SimpleType::String)),
            ("x", simple(SimpleType::Integer)),
        ]);
        for (literal_type, expected) in [
            (None, "None"),
            (Some(simple(SimpleType::Integer)), "simple:INTEGER"),
            (
                Some(simple(SimpleType::Struct)),
                "simple: STRUCT structure{}",
            ),
            (
                Some(point.clone()),
                "simple: STRUCT structure{dataclass_type:{key:x value:{simple:INTEGER}, dataclass_type:{key:y value:{simple:STRING}}",
            ),
            (
                Some(collection(dataclass(&[("x", simple(SimpleType::Integer))]))),
                "collection_type:{simple:STRUCT structure:{dataclass_type:{key:\"x\" value:{simple:INTEGER}}}}",
            ),
        ] {
            assert_eq!(text(literal_type.as_ref()), expected);
        }
    }
}
