//! Dynamic messages as bytes, in time proportional to their size.
//!
//! prost asks every message for its length before it writes it, and that one all messages inside: a message of 900 levels is
//! measured 900 times over. Here the bytes are written from the end: when a length is due, what it counts is there.

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

/// The bytes of a message: its known fields, in the order of their numbers. Unknown fields, which a message read from
/// JSON or from a query does not have, are left out.
pub fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut reversed = Reversed(Vec::new());
    reversed.message(message);
    reversed.0.reverse();
    reversed.0
}

/// What was written, last byte first.
struct Reversed(Vec<u8>);

impl Reversed {
    fn message(&mut self, message: &DynamicMessage) {
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(|(field, _)| std::cmp::Reverse(field.number()));
        for (field, value) in fields {
            self.field(&field, value);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().rev());
    }

    fn varint(&mut self, number: u64) {
        let mut bytes = Vec::with_capacity(10);
        encode_varint(number, &mut bytes);
        self.bytes(&bytes);
    }

    fn key(&mut self, number: u32, wire: WireType) {
        let mut bytes = Vec::with_capacity(5);
        encode_key(number, wire, &mut bytes);
        self.bytes(&bytes);
    }

    /// Length and key in front of what was written since the buffer had `before` bytes.
    fn delimit(&mut self, number: u32, before: usize) {
        self.varint((self.0.len() - before) as u64);
        self.key(number, WireType::LengthDelimited);
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) {
        let number = field.number();
        match value {
            Value::List(items) if field.is_packed() => {
                let before = self.0.len();
                for item in items.iter().rev() {
                    self.scalar(&field.kind(), item);
                }
                self.delimit(number, before);
            }
            Value::List(items) => {
                for item in items.iter().rev() {
                    self.single(number, &field.kind(), item);
                }
            }
            Value::Map(entries) => {
                let Kind::Message(entry) = field.kind() else {
                    return;
                };
                let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
                for (entry_key, entry_value) in entries {
                    let before = self.0.len();
                    self.single(value.number(), &value.kind(), entry_value);
                    self.single(key.number(), &key.kind(), &of_key(entry_key));
                    self.delimit(number, before);
                }
            }
            single => self.single(number, &field.kind(), single),
        }
    }

    /// One value with its key.
    fn single(&mut self, number: u32, kind: &Kind, value: &Value) {
        let before = self.0.len();
        match value {
            Value::Message(message) => {
                self.message(message);
                self.delimit(number, before);
            }
            Value::String(text) => {
                self.bytes(text.as_bytes());
                self.delimit(number, before);
            }
            Value::Bytes(bytes) => {
                self.bytes(bytes);
                self.delimit(number, before);
            }
            scalar => {
                let wire = self.scalar(kind, scalar);
                self.key(number, wire);
            }
        }
    }

    /// A number without its key, and how it was written.
    fn scalar(&mut self, kind: &Kind, value: &Value) -> WireType {
        /// Two's complement: a negative number has ten bytes.
        fn wide(number: i64) -> u64 {
            u64::from_ne_bytes(number.to_ne_bytes())
        }
        fn zigzag(number: i64) -> u64 {
            wide((number << 1) ^ (number >> 63))
        }
        let mut varint = |number: u64| {
            self.varint(number);
            WireType::Varint
        };
        match (value, kind) {
            (Value::Bool(value), _) => varint(u64::from(*value)),
            (Value::I32(number), Kind::Sint32) => varint(zigzag(i64::from(*number))),
            (Value::I64(number), Kind::Sint64) => varint(zigzag(*number)),
            (Value::I32(number), Kind::Sfixed32) => {
                self.bytes(&number.to_le_bytes());
                WireType::ThirtyTwoBit
            }
            (Value::I64(number), Kind::Sfixed64) => {
                self.bytes(&number.to_le_bytes());
                WireType::SixtyFourBit
            }
            (Value::U32(number), Kind::Fixed32) => {
                self.bytes(&number.to_le_bytes());
                WireType::ThirtyTwoBit
            }
            (Value::U64(number), Kind::Fixed64) => {
                self.bytes(&number.to_le_bytes());
                WireType::SixtyFourBit
            }
            (Value::I32(number) | Value::EnumNumber(number), _) => varint(wide(i64::from(*number))),
            (Value::I64(number), _) => varint(wide(*number)),
            (Value::U32(number), _) => varint(u64::from(*number)),
            (Value::U64(number), _) => varint(*number),
            (Value::F32(number), _) => {
                self.bytes(&number.to_le_bytes());
                WireType::ThirtyTwoBit
            }
            (Value::F64(number), _) => {
                self.bytes(&number.to_le_bytes());
                WireType::SixtyFourBit
            }
            // These are no numbers; `single` and `field` have written them.
            (
                Value::String(_)
                | Value::Bytes(_)
                | Value::Message(_)
                | Value::List(_)
                | Value::Map(_),
                _,
            ) => WireType::LengthDelimited,
        }
    }
}

fn of_key(key: &MapKey) -> Value {
    match key {
        MapKey::Bool(value) => Value::Bool(*value),
        MapKey::I32(number) => Value::I32(*number),
        MapKey::I64(number) => Value::I64(*number),
        MapKey::U32(number) => Value::U32(*number),
        MapKey::U64(number) => Value::U64(*number),
        MapKey::String(text) => Value::String(text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use prost_reflect::{Cardinality, MessageDescriptor};

    use super::*;
    use crate::descriptors;

    /// A message in which every field is set, to a depth.
    fn full(descriptor: &MessageDescriptor, levels: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if levels == 0 && matches!(field.kind(), Kind::Message(_)) {
                continue;
            }
            let value = if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
                let key = match entry.map_entry_key_field().kind() {
                    Kind::Bool => MapKey::Bool(true),
                    Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(-7),
                    Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(-7),
                    Kind::Uint32 | Kind::Fixed32 => MapKey::U32(7),
                    Kind::Uint64 | Kind::Fixed64 => MapKey::U64(7),
                    _ => MapKey::String("key".to_owned()),
                };
                let value = single(&entry.map_entry_value_field().kind(), levels);
                Value::Map(HashMap::from([(key, value)]))
            } else if field.cardinality() == Cardinality::Repeated {
                Value::List(vec![single(&field.kind(), levels); 3])
            } else {
                single(&field.kind(), levels)
            };
            message.set_field(&field, value);
        }
        message
    }

    fn single(kind: &Kind, levels: usize) -> Value {
        match kind {
            Kind::Double => Value::F64(-0.5),
            Kind::Float => Value::F32(1.5),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-300),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::MIN + 1),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::MAX),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::MAX),
            Kind::Bool => Value::Bool(true),
            Kind::String => Value::String("täxt".to_owned()),
            Kind::Bytes => Value::Bytes(vec![0, 255, 128].into()),
            Kind::Enum(_) => Value::EnumNumber(-1),
            Kind::Message(inner) => Value::Message(full(inner, levels.saturating_sub(1))),
        }
    }

    #[test]
    fn every_message_of_ours_comes_back() {
        let mut count = 0;
        for descriptor in descriptors::pool().all_messages() {
            if descriptor.is_map_entry() {
                continue;
            }
            for message in [
                full(&descriptor, 2),
                DynamicMessage::new(descriptor.clone()),
            ] {
                let bytes = encode(&message);
                let back = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
                assert_eq!(back, message, "{}", descriptor.full_name());
                let theirs = message.encode_to_vec();
                assert_eq!(bytes.len(), theirs.len(), "{}", descriptor.full_name());
            }
            count += 1;
        }
        assert!(count > 100);
    }
}
