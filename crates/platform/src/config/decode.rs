//! From values to structs, telling of each value that does not fit: which key, what is expected there, what was found.
//!
//! Serde ends at the first value that does not fit. Here it begins again without that value, until the rest fits.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, Visitor,
        value::{MapAccessDeserializer, StrDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use super::{Problem, secret};

/// The most problems of one section that are told: each costs another decoding of it.
const MOST: usize = 100;

/// What of a wrong value is shown, in characters.
const SHOWN: usize = 80;

/// The struct that `value` is, unless something does not fit, which is told by its key.
pub(super) fn decode<S: DeserializeOwned>(
    section: &str,
    value: &Value,
) -> (Option<S>, Vec<Problem>) {
    let mut left_out = BTreeSet::new();
    let mut problems = Vec::new();
    loop {
        let root = At {
            value,
            path: Vec::new(),
            left_out: &left_out,
        };
        let mismatch = match S::deserialize(root) {
            Ok(decoded) => return (Some(decoded), problems),
            Err(mismatch) => mismatch,
        };
        let path = mismatch.path.clone().unwrap_or_default();
        if !mismatch.follows(&path, &left_out) {
            problems.push(mismatch.problem(section, value, &path));
        }
        if path.is_empty() || problems.len() >= MOST || !left_out.insert(path) {
            return (None, problems);
        }
    }
}

/// What is told of a value of the key `key` that does not fit.
pub(super) fn unfit(key: &str, expected: &str, found: &Value) -> String {
    format!("expected {expected}, found {}", shown(key, found))
}

/// A value as people see it in a problem: the beginning of it, and nothing that may be secret.
fn shown(key: &str, value: &Value) -> String {
    if secret::may_be_secret(key) {
        return "a value that is not shown, since it may be secret".to_owned();
    }
    let mut value = value.clone();
    secret::hide(&mut value);
    let (kind, text) = match &value {
        Value::Array(_) => ("the list ", value.to_string()),
        Value::Object(_) => ("the section ", value.to_string()),
        _ => ("", value.to_string()),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{kind}{}…", text.get(..end).unwrap_or_default()),
        None => format!("{kind}{text}"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Index(usize),
}

type Path = Vec<Step>;

fn key_of(section: &str, path: &[Step]) -> String {
    path.iter()
        .fold(section.to_owned(), |key, step| match step {
            Step::Key(name) => format!("{key}.{name}"),
            Step::Index(index) => format!("{key}[{index}]"),
        })
}

/// Why decoding ended.
#[derive(Debug)]
struct Mismatch {
    /// The innermost value that does not fit; none until somebody knows.
    path: Option<Path>,
    why: Why,
}

#[derive(Debug)]
enum Why {
    /// What would fit, in an operator's words.
    Expected(String),
    /// A key of a section.
    Missing(&'static str),
    /// A sentence of the type's own.
    Said(String),
}

impl Mismatch {
    fn expected(what: impl Into<String>) -> Self {
        Self {
            path: None,
            why: Why::Expected(what.into()),
        }
    }

    /// Whether it is there only because something was left out, which is told already.
    fn follows(&self, path: &[Step], left_out: &BTreeSet<Path>) -> bool {
        let Why::Missing(field) = self.why else {
            return false;
        };
        let mut path = path.to_vec();
        path.push(Step::Key(field.to_owned()));
        left_out.contains(&path)
    }

    fn at(mut self, path: &[Step]) -> Self {
        self.path.get_or_insert_with(|| path.to_vec());
        self
    }

    fn problem(&self, section: &str, value: &Value, path: &[Step]) -> Problem {
        let key = key_of(section, path);
        let found = path.iter().try_fold(value, |at, step| match step {
            Step::Key(name) => at.get(name),
            Step::Index(index) => at.get(index),
        });
        let found = found.unwrap_or(&Value::Null);
        let message = match &self.why {
            Why::Expected(expected) => unfit(&key, expected, found),
            Why::Missing(field) => unfit(&key, &format!("a section with the key {field:?}"), found),
            // The sentence may hold the value.
            Why::Said(_) if secret::may_be_secret(&key) => shown(&key, found) + " does not fit",
            Why::Said(sentence) => format!("{sentence}; found {}", shown(&key, found)),
        };
        Problem { key, message }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Expected(expected) => write!(formatter, "expected {expected}"),
            Why::Missing(field) => write!(formatter, "key {field:?} is missing"),
            Why::Said(sentence) => formatter.write_str(sentence),
        }
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: None,
            why: Why::Said(message.to_string()),
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(in_words(&expected.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(in_words(&expected.to_string()))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::expected(in_words(&expected.to_string()))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::expected(one_of(expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            path: None,
            why: Why::Missing(field),
        }
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => format!("{only:?}"),
        words => {
            let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
            format!("one of {}", words.join(", "))
        }
    }
}

/// What serde says of Rust's types, said of configuration.
fn in_words(expected: &str) -> String {
    let whole = |least: &dyn fmt::Display, most: &dyn fmt::Display| {
        format!("a whole number from {least} to {most}")
    };
    match expected {
        "u8" => whole(&u8::MIN, &u8::MAX),
        "u16" => whole(&u16::MIN, &u16::MAX),
        "u32" => whole(&u32::MIN, &u32::MAX),
        "u64" | "usize" => whole(&u64::MIN, &u64::MAX),
        "i8" => whole(&i8::MIN, &i8::MAX),
        "i16" => whole(&i16::MIN, &i16::MAX),
        "i32" => whole(&i32::MIN, &i32::MAX),
        "i64" | "isize" => whole(&i64::MIN, &i64::MAX),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "string" | "path string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => SECTION.to_owned(),
        other if other.starts_with("struct ") => SECTION.to_owned(),
        other if other.starts_with("tuple ") => "a list".to_owned(),
        other => other.to_owned(),
    }
}

/// What a struct is written as.
pub(super) const SECTION: &str = "a section, which is a map of keys";

/// A value on its way into a struct.
struct At<'a> {
    value: &'a Value,
    path: Path,
    left_out: &'a BTreeSet<Path>,
}

impl<'a> At<'a> {
    fn below(&self, value: &'a Value, step: Step) -> At<'a> {
        let mut path = self.path.clone();
        path.push(step);
        At {
            value,
            path,
            left_out: self.left_out,
        }
    }

    /// Reads with `seed`; a mismatch that nobody within knows the place of is here.
    fn read<'de, T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        let path = self.path.clone();
        seed.deserialize(self)
            .map_err(|mismatch| mismatch.at(&path))
    }

    fn entries(&self, object: &'a Map<String, Value>) -> Entries<'a> {
        let entries = object
            .iter()
            .map(|(key, value)| (key.as_str(), self.below(value, Step::Key(key.clone()))))
            .filter(|(_, at)| !self.left_out.contains(&at.path));
        Entries {
            entries: entries.collect::<Vec<_>>().into_iter(),
            value: None,
        }
    }

    fn items(&self, items: &'a [Value]) -> Items<'a> {
        let items = items
            .iter()
            .enumerate()
            .map(|(index, value)| self.below(value, Step::Index(index)))
            .filter(|at| !self.left_out.contains(&at.path));
        Items(items.collect::<Vec<_>>().into_iter())
    }
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(whole), _) => visitor.visit_u64(whole),
                (None, Some(whole)) => visitor.visit_i64(whole),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(items) => visitor.visit_seq(self.items(items)),
            Value::Object(object) => visitor.visit_map(self.entries(object)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        // A list would be taken for the fields in their order.
        match self.value {
            Value::Array(_) => Err(Mismatch::expected(SECTION)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::String(text) => {
                let word: StrDeserializer<'_, Mismatch> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            Value::Object(object) if object.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(self.entries(object)))
            }
            _ => Err(Mismatch::expected(one_of(variants))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Entries<'a> {
    entries: std::vec::IntoIter<(&'a str, At<'a>)>,
    value: Option<At<'a>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let key: StringDeserializer<Mismatch> = key.to_owned().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        match self.value.take() {
            Some(value) => value.read(seed),
            None => Err(Mismatch::expected("a value")),
        }
    }
}

struct Items<'a>(std::vec::IntoIter<At<'a>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        self.0.next().map(|item| item.read(seed)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Other(u8),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Item {
        /// It has no default.
        name: String,
        #[serde(default)]
        color: Option<Color>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Section {
        items: Vec<Item>,
        port: u16,
        ratio: f64,
        token: u8,
    }

    #[test]
    fn what_fits_is_decoded() {
        let value = json!({
            "items": [{"name": "a", "color": "red"}, {"name": "b", "color": {"other": 3}}, {"name": "c", "color": null}],
            "port": 80, "ratio": 2, "unknown": [],
        });
        let (section, problems) = decode::<Section>("s", &value);
        assert_eq!(problems, []);
        let item = |name: &str, color| Item {
            name: name.to_owned(),
            color,
        };
        let expected = Section {
            items: vec![
                item("a", Some(Color::Red)),
                item("b", Some(Color::Other(3))),
                item("c", None),
            ],
            port: 80,
            ratio: 2.0,
            token: 0,
        };
        assert_eq!(section, Some(expected));
    }

    #[test]
    fn each_value_that_does_not_fit_is_told_once() {
        let long = format!(
            "s.port: expected a whole number from 0 to 65535, found \"{}…",
            "x".repeat(SHOWN - 1)
        );
        for (value, expected) in [
            (
                json!({"items": [{"name": 1}, {"color": "blue"}, {"name": "c", "color": 4}], "port": -1, "ratio": [], "token": 300}),
                vec![
                    "s.items[0].name: expected text, found 1",
                    "s.items[1].color: expected one of \"red\", \"other\", found \"blue\"",
                    "s.items[1]: expected a section with the key \"name\", found the section {\"color\":\"blue\"}",
                    "s.items[2].color: expected one of \"red\", \"other\", found 4",
                    "s.port: expected a whole number from 0 to 65535, found -1",
                    "s.ratio: expected a number, found the list []",
                    "s.token: expected a whole number from 0 to 255, found a value that is not shown, since it may be secret",
                ],
            ),
            (
                json!([80]),
                vec!["s: expected a section, which is a map of keys, found the list [80]"],
            ),
            (json!({"port": "x".repeat(90)}), vec![long.as_str()]),
        ] {
            let (_, problems) = decode::<Section>("s", &value);
            let told: Vec<_> = problems
                .iter()
                .map(|problem| format!("{}: {}", problem.key, problem.message))
                .collect();
            assert_eq!(told, expected, "{value}");
        }
    }

    #[test]
    fn no_section_has_more_problems_than_are_told() {
        let value = json!({"items": vec![json!({"name": 1}); 3 * MOST]});
        let (section, problems) = decode::<Section>("s", &value);
        assert_eq!((section, problems.len()), (None, MOST));
    }
}
