//! The shape of a section, read off its defaults.
//!
//! Keys are case-insensitive, typing is weak, and every leaf has a flag and an environment variable
//! (spec 07 §1.5-1.7). All three need to know the fields of a section and the kind of each, and the only
//! statement of that should be the struct itself: its `Default`, run through a serializer that records
//! structure, tells structs from maps.

use serde::{
    Serialize,
    ser::{self, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple},
};
use serde_json::{Map, Value};

use super::{Problem, decode};

/// What a default value looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A struct: fields in order.
    Struct(Vec<(String, Shape)>),
    /// A map with keys of the user's choosing; configured values replace the default entirely.
    Map(Value),
    /// A list; replaced entirely.
    List(Value),
    /// Text, a duration, a quantity: anything written as text.
    Text(String),
    /// true or false.
    Bool(bool),
    /// A number.
    Number(Value),
    /// An absent optional value of unknown kind.
    Absent,
}

impl Shape {
    /// The shape of `default`.
    pub fn of<T: Serialize>(default: &T) -> Self {
        default.serialize(Recorder).unwrap_or(Self::Absent)
    }

    /// Dotted paths of all leaves; none if this is no struct but, as section `domains`, a list or a map.
    pub fn leaves(&self) -> Vec<String> {
        let mut found = Vec::new();
        if matches!(self, Self::Struct(_)) {
            self.collect("", &mut found);
        }
        found
    }

    fn collect(&self, prefix: &str, found: &mut Vec<String>) {
        match self {
            Self::Struct(fields) => {
                for (name, shape) in fields {
                    let path = if prefix.is_empty() {
                        name.clone()
                    } else {
                        format!("{prefix}.{name}")
                    };
                    shape.collect(&path, found);
                }
            }
            _ => found.push(prefix.to_owned()),
        }
    }

    /// The default of the leaf at `path`, as text, for `--help` and the reference page.
    pub fn default_text(&self, path: &str) -> String {
        match self.at(path) {
            Some(Self::Text(text)) => text.clone(),
            Some(Self::Bool(flag)) => flag.to_string(),
            Some(Self::Number(value) | Self::Map(value) | Self::List(value)) => value.to_string(),
            Some(Self::Struct(_) | Self::Absent) | None => String::new(),
        }
    }

    /// The shape at `path`; an empty one is the section itself.
    pub fn at(&self, path: &str) -> Option<&Self> {
        let mut at = self;
        for part in path.split('.').filter(|_| !path.is_empty()) {
            let Self::Struct(fields) = at else {
                return None;
            };
            at = &fields.iter().find(|(name, _)| name == part)?.1;
        }
        Some(at)
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Struct(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(name, shape)| (name.clone(), shape.to_value()))
                    .collect(),
            ),
            Self::Map(value) | Self::List(value) | Self::Number(value) => value.clone(),
            Self::Text(text) => Value::String(text.clone()),
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Absent => Value::Null,
        }
    }
}

/// Names under which the leaf at `path` is looked for in the environment (spec 07 §1.5).
pub(crate) fn environment_names(path: &str) -> [String; 3] {
    let upper = path.to_uppercase();
    [
        upper.replace('-', "_"),
        upper.clone(),
        // A form that a POSIX shell can set.
        format!("FLYTE__{}", upper.replace('-', "_").replace('.', "__")),
    ]
}

/// The name that somebody who wrote `key` probably meant: the nearest one, if it is near.
pub(super) fn similar<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let written = plain(key);
    names
        .map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name))
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3))
        .min()
        .map(|(_, name)| name)
}

/// Turns what files hold into what serde can decode, remembering what did not fit.
pub(super) struct Decoder {
    section: String,
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
}

impl Decoder {
    pub(super) fn new(section: &str) -> Self {
        Self {
            section: section.to_owned(),
            warnings: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.warnings, self.problems)
    }

    /// The section's value: the file's where it speaks, else the default.
    pub(super) fn decode(&mut self, shape: &Shape, raw: Option<Value>) -> Value {
        let mut path = vec![self.section.clone()];
        // Secrets print as *** and so may not pass through their serialized default: only what the
        // files say is handed to serde, and `#[serde(default)]` fills in the rest.
        match raw {
            Some(raw) => self.walk(shape, raw, &mut path),
            None => Value::Object(Map::new()),
        }
    }

