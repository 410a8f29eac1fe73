//! Label and field selectors, in the grammar of kube-apiserver.

use flyte_idl::text::quoted;

use crate::cluster::api_status::ApiStatus;
use crate::cluster::object::{Stored, has_own_fields, is_selectable, selected_field};
use crate::cluster::resource::Resource;

mod labels;

use labels::LabelTerm;

/// What a list, watch or collection delete is narrowed to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
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
        let labels = labels::parse(labels).map_err(ApiStatus::bad_request)?;
        let fields = field_terms(fields).map_err(|why| {
            ApiStatus::bad_request(format!("invalid selector: '{fields}'; {why}"))
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
    pub(crate) fn check_fields(&self, resource: &Resource) -> Result<(), ApiStatus> {
        let mut fields = self.fields.iter();
        match fields.find(|term| !is_selectable(&resource.id, &term.path)) {
            Some(term) if resource.custom || has_own_fields(&resource.id) => {
                Err(unsupported(&term.path))
            }
            Some(term) => Err(ApiStatus::bad_request(format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                quoted(&term.path)
            ))),
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
            return Err(format!("can't understand '{term}'"));
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
