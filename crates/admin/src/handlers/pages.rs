//! Pages of lists: as many rows as were asked for, or as fit into one message.
//!
//! A page whose rows are larger ends early, with the token of the next one. The reference sends it and the client refuses it.

use flyte_platform::sql::Listed;
use prost::{Message, Name};

use crate::{
    context::AdminContext,
    filters::ListQuery,
    unknown_fields::{Reply, fields::Field},
};

/// The page and order parts of the list request of `rpc`: all such messages have the same fields for them.
macro_rules! page {
    ($request:expr, $rpc:expr) => {
        $crate::filters::Page {
            filters: &$request.filters,
            sort_by: $request.sort_by.as_ref(),
            token: &$request.token,
            limit: $request.limit,
            rpc: $rpc,
        }
    };
}
pub(super) use page;

/// The most bytes of an element besides its message: the tag of its field, and its length.
const ELEMENT: usize = 1 + 5;

/// What an answer has besides its elements: the token.
const TOKEN: usize = 64;

/// The answer that `list` makes of the messages that fit into it, in its `field`, and the token of the next page.
pub(super) fn reply<M: Message + Name, L: Name>(
    context: &AdminContext,
    query: &ListQuery,
    mut replies: Listed<Reply<M>>,
    field: Field<L, M>,
    list: impl FnOnce(Vec<M>, String) -> L,
) -> Reply<L> {
    let token = fit(context, query, &mut replies, Reply::encoded_len);
    Reply::list(replies.into_vec(), field, |messages| list(messages, token))
}

/// Leaves the elements of an answer that fit into it, and answers the token of the next page.
pub(super) fn fit<T>(
    context: &AdminContext,
    query: &ListQuery,
    elements: &mut Listed<T>,
    encoded_len: impl Fn(&T) -> usize,
) -> String {
    let sizes: Vec<usize> = elements
        .places()
        .map(|element| element.map_or(0, |element| encoded_len(element) + ELEMENT))
        .collect();
    let most = context.message_bytes().saturating_sub(TOKEN);
    let (count, token) = query.fit(&sizes, most);
    elements.truncate(count);
    token
}
