//! Name rules of projects, executions, labels and Kubernetes objects, with the texts that clients see
//! (spec 01 §4.6, §6.2, §12.1).

use std::collections::BTreeMap;

/// Longest RFC 1123 label, and longest name part of a label key, in bytes.
pub const LABEL_MAX: usize = 63;
/// Longest RFC 1123 subdomain in bytes.
pub const SUBDOMAIN_MAX: usize = 253;
/// Longest project name in bytes.
pub const PROJECT_NAME_MAX: usize = 64;
/// Longest project description in bytes.
pub const DESCRIPTION_MAX: usize = 300;
/// Most labels that a project or execution may have.
pub const LABELS_MAX: usize = 16;

/// A name that breaks its rule. The display text is the answer of the API (INVALID_ARGUMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A required name is empty.
    #[error("missing {0}")]
    Missing(&'static str),
    /// A project id is not an RFC 1123 label.
    #[error("invalid project id [{id}]: [{}]", rules.join(" "))]
    ProjectId {
        /// What was sent.
        id: String,
        /// The rules that it breaks.
        rules: Vec<String>,
    },
    /// A text is too long.
    #[error("{field} cannot exceed {max} characters")]
    TooLong {
        /// The field, for example `project_name`.
        field: &'static str,
        /// Its limit in bytes.
        max: usize,
    },
    /// There are too many labels.
    #[error("labels map cannot exceed {LABELS_MAX} entries")]
    TooManyLabels,
    /// A label's key is not a Kubernetes qualified name.
    #[error("invalid label key [{key}]: [{}]", rules.join(" "))]
    LabelKey {
        /// The key of the refused label.
        key: String,
        /// The rules that it breaks.
        rules: Vec<String>,
    },
    /// A label's value is not one for Kubernetes.
    #[error("invalid label value [{value}]: [{}]", rules.join(" "))]
    LabelValue {
        /// The value of the refused label.
        value: String,
        /// The rules that it breaks.
        rules: Vec<String>,
    },
    /// A node id would leave the folder that is made of it.
    #[error(
        "invalid node id {0:?}: it may not be '.' or '..' nor contain '/', '\\', '?', '#', '%' or control characters"
    )]
    NodeId(String),
    /// An execution name is too long.
    #[error("size of name exceeded length {LABEL_MAX} : {0}")]
    ExecutionNameTooLong(String),
    /// An execution name has a character that Kubernetes would refuse.
    #[error("invalid name format: {0}, does not match regex '^[a-z][a-z\\-0-9]*$'")]
    ExecutionName(String),
}

/// What is wrong with an RFC 1123 label (`[a-z0-9]([-a-z0-9]*[a-z0-9])?`, at most 63 bytes); empty when nothing is.
pub fn rfc1123_label(text: &str) -> Vec<String> {
    let mut broken = too_long(text, LABEL_MAX);
    if !is_label(text) {
        broken.push("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')".to_owned());
    }
    broken
}

/// What is wrong with an RFC 1123 subdomain (labels joined by dots, at most 253 bytes); empty when nothing is.
pub fn rfc1123_subdomain(text: &str) -> Vec<String> {
    let mut broken = too_long(text, SUBDOMAIN_MAX);
    if !text.split('.').all(is_label) {
        broken.push("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned());
    }
    broken
}

const QUALIFIED_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// What is wrong with a Kubernetes qualified name (a label or annotation key); empty when nothing is.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                broken.push("prefix part must be non-empty".to_owned());
            } else {
                broken.extend(
                    rfc1123_subdomain(prefix)
                        .into_iter()
                        .map(|rule| format!("prefix part {rule}")),
                );
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {QUALIFIED_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        broken.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        broken.push(format!(
            "name part must be no more than {LABEL_MAX} characters"
        ));
    }
    if !is_qualified(name) {
        broken.push(format!("name part {QUALIFIED_RULE}"));
    }
    broken
}

/// What is wrong with the value of a Kubernetes label; empty when nothing is.
pub fn label_value(text: &str) -> Vec<String> {
    let mut broken = too_long(text, LABEL_MAX);
    if !text.is_empty() && !is_qualified(text) {
        broken.push("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')".to_owned());
    }
    broken
}

/// Checks the labels of a project, launch plan or execution: at most 16, Kubernetes keys and values.
pub fn labels(labels: &BTreeMap<String, String>) -> Result<(), NameError> {
    if labels.len() > LABELS_MAX {
        return Err(NameError::TooManyLabels);
    }
    for (key, value) in labels {
        let rules = qualified_name(key);
        if !rules.is_empty() {
            return Err(NameError::LabelKey {
                key: key.clone(),
                rules,
            });
        }
        let rules = label_value(value);
        if !rules.is_empty() {
            return Err(NameError::LabelValue {
                value: value.clone(),
                rules,
            });
        }
    }
    Ok(())
}

/// Checks the id of a project to register.
pub fn project_id(id: &str) -> Result<(), NameError> {
    if id.is_empty() {
        return Err(NameError::Missing("project_id"));
    }
    let rules = rfc1123_label(id);
    if rules.is_empty() {
        Ok(())
    } else {
        Err(NameError::ProjectId {
            id: id.to_owned(),
            rules,
        })
    }
}

/// Checks that a text of a project is not longer than its column.
pub fn at_most(field: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.len() > max {
        Err(NameError::TooLong { field, max })
    } else {
        Ok(())
    }
}

