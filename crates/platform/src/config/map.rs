//! Maps in configuration.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Unexpected, Visitor},
};
use serde_json::Value;

/// A map from text to text.
///
/// Written as a YAML map (dot-less keys lose their case, spec 07 §1.3) or as a list of single-key maps
/// (the supported idiom when case matters, e.g. for environment variables). Numbers and booleans become text.
pub type StringMap = KeyedList<String>;

/// A map whose values have type `V`, written as a map or as a list of single-key maps; later elements win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedList<V>(pub BTreeMap<String, V>);

impl<V> Default for KeyedList<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V, const N: usize> From<[(&str, V); N]> for KeyedList<V> {
    fn from(entries: [(&str, V); N]) -> Self {
        Self(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }
}

impl<V: Serialize> Serialize for KeyedList<V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.0)
    }
}

impl<'de, V: FromLoose> Deserialize<'de> for KeyedList<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Entries(PhantomData))
    }
}

/// A value of a [`KeyedList`], read from whatever YAML made of it.
pub trait FromLoose: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// A sentence saying what was expected.
    fn from_loose(value: Value) -> Result<Self, String>;

    /// Reads the value where it stands. A type with keys of its own reads itself, so that what is wrong in it is told by its
    /// key.
    ///
    /// # Errors
    /// Those of [`FromLoose::from_loose`].
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_loose(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl FromLoose for String {
    fn from_loose(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            // Weak typing of the reference: true becomes "1".
            Value::Bool(flag) => Ok(if flag { "1" } else { "0" }.into()),
            Value::Null => Ok(String::new()),
            Value::Array(_) | Value::Object(_) => Err("expected text".to_owned()),
        }
    }
}

struct Entries<V>(PhantomData<V>);

impl<'de, V: FromLoose> Visitor<'de> for Entries<V> {
    type Value = KeyedList<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map or a list of single-key maps")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(KeyedList::default())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        // The flag and environment form: k=v,k2=v2.
        let mut entries = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                E::invalid_value(Unexpected::Str(text), &"pairs key=value, joined by commas")
            })?;
            let value = V::from_loose(Value::String(value.to_owned())).map_err(E::custom)?;
            entries.insert(key.trim().to_owned(), value);
        }
        Ok(KeyedList(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.insert(key, map.next_value_seed(Loose(PhantomData))?);
        }
        Ok(KeyedList(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(KeyedList(item)) = items.next_element_seed(Item(PhantomData))? {
            entries.extend(item);
        }
        Ok(KeyedList(entries))
    }
}

/// Reads a value.
struct Loose<V>(PhantomData<V>);

impl<'de, V: FromLoose> DeserializeSeed<'de> for Loose<V> {
    type Value = V;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V, D::Error> {
        V::read(deserializer)
    }
}

/// Reads one map of a list of them.
struct Item<V>(PhantomData<V>);

impl<'de, V: FromLoose> DeserializeSeed<'de> for Item<V> {
    type Value = KeyedList<V>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, V: FromLoose> Visitor<'de> for Item<V> {
    type Value = KeyedList<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map with one key")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Entries(PhantomData).visit_map(map)
    }
}
