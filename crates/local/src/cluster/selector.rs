//! Label and field selectors, in the grammar of kube-apiserver.

use crate::cluster::api_status::ApiStatus;
use crate::cluster::object::{Stored, is_selectable, selected_field};

/// What a list, watch or collection delete is narrowed to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq)]
enum LabelTerm {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Above(String, i64),
    Below(String, i64),
}

#[derive(Debug, Clone, PartialEq)]
struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads both selectors of a request; empty texts select everything.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, ApiStatus> {
        let labels = label_terms(labels).map_err(|why| {
            ApiStatus::bad_request(format!(
                "unable to parse requirement: {why} (label selector {labels:?})"
            ))
        })?;
        let fields = field_terms(fields).map_err(|why| {
            ApiStatus::bad_request(format!("invalid field selector {fields:?}: {why}"))
        })?;
        Ok(Self { labels, fields })
    }

    /// The same selector in the names of another version; fields that it does not have are refused as unknown ones are.
    pub(crate) fn rename_fields(
        &mut self,
        new_name: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ApiStatus> {
        for term in &mut self.fields {
            term.path = new_name(&term.path).ok_or_else(|| unsupported(&term.path))?;
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Refuses fields that a resource cannot be filtered by, as kube-apiserver does.
    pub(crate) fn check_fields(&self, resource: &str) -> Result<(), ApiStatus> {
        let mut fields = self.fields.iter();
        match fields.find(|term| !is_selectable(resource, &term.path)) {
            Some(term) => Err(unsupported(&term.path)),
            None => Ok(()),
        }
    }

    pub(crate) fn matches(&self, object: &Stored) -> bool {
        self.matches_fields(object) && (self.labels.is_empty() || self.matches_labels(object))
    }

    /// Whether both versions are chosen, which one comparison answers if they share metadata.
    pub(crate) fn matches_both(&self, before: &Stored, after: &Stored) -> (bool, bool) {
        let after_matches = self.matches(after);
        let same = self.fields.iter().all(|term| is_of_key(&term.path))
            && before.key == after.key
            && before.shares_metadata(after);
        let before_matches = if same {
            after_matches
        } else {
            self.matches(before)
        };
        (before_matches, after_matches)
    }

    /// What is not in the key is read from the object's JSON: few select by it, and all would have to keep it.
    fn matches_fields(&self, object: &Stored) -> bool {
        let mut value = None;
        self.fields.iter().all(|term| {
            let text = match term.path.as_str() {
                "metadata.name" => object.name(),
                "metadata.namespace" => object.namespace(),
                path => {
                    let value = value.get_or_insert_with(|| object.value().unwrap_or_default());
                    selected_field(&object.resource, value, path)
                }
            };
            (text == term.value) == term.equal
        })
    }

    fn matches_labels(&self, object: &Stored) -> bool {
        let labels = object.labels();
        let label_matches = |term: &LabelTerm| match term {
            LabelTerm::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            LabelTerm::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            LabelTerm::Exists(key) => labels.contains_key(key),
            LabelTerm::Absent(key) => !labels.contains_key(key),
            LabelTerm::Above(key, bound) => {
                number(labels.get(key)).is_some_and(|value| value > *bound)
            }
            LabelTerm::Below(key, bound) => {
                number(labels.get(key)).is_some_and(|value| value < *bound)
            }
        };
        self.labels.iter().all(label_matches)
    }
}

fn is_of_key(field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
}

fn unsupported(field: &str) -> ApiStatus {
    ApiStatus::bad_request(format!("field label not supported: {field}"))
}

fn number(text: Option<&String>) -> Option<i64> {
    text.and_then(|text| text.parse().ok())
}

/// Splits at commas that are not inside parentheses.
fn split_terms(text: &str) -> Result<Vec<&str>, String> {
    let mut terms = Vec::new();
    let mut rest = text;
    let mut depth = 0_i32;
    let mut at = 0;
    while let Some(character) = rest.get(at..).and_then(|tail| tail.chars().next()) {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(rest.get(..at).unwrap_or_default());
                rest = rest.get(at + 1..).unwrap_or_default();
                at = 0;
                continue;
            }
            _ => {}
        }
        at += character.len_utf8();
    }
    if depth != 0 {
        return Err("parentheses do not match".to_owned());
    }
    terms.push(rest);
    Ok(terms)
}