    fn walk(&mut self, shape: &Shape, raw: Value, path: &mut Vec<String>) -> Value {
        match (shape, raw) {
            (Shape::Struct(fields), Value::Object(object)) => {
                let mut decoded = Map::new();
                for (key, value) in object {
                    let field = fields.iter().find(|(name, _)| *name == key).or_else(|| {
                        fields
                            .iter()
                            .find(|(name, _)| name.eq_ignore_ascii_case(&key))
                    });
                    // The file's keys have lost their case; people look for the documented one.
                    path.push(field.map_or(&key, |(name, _)| name).clone());
                    match field {
                        Some((name, shape)) => {
                            let value = self.walk(shape, value, path);
                            decoded.insert(name.clone(), value);
                        }
                        // A nested section of its own, such as propeller.resourcemanager.
                        None if value.is_object() && path.len() == 2 => {}
                        None => self.warnings.push(Problem {
                            key: path.join("."),
                            message: self.unknown(&key, fields),
                        }),
                    }
                    path.pop();
                }
                Value::Object(decoded)
            }
            (Shape::Struct(_), Value::Array(items)) if items.iter().all(Value::is_object) => {
                // A list of single-key maps stands for a map wherever one is expected.
                let mut union = Map::new();
                for item in items {
                    if let Value::Object(object) = item {
                        union.extend(
                            object
                                .into_iter()
                                .map(|(key, value)| (key.to_lowercase(), value)),
                        );
                    }
                }
                self.walk(shape, Value::Object(union), path)
            }
            (shape, Value::String(text)) => self.read_text(shape, &text, &path.join(".")),
            // Also for durations and quantities: their texts include plain numbers.
            (Shape::Text(_), Value::Number(number)) => Value::String(number.to_string()),
            (Shape::Text(_), Value::Bool(flag)) => {
                Value::String(if flag { "1" } else { "0" }.into())
            }
            (Shape::Bool(_), Value::Number(number)) => {
                Value::Bool(number.as_f64().is_some_and(|n| n != 0.0))
            }
            (Shape::Number(_), Value::Bool(flag)) => Value::from(u8::from(flag)),
            (Shape::List(_), value @ (Value::Number(_) | Value::Bool(_) | Value::Object(_))) => {
                Value::Array(vec![value])
            }
            (_, raw) => raw,
        }
    }

    fn unknown(&self, key: &str, fields: &[(String, Shape)]) -> String {
        let names = fields.iter().map(|(name, _)| name.as_str());
        match similar(key, names) {
            Some(name) => format!("unknown key, nothing reads it; is {name:?} meant?"),
            None => format!(
                "unknown key, nothing reads it; `config docs` lists those of {:?}",
                self.section
            ),
        }
    }

    /// Overrides one leaf by a flag or an environment variable.
    pub(super) fn set(&mut self, shape: &Shape, value: &mut Value, leaf: &str, text: &str) {
        let Some(kind) = shape.at(leaf) else { return };
        let decoded = self.read_text(kind, text, &format!("{}.{leaf}", self.section));
        let mut at = value;
        for part in leaf.split('.') {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let Some(object) = at.as_object_mut() else {
                return;
            };
            at = object
                .entry(part.to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
        }
        *at = decoded;
    }

    fn read_text(&mut self, shape: &Shape, text: &str, key: &str) -> Value {
        let mut wrong = |expected: &str| {
            self.problems.push(Problem {
                key: key.to_owned(),
                message: decode::unfit(key, expected, &Value::from(text)),
            });
            shape.to_value()
        };
        match shape {
            Shape::Bool(_) => match text {
                "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Value::Bool(false),
                "1" | "t" | "T" | "true" | "True" | "TRUE" => Value::Bool(true),
                _ => wrong("true or false"),
            },
            Shape::Number(default) => {
                if text.is_empty() {
                    return Value::from(0);
                }
                if let Ok(integer) = text.trim().parse::<i64>() {
                    return Value::from(integer);
                }
                match text.trim().parse::<f64>() {
                    Ok(number) if default.is_f64() => Value::from(number),
                    _ => wrong("a number"),
                }
            }
            Shape::List(_) => Value::Array(
                text.split(',')
                    .filter(|part| !part.is_empty())
                    .map(|part| Value::String(part.to_owned()))
                    .collect(),
            ),
            Shape::Struct(_) => wrong(decode::SECTION),
            Shape::Map(_) | Shape::Text(_) | Shape::Absent => Value::String(text.to_owned()),
        }
    }
}

/// Serializes into a [`Shape`].
struct Recorder;

/// Recording cannot fail; serde wants a type for it all the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RecordError(String);

impl ser::Error for RecordError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Fields(Vec<(String, Shape)>);
struct Items(Vec<Value>);
struct Entries(Map<String, Value>, Option<String>);

macro_rules! numbers {
    ($($method:ident: $kind:ty),*) => {
        $(fn $method(self, value: $kind) -> Result<Shape, RecordError> {
            Ok(Shape::Number(Value::from(value)))
        })*
    };
}

impl ser::Serializer for Recorder {
    type Ok = Shape;
    type Error = RecordError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Impossible<Shape, RecordError>;
    type SerializeTupleVariant = Impossible<Shape, RecordError>;
    type SerializeMap = Entries;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Shape, RecordError>;

