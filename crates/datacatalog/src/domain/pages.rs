//! Which page of a list a request asks for (spec 06 A5).

use flyte_idl::datacatalog::{PaginationOptions, pagination_options};

use crate::error::{Error, Result};

/// The page's length if the request does not say.
const DEFAULT_LIMIT: u64 = 50;

/// The most rows of one page.
const MAX_LIMIT: u64 = 1_000;

/// A page, by creation time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most rows.
    pub limit: u64,
    /// Rows before it.
    pub offset: u64,
    /// Which come first.
    pub order: Order,
}

/// Which rows come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    Descending,
    /// The oldest.
    Ascending,
}

impl Page {
    /// The page that a request asks for. A limit of 0 is the default one, and one above the most is the most: clients go on
    /// by the token.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a token, sort key or order that is none.
    pub fn of_request(options: Option<&PaginationOptions>) -> Result<Self> {
        let Some(options) = options else {
            return Ok(Self {
                limit: DEFAULT_LIMIT,
                offset: 0,
                order: Order::Descending,
            });
        };
        let offset = offset(&options.token)?;
        if options.sort_key != pagination_options::SortKey::CreationTime as i32 {
            return Err(Error::invalid(format!(
                "Invalid sort key {}",
                options.sort_key
            )));
        }
        let order = match pagination_options::SortOrder::try_from(options.sort_order) {
            Ok(pagination_options::SortOrder::Descending) => Order::Descending,
            Ok(pagination_options::SortOrder::Ascending) => Order::Ascending,
            Err(_unknown) => {
                return Err(Error::invalid(format!(
                    "Invalid sort order {}",
                    options.sort_order
                )));
            }
        };
        let limit = match u64::from(options.limit) {
            0 => DEFAULT_LIMIT,
            limit => limit.min(MAX_LIMIT),
        };
        Ok(Self {
            limit,
            offset,
            order,
        })
    }

    /// The token of the page behind `count` rows of this one. There always is one; clients end at an empty page.
    pub fn next_token(&self, count: usize) -> String {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.offset.saturating_add(count).to_string()
    }
}

/// Whether a page is as large as a message may be.
#[derive(Clone, Copy, Debug)]
pub struct FullPage {
    most: usize,
    bytes: usize,
}

impl FullPage {
    /// An empty page of messages of at most this many bytes.
    pub fn of(most: usize) -> Self {
        Self { most, bytes: 0 }
    }

    /// Whether the page has no room for a row of so many bytes. The first row always has, else nobody would get past it.
    pub fn with(&mut self, bytes: usize) -> bool {
        let first = self.bytes == 0;
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes > self.most && !first
    }
}

/// The number of rows that a token stands for; blanks are none.
fn offset(token: &str) -> Result<u64> {
    if token.trim_matches(' ').is_empty() {
        return Ok(0);
    }
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = digits.then(|| token.parse::<u32>().ok()).flatten();
    parsed
        .map(u64::from)
        .ok_or_else(|| Error::invalid(format!("Invalid token value: {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_the_options_say() {
        let page = |limit, offset, order| Page {
            limit,
            offset,
            order,
        };
        let options = |limit, token: &str, sort_key, sort_order| {
            Some(PaginationOptions {
                limit,
                token: token.to_owned(),
                sort_key,
                sort_order,
            })
        };
        for (options, expected) in [
            (None, Ok(page(50, 0, Order::Descending))),
            (options(0, "", 0, 0), Ok(page(50, 0, Order::Descending))),
            (options(7, "  ", 0, 1), Ok(page(7, 0, Order::Ascending))),
            (
                options(5_000, "4294967295", 0, 0),
                Ok(page(1_000, 4_294_967_295, Order::Descending)),
            ),
            (
                options(1, "4294967296", 0, 0),
                Err("Invalid token value: 4294967296"),
            ),
            (options(1, "-1", 0, 0), Err("Invalid token value: -1")),
            (options(1, "+1", 0, 0), Err("Invalid token value: +1")),
            (options(1, "x", 0, 0), Err("Invalid token value: x")),
            (options(1, "", 1, 0), Err("Invalid sort key 1")),
            (options(1, "", 0, 2), Err("Invalid sort order 2")),
        ] {
            let read = Page::of_request(options.as_ref()).map_err(|error| error.to_string());
            assert_eq!(read, expected.map_err(str::to_owned), "{options:?}");
        }
        let mut full = FullPage::of(10);
        assert_eq!(
            [7, 3, 1].map(|bytes| full.with(bytes)),
            [false, false, true]
        );
        assert!(!FullPage::of(10).with(11));
        assert_eq!(page(50, 50, Order::Descending).next_token(3), "53");
    }
}
