//! How deeply a message nests, found without recursion.
//!
//! Everything that walks a message (decoding, encoding, comparing, dropping) recurses, so a few bytes per
//! level would be enough to overflow a stack. Bytes from outside are therefore scanned first: one pass over
//! the wire format with an explicit stack, driven by the descriptors, which also tells whether there are
//! fields that our descriptors do not know (design, "Persisted messages").

mod table;
mod unprintable;

use prost::bytes::Buf as _;
use prost_reflect::MessageDescriptor;

pub use self::unprintable::Unprintable;

use self::table::{Shape, TABLE};

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

/// Bytes of memory that any message may take once it is decoded.
const MEMORY_OF_ANY: usize = 16 * 1024 * 1024;
/// Bytes of memory that a message may take besides for each byte of its wire form. What clients send takes up to forty: a
/// list of numbers eight bytes for a literal. An empty message takes two, and a node, which has a place for all that a node
/// may be, two hundred times as many in memory.
const MEMORY_OF_A_BYTE: usize = 64;

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
        /// Bytes of the encoded message.
        size: usize,
        /// How deep it was when that was seen.
        depth: usize,
    },
    /// A message holds so many nearly empty ones that it would take far more memory than its bytes.
    #[error(
        "message of {size} bytes would take more than {most} bytes of memory, mostly for parts of kind {kind} that are nearly empty; \
         send fewer of them"
    )]
    TooManyParts {
        /// Bytes of the encoded message.
        size: usize,
        /// What it may take.
        most: usize,
        /// The kind of the part with which the bound was reached, by its full name.
        kind: String,
    },
    /// The bytes are not a protobuf message.
    #[error("proto: cannot parse invalid wire-format data")]
    Malformed,
}

/// A message that is being read: its kind and where it ends.
struct Frame {
    kind: usize,
    end: usize,
}

/// Scans the wire form of a message. Refuses a kind of message that contains itself more than
/// [`MAX_LEVELS`] times, whatever the length of the input, and one that would take memory out of proportion to its
/// length, in time proportional to what was read until then.
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
    let most_memory = MEMORY_OF_ANY.saturating_add(bytes.len().saturating_mul(MEMORY_OF_A_BYTE));
    let mut memory = 0usize;
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
        memory = memory.saturating_add(shape.map_or(0, Shape::memory));
        if memory > most_memory {
            let kind = match shape {
                Some(Shape::Message { kind: inner, .. }) => *inner,
                _ => kind,
            };
            return Err(NestingError::TooManyParts {
                size: bytes.len(),
                most: most_memory,
                kind: TABLE.name(kind).to_owned(),
            });
        }
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
                if let Some(Shape::Message { kind: inner, .. }) = shape {
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
mod tests;
