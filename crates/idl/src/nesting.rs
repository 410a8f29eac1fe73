//! How deeply a message nests, found without recursion.
//!
//! Everything that walks a message (decoding, encoding, comparing, dropping) recurses, so a few bytes per
//! level would be enough to overflow a stack. Bytes from outside are therefore scanned first: one pass over
//! the wire format with an explicit stack, driven by the descriptors, which also tells whether there are
//! fields that our descriptors do not know (design, "Persisted messages").

use std::{collections::HashMap, sync::LazyLock};

use prost::bytes::Buf as _;
use prost_reflect::{Kind, MessageDescriptor};

use crate::{descriptors, json::time};

/// How often a message may contain one of its own kind: a list in a list, a branch in a branch, …
pub const MAX_LEVELS: usize = 1_000;

/// How many messages of any kind may contain each other. One level of the deepest vocabulary, a branch in a
/// branch, takes four messages.
const MAX_MESSAGES: usize = 4 * MAX_LEVELS + 100;

/// What encoding a message may cost: its fields, counted once for each message that they are in. Whoever encodes a message
/// asks each message in it for its length, and that one each inside, which asks each of its fields, at about a
/// nanosecond each. A message of 4 MiB without depth stays far below, and so do a thousand branches within each other.
const MAX_COST: usize = 256 * 1024 * 1024;
/// What encoding may cost whatever the length: a thousand levels of one type or value.
const COST_OF_ANY: usize = 16 * 1024 * 1024;
/// What encoding may cost besides for each byte, so that the price of a request is proportional to its length.
const COST_OF_A_BYTE: usize = 320;

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// How many messages contain each other at most; 0 for a message without sub-messages.
    pub depth: usize,
    /// Whether some message has fields that its descriptor does not know.
    pub has_unknown: bool,
    /// What JSON has no text for, if anything: then nobody could list what holds it.
    pub unprintable: Option<Unprintable>,
}

/// What JSON has no text for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unprintable {
    /// In a `google.protobuf.Value`.
    #[error("a number of a google.protobuf.Value is NaN or infinite, which JSON cannot say")]
    Number,
    /// A moment.
    #[error(
        "a google.protobuf.Timestamp is not of the years 1 to 9999, or has its nanoseconds out of range"
    )]
    Timestamp,
    /// A length of time.
    #[error(
        "a google.protobuf.Duration is longer than 10000 years, or has its nanoseconds out of range"
    )]
    Duration,
}

/// Why bytes are not read (INVALID_ARGUMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NestingError {
    /// A message contains itself too often.
    #[error("message nests deeper than {MAX_LEVELS} levels")]
    TooDeep,
    /// A message is deep and large at once.
    #[error(
        "message of {size} bytes nests {depth} messages, which only a smaller one may; of a kind, {MAX_LEVELS} levels are the most"
    )]
    TooMuch {
        /// Its bytes.
        size: usize,
        /// How deep it was when that was seen.
        depth: usize,
    },
    /// The bytes are not a protobuf message.
    #[error("proto: cannot parse invalid wire-format data")]
    Malformed,
}

/// What a length-delimited field of a message is.
#[derive(Clone, Copy)]
enum Shape {
    /// One value that is not a message: text, bytes, a number.
    Leaf,
    /// Numbers, which may be packed: each has a length of its own.
    Numbers,
    /// A message of the kind with this index.
    Message(usize),
}

struct Table {
    by_name: HashMap<String, usize>,
    fields: Vec<HashMap<u32, Shape>>,
    /// Kinds whose values JSON may have no text for.
    values: HashMap<usize, Unprintable>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let messages: Vec<MessageDescriptor> = descriptors::pool().all_messages().collect();
    let by_name: HashMap<String, usize> = messages
        .iter()
        .enumerate()
        .map(|(index, message)| (message.full_name().to_owned(), index))
        .collect();
    let fields = messages
        .iter()
        .map(|message| {
            message
                .fields()
                .map(|field| {
                    let shape = match field.kind() {
                        Kind::Message(inner) => by_name
                            .get(inner.full_name())
                            .map_or(Shape::Leaf, |index| Shape::Message(*index)),
                        Kind::String | Kind::Bytes => Shape::Leaf,
                        _ => Shape::Numbers,
                    };
                    (field.number(), shape)
                })
                .collect()
        })
        .collect();
    let values = [
        ("google.protobuf.Value", Unprintable::Number),
        ("google.protobuf.Timestamp", Unprintable::Timestamp),
        ("google.protobuf.Duration", Unprintable::Duration),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((*by_name.get(name)?, value)))
    .collect();
    Table {
        by_name,
        fields,
        values,
    }
});