    numbers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
             serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
             serialize_f32: f32, serialize_f64: f64);

    fn serialize_bool(self, value: bool) -> Result<Shape, RecordError> {
        Ok(Shape::Bool(value))
    }

    fn serialize_char(self, value: char) -> Result<Shape, RecordError> {
        Ok(Shape::Text(value.to_string()))
    }

    fn serialize_str(self, value: &str) -> Result<Shape, RecordError> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Shape, RecordError> {
        Ok(Shape::Text(String::new()))
    }

    fn serialize_none(self) -> Result<Shape, RecordError> {
        Ok(Shape::Absent)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Shape, RecordError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Shape, RecordError> {
        Ok(Shape::Absent)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Shape, RecordError> {
        Ok(Shape::Absent)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Shape, RecordError> {
        Ok(Shape::Text(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Shape, RecordError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Shape, RecordError> {
        Ok(Shape::Absent)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, RecordError> {
        Ok(Items(Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, RecordError> {
        Ok(Items(Vec::new()))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, RecordError> {
        Err(RecordError(
            "tuple structs have no place in configuration".into(),
        ))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, RecordError> {
        Err(RecordError(
            "tuple variants have no place in configuration".into(),
        ))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, RecordError> {
        Ok(Entries(Map::new(), None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, RecordError> {
        Ok(Fields(Vec::new()))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, RecordError> {
        Err(RecordError(
            "struct variants have no place in configuration".into(),
        ))
    }
}

fn plain<T: Serialize + ?Sized>(value: &T) -> Result<Value, RecordError> {
    serde_json::to_value(value).map_err(|error| RecordError(error.to_string()))
}

impl SerializeSeq for Items {
    type Ok = Shape;
    type Error = RecordError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordError> {
        self.0.push(plain(value)?);
        Ok(())
    }

    fn end(self) -> Result<Shape, RecordError> {
        Ok(Shape::List(Value::Array(self.0)))
    }
}

impl SerializeTuple for Items {
    type Ok = Shape;
    type Error = RecordError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordError> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<Shape, RecordError> {
        SerializeSeq::end(self)
    }
}

impl SerializeMap for Entries {
    type Ok = Shape;
    type Error = RecordError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), RecordError> {
        self.1 = plain(key)?.as_str().map(str::to_owned);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordError> {
        if let Some(key) = self.1.take() {
            self.0.insert(key, plain(value)?);
        }
        Ok(())
    }

    fn end(self) -> Result<Shape, RecordError> {
        Ok(Shape::Map(Value::Object(self.0)))
    }
}

impl SerializeStruct for Fields {
    type Ok = Shape;
    type Error = RecordError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), RecordError> {
        self.0.push((name.to_owned(), value.serialize(Recorder)?));
        Ok(())
    }

    fn end(self) -> Result<Shape, RecordError> {
        Ok(Shape::Struct(self.0))
    }
}
