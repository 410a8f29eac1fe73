//! Fields of the request message from path and query (spec 01 §3, query strings).

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use flyte_core::duration;
use flyte_idl::text::quoted;
use indexmap::IndexMap;
use percent_encoding::percent_decode;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};
use tonic::Status;

use super::routes::Variables;

/// The most parameters of a query or form.
const MAX_PAIRS: usize = 10_000;

/// Messages in messages that a parameter may name.
const MAX_NAMES: usize = 16;

/// Values that an error repeats.
const SHOWN_VALUES: usize = 20;

/// Sets the fields that the path names; they win over the body.
pub(super) fn apply_path(
    mut message: DynamicMessage,
    variables: &Variables,
) -> Result<DynamicMessage, Status> {
    for (path, text) in variables {
        let mismatch = |error: &str| {
            Status::invalid_argument(format!("type mismatch, parameter: {path}, error: {error}"))
        };
        let names: Vec<&str> = path.split('.').collect();
        let (parent, field) = resolve(&mut message, &names)
            .ok_or_else(|| mismatch("the request has no such field"))?;
        let value = scalar(&field, text).map_err(|error| match field.kind() {
            // Enums say so without naming the field.
            Kind::Enum(_) => mismatch(&format!("{text} is not valid")),
            _ => mismatch(&format!("parsing field \"{}\": {error}", field.name())),
        })?;
        parent.set_field(&field, value);
    }
    Ok(message)
}

/// Sets the fields that the query names. Unknown keys and those of path variables are ignored.
pub(super) fn apply_query(
    message: &mut DynamicMessage,
    query: &str,
    variables: &Variables,
) -> Result<(), Status> {
    let mut groups: IndexMap<String, Vec<String>> = IndexMap::new();
    for (key, value) in pairs(query)? {
        groups.entry(key).or_default().push(value);
    }
    for (key, values) in groups {
        // No field is as far down; the path is followed by recursion.
        if key.split('.').count() > MAX_NAMES {
            continue;
        }
        let names: Vec<&str> = key.split('.').collect();
        if covered(&message.descriptor(), &names, variables) {
            continue;
        }
        let Some((parent, field)) = resolve(message, &names) else {
            continue;
        };
        set(parent, &field, &values)?;
    }
    Ok(())
}

/// Keys and values of a query string, decoded.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Status> {
    if query.contains(';') {
        return Err(Status::invalid_argument(
            "invalid semicolon separator in query",
        ));
    }
    let given = query.split('&').filter(|pair| !pair.is_empty());
    let count = given.clone().count();
    if count > MAX_PAIRS {
        return Err(Status::invalid_argument(format!(
            "{count} parameters are more than {MAX_PAIRS}, the most that one request may have"
        )));
    }
    given
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, Status> {
    if let Some(place) = text
        .match_indices('%')
        .map(|(place, _)| place)
        .find(|place| {
            !text
                .as_bytes()
                .get(place + 1..place + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        })
    {
        let shown: String = text
            .get(place..)
            .unwrap_or_default()
            .chars()
            .take(3)
            .collect();
        return Err(Status::invalid_argument(format!(
            "invalid URL escape \"{shown}\""
        )));
    }
    let blanks = text.replace('+', " ");
    percent_decode(blanks.as_bytes())
        .decode_utf8()
        .map(Into::into)
        .map_err(|_invalid| Status::invalid_argument("the query contains invalid UTF-8"))
}

fn field_of(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_name(name)
        .or_else(|| message.get_field_by_json_name(name))
}

/// Whether the path has set this field already.
fn covered(message: &MessageDescriptor, names: &[&str], variables: &Variables) -> bool {
    let mut at = message.clone();
    let mut canonical = Vec::new();
    for name in names {
        let Some(field) = field_of(&at, name) else {
            return false;
        };
        canonical.push(field.name().to_owned());
        if let Kind::Message(inner) = field.kind() {
            at = inner;
        }
    }
    let path = canonical.join(".");
    variables.iter().any(|(variable, _)| *variable == path)
}

/// The message that holds the last of `names`, made on the way, and its field. An unknown last name still
/// makes the messages before it.
fn resolve<'a>(
    message: &'a mut DynamicMessage,
    names: &[&str],
) -> Option<(&'a mut DynamicMessage, FieldDescriptor)> {
    let (name, rest) = names.split_first()?;
    let field = field_of(&message.descriptor(), name)?;
    if rest.is_empty() {
        return Some((message, field));
    }
    if field.is_list() || field.is_map() || !matches!(field.kind(), Kind::Message(_)) {
        return None;
    }
    match message.get_field_mut(&field) {
        Value::Message(inner) => resolve(inner, rest),
        _ => None,
    }
}

