//! Texts that obey a rule of their key.

use serde::{
    Deserialize as _, Deserializer,
    de::{Error as _, Unexpected},
};

/// Reads the text of a key, for `#[serde(deserialize_with)]`: one that does not obey `rule` is a problem of the
/// configuration, which says what was expected.
///
/// # Errors
/// What is no text, or none that obeys the rule.
pub fn text_that<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
    rule: impl FnOnce(&str) -> bool,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if rule(&text) {
        Ok(text)
    } else {
        Err(D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}
