//! The type of a literal (spec 08 A10).

use std::collections::BTreeMap;

use flyte_idl::{
    core::{
        Literal, LiteralType, Primitive, Scalar, SimpleType, UnionType, literal,
        literal_type::Type, primitive, scalar,
    },
    text::prototext,
};

use super::{collection, map, of, simple};

/// A literal, or a part of it, is of a kind that this version does not know or has nothing set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "got unknown literal type: [<nil>].\nSuggested solution: Please update all your Flyte deployment images to the latest version and try again"
)]
pub struct UnknownLiteral;

/// A type and its prototext. The text of a list is made from that of its elements: to print every level anew
/// would take time by the cube of the depth.
struct Inferred {
    literal_type: LiteralType,
    text: String,
}

impl Inferred {
    fn new(literal_type: LiteralType) -> Self {
        let known = match literal_type.r#type {
            Some(Type::Simple(number)) => SimpleType::try_from(number).ok(),
            _ => None,
        };
        if let Some(kind) = known
            && literal_type == simple(kind)
        {
            return Self::simple(kind);
        }
        let text = prototext(&literal_type);
        Self { literal_type, text }
    }

    fn simple(kind: SimpleType) -> Self {
        Self {
            literal_type: simple(kind),
            text: format!("simple:{}", kind.as_str_name()),
        }
    }

    fn collection(self) -> Self {
        Self {
            text: format!("collection_type:{{{}}}", self.text),
            literal_type: collection(self.literal_type),
        }
    }

    fn map(self) -> Self {
        Self {
            text: format!("map_value_type:{{{}}}", self.text),
            literal_type: map(self.literal_type),
        }
    }

    fn union(variants: BTreeMap<String, LiteralType>) -> Self {
        let texts: Vec<String> = variants
            .keys()
            .map(|text| format!("variants:{{{text}}}"))
            .collect();
        Self {
            text: format!("union_type:{{{}}}", texts.join(" ")),
            literal_type: super::union(variants.into_values().collect()),
        }
    }
}

/// The type of a literal.
///
/// The element type of a collection or map is NONE when there are no elements, theirs when they agree, and
/// else a union sorted by text. Empty collections count only if there is nothing else; collections of unions
/// are merged into one.
pub fn of_literal(literal: &Literal) -> Result<LiteralType, UnknownLiteral> {
    // Only of elements is the text asked for, which takes time by the square of a type's depth.
    match single(literal)? {
        Some(literal_type) => Ok(literal_type),
        None => infer(literal).map(|inferred| inferred.literal_type),
    }
}

/// The type of a literal that is neither a collection nor a map.
fn single(literal: &Literal) -> Result<Option<LiteralType>, UnknownLiteral> {
    let found = match literal.value.as_ref().ok_or(UnknownLiteral)? {
        literal::Value::Scalar(scalar) => of_scalar(scalar),
        literal::Value::OffloadedMetadata(offloaded) => offloaded.inferred_type.clone(),
        literal::Value::Collection(_) | literal::Value::Map(_) => return Ok(None),
    };
    found.map(Some).ok_or(UnknownLiteral)
}

fn infer(literal: &Literal) -> Result<Inferred, UnknownLiteral> {
    match &literal.value {
        Some(literal::Value::Collection(list)) => {
            of_elements(&list.literals).map(Inferred::collection)
        }
        Some(literal::Value::Map(entries)) => {
            of_elements(entries.literals.values()).map(Inferred::map)
        }
        _ => single(literal)?.map(Inferred::new).ok_or(UnknownLiteral),
    }
}

