//! The fields of Kubernetes' own kinds, for `kubectl explain`: what their Rust types read is asked of their
//! `Deserialize`, which names every field and asks for the type of its value. So the fields are those of the types that
//! objects are checked by, and no copy of Kubernetes' own document has to be kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::{Map, Value, json};

use crate::cluster::patch::{ListKind, list_kind};

/// The name of the type of `metadata`.
pub(crate) const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schemas of types, by their names in Kubernetes' document, such as `io.k8s.api.core.v1.PodSpec`.
#[derive(Debug, Default)]
pub(crate) struct Definitions(pub(crate) BTreeMap<String, Value>);

impl Definitions {
    /// Adds the type `T` and all types of its fields; returns the name of `T`.
    pub(crate) fn add<T: DeserializeOwned>(&mut self) -> String {
        let mut schema = Value::Null;
        // A type that wants another value than it is given has been described by then.
        drop(T::deserialize(Described {
            definitions: self,
            schema: &mut schema,
            field: "",
        }));
        name_of::<T>()
    }
}

/// A Rust type's name in Kubernetes' document.
fn name_of<T>() -> String {
    let path = std::any::type_name::<T>();
    let mut segments: Vec<&str> = path.split("::").skip(2).collect();
    // The file that holds the type, such as `pod_spec`.
    if let Some(file) = segments.len().checked_sub(2)
        && segments.get(file).is_some_and(|file| !is_version(file))
    {
        segments.remove(file);
    }
    format!("io.k8s.{}", segments.join("."))
}

fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Describes what a type asks for, and gives it the least that it takes.
struct Described<'a> {
    definitions: &'a mut Definitions,
    schema: &'a mut Value,
    /// The field whose value this is.
    field: &'a str,
}

/// A type that does not read what it is given. It has been described by then.
#[derive(Debug)]
struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the type reads other values")
    }
}

impl std::error::Error for Unreadable {}

