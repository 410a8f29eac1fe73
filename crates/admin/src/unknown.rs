//! Fields that this version does not know, on their way through it (design, "Persisted messages").
//!
//! ```text
//! request bytes --limits layer--> Unknown in the request's extensions --domain--> Stored, row or blob
//! Stored --domain--> Answer --api--> bytes in the response's extensions --limits layer--> response bytes
//! ```
//!
//! Requests and rows without such fields, so nearly all, pass with nothing done: whether there are any is known
//! from the scan that measures their nesting.

use bytes::Bytes;
use flyte_idl::{
    descriptors,
    stored::{self, Stored},
};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use tonic::Extensions;

/// A request that has fields which this version does not know, or a part of one; or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unknown(Option<DynamicMessage>);

impl Unknown {
    /// Reads a request whose scan found unknown fields.
    pub(crate) fn read(descriptor: MessageDescriptor, bytes: &[u8]) -> Self {
        Self(DynamicMessage::decode(descriptor, bytes).ok())
    }

    /// What the layer found in a request.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// What was stored with unknown fields.
    pub(crate) fn of_stored<M: Message + Name + Default>(stored: &Stored<M>) -> Self {
        Self(stored.unknown())
    }

    /// The message in a field; nothing if the field is not set.
    pub(crate) fn part(&self, field: &str) -> Self {
        let part = self.0.as_ref().and_then(|message| {
            let field = message.descriptor().get_field_by_name(field)?;
            let value = message
                .has_field(&field)
                .then(|| message.get_field(&field))?;
            value.as_message().cloned()
        });
        Self(part)
    }

    /// The messages in a list.
    pub(crate) fn parts(&self, field: &str) -> Vec<Self> {
        let list = self
            .0
            .as_ref()
            .and_then(|message| message.get_field_by_name(field));
        let messages = list.as_ref().and_then(|value| value.as_list());
        messages
            .unwrap_or_default()
            .iter()
            .map(|value| Self(value.as_message().cloned()))
            .collect()
    }

    /// A message of type `full_name` with this in `field`.
    pub(crate) fn within(self, full_name: &str, field: &str) -> Self {
        Self::gathered(full_name, [(field, Kept::One(self))])
    }

    /// A message of type `full_name` with these in its fields.
    pub(crate) fn gathered<'a>(
        full_name: &str,
        parts: impl IntoIterator<Item = (&'a str, Kept)>,
    ) -> Self {
        let mut message: Option<DynamicMessage> = None;
        for (field, part) in parts {
            let value = match part {
                Kept::One(Self(part)) => part.map(Value::Message),
                Kept::Many(parts) => {
                    let list: Vec<Value> = parts
                        .into_iter()
                        .filter_map(|Self(part)| part.map(Value::Message))
                        .collect();
                    (!list.is_empty()).then_some(Value::List(list))
                }
            };
            let Some(value) = value else {
                continue;
            };
            if message.is_none() {
                message = descriptors::pool()
                    .get_message_by_name(full_name)
                    .map(DynamicMessage::new);
            }
            if let Some(message) = &mut message {
                message.set_field_by_name(field, value);
            }
        }
        Self(message)
    }

