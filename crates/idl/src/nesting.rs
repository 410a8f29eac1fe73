//! How deeply a message nests, found without recursion.
//!
//! Everything that walks a message (decoding, encoding, comparing, dropping) recurses, so a few bytes per
//! level would be enough to overflow a stack. Bytes from outside are therefore scanned first: one pass over
//! the wire format with an explicit stack, driven by the descriptors, which also tells whether there are
//! fields that our descriptors do not know (design, "Persisted messages").

use std::{collections::HashMap, sync::LazyLock};

use prost::bytes::Buf as _;
use prost_reflect::{Kind, MessageDescriptor};

use crate::descriptors;

/// How often a message may contain one of its own kind: a list in a list, a branch in a branch, …
pub const MAX_LEVELS: usize = 1_000;

/// How many messages of any kind may contain each other. One level of the deepest vocabulary, a branch in a
/// branch, takes four messages.
const MAX_MESSAGES: usize = 4 * MAX_LEVELS + 100;

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// How many messages contain each other at most; 0 for a message without sub-messages.
    pub depth: usize,
    /// Whether some message has fields that its descriptor does not know.
    pub has_unknown: bool,
}

/// Why bytes are not read (INVALID_ARGUMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NestingError {
    /// A message contains itself too often.
    #[error("message nests deeper than {MAX_LEVELS} levels")]
    TooDeep,
    /// The bytes are not a protobuf message.
    #[error("proto: cannot parse invalid wire-format data")]
    Malformed,
}

/// What a length-delimited field of a message is.
#[derive(Clone, Copy)]
enum Shape {
    /// Not a message: text, bytes, packed numbers, single numbers.
    Leaf,
    /// A message of the kind with this index.
    Message(usize),
}

struct Table {
    by_name: HashMap<String, usize>,
    fields: Vec<HashMap<u32, Shape>>,
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
                        _ => Shape::Leaf,
                    };
                    (field.number(), shape)
                })
                .collect()
        })
        .collect();
    Table { by_name, fields }
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
    };
    let mut at = 0;
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
        match key & 7 {
            0 => {
                varint(&mut rest)?;
            }
            1 => advance(&mut rest, 8)?,
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
        for levels in [MAX_LEVELS + 1, 10_000_000] {
            assert_eq!(of(&nested_bytes(levels)), Err(NestingError::TooDeep));
        }
        let groups = vec![15 << 3 | 3; 2_000];
        assert_eq!(of(&groups), Err(NestingError::TooDeep));
        assert_eq!(
            NestingError::TooDeep.to_string(),
            "message nests deeper than 1000 levels"
        );
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
                has_unknown: false
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