impl serde::de::Error for Unreadable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! scalar {
    ($($method:ident => $visit:ident($($value:expr)?), $schema:tt;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            *self.schema = json!($schema);
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Described<'_> {
    type Error = Unreadable;

    scalar! {
        deserialize_bool => visit_bool(false), { "type": "boolean" };
        deserialize_i8 => visit_i8(0), { "type": "integer" };
        deserialize_i16 => visit_i16(0), { "type": "integer" };
        deserialize_i32 => visit_i32(0), { "type": "integer", "format": "int32" };
        deserialize_i64 => visit_i64(0), { "type": "integer", "format": "int64" };
        deserialize_u8 => visit_u8(0), { "type": "integer" };
        deserialize_u16 => visit_u16(0), { "type": "integer" };
        deserialize_u32 => visit_u32(0), { "type": "integer" };
        deserialize_u64 => visit_u64(0), { "type": "integer" };
        deserialize_f32 => visit_f32(0.0), { "type": "number" };
        deserialize_f64 => visit_f64(0.0), { "type": "number", "format": "double" };
        deserialize_char => visit_char('a'), { "type": "string" };
        deserialize_str => visit_str(""), { "type": "string" };
        deserialize_string => visit_str(""), { "type": "string" };
        deserialize_bytes => visit_bytes(b""), { "type": "string", "format": "byte" };
        deserialize_byte_buf => visit_bytes(b""), { "type": "string", "format": "byte" };
        deserialize_unit => visit_unit(), { "type": "object" };
        deserialize_identifier => visit_str(""), { "type": "string" };
        deserialize_ignored_any => visit_unit(), { "type": "object" };
    }

    /// Types that read several kinds of values.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let name = name_of::<V::Value>();
        let is_text = [".IntOrString", ".Quantity"]
            .iter()
            .any(|text| name.ends_with(text));
        *self.schema = if name.ends_with(".IntOrString") {
            json!({ "type": "string", "format": "int-or-string" })
        } else if is_text {
            json!({ "type": "string" })
        } else {
            json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
        };
        if is_text {
            visitor.visit_str("0")
        } else if name.ends_with("OrBool") {
            visitor.visit_bool(true)
        } else if name.ends_with("Array") {
            visitor.visit_seq(One { inner: None })
        } else {
            visitor.visit_unit()
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        if matches!(name, "Time" | "MicroTime") {
            *self.schema = json!({ "type": "string", "format": "date-time" });
            return visitor.visit_newtype_struct("1970-01-01T00:00:00Z".into_deserializer());
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let mut items = Value::Null;
        let read = visitor.visit_seq(One {
            inner: Some(Described {
                definitions: self.definitions,
                schema: &mut items,
                field: "",
            }),
        });
        *self.schema = json!({ "type": "array", "items": items });
        // kubectl computes patches by these.
        let merged = match list_kind(self.field, false) {
            ListKind::Keyed(key) => Some(Some(key)),
            ListKind::Set => Some(None),
            ListKind::Atomic => None,
        };
        if let (Some(key), Some(schema)) = (merged, self.schema.as_object_mut()) {
            schema.insert("x-kubernetes-patch-strategy".to_owned(), "merge".into());
            if let Some(key) = key {
                schema.insert("x-kubernetes-patch-merge-key".to_owned(), key.into());
            }
        }
        read
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let mut members = Value::Null;
        let read = visitor.visit_map(One {
            inner: Some(Described {
                definitions: self.definitions,
                schema: &mut members,
                field: "",
            }),
        });
        *self.schema = json!({ "type": "object", "additionalProperties": members });
        read
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let name = name_of::<V::Value>();
        *self.schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        if self.definitions.0.contains_key(&name) {
            return visitor.visit_map(Fields::of(self.definitions, &[]));
        }
        // Types refer to themselves.
        self.definitions.0.insert(name.clone(), Value::Null);
        let mut members = Fields::of(self.definitions, fields);
        let read = visitor.visit_map(&mut members);
        let properties = std::mem::take(&mut members.properties);
        self.definitions
            .0
            .insert(name, json!({ "type": "object", "properties": properties }));
        read
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unreadable> {
        *self.schema = json!({ "type": "string", "enum": variants });
        Err(Unreadable)
    }
}

/// A list or map of one element.
struct One<'a> {
    inner: Option<Described<'a>>,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Unreadable;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unreadable> {
        self.inner
            .take()
            .map(|inner| seed.deserialize(inner))
            .transpose()
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unreadable> {
        let key = self.inner.as_ref().map(|_| "key");
        key.map(|key| seed.deserialize(key.into_deserializer()))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Unreadable> {
        let inner = self.inner.take();
        inner.map_or(Err(Unreadable), |inner| seed.deserialize(inner))
    }
}

/// The fields of a struct, each asked for in turn.
struct Fields<'a> {
    definitions: &'a mut Definitions,
    left: std::slice::Iter<'static, &'static str>,
    current: &'static str,
    properties: Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn of(definitions: &'a mut Definitions, fields: &'static [&'static str]) -> Self {
        Self {
            definitions,
            left: fields.iter(),
            current: "",
            properties: Map::new(),
        }
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unreadable> {
        for field in self.left.by_ref() {
            // A kind reads no other values of these than its own.
            if matches!(*field, "apiVersion" | "kind") {
                self.properties
                    .insert((*field).to_owned(), json!({ "type": "string" }));
                continue;
            }
            self.current = field;
            return seed.deserialize((*field).into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Unreadable> {
        let mut schema = Value::Null;
        let read = seed.deserialize(Described {
            definitions: self.definitions,
            schema: &mut schema,
            field: self.current,
        });
        self.properties.insert(self.current.to_owned(), schema);
        read
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    use super::*;

    #[test]
    fn a_kind_is_described_by_what_its_type_reads() {
        let mut definitions = Definitions::default();
        assert_eq!(definitions.add::<Pod>(), "io.k8s.api.core.v1.Pod");
        let of = |name: &str| &definitions.0[&format!("io.k8s.{name}")]["properties"];
        let reference =
            |name: &str| json!({ "$ref": format!("#/components/schemas/io.k8s.{name}") });
        assert_eq!(
            of("api.core.v1.Pod")["spec"],
            reference("api.core.v1.PodSpec")
        );
        let spec = of("api.core.v1.PodSpec");
        let containers = json!({
            "type": "array", "items": reference("api.core.v1.Container"), "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": "name",
        });
        assert_eq!(spec["containers"], containers);
        let integer = json!({ "type": "integer", "format": "int64" });
        assert_eq!(spec["terminationGracePeriodSeconds"], integer);
        let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
        assert_eq!(spec["nodeSelector"], texts);
        let limits = &of("api.core.v1.ResourceRequirements")["limits"];
        assert_eq!(limits["additionalProperties"], json!({ "type": "string" }));
        let time = json!({ "type": "string", "format": "date-time" });
        assert_eq!(
            of("apimachinery.pkg.apis.meta.v1.ObjectMeta")["creationTimestamp"],
            time
        );
        let port = &of("api.core.v1.HTTPGetAction")["port"];
        assert_eq!(port["format"], "int-or-string");
        assert!(definitions.0.contains_key(METADATA));
        assert!(
            definitions
                .0
                .values()
                .all(|schema| schema["properties"].is_object())
        );
    }

    #[test]
    fn types_that_refer_to_themselves_are_described_once() {
        let mut definitions = Definitions::default();
        definitions.add::<CustomResourceDefinition>();
        let name = "io.k8s.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let properties = definitions.0[name]["properties"].as_object().unwrap();
        // The last of them, so that none before kept the rest from being described.
        for field in [
            "additionalProperties",
            "default",
            "items",
            "properties",
            "x-kubernetes-validations",
        ] {
            assert!(properties.contains_key(field), "{field}");
        }
    }
}
