//! Refused requests, in the words of a Kubernetes API server: every refusal is answered as a `metav1.Status`.

use bytes::Bytes;
use flyte_idl::text::quoted;
use serde_json::{Value, json};

use crate::cluster::causes::{Causes, and_more};
use crate::cluster::store::StoreError;

/// The `metav1.Status` of a request that was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiStatus {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason (`metav1.StatusReason`).
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// `details` of the status, if there are any.
    pub details: Option<Box<Value>>,
}

impl ApiStatus {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, group: &str, resource: &str, name: &str) -> Self {
        let mut details = json!({ "name": name, "kind": resource });
        if let (false, Some(map)) = (group.is_empty(), details.as_object_mut()) {
            map.insert("group".to_owned(), group.into());
        }
        self.details = Some(Box::new(details));
        self
    }

    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", qualified(group, resource)),
        )
        .about(group, resource, name)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(crate) fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", qualified(group, resource)),
        )
        .about(group, resource, name)
    }

    /// An object is created under the name of one that waits for its end.
    pub(crate) fn still_there(group: &str, resource: &str, name: &str) -> Self {
        let refusal = Self::already_exists(group, resource, name);
        Self {
            message: format!("object is being deleted: {}", refusal.message),
            ..refusal
        }
    }

    pub(crate) fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(group, resource)
        );
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// The conflict of a write that was based on an older version of the object.
    pub(crate) fn stale(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: &Causes) -> Self {
        let texts: Vec<String> = causes
            .listed()
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let texts = match texts.as_slice() {
            [one] if causes.more() == 0 => one.clone(),
            many => format!("[{}]", and_more(many.join(", "), causes.more())),
        };
        let mut refusal = Self::new(
            422,
            "Invalid",
            format!("{} \"{name}\" is invalid: {texts}", qualified(group, kind)),
        )
        .about(group, kind, name);
        if let Some(details) = refusal
            .details
            .as_mut()
            .and_then(|details| details.as_object_mut())
        {
            details.insert("causes".to_owned(), causes.to_value());
        }
        refusal
    }

    /// Nothing can be written for the time being. 503 and not 507, which clients take for the end of the matter.
    pub(crate) fn not_stored(error: &StoreError) -> Self {
        let why = if error.is_full() {
            "its disk is full; reads go on, and writes do when there is room again"
        } else {
            "reads go on, and writes do when it can"
        };
        let message = format!("{error}: {} ({why})", error.source);
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The same for a change that was under way, and is made when it can be: as a timeout, this says neither that it was made
    /// nor that it was not.
    pub(crate) fn not_yet_stored(self) -> Self {
        match self.reason {
            "ServiceUnavailable" => Self {
                code: 504,
                reason: "Timeout",
                message: format!("the change is made later: {}", self.message),
                ..self
            },
            _ => self,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "{} \"{name}\" is forbidden: {why}",
            qualified(group, resource)
        );
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// Parameters of a request that break a rule; `kind` is that of the options, as `CreateOptions`.
    pub(crate) fn wrong_options(kind: &str, causes: &Causes) -> Self {
        Self::invalid("meta.k8s.io", kind, "", causes)
    }

    /// A patch that makes of an object what is none of its kind.
    pub(crate) fn wrong_patch(why: &str) -> Self {
        let causes = [StatusCause::value("patch", "", why)];
        Self::invalid("", "", "", &causes.into())
    }

    /// A request that a page from elsewhere may have sent.
    pub(crate) fn foreign(why: &str) -> Self {
        Self::new(403, "Forbidden", why)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            "406: Not Acceptable\n\nAvailable representations: application/json",
        )
    }

    /// The body has none of the media types `known`, which are those that the resource takes.
    pub(crate) fn unsupported_media(known: &[&str]) -> Self {
        let known = known.join(", ");
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {known}"
            ),
        )
    }

    /// The body is said to be a patch of a kind that there is not.
    pub(crate) fn unknown_patch() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
    }

    /// An object of a kind that is not read from protobuf. Clients of Kubernetes send it in no other form then.
    pub(crate) fn not_in_protobuf(kind: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - the embedded Kubernetes API reads objects of kind {kind} \
                 as JSON and YAML, not as protobuf: with kubectl, add \"--dry-run=client -o yaml | kubectl apply -f -\" to \
                 the command"
            ),
        )
    }

    /// The watch or list starts at a version that the bounded history no longer has.
    pub(crate) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(
            410,
            "Expired",
            format!("too old resource version: {asked} ({oldest})"),
        )
    }

    pub(crate) fn continue_expired() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You must start \
                       a new list without the continue parameter.";
        Self::new(410, "Expired", message)
    }

    /// The object is larger than the store takes, refused in etcd's words because clients look for them
    /// (spec 04 §2, "workflow too large").
    pub(crate) fn object_too_large(size: usize, limit: usize) -> Self {
        let message = format!(
            "etcdserver: request is too large: the object has {size} bytes, the limit is {limit}"
        );
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            501,
            "NotImplemented",
            format!("{what} is not supported by the embedded Kubernetes API"),
        )
    }

    /// A part of a pod that its processes cannot have: `kubectl debug` and in-place resizing.
    pub(crate) fn no_such_part(part: &str) -> Self {
        let why = match part {
            "ephemeralcontainers" => {
                "ephemeral containers cannot be added to pods, whose containers are processes of this machine without an \
                 image: attach a debugger to the process instead (its pid is in `ps`, its files are below the data folder), \
                 or create another pod with the same command"
            }
            _ => "a pod that runs cannot be resized: delete it and create another",
        };
        Self::new(
            501,
            "NotImplemented",
            format!("{why} (embedded Kubernetes API)"),
        )
    }

    /// A kind that would be kept and never run.
    pub(crate) fn no_controller(kind: &str) -> Self {
        let message = format!(
            "{kind}s are not run by the embedded Kubernetes API, which has no controller for them and would keep them \
             without ever starting a pod: create Pods, or use a cluster"
        );
        Self::new(501, "NotImplemented", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// The refusal as a `metav1.Status`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        if let Some(map) = status.as_object_mut() {
            if let Some(details) = &self.details {
                map.insert("details".to_owned(), (**details).clone());
            }
            map.insert("code".to_owned(), self.code.into());
        }
        status
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::from(self.to_value().to_string())
    }
}

