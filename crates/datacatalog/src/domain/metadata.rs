//! What clients say of datasets and artifacts: a few names of their own (spec 06 B8).

use flyte_idl::datacatalog::Metadata;
use prost::Message as _;

use crate::error::{Error, Result};

/// The most bytes of one row's metadata. Lists read it from each row of a page.
const MOST: usize = 64 * 1024;

/// The metadata of a request; nothing is as good as none.
///
/// # Errors
/// INVALID_ARGUMENT with the limit.
pub fn of_request(metadata: Option<Metadata>) -> Result<Metadata> {
    let metadata = metadata.unwrap_or_default();
    let bytes = metadata.encoded_len();
    if bytes > MOST {
        return Err(Error::invalid(format!(
            "metadata of {bytes} bytes are too many, {MOST} are the most"
        )));
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_a_most() {
        assert_eq!(of_request(None).unwrap(), Metadata::default());
        for (length, fits) in [(65_000, true), (65_536, false)] {
            let metadata = Metadata {
                key_map: [("k".to_owned(), "v".repeat(length))].into(),
            };
            assert_eq!(of_request(Some(metadata)).is_ok(), fits, "{length}");
        }
    }
}
