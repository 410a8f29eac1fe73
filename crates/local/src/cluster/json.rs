//! Reading JSON of any client: nesting is bounded before anything recurses.

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::Cluster;

impl Cluster {
    /// Parses a client's JSON. The error is for the client.
    pub(crate) fn parse_json(&self, body: &[u8]) -> Result<Value, String> {
        check_depth(depth(body), self.options().json_depth)?;
        parse(body).map_err(|error| error.to_string())
    }
}

/// Refuses a document that is nested deeper than `limit`.
pub(crate) fn check_depth(depth: usize, limit: usize) -> Result<(), String> {
    if depth > limit {
        return Err(format!(
            "the document is nested {depth} levels deep, the limit is {limit}"
        ));
    }
    Ok(())
}

/// Parses JSON whose nesting is known to be bounded.
pub(crate) fn parse(json: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    let value = Value::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The deepest nesting of a document, counted without recursion. Brackets in texts do not count.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json {
        match (in_text, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_where_they_nest() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a": [{"b": []}], "c": {}}"#, 4),
            (r#"{"a": "[[[[", "b": "\\\"[[["}"#, 1),
            ("]]][", 1),
        ] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
        }
    }
}