/// One broken rule of an invalid object (`metav1.StatusCause`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusCause {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl StatusCause {
    pub(crate) fn required(field: impl Into<String>) -> Self {
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            message: "Required value".to_owned(),
        }
    }

    /// As [`Self::required`], with the reason.
    pub(crate) fn missing(field: impl Into<String>, rule: &str) -> Self {
        Self {
            message: format!("Required value: {rule}"),
            ..Self::required(field)
        }
    }

    pub(crate) fn value(field: impl Into<String>, value: &str, rule: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {}: {rule}", quoted(value)),
        }
    }

    /// As [`Self::value`], of a number.
    pub(crate) fn number(field: impl Into<String>, value: i64, rule: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {value}: {rule}"),
        }
    }

    /// As [`Self::value`], of a list or an object.
    pub(crate) fn json(field: impl Into<String>, value: &Value, rule: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {value}: {rule}"),
        }
    }

    /// A word that is none of `known`.
    pub(crate) fn unsupported(field: impl Into<String>, value: &str, known: &[&str]) -> Self {
        let known: Vec<String> = known
            .iter()
            .map(|known| quoted(known).to_string())
            .collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!(
                "Unsupported value: {}: supported values: {}",
                quoted(value),
                known.join(", ")
            ),
        }
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &str) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {}", quoted(value)),
        }
    }

    /// A value of `dryRun`, which is a list, that is not known.
    pub(crate) fn unsupported_dry_run(given: &[&str]) -> Self {
        Self {
            reason: "FieldValueNotSupported",
            field: "dryRun".to_owned(),
            message: format!(
                "Unsupported value: {}: supported values: \"All\"",
                json!(given)
            ),
        }
    }

    /// A field that must stay as it is.
    pub(crate) fn immutable(field: impl Into<String>, value: &str) -> Self {
        Self::value(field, value, "field is immutable")
    }

    /// A name of something that the object does not have.
    pub(crate) fn not_found(field: impl Into<String>, value: &str) -> Self {
        Self {
            reason: "FieldValueNotFound",
            field: field.into(),
            message: format!("Not found: {}", quoted(value)),
        }
    }

    pub(crate) fn forbidden(field: impl Into<String>, rule: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {rule}"),
        }
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_quotes_them() {
        for (value, expected) in [
            ("a b", r#""a b""#),
            ("it's \"so\"", r#""it's \"so\"""#),
            ("\u{7}\u{b}\u{1b}\0", r#""\a\v\x1b\x00""#),
            ("\u{a0}\u{200b}", r#""\u00a0\u200b""#),
        ] {
            let texts = [
                StatusCause::value("f", value, "rule").message,
                StatusCause::duplicate("f", value).message,
                StatusCause::not_found("f", value).message,
                StatusCause::unsupported("f", value, &[value]).message,
            ];
            for text in texts {
                assert!(text.contains(expected), "{text}");
            }
        }
    }
}
