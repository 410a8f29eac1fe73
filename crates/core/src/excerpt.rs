//! Types and values as errors show them: whole if they are small, else their beginning (spec 08 A11).
//!
//! The reference prints them whole, up to the size of the request for each error. Here both the text and the work for it are
//! bounded: the parts that will be shown are copied first, and only the copy is printed.

use std::collections::BTreeMap;

use flyte_idl::{
    core::{
        Binary, BindingData, BindingDataCollection, BindingDataMap, Blob, EnumType, Error, Literal,
        LiteralCollection, LiteralMap, LiteralOffloadedMetadata, LiteralType, OutputReference,
        Primitive, Scalar, Schema, SchemaType, StructuredDataset, StructuredDatasetMetadata,
        StructuredDatasetType, TypeAnnotation, TypeStructure, Union, UnionInfo, UnionType,
        binding_data, literal, literal_type, primitive, scalar, schema_type,
        structured_dataset_type,
    },
    text::prototext,
};
use prost::{Message, Name};
use prost_types::{ListValue, Struct, Value, value::Kind};

/// Most bytes of a text, without [`MARK`]. A page of it tells which type or value it is.
pub const MAX_BYTES: usize = 4_096;
/// Most messages and texts that are copied.
const MAX_PARTS: usize = 400;
/// The end of a text that is not whole.
pub const MARK: char = '…';

/// A message as an error shows it: its prototext, cut to [`MAX_BYTES`] bytes and [`MARK`].
pub fn excerpt<M: Excerpt + Message + Name>(message: &M) -> String {
    let mut left = Left::default();
    let copy = message.part(&mut left);
    finish(prototext(&copy), &left)
}

/// As [`excerpt`], and `<nil>` for a message that is absent.
pub fn excerpt_or_nil<M: Excerpt + Message + Name>(message: Option<&M>) -> String {
    message.map_or_else(|| "<nil>".to_owned(), excerpt)
}

/// As [`excerpt`], with a text of the caller's instead of the prototext.
pub(crate) fn excerpt_with<M: Excerpt>(message: &M, print: impl FnOnce(&M) -> String) -> String {
    let mut left = Left::default();
    let copy = message.part(&mut left);
    finish(print(&copy), &left)
}

fn finish(mut text: String, left: &Left) -> String {
    let end = text.floor_char_boundary(MAX_BYTES);
    if left.is_cut || end < text.len() {
        text.truncate(end);
        text.push(MARK);
    }
    text
}

/// How much more is copied.
#[derive(Debug)]
pub struct Left {
    parts: usize,
    bytes: usize,
    /// Whether something was left out.
    is_cut: bool,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            parts: MAX_PARTS,
            bytes: MAX_BYTES,
            is_cut: false,
        }
    }
}

impl Left {
    /// Whether one more part may be copied.
    fn take(&mut self) -> bool {
        match self.parts.checked_sub(1) {
            Some(parts) if self.bytes > 0 => {
                self.parts = parts;
                true
            }
            _ => {
                self.is_cut = true;
                false
            }
        }
    }

    /// How much of so many bytes may be copied.
    fn bytes(&mut self, wanted: usize) -> usize {
        let given = wanted.min(self.bytes);
        self.is_cut |= given < wanted;
        self.bytes -= given;
        given
    }
}

/// What errors may show.
pub trait Excerpt: Sized {
    /// A copy of the value without the parts that there is no room for.
    #[must_use]
    fn part(&self, left: &mut Left) -> Self;
}

impl Excerpt for String {
    fn part(&self, left: &mut Left) -> Self {
        let given = left.bytes(self.len());
        let end = self.floor_char_boundary(given);
        self.get(..end).unwrap_or_default().to_owned()
    }
}

impl Excerpt for Vec<u8> {
    fn part(&self, left: &mut Left) -> Self {
        let given = left.bytes(self.len());
        self.iter().take(given).copied().collect()
    }
}

impl<T: Excerpt> Excerpt for Option<T> {
    fn part(&self, left: &mut Left) -> Self {
        let value = self.as_ref()?;
        left.take().then(|| value.part(left))
    }
}

impl<T: Excerpt> Excerpt for Box<T> {
    fn part(&self, left: &mut Left) -> Self {
        Self::new((**self).part(left))
    }
}

fn list<T: Excerpt>(values: &[T], left: &mut Left) -> Vec<T> {
    let mut part = Vec::new();
    for value in values {
        if !left.take() {
            break;
        }
        part.push(value.part(left));
    }
    part
}

impl<T: Excerpt> Excerpt for BTreeMap<String, T> {
    fn part(&self, left: &mut Left) -> Self {
        let mut part = Self::new();
        for (key, value) in self {
            if !left.take() {
                break;
            }
            part.insert(key.part(left), value.part(left));
        }
        part
    }
}

