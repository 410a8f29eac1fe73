//! Whether a value of one type may go where another is declared (spec 08 A9).

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
};

use flyte_idl::core::{
    LiteralType, SchemaType, SimpleType, StructuredDatasetType, TypeStructure, literal_type::Type,
    schema_type::schema_column::SchemaColumnType,
};

use super::{is_simple, json_schema, simple_or_none};

/// Most comparisons of parts of two types. Unions of unions multiply; types that people write need hundreds.
const MAX_STEPS: usize = 200_000;

/// Whether a value of type `up` may be bound to an input of type `down`.
///
/// The rule depends on `down`. An `up` that is a union of one variant may also pass as that variant; this is
/// not so inside collections and maps, where the reference asks the rule directly. Types that take more than two
/// hundred thousand comparisons do not fit.
pub fn castable(up: &LiteralType, down: &LiteralType) -> bool {
    let checker = Checker {
        steps_left: Cell::new(MAX_STEPS),
        unions: RefCell::default(),
    };
    checker.castable(up, down)
}

/// One question, with the answers about unions found so far: nested unions ask for the same pairs again and
/// again.
struct Checker {
    steps_left: Cell<usize>,
    unions: RefCell<HashMap<[*const LiteralType; 2], bool>>,
}

impl Checker {
    fn castable(&self, up: &LiteralType, down: &LiteralType) -> bool {
        if !matches!(down.r#type, Some(Type::UnionType(_))) {
            return self.decide(up, down);
        }
        let pair = [std::ptr::from_ref(up), std::ptr::from_ref(down)];
        if let Some(known) = self.unions.borrow().get(&pair) {
            return *known;
        }
        let answer = self.decide(up, down);
        self.unions.borrow_mut().insert(pair, answer);
        answer
    }

    fn decide(&self, up: &LiteralType, down: &LiteralType) -> bool {
        if let Some(Type::UnionType(union)) = &up.r#type
            && let [only] = union.variants.as_slice()
            && self.accepts(down, only)
        {
            return true;
        }
        self.accepts(down, up)
    }

    fn accepts(&self, down: &LiteralType, up: &LiteralType) -> bool {
        let Some(left) = self.steps_left.get().checked_sub(1) else {
            return false;
        };
        self.steps_left.set(left);
        match &down.r#type {
            Some(Type::CollectionType(element)) => match &up.r#type {
                Some(Type::CollectionType(up)) => self.accepts_element(element, up),
                _ => false,
            },
            Some(Type::MapValueType(value)) => match &up.r#type {
                Some(Type::MapValueType(up)) => self.accepts_element(value, up),
                _ => false,
            },
            Some(Type::Blob(down)) => match &up.r#type {
                Some(Type::Blob(up)) => {
                    up.format.is_empty() || down.format.is_empty() || up.format == down.format
                }
                _ => false,
            },
            Some(Type::Schema(down)) => match &up.r#type {
                Some(Type::Schema(up)) => schema_columns(up, down),
                Some(Type::StructuredDatasetType(up)) if is_parquet(&up.format) => {
                    dataset_has_schema_columns(up, down)
                }
                _ => false,
            },
            Some(Type::StructuredDatasetType(down)) => match &up.r#type {
                Some(Type::Simple(simple)) => *simple == SimpleType::None as i32,
                Some(Type::Schema(up)) if is_parquet(&down.format) => {
                    schema_has_dataset_columns(up, down)
                }
                Some(Type::StructuredDatasetType(up)) => {
                    (up.format.is_empty()
                        || down.format.is_empty()
                        || up.format.to_lowercase() == down.format.to_lowercase())
                        && self.dataset_columns(up, down)
                }
                _ => false,
            },
            Some(Type::UnionType(down)) => {
                if let Some(Type::UnionType(up)) = &up.r#type {
                    let fits = |up| down.variants.iter().any(|down| self.castable(up, down));
                    up.variants.iter().all(fits)
                } else {
                    let fits = |down: &&LiteralType| self.castable(up, down);
                    down.variants.iter().filter(fits).take(2).count() == 1
                }
            }
            Some(Type::Simple(simple)) if *simple == SimpleType::None as i32 => {
                is_simple(up, SimpleType::None)
            }
            Some(Type::Simple(_) | Type::EnumType(_)) | None => accepts_trivially(down, up),
        }
    }

    /// An empty list is one of NONE and goes everywhere.
    fn accepts_element(&self, down: &LiteralType, up: &LiteralType) -> bool {
        is_simple(up, SimpleType::None) || self.accepts(down, up)
    }

    fn dataset_columns(&self, up: &StructuredDatasetType, down: &StructuredDatasetType) -> bool {
        columns(of_dataset(up), of_dataset(down), |up, down| {
            self.accepts(down, up)
        })
    }
}