/// Checks the name that a client gives an execution. Upper case passes, as in the reference, and is shown
/// in lower case in the message; the name itself stays as it is (spec 01 §12.1).
pub fn execution_name(name: &str) -> Result<(), NameError> {
    let lower = name.to_lowercase();
    if lower.len() > LABEL_MAX {
        return Err(NameError::ExecutionNameTooLong(lower));
    }
    let mut bytes = lower.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
    if first && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        Ok(())
    } else {
        Err(NameError::ExecutionName(lower))
    }
}

/// Whether a text is one segment of a path: not empty, no dot segment, and without what separates segments, ends a path
/// or stands for another character in a URL.
pub fn is_path_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && !text
            .chars()
            .any(|letter| matches!(letter, '/' | '\\' | '?' | '#' | '%') || letter.is_control())
}

/// Whether a text is a path segment that URLs show as it is. Programs that read URLs without decoding them, as flytekit
/// does, find what lies in a folder of this name and no other.
pub fn is_plain_path_segment(text: &str) -> bool {
    is_path_segment(text)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~$&+,:;=@!'()*".contains(&byte))
}

/// Checks the id of a node that an event names: it becomes a folder.
pub fn node_id(id: &str) -> Result<(), NameError> {
    if is_path_segment(id) {
        Ok(())
    } else {
        Err(NameError::NodeId(id.to_owned()))
    }
}

/// A text made fit for a label value: lower case, every run of other characters than `[-a-z0-9]` one `-`,
/// cut to 63 bytes, `-` trimmed at the ends (spec 05 §3.6).
pub fn sanitized_label_value(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut in_run = false;
    for character in text.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-' {
            clean.push(character);
            in_run = false;
        } else if !in_run {
            clean.push('-');
            in_run = true;
        }
    }
    clean.truncate(LABEL_MAX);
    clean.trim_matches('-').to_owned()
}

/// Whether a text is an RFC 1123 label of at most 63 bytes.
pub fn is_rfc1123_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && is_label(text)
}

/// Whether a text is an RFC 1123 subdomain of at most 253 bytes.
pub fn is_rfc1123_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(is_label)
}

fn too_long(text: &str, max: usize) -> Vec<String> {
    if text.len() > max {
        vec![format!("must be no more than {max} characters")]
    } else {
        Vec::new()
    }
}

fn is_label(text: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn execution_names_start_with_a_letter_and_fit_a_label() {
        let long = "a".repeat(64);
        for (name, expected) in [
            ("f6a9b8c7", None),
            ("UPPER", None),
            (
                "1a",
                Some(
                    "invalid name format: 1a, does not match regex '^[a-z][a-z\\-0-9]*$'"
                        .to_owned(),
                ),
            ),
            (
                "a_B",
                Some(
                    "invalid name format: a_b, does not match regex '^[a-z][a-z\\-0-9]*$'"
                        .to_owned(),
                ),
            ),
            (
                &long,
                Some(format!("size of name exceeded length 63 : {long}")),
            ),
        ] {
            let answer = execution_name(name).err().map(|error| error.to_string());
            assert_eq!(answer, expected);
        }
    }

    #[test]
    fn segments_stay_where_they_are_put() {
        for (text, segment, plain) in [
            ("n0-n1", true, true),
            ("a.b", true, true),
            ("...", true, true),
            ("a+b=c", true, true),
            ("a b", true, false),
            ("schön", true, false),
            ("", false, false),
            (".", false, false),
            ("..", false, false),
            ("a/b", false, false),
            ("a\\b", false, false),
            ("%2e%2e", false, false),
            ("a?b", false, false),
            ("a#b", false, false),
            ("a\u{7}b", false, false),
        ] {
            assert_eq!(is_path_segment(text), segment, "{text}");
            assert_eq!(is_plain_path_segment(text), plain, "{text}");
        }
    }

    #[test]
    fn labels_follow_the_rules_of_kubernetes() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        for (key, value) in [("a", ""), ("example.com/A_b.c", "v"), ("k", "A.b_c-9")] {
            assert_eq!(labels(&one(key, value)), Ok(()));
        }
        for (key, value, starts) in [
            (
                "",
                "v",
                "invalid label key []: [name part must be non-empty name part must consist",
            ),
            (
                "/a",
                "v",
                "invalid label key [/a]: [prefix part must be non-empty]",
            ),
            (
                "a/b/c",
                "v",
                "invalid label key [a/b/c]: [a qualified name must consist",
            ),
            (
                "A/b",
                "v",
                "invalid label key [A/b]: [prefix part a lowercase RFC 1123 subdomain",
            ),
            (
                "k",
                "-",
                "invalid label value [-]: [a valid label must be an empty string",
            ),
        ] {
            let text = labels(&one(key, value)).unwrap_err().to_string();
            assert!(text.starts_with(starts), "{text}");
        }
        let many = (0..17).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(labels(&many), Err(NameError::TooManyLabels));
    }

    #[test]
    fn projects_are_rfc_1123_labels() {
        assert_eq!(project_id("my-project"), Ok(()));
        assert_eq!(project_id(""), Err(NameError::Missing("project_id")));
        assert!(project_id("My").unwrap_err().to_string().starts_with(
            "invalid project id [My]: [a lowercase RFC 1123 label must consist of lower case"
        ));
    }

    #[test]
    fn label_values_are_made_fit() {
        for (text, expected) in [
            ("a.B.c", "a-b-c"),
            ("a-b-c/", "a-b-c"),
            ("wf_1", "wf-1"),
            ("mod.my__wf", "mod-my-wf"),
            ("", ""),
        ] {
            assert_eq!(sanitized_label_value(text), expected);
        }
    }
}