    /// A message of type `M` with the fields that have the same name and type there: what the reference takes
    /// over as it is.
    pub(crate) fn of_same_fields<M: Name>(&self) -> Self {
        let Some(source) = &self.0 else {
            return Self(None);
        };
        let Some(descriptor) = descriptors::pool().get_message_by_name(&M::full_name()) else {
            return Self(None);
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        for (field, value) in source.fields() {
            if let Some(target) = descriptor.get_field_by_name(field.name())
                && target.kind() == field.kind()
                && target.cardinality() == field.cardinality()
            {
                message.set_field(&target, value.clone());
            }
        }
        Self(Some(message))
    }

    /// `message`, to be stored with the unknown fields that this has for its parts.
    pub(crate) fn store<M: Message + Name + Default>(&self, message: M) -> Stored<M> {
        let mut stored = Stored::new(message);
        self.keep_in(&mut stored);
        stored
    }

    /// Gives `stored` the unknown fields that this has for its parts.
    pub(crate) fn keep_in<M: Message + Name + Default>(&self, stored: &mut Stored<M>) {
        if let Some(source) = &self.0 {
            stored.keep(source);
        }
    }
}

/// The bytes of `message`, with the unknown fields that `parts`, messages of its type, have for it.
pub(crate) fn encoded<M: Message + Name>(message: &M, parts: &[Unknown]) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    for Unknown(part) in parts {
        let merged = part
            .as_ref()
            .and_then(|part| stored::merged(&part.descriptor(), part, &bytes));
        bytes = merged.unwrap_or(bytes);
    }
    bytes
}

/// What goes into a field of [`Unknown::gathered`].
pub(crate) enum Kept {
    /// A message.
    One(Unknown),
    /// A list of messages.
    Many(Vec<Unknown>),
}

/// An answer, and the unknown fields of what it was made from.
#[derive(Debug)]
pub(crate) struct Answer<M> {
    message: M,
    unknown: Unknown,
}

impl<M> From<M> for Answer<M> {
    fn from(message: M) -> Self {
        Self {
            message,
            unknown: Unknown::default(),
        }
    }
}

impl<M: Message + Name> Answer<M> {
    /// An answer whose fields were made from these stored messages.
    pub(crate) fn made_from<'a>(
        message: M,
        parts: impl IntoIterator<Item = (&'a str, Unknown)>,
    ) -> Self {
        let parts = parts
            .into_iter()
            .map(|(field, part)| (field, Kept::One(part)));
        Self {
            message,
            unknown: Unknown::gathered(&M::full_name(), parts),
        }
    }

    /// An answer with the unknown fields of a stored message of its own type.
    pub(crate) fn like(message: M, unknown: Unknown) -> Self {
        Self { message, unknown }
    }

    /// The message alone.
    pub(crate) fn into_message(self) -> M {
        self.message
    }

    /// Changes the message.
    pub(crate) fn map(mut self, change: impl FnOnce(&mut M)) -> Self {
        change(&mut self.message);
        self
    }

    /// The list message that `list` makes of the messages, in its `field`. Elements are told apart by their ids.
    pub(crate) fn list<L: Name>(
        answers: Vec<Self>,
        field: &str,
        list: impl FnOnce(Vec<M>) -> L,
    ) -> Answer<L> {
        let name = M::full_name();
        let mut unknown = Vec::new();
        let mut messages = Vec::with_capacity(answers.len());
        for Self {
            message,
            unknown: Unknown(part),
        } in answers
        {
            if let Some(mut part) = part {
                let whole = descriptors::pool()
                    .get_message_by_name(&name)
                    .and_then(|known| {
                        DynamicMessage::decode(known, message.encode_to_vec().as_slice()).ok()
                    });
                if let Some(id) = whole
                    .as_ref()
                    .and_then(|whole| whole.get_field_by_name("id"))
                {
                    part.set_field_by_name("id", id.into_owned());
                }
                unknown.push(Unknown(Some(part)));
            }
            messages.push(message);
        }
        Answer {
            message: list(messages),
            unknown: Unknown::gathered(&L::full_name(), [(field, Kept::Many(unknown))]),
        }
    }

    /// The message for the generated server, and the bytes that are to be sent in its place, if any.
    pub(crate) fn into_parts(self) -> (M, Option<Replacement>) {
        let bytes = self.unknown.0.and_then(|unknown| {
            stored::merged(
                &unknown.descriptor(),
                &unknown,
                &self.message.encode_to_vec(),
            )
        });
        (self.message, bytes.map(|bytes| Replacement(bytes.into())))
    }
}

/// A response message whose bytes replace those that the generated server wrote.
#[derive(Clone, Debug)]
pub(crate) struct Replacement(pub(crate) Bytes);
