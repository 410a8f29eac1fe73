//! What events carry inline, and where it goes.

use flyte_core::reference::InvalidReference;
use futures::future::OptionFuture;
use prost::{Message, Name};

use crate::{
    context::AdminContext,
    error::Result,
    unknown_fields::{self, UnknownFields},
};

/// A message that an event carries inline, on its way to the blob store.
pub(super) struct Payload<'a, M> {
    /// Where it goes.
    pub(super) uri: Result<String, InvalidReference>,
    pub(super) message: &'a M,
    pub(super) unknown: UnknownFields<M>,
}

impl<M: Message + Name> Payload<'_, M> {
    /// Writes it and answers where it is.
    pub(super) async fn write(self, context: &AdminContext) -> Result<String> {
        let uri = self.uri?;
        let bytes = unknown_fields::encoded(self.message, &[self.unknown]);
        context.write_bytes(&uri, bytes, "data of an event").await?;
        Ok(uri)
    }
}

/// Writes a payload if there is one. An event's payloads are written at the same time.
pub(super) async fn offloaded<M: Message + Name>(
    context: &AdminContext,
    payload: Option<Payload<'_, M>>,
) -> Result<Option<String>> {
    OptionFuture::from(payload.map(|payload| payload.write(context)))
        .await
        .transpose()
}
