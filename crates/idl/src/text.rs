//! The single-line text form of messages that error messages, index keys and Go's logs show.
//!
//! Go inserts random blanks to discourage parsing; this writer always puts one blank between fields, in
//! order of declaration, and sorts map entries (spec 08 A1, spec 01 §4.6).

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};

use crate::{descriptors, number};

/// The text of a message, for example `resource_type:TASK project:"p" name:"n"`; fields that are not
/// set are left out, sub-messages print as `field:{…}`.
pub fn prototext<M: Message + Name>(message: &M) -> String {
    prototext_dynamic(&descriptors::dynamic(message))
}

/// As [`prototext`], and `<nil>` for a message that is absent, as Go prints a nil pointer.
pub fn prototext_or_nil<M: Message + Name>(message: Option<&M>) -> String {
    message.map_or_else(|| "<nil>".to_owned(), prototext)
}

/// The text of a dynamic message, as [`prototext`].
pub fn prototext_dynamic(message: &DynamicMessage) -> String {
    let mut out = String::new();
    write_message(&mut out, message);
    out
}

fn write_message(out: &mut String, message: &DynamicMessage) {
    let start = out.len();
    for field in descriptors::fields(&message.descriptor()).iter() {
        if !message.has_field(field) {
            continue;
        }
        let value = message.get_field(field);
        match value.as_ref() {
            Value::List(items) => {
                for item in items {
                    write_field(out, start, field, item);
                }
            }
            Value::Map(entries) => write_map(out, start, field, entries),
            single => write_field(out, start, field, single),
        }
    }
}

fn separate(out: &mut String, start: usize) {
    if out.len() > start {
        out.push(' ');
    }
}

fn write_field(out: &mut String, start: usize, field: &FieldDescriptor, value: &Value) {
    separate(out, start);
    out.push_str(field.name());
    out.push(':');
    write_value(out, &field.kind(), value);
}

fn write_map(
    out: &mut String,
    start: usize,
    field: &FieldDescriptor,
    entries: &std::collections::HashMap<MapKey, Value>,
) {
    let Kind::Message(entry) = field.kind() else {
        return;
    };
    let value_kind = entry.map_entry_value_field().kind();
    for key in descriptors::sorted_keys(entries) {
        separate(out, start);
        out.push_str(field.name());
        out.push_str(":{key:");
        match key {
            MapKey::Bool(key) => out.push_str(if *key { "true" } else { "false" }),
            MapKey::I32(key) => out.push_str(&key.to_string()),
            MapKey::I64(key) => out.push_str(&key.to_string()),
            MapKey::U32(key) => out.push_str(&key.to_string()),
            MapKey::U64(key) => out.push_str(&key.to_string()),
            MapKey::String(key) => quote(out, key.as_bytes()),
        }
        if let Some(value) = entries.get(key) {
            out.push_str(" value:");
            write_value(out, &value_kind, value);
        }
        out.push('}');
    }
}

fn write_value(out: &mut String, kind: &Kind, value: &Value) {
    match value {
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::I32(value) => out.push_str(&value.to_string()),
        Value::I64(value) => out.push_str(&value.to_string()),
        Value::U32(value) => out.push_str(&value.to_string()),
        Value::U64(value) => out.push_str(&value.to_string()),
        Value::F32(value) => out.push_str(&number::text_f32(*value)),
        Value::F64(value) => out.push_str(&number::text_f64(*value)),
        Value::String(value) => quote(out, value.as_bytes()),
        Value::Bytes(value) => quote(out, value),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(descriptor) => match descriptor.get_value(*number) {
                Some(named) => out.push_str(named.name()),
                None => out.push_str(&number.to_string()),
            },
            _ => out.push_str(&number.to_string()),
        },
        Value::Message(message) => {
            out.push('{');
            write_message(out, message);
            out.push('}');
        }
        // Lists and maps do not nest in protobuf; both are taken apart above.
        Value::List(_) | Value::Map(_) => {}
    }
}

/// Go's quoting: `"` and `\` escaped, control characters as `\n`, `\r`, `\t` or `\xNN`, other UTF-8 as it
/// is, bytes that are not UTF-8 as `\xNN`.
fn quote(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control < ' ' || control == '\x7f' => {
                    out.push_str(&format!("\\x{:02x}", u32::from(control)));
                }
                other => out.push(other),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::{
        Identifier, LiteralType, ResourceType, SimpleType, TypeStructure, UnionType, literal_type,
    };

    fn simple(simple: SimpleType) -> LiteralType {
        LiteralType {
            r#type: Some(literal_type::Type::Simple(simple as i32)),
            ..Default::default()
        }
    }

    #[test]
    fn identifiers_print_one_blank_between_fields() {
        let id = Identifier {
            resource_type: ResourceType::Task as i32,
            project: "p".into(),
            name: "a \"b\"\\é\u{1}\n".into(),
            ..Default::default()
        };
        assert_eq!(
            prototext(&id),
            "resource_type:TASK project:\"p\" name:\"a \\\"b\\\"\\\\é\\x01\\n\""
        );
        assert_eq!(prototext_or_nil::<Identifier>(None), "<nil>");
    }

    #[test]
    fn types_print_nested_messages_and_sorted_maps() {
        let union = LiteralType {
            r#type: Some(literal_type::Type::UnionType(UnionType {
                variants: vec![simple(SimpleType::None), simple(SimpleType::String)],
            })),
            ..Default::default()
        };
        assert_eq!(
            prototext(&union),
            "union_type:{variants:{simple:NONE} variants:{simple:STRING}}"
        );
        let dataclass = LiteralType {
            structure: Some(TypeStructure {
                dataclass_type: BTreeMap::from([
                    ("y".to_owned(), simple(SimpleType::String)),
                    ("x".to_owned(), simple(SimpleType::Integer)),
                ]),
                ..Default::default()
            }),
            ..simple(SimpleType::Struct)
        };
        assert_eq!(
            prototext(&dataclass),
            "simple:STRUCT structure:{dataclass_type:{key:\"x\" value:{simple:INTEGER}} dataclass_type:{key:\"y\" value:{simple:STRING}}}"
        );
    }
}