/// Kinds of messages that have nothing but fields to copy.
macro_rules! fields {
    ($($message:ident { $($field:ident),* })*) => {
        $(impl Excerpt for $message {
            fn part(&self, left: &mut Left) -> Self {
                Self { $($field: self.$field.part(left)),* }
            }
        })*
    };
}

fields! {
    BindingData { value, union }
    BindingDataMap { bindings }
    Error { failed_node_id, message }
    LiteralMap { literals }
    LiteralType { r#type, structure, annotation, metadata }
    Primitive { value }
    Scalar { value }
    Literal { value, hash, metadata }
    Schema { uri, r#type }
    Struct { fields }
    StructuredDataset { uri, metadata }
    StructuredDatasetMetadata { structured_dataset_type }
    TypeAnnotation { annotations }
    TypeStructure { tag, dataclass_type }
    Union { r#type, value }
    UnionInfo { target_type }
    Value { kind }
}

/// Kinds of messages that are a list.
macro_rules! lists {
    ($($message:ident { $field:ident })*) => {
        $(impl Excerpt for $message {
            fn part(&self, left: &mut Left) -> Self {
                Self { $field: list(&self.$field, left) }
            }
        })*
    };
}

lists! {
    BindingDataCollection { bindings }
    EnumType { values }
    ListValue { values }
    LiteralCollection { literals }
    SchemaType { columns }
    UnionType { variants }
}

impl Excerpt for literal_type::Type {
    fn part(&self, left: &mut Left) -> Self {
        match self {
            Self::Simple(_) | Self::Blob(_) => self.clone(),
            Self::Schema(schema) => Self::Schema(schema.part(left)),
            Self::CollectionType(inner) => Self::CollectionType(inner.part(left)),
            Self::MapValueType(inner) => Self::MapValueType(inner.part(left)),
            Self::EnumType(choice) => Self::EnumType(choice.part(left)),
            Self::StructuredDatasetType(dataset) => Self::StructuredDatasetType(dataset.part(left)),
            Self::UnionType(union) => Self::UnionType(union.part(left)),
        }
    }
}

impl Excerpt for StructuredDatasetType {
    fn part(&self, left: &mut Left) -> Self {
        Self {
            columns: list(&self.columns, left),
            format: self.format.part(left),
            external_schema_type: self.external_schema_type.part(left),
            external_schema_bytes: self.external_schema_bytes.part(left),
        }
    }
}

impl Excerpt for structured_dataset_type::DatasetColumn {
    fn part(&self, left: &mut Left) -> Self {
        Self {
            name: self.name.part(left),
            literal_type: self.literal_type.part(left),
        }
    }
}

impl Excerpt for schema_type::SchemaColumn {
    fn part(&self, left: &mut Left) -> Self {
        Self {
            name: self.name.part(left),
            r#type: self.r#type,
        }
    }
}

impl Excerpt for binding_data::Value {
    fn part(&self, left: &mut Left) -> Self {
        match self {
            Self::Scalar(scalar) => Self::Scalar(scalar.part(left)),
            Self::Collection(collection) => Self::Collection(collection.part(left)),
            Self::Promise(promise) => Self::Promise(promise.part(left)),
            Self::Map(map) => Self::Map(map.part(left)),
            Self::OffloadedMetadata(metadata) => Self::OffloadedMetadata(metadata.part(left)),
        }
    }
}

impl Excerpt for OutputReference {
    fn part(&self, left: &mut Left) -> Self {
        let mut attr_path = Vec::new();
        for attribute in &self.attr_path {
            if !left.take() {
                break;
            }
            attr_path.push(attribute.part(left));
        }
        Self {
            node_id: self.node_id.part(left),
            var: self.var.part(left),
            attr_path,
        }
    }
}

impl Excerpt for flyte_idl::core::PromiseAttribute {
    fn part(&self, left: &mut Left) -> Self {
        use flyte_idl::core::promise_attribute::Value;
        Self {
            value: self.value.as_ref().map(|value| match value {
                Value::StringValue(text) => Value::StringValue(text.part(left)),
                Value::IntValue(number) => Value::IntValue(*number),
            }),
        }
    }
}

impl Excerpt for literal::Value {
    fn part(&self, left: &mut Left) -> Self {
        match self {
            Self::Scalar(scalar) => Self::Scalar(scalar.part(left)),
            Self::Collection(collection) => Self::Collection(collection.part(left)),
            Self::Map(map) => Self::Map(map.part(left)),
            Self::OffloadedMetadata(metadata) => Self::OffloadedMetadata(metadata.part(left)),
        }
    }
}

impl Excerpt for LiteralOffloadedMetadata {
    fn part(&self, left: &mut Left) -> Self {
        Self {
            uri: self.uri.part(left),
            size_bytes: self.size_bytes,
            inferred_type: self.inferred_type.part(left),
        }
    }
}

impl Excerpt for scalar::Value {
    fn part(&self, left: &mut Left) -> Self {
        match self {
            Self::Primitive(primitive) => Self::Primitive(primitive.part(left)),
            Self::Blob(blob) => Self::Blob(blob.part(left)),
            Self::Binary(binary) => Self::Binary(binary.part(left)),
            Self::Schema(schema) => Self::Schema(schema.part(left)),
            Self::NoneType(none) => Self::NoneType(*none),
            Self::Error(error) => Self::Error(error.part(left)),
            Self::Generic(structure) => Self::Generic(structure.part(left)),
            Self::StructuredDataset(dataset) => Self::StructuredDataset(dataset.part(left)),
            Self::Union(union) => Self::Union(union.part(left)),
        }
    }
}

impl Excerpt for Blob {
    fn part(&self, left: &mut Left) -> Self {
        Self {
            metadata: self.metadata.clone(),
            uri: self.uri.part(left),
        }
    }
}

impl Excerpt for Binary {
    fn part(&self, left: &mut Left) -> Self {
        Self {
            value: self.value.part(left),
            tag: self.tag.part(left),
        }
    }
}

impl Excerpt for primitive::Value {
    fn part(&self, left: &mut Left) -> Self {
        match self {
            Self::StringValue(text) => Self::StringValue(text.part(left)),
            other => other.clone(),
        }
    }
}

impl Excerpt for Kind {
    fn part(&self, left: &mut Left) -> Self {
        match self {
            Self::NullValue(_) | Self::NumberValue(_) | Self::BoolValue(_) => self.clone(),
            Self::StringValue(text) => Self::StringValue(text.part(left)),
            Self::StructValue(structure) => Self::StructValue(structure.part(left)),
            Self::ListValue(values) => Self::ListValue(values.part(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{collection, map, of, simple, union};
    use flyte_idl::core::SimpleType;
    use literal_type::Type;

    #[test]
    fn what_is_large_is_cut_and_what_is_small_is_whole() {
        let integer = || simple(SimpleType::Integer);
        let dataclass = |count: usize| LiteralType {
            structure: Some(TypeStructure {
                dataclass_type: (0..count)
                    .map(|field| (format!("field{field}"), integer()))
                    .collect(),
                ..Default::default()
            }),
            ..simple(SimpleType::Struct)
        };
        let annotated = |text: String| {
            let kind = Some(Kind::StringValue(text));
            LiteralType {
                metadata: Some(Struct {
                    fields: [("schema".to_owned(), Value { kind })].into(),
                }),
                ..integer()
            }
        };
        let choice = |count: usize| {
            of(Type::EnumType(EnumType {
                values: (0..count).map(|value| format!("value{value}")).collect(),
            }))
        };
        let deep = |levels: usize| (0..levels).fold(integer(), |inner, _| collection(inner));
        for (case, literal_type, is_whole) in [
            ("a list", deep(1), true),
            ("thirty levels", deep(30), true),
            ("nine hundred levels", deep(900), false),
            ("a map of a dataclass", map(dataclass(20)), true),
            ("a large dataclass", dataclass(50_000), false),
            ("a union", union(vec![integer(), deep(3)]), true),
            ("a large union", union(vec![integer(); 50_000]), false),
            ("an enum", choice(50), true),
            ("a large enum", choice(50_000), false),
            ("metadata", annotated("é".repeat(100)), true),
            ("large metadata", annotated("é".repeat(1_000_000)), false),
            ("escaped metadata", annotated("\u{1}".repeat(4_000)), false),
        ] {
            let text = excerpt(&literal_type);
            assert!(
                text.len() <= MAX_BYTES + MARK.len_utf8(),
                "{case}: {}",
                text.len()
            );
            let whole = prototext(&literal_type);
            if is_whole {
                assert_eq!(text, whole, "{case}");
            } else {
                let beginning = text.strip_suffix(MARK).unwrap();
                let same = beginning
                    .chars()
                    .zip(whole.chars())
                    .take_while(|(a, b)| a == b);
                assert!(same.count() >= 100, "{case}: {text}");
            }
            // Not the whole type is copied.
            let mut left = Left::default();
            let copied = literal_type.part(&mut left).encoded_len();
            assert!(copied <= 4 * MAX_BYTES, "{case}: {copied} bytes");
            assert_eq!(
                left.is_cut,
                !is_whole && case != "escaped metadata",
                "{case}"
            );
        }
    }
}
