//! Texts as Go writes them: the single-line text form of messages that error messages, index keys and Go's logs show, and
//! what stands in quotes.
//!
//! In the former, Go inserts random blanks to discourage parsing; this writer always puts one blank between fields, in
//! order of declaration, and sorts map entries (spec 08 A1, spec 01 §4.6).

use std::fmt::{self, Write as _};

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

/// Prototext's quoting: `"` and `\` escaped, control characters as `\n`, `\r`, `\t`, `\xNN` or `\u00NN`, other UTF-8 as it
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
                control if control.is_ascii_control() => {
                    out.push_str(&format!("\\x{:02x}", u32::from(control)));
                }
                control if control.is_control() => {
                    out.push_str(&format!("\\u{:04x}", u32::from(control)));
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

/// A text in double quotes as Go's `%q` and `strconv.Quote` write it: what can be printed as it is, but for `"` and `\`;
/// `\a \b \f \n \r \t \v`; other ASCII control characters and bytes that are not UTF-8 as `\xNN`; whatever else cannot be
/// printed, blanks but the ASCII one among it, as `\uNNNN` or `\UNNNNNNNN`.
pub fn quoted<T: AsRef<[u8]> + ?Sized>(text: &T) -> Quoted<'_> {
    Quoted(text.as_ref())
}

/// A text that prints in quotes; see [`quoted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' => f.write_str("\\\"")?,
                    other => write_escaped(f, other)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    }
}

/// A character in single quotes as Go's `%q` and `strconv.QuoteRune` write it; the rules are those of [`quoted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotedChar(pub char);

impl fmt::Display for QuotedChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\'')?;
        match self.0 {
            '\'' => f.write_str("\\'")?,
            other => write_escaped(f, other)?,
        }
        f.write_char('\'')
    }
}

/// A character that is no quote.
fn write_escaped(f: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    let code = u32::from(character);
    match character {
        '\\' => f.write_str("\\\\"),
        '\u{7}' => f.write_str("\\a"),
        '\u{8}' => f.write_str("\\b"),
        '\u{c}' => f.write_str("\\f"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\u{b}' => f.write_str("\\v"),
        printable if is_printable(printable) => f.write_char(printable),
        control if control.is_ascii() => write!(f, "\\x{code:02x}"),
        _ if code <= 0xffff => write!(f, "\\u{code:04x}"),
        _ => write!(f, "\\U{code:08x}"),
    }
}

/// Whether Go's `unicode.IsPrint` holds: letters, marks, numbers, punctuation, symbols and the ASCII blank.
///
/// The standard library has the same table behind `str::escape_debug`, which escapes marks only at the beginning.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let mut buffer = [0; 5];
    let (first, rest) = buffer.split_at_mut(1);
    first.fill(b'x');
    let length = 1 + character.encode_utf8(rest).len();
    let text = buffer
        .get(..length)
        .and_then(|text| str::from_utf8(text).ok());
    text.is_some_and(|text| text.escape_debug().eq(text.chars()))
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

    /// Each as `fmt.Sprintf("%q")` of Go writes it.
    #[test]
    fn quoted_texts_are_those_of_go() {
        let cases: [(&[u8], &str); 20] = [
            (b"", r#""""#),
            (b"a b", r#""a b""#),
            (b"\"'\\", r#""\"'\\""#),
            (b"\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            (b"\0\x01\x1f\x7f", r#""\x00\x01\x1f\x7f""#),
            ("é ü 日本 €".as_bytes(), r#""é ü 日本 €""#),
            ("e\u{301}".as_bytes(), "\"e\u{301}\""),
            ("\u{301}".as_bytes(), "\"\u{301}\""),
            ("\u{1f600}".as_bytes(), "\"\u{1f600}\""),
            ("\u{80}\u{85}\u{9f}".as_bytes(), r#""\u0080\u0085\u009f""#),
            (
                "\u{a0}\u{2003}\u{3000}".as_bytes(),
                r#""\u00a0\u2003\u3000""#,
            ),
            (
                "\u{ad}\u{200b}\u{200d}".as_bytes(),
                r#""\u00ad\u200b\u200d""#,
            ),
            ("\u{2028}\u{2029}".as_bytes(), r#""\u2028\u2029""#),
            ("\u{feff}".as_bytes(), r#""\ufeff""#),
            ("\u{e000}\u{ffff}".as_bytes(), r#""\ue000\uffff""#),
            ("\u{fffd}".as_bytes(), "\"\u{fffd}\""),
            (
                "\u{e0001}\u{10ffff}".as_bytes(),
                r#""\U000e0001\U0010ffff""#,
            ),
            (b"a\xffb\xc3", r#""a\xffb\xc3""#),
            (b"\xed\xa0\x80", r#""\xed\xa0\x80""#),
            (b"\xf0\x9f\x98", r#""\xf0\x9f\x98""#),
        ];
        for (bytes, text) in cases {
            assert_eq!(quoted(bytes).to_string(), text, "{bytes:x?}");
        }
        for (character, text) in [
            ('a', "'a'"),
            ('\'', r"'\''"),
            ('"', "'\"'"),
            ('\u{1}', r"'\x01'"),
            ('\u{c3}', "'\u{c3}'"),
            ('\u{9f}', r"'\u009f'"),
        ] {
            assert_eq!(QuotedChar(character).to_string(), text, "{character:?}");
        }
    }

    #[test]
    fn control_characters_print_as_in_go() {
        let id = Identifier {
            name: "\u{1}\u{7f}\u{85}\u{a0}\n".into(),
            ..Default::default()
        };
        assert_eq!(prototext(&id), "name:\"\\x01\\x7f\\u0085\u{a0}\\n\"");
    }
}