fn of_elements<'a>(
    elements: impl IntoIterator<Item = &'a Literal>,
) -> Result<Inferred, UnknownLiteral> {
    let mut distinct = BTreeMap::new();
    let mut empty = None;
    for element in elements {
        let inferred = infer(element)?;
        match &element.value {
            Some(literal::Value::Collection(list)) if list.literals.is_empty() => {
                empty = Some(inferred);
            }
            _ => {
                distinct.insert(inferred.text, inferred.literal_type);
            }
        }
    }
    if distinct.len() > 1 {
        return Ok(merged(distinct));
    }
    Ok(distinct
        .into_iter()
        .next()
        .map(|(text, literal_type)| Inferred { literal_type, text })
        .or(empty)
        .unwrap_or_else(|| Inferred::simple(SimpleType::None)))
}

/// The union of several types; where some are collections of unions, the collection of the union of all.
fn merged(types: BTreeMap<String, LiteralType>) -> Inferred {
    let is_nested = |literal_type: &LiteralType| match &literal_type.r#type {
        Some(Type::CollectionType(element)) => matches!(element.r#type, Some(Type::UnionType(_))),
        _ => false,
    };
    if !types.values().any(is_nested) {
        return Inferred::union(types);
    }
    let mut variants = Vec::new();
    for literal_type in types.into_values() {
        match literal_type.r#type {
            Some(Type::CollectionType(element)) => match element.r#type {
                Some(Type::UnionType(union)) => variants.extend(union.variants),
                other => variants.push(collection(LiteralType {
                    r#type: other,
                    ..*element
                })),
            },
            _ => variants.push(literal_type),
        }
    }
    Inferred::new(collection(super::union(variants)))
}