fn label_terms(text: &str) -> Result<Vec<LabelTerm>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_terms(text)?
        .into_iter()
        .map(|term| label_term(term.trim()))
        .collect()
}

fn label_term(term: &str) -> Result<LabelTerm, String> {
    if let Some(key) = term.strip_prefix('!') {
        return Ok(LabelTerm::Absent(label_key(key)?));
    }
    if let Some(set) = term.strip_suffix(')') {
        let (head, values) = set
            .split_once('(')
            .ok_or_else(|| format!("found {term:?}, expected a set"))?;
        let values = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = head.split_whitespace();
        let (key, operator) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        return match operator {
            "in" => Ok(LabelTerm::In(label_key(key)?, values)),
            "notin" => Ok(LabelTerm::NotIn(label_key(key)?, values)),
            other => Err(format!("found {other:?}, expected: in, notin")),
        };
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(LabelTerm::NotIn(label_key(key)?, one(value)));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(LabelTerm::In(label_key(key)?, one(value)));
    }
    for (sign, above) in [('>', true), ('<', false)] {
        if let Some((key, bound)) = term.split_once(sign) {
            let bound = bound
                .trim()
                .parse()
                .map_err(|_| format!("{bound:?} is not an integer"))?;
            let key = label_key(key)?;
            return Ok(if above {
                LabelTerm::Above(key, bound)
            } else {
                LabelTerm::Below(key, bound)
            });
        }
    }
    Ok(LabelTerm::Exists(label_key(term)?))
}

fn label_key(key: &str) -> Result<String, String> {
    let key = key.trim();
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_./".contains(character);
    if key.is_empty() || !key.chars().all(allowed) {
        return Err(format!("{key:?} is not a label key"));
    }
    Ok(key.to_owned())
}

fn field_terms(text: &str) -> Result<Vec<FieldTerm>, String> {
    let mut terms = Vec::new();
    for term in text
        .split(',')
        .map(str::trim)
        .filter(|term| !term.is_empty())
    {
        let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, value, true)
        } else {
            return Err(format!("can't understand {term:?}"));
        };
        terms.push(FieldTerm {
            path: path.trim().to_owned(),
            value: value.trim().to_owned(),
            equal,
        });
    }
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(labels: &serde_json::Value) -> Stored {
        let value = json!({
            "metadata": {"name": "a", "namespace": "n", "labels": labels}, "status": {"phase": "Running"},
        });
        Stored::new("pods".into(), 1, &value, None).unwrap()
    }

    #[test]
    fn selectors_choose_as_in_kubernetes() {
        let object = pod(&json!({"app": "web", "tier": "1"}));
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier", "", true),
            ("app!=web", "", false),
            ("other!=web", "", true),
            ("app in (web, db)", "", true),
            ("app notin (web,db),tier", "", false),
            ("!app", "", false),
            ("!other", "", true),
            ("tier>0", "", true),
            ("tier<1", "", false),
            ("", "metadata.name=a", true),
            ("", "metadata.name!=a", false),
            ("", "status.phase=Running,metadata.namespace=n", true),
            ("", "status.phase==Failed", false),
        ] {
            assert_eq!(
                Selector::parse(labels, fields).unwrap().matches(&object),
                expected,
                "{labels:?} {fields:?}"
            );
        }
    }

    #[test]
    fn malformed_selectors_are_bad_requests() {
        for (labels, fields) in [
            ("a in (b", ""),
            ("a b c", ""),
            ("a like (b)", ""),
            ("=b", ""),
            ("x>y", ""),
            ("", "metadata.name"),
        ] {
            assert_eq!(
                Selector::parse(labels, fields).unwrap_err().code,
                400,
                "{labels:?} {fields:?}"
            );
        }
    }
}
