//! Reading YAML of any client: what it costs is bounded before it is read, by the nesting of its text and by the size of what
//! its aliases stand for.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::cluster::Cluster;
use crate::cluster::api_status::ApiStatus;
use crate::cluster::json::check_depth;

mod depth;

/// The deepest nesting that the reader of YAML takes.
const DEEPEST: usize = 128;

impl Cluster {
    /// Parses a client's YAML, of which JSON is a part. YAML that is no JSON may nest as deep as JSON may, and at most
    /// [`DEEPEST`] levels; with its aliases written out, it may be as large as an object.
    pub(crate) fn parse_yaml(&self, body: &[u8]) -> Result<Value, ApiStatus> {
        if let Ok(value) = self.parse_json(body) {
            return Ok(value);
        }
        let options = self.options();
        read(body, options.json_depth.min(DEEPEST), options.object_bytes)
            .map_err(|error| ApiStatus::bad_request(format!("error decoding YAML: {error}")))
    }
}

fn read(body: &[u8], deepest: usize, most: usize) -> Result<Value, String> {
    let found = depth::measure(body);
    check_depth(found.depth, deepest)?;
    if found.directives > depth::DIRECTIVES {
        return Err(format!(
            "the document has {} directives, the limit is {}",
            found.directives,
            depth::DIRECTIVES
        ));
    }
    let left = Cell::new(most);
    let reader = serde_norway::Deserializer::from_slice(body);
    let budget = Budget { most, left: &left };
    budget
        .deserialize(reader)
        .map_err(|error| error.to_string())
}

/// Reads a value, and takes the size of each part of it from what is left: one byte, and the bytes of a text. Its JSON is
/// never smaller than that.
#[derive(Clone, Copy)]
struct Budget<'a> {
    most: usize,
    left: &'a Cell<usize>,
}

impl Budget<'_> {
    fn spend<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes.saturating_add(1));
        self.left.set(left.ok_or_else(|| {
            let most = self.most;
            E::custom(format!("the document stands for more than {most} bytes"))
        })?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Budget<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! scalar {
    ($($method:ident: $kind:ty;)*) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<Value, E> {
            self.spend(0)?;
            Ok(value.into())
        })*
    };
}

impl<'de> Visitor<'de> for Budget<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    scalar! {
        visit_bool: bool;
        visit_i64: i64;
        visit_u64: u64;
        visit_f64: f64;
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.spend(text.len())?;
        Ok(text.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.spend(name.len())?;
            read.insert(name, members.next_value_seed(self)?);
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};
    use serde_json::json;

    use super::*;

    fn refusal(yaml: &str) -> String {
        read(yaml.as_bytes(), 128, 10_000).unwrap_err()
    }

    #[test]
    fn what_is_read_is_the_same_with_and_without_a_budget() {
        let yaml = "a: [1, -2, 0.5, ~, true, 'x', .inf]\n7: &b {c: d}\n'e': *b\nf: |\n  {{{\n  [[[\ng: !!str 1\n";
        let expected: Value = serde_norway::from_str(yaml).unwrap();
        assert_eq!(read(yaml.as_bytes(), 128, 10_000).unwrap(), expected);
        assert_eq!(expected["e"], json!({"c": "d"}));
    }

    #[test]
    fn what_nests_too_deep_is_refused_in_the_words_of_json() {
        let flow = |levels: usize| format!("{}1{}", "{a: ".repeat(levels), "}".repeat(levels));
        let mut block = String::new();
        for level in 0..129 {
            block.push_str(&format!("{}a:\n", " ".repeat(level)));
        }
        let words =
            |levels| format!("the document is nested {levels} levels deep, the limit is 128");
        assert_eq!(refusal(&flow(129)), words(129));
        assert_eq!(refusal(&format!("{}1", "- ".repeat(200))), words(200));
        assert_eq!(refusal(&block), words(129));
        assert!(read(flow(128).as_bytes(), 128, 10_000).is_ok());
        assert!(read(format!("{}1", "- ".repeat(128)).as_bytes(), 128, 10_000).is_ok());
    }

    #[test]
    fn what_aliases_stand_for_is_bounded() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let before = vec![format!("*a{}", level - 1); 9].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        let wide = format!(
            "a: &a [{}]\nb: [{}]\n",
            "x, ".repeat(900),
            "*a, ".repeat(900)
        );
        for yaml in [laughs, wide] {
            assert!(
                refusal(&yaml).contains("stands for more than 10000 bytes"),
                "{}",
                refusal(&yaml)
            );
        }
        assert!(!refusal("a: &a [*a]").is_empty());
        assert!(refusal(&"%TAG !a! b\n".repeat(100)).contains("100 directives"));
    }

    #[test]
    fn deep_documents_cost_what_their_size_costs() {
        // A thousand times what the limit takes; a cost that grew with the square of it would be minutes.
        let worked = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let before = worked();
        let body = format!("{}1{}", "{\"a\":".repeat(128_000), "}".repeat(128_000));
        assert!(refusal(&body).contains("nested 128000 levels"));
        assert!(worked().saturating_sub(before).as_secs() < 5);
    }
}
