//! The vectors of spec 08 A9.1.

use flyte_idl::core::{
    BlobType, EnumType, schema_type::SchemaColumn, structured_dataset_type::DatasetColumn,
};

use super::*;
use crate::types::{collection, map, of, simple, union};

fn int() -> LiteralType {
    simple(SimpleType::Integer)
}

fn float() -> LiteralType {
    simple(SimpleType::Float)
}

fn str() -> LiteralType {
    simple(SimpleType::String)
}

fn none() -> LiteralType {
    simple(SimpleType::None)
}

fn tagged(tag: &str, literal_type: LiteralType) -> LiteralType {
    LiteralType {
        structure: Some(TypeStructure {
            tag: tag.into(),
            ..Default::default()
        }),
        ..literal_type
    }
}

fn blob(format: &str) -> LiteralType {
    of(Type::Blob(BlobType {
        format: format.into(),
        ..Default::default()
    }))
}

fn schema(columns: &[(&str, SchemaColumnType)]) -> LiteralType {
    of(Type::Schema(SchemaType {
        columns: columns
            .iter()
            .map(|(name, column)| SchemaColumn {
                name: (*name).into(),
                r#type: *column as i32,
            })
            .collect(),
    }))
}

fn dataset(format: &str, columns: &[(&str, LiteralType)]) -> LiteralType {
    of(Type::StructuredDatasetType(StructuredDatasetType {
        format: format.into(),
        columns: columns
            .iter()
            .map(|(name, column)| DatasetColumn {
                name: (*name).into(),
                literal_type: Some(column.clone()),
            })
            .collect(),
        ..Default::default()
    }))
}

fn choice(values: &[&str]) -> LiteralType {
    of(Type::EnumType(EnumType {
        values: values.iter().map(|value| (*value).into()).collect(),
    }))
}

#[test]
fn values_go_only_where_they_fit() {
    use SchemaColumnType::{Float, Integer, String};
    for (case, up, down, fits) in vec![
        ("no widening", int(), float(), false),
        ("none is no integer", none(), int(), false),
        (
            "a variant of a union",
            str(),
            union(vec![int(), str()]),
            true,
        ),
        (
            "two variants are ambiguous",
            str(),
            union(vec![tagged("a", str()), tagged("b", str())]),
            false,
        ),
        (
            "every variant finds one with its tag",
            union(vec![tagged("x", int()), tagged("y", str())]),
            union(vec![
                tagged("x", int()),
                tagged("y", str()),
                simple(SimpleType::Boolean),
            ]),
            true,
        ),
        (
            "differing tags",
            union(vec![tagged("x", int()), int()]),
            union(vec![tagged("z", int())]),
            false,
        ),
        (
            "a union of one is its variant",
            union(vec![int()]),
            int(),
            true,
        ),
        (
            "an empty list is any list",
            collection(none()),
            collection(int()),
            true,
        ),
        (
            "elements must fit",
            collection(int()),
            collection(float()),
            false,
        ),
        ("a list is no scalar", collection(int()), int(), false),
        (
            "a list of lists is no list",
            collection(collection(int())),
            collection(int()),
            false,
        ),
        (
            "a union of one is not unwrapped inside",
            collection(union(vec![int()])),
            collection(int()),
            false,
        ),
        ("an empty map is any map", map(none()), map(float()), true),
        ("a map is no list", map(int()), collection(int()), false),
        (
            "a schema without columns",
            schema(&[]),
            schema(&[("a", Integer)]),
            true,
        ),
        (
            "more columns",
            schema(&[("a", Integer), ("b", String)]),
            schema(&[("a", Integer)]),
            true,
        ),
        (
            "fewer columns",
            schema(&[("a", Integer)]),
            schema(&[("a", Integer), ("b", String)]),
            false,
        ),
        (
            "a column of another type",
            schema(&[("a", Integer)]),
            schema(&[("a", Float)]),
            false,
        ),
        ("none is no schema", none(), schema(&[]), false),
        ("none is any dataset", none(), dataset("", &[]), true),
        (
            "a dataset as a schema",
            dataset("", &[("a", int())]),
            schema(&[("a", Integer)]),
            true,
        ),
        (
            "a csv dataset is no schema",
            dataset("csv", &[]),
            schema(&[]),
            false,
        ),
        (
            "a schema as a dataset",
            schema(&[("a", Integer)]),
            dataset("Parquet", &[("a", int())]),
            true,
        ),
        (
            "a schema is no csv",
            schema(&[]),
            dataset("csv", &[]),
            false,
        ),
        (
            "formats of datasets",
            dataset("csv", &[]),
            dataset("parquet", &[]),
            false,
        ),
        (
            "formats of datasets ignore case",
            dataset("CSV", &[]),
            dataset("csv", &[]),
            true,
        ),
        ("none is no blob", none(), blob(""), false),
        ("formats of blobs", blob("csv"), blob("pdf"), false),
        ("a blob of any format", blob(""), blob("csv"), true),
        ("a blob for any format", blob("csv"), blob(""), true),
        ("an enum is text", choice(&["a"]), str(), true),
        ("text may be an enum", str(), choice(&["a"]), true),
        (
            "enums have equal values",
            choice(&["a", "b"]),
            choice(&["b", "a"]),
            false,
        ),
        (
            "the same enum",
            choice(&["a", "b"]),
            choice(&["a", "b"]),
            true,
        ),
        ("an integer is no enum", int(), choice(&["a"]), false),
        (
            "a bare none is ambiguous",
            none(),
            union(vec![dataset("", &[]), none()]),
            false,
        ),
        (
            "a wrapped none is not",
            union(vec![none()]),
            union(vec![dataset("", &[]), none()]),
            true,
        ),
        (
            "types of no kind",
            LiteralType::default(),
            LiteralType::default(),
            true,
        ),
        (
            "errors",
            simple(SimpleType::Error),
            simple(SimpleType::Error),
            true,
        ),
    ] {
        assert_eq!(castable(&up, &down), fits, "{case}");
    }
}

#[test]
fn metadata_does_not_matter_for_simple_types() {
    let with_metadata = LiteralType {
        metadata: Some(prost_types::Struct {
            fields: [("k".to_owned(), prost_types::Value::default())].into(),
        }),
        ..int()
    };
    assert!(castable(&with_metadata, &int()));
    assert!(castable(&int(), &with_metadata));
}

#[test]
fn unions_in_unions_do_not_take_forever() {
    let nested = |inner| (0..500).fold(inner, |inner, _| union(vec![inner]));
    assert!(!castable(&nested(int()), &nested(str())));
    assert!(castable(&nested(int()), &nested(int())));
    let wide = |last| {
        let mut variants = vec![int(); 5_000];
        variants.push(last);
        union(variants)
    };
    assert!(!castable(&wide(float()), &wide(str())));
}
