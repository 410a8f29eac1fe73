//! Fields that this version does not know, on their way through it (design, "Persisted messages").
//!
//! ```text
//! request bytes --limits layer--> request's extensions --Incoming--> handler --> Stored, row or blob
//! Stored --handler--> Reply --api--> bytes in the response's extensions --limits layer--> response bytes
//! ```
//!
//! Requests and rows without such fields, so nearly all, pass with nothing done: whether there are any is known
//! from the scan that measures their nesting.

pub(crate) mod fields;
pub(crate) mod layer;

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use flyte_idl::{
    descriptors,
    stored::{self, Stored},
};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use tonic::Extensions;

use fields::Field;

/// The unknown fields of a message of type `M` and of the messages in it; or nothing, if there are none.
pub(crate) struct UnknownFields<M> {
    /// The message as far as it has them, known fields included.
    message: Option<DynamicMessage>,
    of: PhantomData<fn() -> M>,
}

impl<M> UnknownFields<M> {
    fn new(message: Option<DynamicMessage>) -> Self {
        Self {
            message,
            of: PhantomData,
        }
    }
}

impl<M> Default for UnknownFields<M> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<M> Clone for UnknownFields<M> {
    fn clone(&self) -> Self {
        Self::new(self.message.clone())
    }
}

impl<M> fmt::Debug for UnknownFields<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(formatter)
    }
}

/// A request in which the scan found unknown fields, between the limits layer and the handler.
#[derive(Clone, Debug)]
pub(crate) struct RequestWithUnknown(DynamicMessage);

impl RequestWithUnknown {
    /// Reads a request; none if it does not decode, which the generated server will say.
    pub(crate) fn read(descriptor: MessageDescriptor, bytes: &[u8]) -> Option<Self> {
        DynamicMessage::decode(descriptor, bytes).ok().map(Self)
    }
}

impl<M: Message + Name + Default> UnknownFields<M> {
    /// What was stored with unknown fields.
    pub(crate) fn of_stored(stored: &Stored<M>) -> Self {
        Self::new(stored.unknown())
    }

    /// `message`, to be stored with the unknown fields that this has for it.
    pub(crate) fn store(&self, message: M) -> Stored<M> {
        let mut stored = Stored::new(message);
        self.keep_in(&mut stored);
        stored
    }

    /// Gives `stored` the unknown fields that this has for it.
    pub(crate) fn keep_in(&self, stored: &mut Stored<M>) {
        if let Some(source) = &self.message {
            stored.keep(source);
        }
    }
}

impl<M: Name> UnknownFields<M> {
    /// What the limits layer found in a request.
    fn of_request(extensions: &Extensions) -> Self {
        let found = extensions.get::<RequestWithUnknown>();
        Self::new(found.map(|RequestWithUnknown(message)| message.clone()))
    }

    /// Those of the message in a field; nothing if the field is not set.
    pub(crate) fn part<P>(&self, field: Field<M, P>) -> UnknownFields<P> {
        let part = self.message.as_ref().and_then(|message| {
            let field = message.descriptor().get_field_by_name(field.name())?;
            let value = message
                .has_field(&field)
                .then(|| message.get_field(&field))?;
            value.as_message().cloned()
        });
        UnknownFields::new(part)
    }

    /// Those of the messages in a list.
    pub(crate) fn parts<P>(&self, field: Field<M, P>) -> Vec<UnknownFields<P>> {
        let list = self
            .message
            .as_ref()
            .and_then(|message| message.get_field_by_name(field.name()));
        let messages = list.as_ref().and_then(|value| value.as_list());
        messages
            .unwrap_or_default()
            .iter()
            .map(|value| UnknownFields::new(value.as_message().cloned()))
            .collect()
    }

    /// Those of a message that has this one in `field`.
    pub(crate) fn within<Outer: Name>(self, field: Field<Outer, M>) -> UnknownFields<Outer> {
        UnknownFields::default().with(field, self)
    }

    /// These, with those of the message in `field`.
    pub(crate) fn with<P>(self, field: Field<M, P>, part: UnknownFields<P>) -> Self {
        self.set(field.name(), part.message.map(Value::Message))
    }

    /// These, with those of the messages in the list `field`.
    pub(crate) fn with_list<P>(self, field: Field<M, P>, parts: Vec<UnknownFields<P>>) -> Self {
        let list: Vec<Value> = parts
            .into_iter()
            .filter_map(|part| part.message.map(Value::Message))
            .collect();
        let value = (!list.is_empty()).then_some(Value::List(list));
        self.set(field.name(), value)
    }