fn set(
    parent: &mut DynamicMessage,
    field: &FieldDescriptor,
    values: &[String],
) -> Result<(), Status> {
    let refused = |rule: String| {
        Status::invalid_argument(format!("parsing field \"{}\": {rule}", field.name()))
    };
    if field.is_map() {
        return Ok(());
    }
    if field.is_list() {
        let parsed: Result<Vec<Value>, String> =
            values.iter().map(|text| scalar(field, text)).collect();
        let parsed = parsed.map_err(refused)?;
        if let Value::List(list) = parent.get_field_mut(field) {
            list.extend(parsed);
        }
        return Ok(());
    }
    let [text] = values else {
        return Err(Status::invalid_argument(format!(
            "too many values for field \"{}\": {}",
            field.name(),
            values
                .iter()
                .take(SHOWN_VALUES)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        )));
    };
    if let Some(oneof) = field.containing_oneof()
        && !oneof.is_synthetic()
        && oneof.fields().any(|member| parent.has_field(&member))
    {
        return Err(Status::invalid_argument(format!(
            "field already set for oneof \"{}\"",
            oneof.full_name()
        )));
    }
    let value = scalar(field, text).map_err(refused)?;
    parent.set_field(field, value);
    Ok(())
}

/// A value of the field's kind from text; the error is Go's.
fn scalar(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    match field.kind() {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => boolean(text).map(Value::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            signed(text, i64::from(i32::MIN), i64::from(i32::MAX))
                .map(|number| Value::I32(i32::try_from(number).unwrap_or_default()))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            signed(text, i64::MIN, i64::MAX).map(Value::I64)
        }
        Kind::Uint32 | Kind::Fixed32 => unsigned(text, u64::from(u32::MAX))
            .map(|number| Value::U32(u32::try_from(number).unwrap_or_default())),
        Kind::Uint64 | Kind::Fixed64 => unsigned(text, u64::MAX).map(Value::U64),
        Kind::Float => float(text).and_then(|_number| {
            text.parse()
                .map(Value::F32)
                .map_err(|_invalid| syntax("ParseFloat", text))
        }),
        Kind::Double => float(text).map(Value::F64),
        Kind::Bytes => BASE64_STANDARD
            .decode(text)
            .or_else(|_standard| BASE64_URL_SAFE.decode(text))
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|_invalid| "illegal base64 data at input byte 0".to_owned()),
        Kind::Enum(kind) => kind
            .get_value_by_name(text)
            .or_else(|| kind.get_value(text.parse().ok()?))
            .map(|value| Value::EnumNumber(value.number()))
            .ok_or_else(|| format!("\"{text}\" is not a valid value")),
        Kind::Message(message) => well_known(&message, text),
    }
}

fn syntax(function: &str, text: &str) -> String {
    format!(
        "strconv.{function}: parsing {}: invalid syntax",
        quoted(text)
    )
}

fn out_of_range(function: &str, text: &str) -> String {
    format!(
        "strconv.{function}: parsing {}: value out of range",
        quoted(text)
    )
}

fn unsigned(text: &str, max: u64) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(syntax("ParseUint", text));
    }
    text.parse()
        .ok()
        .filter(|number| *number <= max)
        .ok_or_else(|| out_of_range("ParseUint", text))
}

fn signed(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(syntax("ParseInt", text));
    }
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| out_of_range("ParseInt", text))
}

fn float(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_invalid| syntax("ParseFloat", text))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(syntax("ParseBool", text)),
    }
}

/// The message kinds that have a text form.
fn well_known(message: &MessageDescriptor, text: &str) -> Result<Value, String> {
    let encoded = match message.full_name() {
        "google.protobuf.Duration" => {
            let nanoseconds = duration::parse(text).map_err(|error| error.to_string())?;
            crate::time::duration_to_wire(nanoseconds).encode_to_vec()
        }
        "google.protobuf.Timestamp" => {
            let moment: jiff::Timestamp = text.parse().map_err(|_error| {
                format!("parsing time \"{text}\" as \"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"{text}\" as \"2006\"")
            })?;
            crate::time::to_wire(moment).encode_to_vec()
        }
        "google.protobuf.BoolValue" => {
            let mut wrapper = DynamicMessage::new(message.clone());
            wrapper.set_field_by_name("value", Value::Bool(boolean(text)?));
            return Ok(Value::Message(wrapper));
        }
        other => return Err(format!("unsupported message type: \"{other}\"")),
    };
    DynamicMessage::decode(message.clone(), encoded.as_slice())
        .map(Value::Message)
        .map_err(|error| error.to_string())
}