/// The type of a scalar; `None` for one of no kind and for a blob without metadata.
pub fn of_scalar(scalar: &Scalar) -> Option<LiteralType> {
    Some(match scalar.value.as_ref()? {
        scalar::Value::Primitive(value) => simple(of_primitive(value)),
        scalar::Value::NoneType(_) => simple(SimpleType::None),
        scalar::Value::Error(_) => simple(SimpleType::Error),
        scalar::Value::Generic(_) => simple(SimpleType::Struct),
        scalar::Value::Binary(binary) if binary.tag == "msgpack" => simple(SimpleType::Struct),
        scalar::Value::Binary(_) => simple(SimpleType::Binary),
        scalar::Value::Blob(blob) => of(Type::Blob(
            blob.metadata.as_ref()?.r#type.clone().unwrap_or_default(),
        )),
        scalar::Value::Schema(schema) => {
            of(Type::Schema(schema.r#type.clone().unwrap_or_default()))
        }
        scalar::Value::StructuredDataset(dataset) => of(Type::StructuredDatasetType(
            dataset
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.structured_dataset_type.clone())
                .unwrap_or_default(),
        )),
        scalar::Value::Union(union) => of(Type::UnionType(UnionType {
            variants: vec![union.r#type.clone().unwrap_or_default()],
        })),
    })
}

fn of_primitive(value: &Primitive) -> SimpleType {
    match &value.value {
        Some(primitive::Value::Integer(_)) => SimpleType::Integer,
        Some(primitive::Value::FloatValue(_)) => SimpleType::Float,
        Some(primitive::Value::StringValue(_)) => SimpleType::String,
        Some(primitive::Value::Boolean(_)) => SimpleType::Boolean,
        Some(primitive::Value::Datetime(_)) => SimpleType::Datetime,
        Some(primitive::Value::Duration(_)) => SimpleType::Duration,
        None => SimpleType::None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use flyte_idl::core::{
        Binary, Blob, LiteralCollection, LiteralMap, StructuredDatasetType, Union, Void,
        structured_dataset_type::DatasetColumn,
    };

    use super::*;
    use crate::types::text;

    fn scalar(value: scalar::Value) -> Literal {
        Literal {
            value: Some(literal::Value::Scalar(Box::new(Scalar {
                value: Some(value),
            }))),
            ..Default::default()
        }
    }

    fn integer() -> Literal {
        scalar(scalar::Value::Primitive(Primitive {
            value: Some(primitive::Value::Integer(1)),
        }))
    }

    fn string() -> Literal {
        scalar(scalar::Value::Primitive(Primitive {
            value: Some(primitive::Value::StringValue(String::new())),
        }))
    }

    fn list(literals: Vec<Literal>) -> Literal {
        Literal {
            value: Some(literal::Value::Collection(LiteralCollection { literals })),
            ..Default::default()
        }
    }

    #[test]
    fn literals_have_the_type_of_what_they_hold() {
        let binary = |tag: &str| {
            scalar(scalar::Value::Binary(Binary {
                tag: tag.into(),
                value: Vec::new(),
            }))
        };
        let union = scalar(scalar::Value::Union(Box::new(Union {
            value: Some(Box::new(integer())),
            r#type: Some(simple(SimpleType::Integer)),
        })));
        for (literal, expected) in [
            (integer(), "simple:INTEGER"),
            (
                scalar(scalar::Value::Primitive(Primitive::default())),
                "simple:NONE",
            ),
            (scalar(scalar::Value::NoneType(Void {})), "simple:NONE"),
            (binary("msgpack"), "simple: STRUCT structure{}"),
            (binary("other"), "simple:BINARY"),
            (union, "union_type:{variants:{simple:INTEGER}}"),
            (list(vec![]), "collection_type:{simple:NONE}"),
            (
                list(vec![integer(), integer()]),
                "collection_type:{simple:INTEGER}",
            ),
            (
                list(vec![string(), integer()]),
                "collection_type:{union_type:{variants:{simple:INTEGER} variants:{simple:STRING}}}",
            ),
            (
                list(vec![list(vec![]), list(vec![integer()])]),
                "collection_type:{collection_type:{simple:INTEGER}}",
            ),
            (
                list(vec![list(vec![])]),
                "collection_type:{collection_type:{simple:NONE}}",
            ),
            (
                list(vec![list(vec![integer(), string()]), list(vec![integer()])]),
                "collection_type:{collection_type:{union_type:{variants:{collection_type:{simple:INTEGER}} variants:{simple:INTEGER} variants:{simple:STRING}}}}",
            ),
            (
                Literal {
                    value: Some(literal::Value::Map(LiteralMap {
                        literals: [("k".to_owned(), string())].into(),
                    })),
                    ..Default::default()
                },
                "map_value_type:{simple:STRING}",
            ),
        ] {
            assert_eq!(text(Some(&of_literal(&literal).unwrap())), expected);
        }
    }

    /// Encoding asks each message for its length, and that one each inside: time by the square of the depth.
    #[test]
    fn the_type_of_a_deep_scalar_costs_less_than_its_text() {
        let compare = || {
            let mut deep = simple(SimpleType::Integer);
            for _level in 0..300 {
                deep = of(Type::StructuredDatasetType(StructuredDatasetType {
                    columns: vec![DatasetColumn {
                        name: String::new(),
                        literal_type: Some(deep),
                    }],
                    ..Default::default()
                }));
            }
            let literal = scalar(scalar::Value::Union(Box::new(Union {
                value: None,
                r#type: Some(deep.clone()),
            })));
            let start = Instant::now();
            let inferred = of_literal(&literal).unwrap();
            let took = start.elapsed();
            let start = Instant::now();
            assert!(!prototext(&inferred).is_empty());
            let printing = start.elapsed();
            assert!(took * 2 < printing, "{took:?} is near {printing:?}");
        };
        let thread = std::thread::Builder::new().stack_size(64 * 1024 * 1024);
        thread.spawn(compare).unwrap().join().unwrap();
    }

    #[test]
    fn unknown_literals_are_noticed_anywhere() {
        let blob = scalar(scalar::Value::Blob(Blob::default()));
        for literal in [
            Literal::default(),
            blob.clone(),
            list(vec![integer(), blob]),
        ] {
            assert_eq!(of_literal(&literal), Err(UnknownLiteral));
        }
    }
}