fn accepts_trivially(down: &LiteralType, up: &LiteralType) -> bool {
    let string = SimpleType::String as i32;
    if matches!(up.r#type, Some(Type::EnumType(_))) && simple_or_none(down) == string {
        return true;
    }
    if matches!(down.r#type, Some(Type::EnumType(_))) && simple_or_none(up) == string {
        return true;
    }
    let tag = |structure: &Option<TypeStructure>| {
        structure
            .as_ref()
            .map(|structure| structure.tag.clone())
            .unwrap_or_default()
    };
    let up_tag = tag(&up.structure);
    if !up_tag.is_empty() && up_tag != tag(&down.structure) {
        return false;
    }
    if is_simple(up, SimpleType::Struct) && is_simple(down, SimpleType::Struct) {
        return match (&up.metadata, &down.metadata) {
            (Some(up), Some(down)) => json_schema::fits(up, down),
            _ => true,
        };
    }
    up.r#type == down.r#type
}

fn is_parquet(format: &str) -> bool {
    format.is_empty() || format.eq_ignore_ascii_case("parquet")
}

/// Each column of `down` exists in `up` and matches; either side without columns matches anything. A
/// duplicate name keeps its last type.
fn columns<U: Copy, D>(
    up: impl Iterator<Item = (String, U)>,
    down: impl Iterator<Item = (String, D)>,
    matches: impl Fn(U, D) -> bool,
) -> bool {
    let up: BTreeMap<String, U> = up.collect();
    let down: Vec<(String, D)> = down.collect();
    up.is_empty()
        || down
            .into_iter()
            .all(|(name, down)| up.get(&name).is_some_and(|up| matches(*up, down)))
}

fn of_schema(schema: &SchemaType) -> impl Iterator<Item = (String, i32)> {
    schema
        .columns
        .iter()
        .map(|column| (column.name.clone(), column.r#type))
}

fn of_dataset(dataset: &StructuredDatasetType) -> impl Iterator<Item = (String, &LiteralType)> {
    dataset.columns.iter().filter_map(|column| {
        let literal_type = column.literal_type.as_ref()?;
        Some((column.name.clone(), literal_type))
    })
}

fn schema_columns(up: &SchemaType, down: &SchemaType) -> bool {
    columns(of_schema(up), of_schema(down), |up, down| up == down)
}

fn dataset_has_schema_columns(up: &StructuredDatasetType, down: &SchemaType) -> bool {
    columns(of_dataset(up), of_schema(down), same_column)
}

fn schema_has_dataset_columns(up: &SchemaType, down: &StructuredDatasetType) -> bool {
    columns(of_schema(up), of_dataset(down), |up, down| {
        same_column(down, up)
    })
}

/// Whether a column of a dataset has the simple type of the same name as that of a schema.
fn same_column(dataset: &LiteralType, schema: i32) -> bool {
    let simple = match SchemaColumnType::try_from(schema) {
        Ok(SchemaColumnType::Integer) => SimpleType::Integer,
        Ok(SchemaColumnType::Float) => SimpleType::Float,
        Ok(SchemaColumnType::String) => SimpleType::String,
        Ok(SchemaColumnType::Boolean) => SimpleType::Boolean,
        Ok(SchemaColumnType::Datetime) => SimpleType::Datetime,
        Ok(SchemaColumnType::Duration) => SimpleType::Duration,
        Err(_) => return false,
    };
    is_simple(dataset, simple)
}

#[cfg(test)]
mod tests;