/// A message that is being read: its kind and where it ends.
struct Frame {
    kind: usize,
    end: usize,
}

/// Scans the wire form of a message. Refuses a kind of message that contains itself more than
/// [`MAX_LEVELS`] times, whatever the length of the input, in time proportional to what was read until then.
pub fn scan(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<Scan, NestingError> {
    let Some(&root) = TABLE.by_name.get(descriptor.full_name()) else {
        return Err(NestingError::Malformed);
    };
    let mut open = vec![0usize; TABLE.fields.len()];
    let mut stack = vec![Frame {
        kind: root,
        end: bytes.len(),
    }];
    enter(&mut open, root)?;
    let mut found = Scan {
        depth: 0,
        has_unknown: false,
        unprintable: None,
    };
    let mut at = 0;
    let most = COST_OF_ANY
        .saturating_add(bytes.len().saturating_mul(COST_OF_A_BYTE))
        .min(MAX_COST);
    let mut cost = 0usize;
    while let Some(frame) = stack.last() {
        if at == frame.end {
            leave(&mut open, frame.kind);
            stack.pop();
            continue;
        }
        let (kind, end) = (frame.kind, frame.end);
        let mut rest = bytes.get(at..end).ok_or(NestingError::Malformed)?;
        let before = rest.remaining();
        let key = varint(&mut rest)?;
        let number = u32::try_from(key >> 3).map_err(|_| NestingError::Malformed)?;
        let shape = TABLE
            .fields
            .get(kind)
            .and_then(|fields| fields.get(&number));
        found.has_unknown |= shape.is_none();
        cost = cost.saturating_add(stack.len());
        if cost > most {
            return Err(NestingError::TooMuch {
                size: bytes.len(),
                depth: stack.len() - 1,
            });
        }
        match key & 7 {
            0 => {
                let value = varint(&mut rest)?;
                let kind = TABLE.values.get(&kind).copied();
                found.unprintable = found
                    .unprintable
                    .or_else(|| kind.filter(|kind| !kind.allows_varint(number, value)));
            }
            1 => {
                let number_of_value = TABLE.values.get(&kind) == Some(&Unprintable::Number);
                if number_of_value
                    && rest
                        .first_chunk()
                        .is_some_and(|bytes| !f64::from_le_bytes(*bytes).is_finite())
                {
                    found.unprintable = Some(Unprintable::Number);
                }
                advance(&mut rest, 8)?;
            }
            5 => advance(&mut rest, 4)?,
            2 => {
                let length =
                    usize::try_from(varint(&mut rest)?).map_err(|_| NestingError::Malformed)?;
                if length > rest.remaining() {
                    return Err(NestingError::Malformed);
                }
                if let Some(Shape::Message(inner)) = shape {
                    at += before - rest.remaining();
                    enter(&mut open, *inner)?;
                    stack.push(Frame {
                        kind: *inner,
                        end: at + length,
                    });
                    if stack.len() > MAX_MESSAGES {
                        return Err(NestingError::TooDeep);
                    }
                    found.depth = found.depth.max(stack.len() - 1);
                    continue;
                }
                if let Some(Shape::Numbers) = shape {
                    cost = cost.saturating_add(length.saturating_mul(stack.len()));
                }
                advance(&mut rest, length)?;
            }
            3 => {
                // Groups are in no file of ours, so this is an unknown field.
                found.has_unknown = true;
                skip_group(&mut rest, number)?;
            }
            _ => return Err(NestingError::Malformed),
        }
        at += before - rest.remaining();
    }
    Ok(found)
}

impl Unprintable {
    /// Whether JSON has a text with this number in a field of the kind.
    fn allows_varint(self, field: u32, value: u64) -> bool {
        let number = i64::from_ne_bytes(value.to_ne_bytes());
        match (self, field) {
            (Self::Timestamp, 1) => time::is_timestamp(number),
            (Self::Timestamp, 2) => (0..1_000_000_000).contains(&number),
            (Self::Duration, 1) => time::is_duration(number),
            (Self::Duration, 2) => (-999_999_999..=999_999_999).contains(&number),
            _ => true,
        }
    }
}

fn enter(open: &mut [usize], kind: usize) -> Result<(), NestingError> {
    let count = open.get_mut(kind).ok_or(NestingError::Malformed)?;
    *count += 1;
    // The first one is not a level of nesting.
    if *count > MAX_LEVELS + 1 {
        Err(NestingError::TooDeep)
    } else {
        Ok(())
    }
}

fn leave(open: &mut [usize], kind: usize) {
    if let Some(count) = open.get_mut(kind) {
        *count -= 1;
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, NestingError> {
    prost::encoding::decode_varint(rest).map_err(|_| NestingError::Malformed)
}

fn advance(rest: &mut &[u8], length: usize) -> Result<(), NestingError> {
    *rest = rest.get(length..).ok_or(NestingError::Malformed)?;
    Ok(())
}

/// Skips to the end of a group; groups inside count against the limit, because prost skips them recursively.
fn skip_group(rest: &mut &[u8], number: u32) -> Result<(), NestingError> {
    let mut open = vec![number];
    while let Some(&innermost) = open.last() {
        let key = varint(rest)?;
        let number = u32::try_from(key >> 3).map_err(|_| NestingError::Malformed)?;
        match key & 7 {
            0 => {
                varint(rest)?;
            }
            1 => advance(rest, 8)?,
            5 => advance(rest, 4)?,
            2 => {
                let length = usize::try_from(varint(rest)?).map_err(|_| NestingError::Malformed)?;
                advance(rest, length)?;
            }
            3 => {
                open.push(number);
                if open.len() > MAX_LEVELS {
                    return Err(NestingError::TooDeep);
                }
            }
            4 if number == innermost => {
                open.pop();
            }
            _ => return Err(NestingError::Malformed),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::core::{LiteralType, literal_type::Type};

    /// `collection_type` around itself, `levels` times, built from the inside out without recursion.
    fn nested_bytes(levels: usize) -> Vec<u8> {
        // Each level is a tag, a length and the level inside: write lengths backwards.
        let mut reversed: Vec<u8> = Vec::new();
        for _ in 0..levels {
            let mut length = Vec::new();
            prost::encoding::encode_varint(reversed.len() as u64, &mut length);
            reversed.extend(length.iter().rev());
            reversed.push(3 << 3 | 2);
        }
        reversed.reverse();
        reversed
    }

    fn of(bytes: &[u8]) -> Result<Scan, NestingError> {
        scan(&descriptors::message::<LiteralType>(), bytes)
    }

    #[test]
    fn a_thousand_levels_are_read() {
        let bytes = nested_bytes(MAX_LEVELS);
        assert_eq!(of(&bytes).map(|found| found.depth), Ok(MAX_LEVELS));
    }

    #[test]
    fn a_level_more_and_ten_million_more_are_refused() {
        let deeper = of(&nested_bytes(MAX_LEVELS + 1));
        assert_eq!(deeper, Err(NestingError::TooDeep));
        assert_eq!(of(&nested_bytes(10_000_000)), Err(NestingError::TooDeep));
        let groups = vec![15 << 3 | 3; 2_000];
        assert_eq!(of(&groups), Err(NestingError::TooDeep));
        assert_eq!(
            NestingError::TooDeep.to_string(),
            "message nests deeper than 1000 levels"
        );
    }

    #[test]
    fn what_json_cannot_say_is_noticed() {
        use crate::event::TaskExecutionEvent;
        use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
        let number = |number| Value {
            kind: Some(Kind::NumberValue(number)),
        };
        let event = |at: Option<(i64, i32)>, value: f64| {
            let list = Value {
                kind: Some(Kind::ListValue(ListValue {
                    values: vec![number(1.0), number(value)],
                })),
            };
            let event = TaskExecutionEvent {
                occurred_at: at.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
                custom_info: Some(Struct {
                    fields: [("a".to_owned(), list)].into(),
                }),
                ..Default::default()
            };
            let descriptor = descriptors::message::<TaskExecutionEvent>();
            scan(&descriptor, &event.encode_to_vec())
                .unwrap()
                .unprintable
        };
        for (at, value, expected) in [
            (None, 1.5, None),
            (Some((0, 0)), f64::MAX, None),
            (Some((253_402_300_799, 999_999_999)), -0.0, None),
            (None, f64::NAN, Some(Unprintable::Number)),
            (None, f64::NEG_INFINITY, Some(Unprintable::Number)),
            (
                Some((253_402_300_800, 0)),
                1.0,
                Some(Unprintable::Timestamp),
            ),
            (
                Some((-62_135_596_801, 0)),
                1.0,
                Some(Unprintable::Timestamp),
            ),
            (Some((0, -1)), 1.0, Some(Unprintable::Timestamp)),
        ] {
            assert_eq!(event(at, value), expected, "{at:?} {value}");
        }
    }

    #[test]
    fn what_is_deep_and_large_at_once_is_refused() {
        // 900 levels around a long message.
        let around = |inner: Vec<u8>| {
            let mut reversed: Vec<u8> = inner;
            for _ in 0..900 {
                let mut length = Vec::new();
                prost::encoding::encode_varint(reversed.len() as u64, &mut length);
                reversed.extend(length.iter().rev());
                reversed.push(3 << 3 | 2);
            }
            reversed.reverse();
            of(&reversed)
        };
        assert!(around([0x01, 0x08].repeat(50_000)).is_ok());
        let refused = around([0x01, 0x08].repeat(500_000));
        assert!(
            matches!(refused, Err(NestingError::TooMuch { .. })),
            "{refused:?}"
        );
    }

    /// A field that is a message, around what is inside.
    fn field(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend(inner);
        bytes
    }

    /// A struct with one entry: `google.protobuf.Value` by its wire form.
    fn structure(value: &[u8]) -> Vec<u8> {
        let key = [1 << 3 | 2, 1, b'a'];
        field(1, &[&key[..], &field(2, value)].concat())
    }

    #[test]
    fn many_deep_values_are_refused_and_one_is_not() {
        // A struct within a struct, as JSON has it in six bytes a level.
        let deep = (0..990).fold(Vec::new(), |inner, _| field(5, &structure(&inner)));
        let metadata = |count: usize| {
            let list = field(6, &field(1, &deep).repeat(count));
            of(&field(6, &structure(&list)))
        };
        assert!(metadata(1).is_ok());
        for count in [10, 40] {
            let refused = metadata(count);
            assert!(
                matches!(refused, Err(NestingError::TooMuch { .. })),
                "{count}: {refused:?}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_noticed_wherever_they_are() {
        let inner = LiteralType {
            r#type: Some(Type::Simple(1)),
            ..Default::default()
        };
        let known = LiteralType {
            r#type: Some(Type::CollectionType(Box::new(inner))),
            ..Default::default()
        }
        .encode_to_vec();
        assert_eq!(
            of(&known),
            Ok(Scan {
                depth: 1,
                has_unknown: false,
                unprintable: None,
            })
        );
        // collection_type { unknown field 100: varint 1 }
        let unknown = [0x1a, 0x03, 0xa0, 0x06, 0x01];
        assert!(of(&unknown).unwrap().has_unknown);
        for malformed in [&[0x1a, 0x05, 0x00][..], &[0xff], &[0x07], &[0x0c]] {
            assert_eq!(of(malformed), Err(NestingError::Malformed));
        }
    }
}
