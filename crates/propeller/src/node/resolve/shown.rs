//! Values in errors, as Go's `%v` prints them: `map[a:1 b:[x y]]`. What is long is cut (`core::excerpt`).

use std::{collections::BTreeMap, fmt::Display};

use flyte_core::excerpt::{MARK, MAX_BYTES};
use flyte_idl::number;
use prost_types::value::Kind;

/// A map of whatever `print` prints.
pub(super) fn map<T>(entries: &BTreeMap<String, T>, print: impl Fn(&T) -> String) -> String {
    let mut text = Text::default();
    text.map(
        entries,
        |text, key| text.add(key),
        |text, value| text.add(print(value)),
    );
    text.end()
}

/// A list of whatever `print` prints.
pub(super) fn list<T>(items: &[T], print: impl Fn(&T) -> String) -> String {
    let mut text = Text::default();
    text.list(items, |text, item| text.add(print(item)));
    text.end()
}

/// A value of a structure.
pub(super) fn generic(value: &prost_types::Value) -> String {
    let mut text = Text::default();
    text.generic(value);
    text.end()
}

/// A value of msgpack.
pub(super) fn msgpack(value: &rmpv::Value) -> String {
    let mut text = Text::default();
    text.msgpack(value);
    text.end()
}

/// The type of a value of msgpack, as Go's `%T` prints it: of an integer, the smallest that holds it.
pub(super) fn msgpack_type(value: &rmpv::Value) -> &'static str {
    match value {
        rmpv::Value::Nil => "<nil>",
        rmpv::Value::Boolean(_) => "bool",
        rmpv::Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(0..=0xff), _) => "uint8",
            (Some(0..=0xffff), _) => "uint16",
            (Some(0..=0xffff_ffff), _) => "uint32",
            (Some(_), _) => "uint64",
            (None, Some(-0x80..)) => "int8",
            (None, Some(-0x8000..)) => "int16",
            (None, Some(-0x8000_0000..)) => "int32",
            (None, _) => "int64",
        },
        rmpv::Value::F32(_) => "float32",
        rmpv::Value::F64(_) => "float64",
        rmpv::Value::String(_) => "string",
        rmpv::Value::Binary(_) => "[]uint8",
        rmpv::Value::Array(_) => "[]interface {}",
        rmpv::Value::Map(_) => "map[interface {}]interface {}",
        rmpv::Value::Ext(..) => "time.Time",
    }
}

/// A text that takes no more once it is full.
#[derive(Default)]
struct Text(String);

impl Text {
    fn is_full(&self) -> bool {
        self.0.len() > MAX_BYTES
    }

    fn add(&mut self, part: impl Display) {
        if !self.is_full() {
            self.0 += &part.to_string();
        }
    }

    fn end(mut self) -> String {
        if self.is_full() {
            self.0.truncate(self.0.floor_char_boundary(MAX_BYTES));
            self.0.push(MARK);
        }
        self.0
    }

    fn list<'a, T: 'a>(
        &mut self,
        items: impl IntoIterator<Item = &'a T>,
        mut print: impl FnMut(&mut Self, &T),
    ) {
        self.add('[');
        for (position, item) in items.into_iter().enumerate() {
            if self.is_full() {
                return;
            }
            if position > 0 {
                self.add(' ');
            }
            print(self, item);
        }
        self.add(']');
    }

    fn map<'a, K: 'a, V: 'a>(
        &mut self,
        entries: impl IntoIterator<Item = (&'a K, &'a V)>,
        mut key: impl FnMut(&mut Self, &K),
        mut value: impl FnMut(&mut Self, &V),
    ) {
        self.add("map");
        let entries: Vec<_> = entries.into_iter().collect();
        self.list(&entries, |text, (one, other)| {
            key(text, one);
            text.add(':');
            value(text, other);
        });
    }

    fn generic(&mut self, value: &prost_types::Value) {
        match &value.kind {
            Some(Kind::StructValue(structure)) => {
                self.map(&structure.fields, |text, key| text.add(key), Self::generic);
            }
            Some(Kind::ListValue(list)) => self.list(&list.values, Self::generic),
            Some(Kind::StringValue(text)) => self.add(text),
            Some(Kind::NumberValue(number)) => self.add(number::value_f64(*number)),
            Some(Kind::BoolValue(flag)) => self.add(flag),
            Some(Kind::NullValue(_)) | None => self.add("<nil>"),
        }
    }

    fn msgpack(&mut self, value: &rmpv::Value) {
        match value {
            rmpv::Value::Nil => self.add("<nil>"),
            rmpv::Value::Boolean(flag) => self.add(flag),
            rmpv::Value::Integer(number) => self.add(number),
            rmpv::Value::F32(number) => self.add(number::value_f32(*number)),
            rmpv::Value::F64(number) => self.add(number::value_f64(*number)),
            rmpv::Value::String(text) => self.add(String::from_utf8_lossy(text.as_bytes())),
            rmpv::Value::Binary(bytes) | rmpv::Value::Ext(_, bytes) => {
                self.list(bytes, |text, byte| text.add(byte));
            }
            rmpv::Value::Array(items) => self.list(items, Self::msgpack),
            rmpv::Value::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().map(|(key, value)| (key, value)).collect();
                entries.sort_by(|(one, _), (other, _)| one.as_str().cmp(&other.as_str()));
                self.map(entries, Self::msgpack, Self::msgpack);
            }
        }
    }
}