    fn set(mut self, field: &str, value: Option<Value>) -> Self {
        let Some(value) = value else {
            return self;
        };
        if self.message.is_none() {
            self.message = descriptors::pool()
                .get_message_by_name(&M::full_name())
                .map(DynamicMessage::new);
        }
        if let Some(message) = &mut self.message {
            message.set_field_by_name(field, value);
        }
        self
    }

    /// Those of a message of type `T`, in the fields that have the same name and type there: what the reference
    /// takes over as it is.
    pub(crate) fn of_same_fields<T: Name>(&self) -> UnknownFields<T> {
        let Some(source) = &self.message else {
            return UnknownFields::default();
        };
        let Some(descriptor) = descriptors::pool().get_message_by_name(&T::full_name()) else {
            return UnknownFields::default();
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
        UnknownFields::new(Some(message))
    }
}

/// The bytes of `message`, with the unknown fields that any of `sources` has for it.
pub(crate) fn encoded<M: Message + Name>(message: &M, sources: &[UnknownFields<M>]) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    for source in sources {
        let merged = source
            .message
            .as_ref()
            .and_then(|source| stored::merged(&source.descriptor(), source, &bytes));
        bytes = merged.unwrap_or(bytes);
    }
    bytes
}

/// A message that came with a request, and the unknown fields that came in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incoming<M> {
    pub(crate) message: M,
    pub(crate) unknown: UnknownFields<M>,
}

impl<M: Name> Incoming<M> {
    /// A request's message, with what the limits layer found in it.
    pub(crate) fn of_request(message: M, extensions: &Extensions) -> Self {
        Self {
            message,
            unknown: UnknownFields::of_request(extensions),
        }
    }
}

/// An answer, and the unknown fields of what it was made from.
#[derive(Debug)]
pub(crate) struct Reply<M> {
    message: M,
    unknown: UnknownFields<M>,
}

impl<M> From<M> for Reply<M> {
    fn from(message: M) -> Self {
        Self {
            message,
            unknown: UnknownFields::default(),
        }
    }
}

impl<M> Reply<M> {
    /// An answer with the unknown fields of a message of its own type.
    pub(crate) fn new(message: M, unknown: UnknownFields<M>) -> Self {
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
}

impl<M: Message + Name> Reply<M> {
    /// Bytes of the encoded answer, about: of unknown fields it counts those of the messages that have them.
    pub(crate) fn encoded_len(&self) -> usize {
        let unknown = self.unknown.message.as_ref();
        self.message.encoded_len() + unknown.map_or(0, Message::encoded_len)
    }

    /// This answer, whose `field` was made from a message with these unknown fields.
    pub(crate) fn with<P>(mut self, field: Field<M, P>, part: UnknownFields<P>) -> Self {
        self.unknown = self.unknown.with(field, part);
        self
    }

    /// The list message that `list` makes of the messages, in its `field`. Elements are distinguished by their ids.
    pub(crate) fn list<L: Name>(
        replies: Vec<Self>,
        field: Field<L, M>,
        list: impl FnOnce(Vec<M>) -> L,
    ) -> Reply<L> {
        let mut unknown = Vec::new();
        let mut messages = Vec::with_capacity(replies.len());
        for reply in replies {
            if let Some(mut part) = reply.unknown.message {
                if let Some(id) = id_of(&reply.message) {
                    part.set_field_by_name("id", id);
                }
                unknown.push(UnknownFields::new(Some(part)));
            }
            messages.push(reply.message);
        }
        Reply {
            message: list(messages),
            unknown: UnknownFields::default().with_list(field, unknown),
        }
    }

    /// The message for the generated server, and the bytes that are to be sent in its place, if any.
    pub(crate) fn into_parts(self) -> (M, Option<Replacement>) {
        let bytes = self.unknown.message.and_then(|unknown| {
            stored::merged(
                &unknown.descriptor(),
                &unknown,
                &self.message.encode_to_vec(),
            )
        });
        (self.message, bytes.map(|bytes| Replacement(bytes.into())))
    }
}

/// The value of field `id`, by which elements of lists are distinguished.
fn id_of<M: Message + Name>(message: &M) -> Option<Value> {
    let known = descriptors::pool().get_message_by_name(&M::full_name())?;
    let whole = DynamicMessage::decode(known, message.encode_to_vec().as_slice()).ok()?;
    let id = whole.get_field_by_name("id")?;
    Some(id.into_owned())
}

/// A response message whose bytes replace those that the generated server wrote.
#[derive(Clone, Debug)]
pub(crate) struct Replacement(pub(crate) Bytes);
