//! The grammar of label selectors, and what is said of a text that is not in it (apimachinery `pkg/labels`).
//!
//! ```text
//! selector    = [ requirement { "," requirement } ]
//! requirement = "!" key | key | key operator value | key ( "in" | "notin" ) "(" values ")"
//! operator    = "=" | "==" | "!=" | ">" | "<"
//! ```

use flyte_idl::text::quoted;

use crate::cluster::admission::{
    LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, is_label_value, is_qualified_name,
};

/// One requirement of a selector; all of them must hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LabelTerm {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Above(String, i64),
    Below(String, i64),
}

/// Reads a selector; an empty one has no terms.
///
/// # Errors
/// The text is none, in the words of Kubernetes.
pub(super) fn parse(text: &str) -> Result<Vec<LabelTerm>, String> {
    let mut parser = Parser {
        words: words(text),
        at: 0,
    };
    let mut terms = Vec::new();
    loop {
        match parser.peek() {
            "" => return Ok(terms),
            word if word == "!" || is_identifier(word) => {
                let term = parser.requirement();
                terms.push(term.map_err(|why| format!("unable to parse requirement: {why}"))?);
            }
            other => {
                return Err(format!(
                    "found '{other}', expected: !, identifier, or 'end of string'"
                ));
            }
        }
        match parser.next() {
            "" => return Ok(terms),
            "," => {
                let next = parser.peek();
                if next != "!" && !is_identifier(next) {
                    return Err(format!("found '{next}', expected: identifier after ','"));
                }
            }
            other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
        }
    }
}

/// The longest first: `==` is not two words.
const SIGNS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

fn is_identifier(word: &str) -> bool {
    !word.is_empty() && !SIGNS.contains(&word)
}

/// Splits a text at spaces and around signs.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let length = match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => sign.len(),
            None => rest
                .find(|end: char| end.is_whitespace() || "=!(),><".contains(end))
                .unwrap_or(rest.len()),
        };
        let (word, more) = rest.split_at(length);
        words.push(word);
        rest = more.trim_start();
    }
    words
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The word that comes; empty at the end.
    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn requirement(&mut self) -> Result<LabelTerm, String> {
        let is_absent = self.peek() == "!";
        if is_absent {
            self.next();
        }
        let key = self.next();
        if !is_identifier(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        if !is_qualified_name(key) {
            let key = quoted(key);
            return Err(format!(
                "<nil>: Invalid value: {key}: {QUALIFIED_NAME_RULE}"
            ));
        }
        let key = key.to_owned();
        if is_absent {
            return Ok(LabelTerm::Absent(key));
        }
        if matches!(self.peek(), "" | ",") {
            return Ok(LabelTerm::Exists(key));
        }
        match self.next() {
            "in" => Ok(LabelTerm::In(key.clone(), self.values(&key)?)),
            "notin" => Ok(LabelTerm::NotIn(key.clone(), self.values(&key)?)),
            "=" | "==" => Ok(LabelTerm::In(key.clone(), vec![self.value(&key)?])),
            "!=" => Ok(LabelTerm::NotIn(key.clone(), vec![self.value(&key)?])),
            ">" => Ok(LabelTerm::Above(key.clone(), self.number(&key)?)),
            "<" => Ok(LabelTerm::Below(key.clone(), self.number(&key)?)),
            other => Err(format!("found '{other}', expected: {OPERATORS}")),
        }
    }

    /// One value; none is the empty one.
    fn value(&mut self, key: &str) -> Result<String, String> {
        if matches!(self.peek(), "" | ",") {
            return Ok(String::new());
        }
        let value = self.next();
        if !is_identifier(value) {
            return Err(format!("found '{value}', expected: identifier"));
        }
        checked(0, key, value)
    }

    fn number(&mut self, key: &str) -> Result<i64, String> {
        let value = self.value(key)?;
        value.parse().map_err(|_| {
            let value = quoted(&value);
            format!("values[0]: Invalid value: {value}: for 'Gt', 'Lt' operators, the value must be an integer")
        })
    }

    /// The values in parentheses; what is between two commas may be empty.
    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        let opening = self.next();
        if opening != "(" {
            return Err(format!("found '{opening}' expected: '('"));
        }
        let mut values = Vec::new();
        match self.peek() {
            ")" => {
                let rule = "for 'in', 'notin' operators, values set can't be empty";
                return Err(format!("values: Invalid value: []: {rule}"));
            }
            word if word == "," || is_identifier(word) => {}
            other => return Err(format!("found '{other}', expected: ',', ')' or identifier")),
        }
        loop {
            let value = match self.peek() {
                "," | ")" => "",
                word if is_identifier(word) => self.next(),
                other => return Err(format!("found '{other}', expected: ',', or identifier")),
            };
            values.push(checked(values.len(), key, value)?);
            match self.next() {
                "," => {}
                ")" => return Ok(values),
                other => return Err(format!("found '{other}', expected: ',' or ')'")),
            }
        }
    }
}

fn checked(index: usize, key: &str, value: &str) -> Result<String, String> {
    if is_label_value(value) {
        return Ok(value.to_owned());
    }
    let value = quoted(value);
    Err(format!(
        "values[{index}][{key}]: Invalid value: {value}: {LABEL_VALUE_RULE}"
    ))
}
