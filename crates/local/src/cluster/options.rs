//! The parameters of a write (`metav1.CreateOptions`, `UpdateOptions`, `PatchOptions`), checked before anything is read.

use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::causes::Causes;
use crate::cluster::request::{Query, Verb};

/// The longest name of a field manager, in bytes.
const MANAGER_BYTES: usize = 128;

/// Refuses parameters that a write cannot have. `is_apply` is whether it is a server-side apply.
pub(crate) fn check(query: &Query, verb: Verb, is_apply: bool) -> Result<(), ApiStatus> {
    let kind = match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        // Deletions have most of theirs in the body, and reads have others.
        Verb::Get | Verb::List | Verb::Delete | Verb::DeleteCollection => return Ok(()),
    };
    let mut causes = Causes::default();
    let manager = query.text("fieldManager");
    if verb == Verb::Patch {
        if is_apply && manager.is_empty() {
            let rule = "is required for apply patch";
            causes.push(StatusCause::missing("fieldManager", rule));
        }
        if !is_apply && query.flag("force") {
            let rule = "may not be specified for non-apply patch";
            causes.push(StatusCause::forbidden("force", rule));
        }
    }
    if manager.len() > MANAGER_BYTES {
        causes.push(StatusCause {
            reason: "FieldValueTooLong",
            field: "fieldManager".to_owned(),
            message: format!("Too long: may not be more than {MANAGER_BYTES} bytes"),
        });
    }
    if manager.chars().any(char::is_control) {
        let rule = "should only contain printable characters";
        causes.push(StatusCause::value("fieldManager", manager, rule));
    }
    let dry_run = query.text("dryRun");
    if !matches!(dry_run, "" | "All") {
        causes.push(StatusCause::unsupported("dryRun", dry_run, &["All"]));
    }
    const VALIDATIONS: &[&str] = &["", "Ignore", "Strict", "Warn"];
    let validation = query.text("fieldValidation");
    if !VALIDATIONS.contains(&validation) {
        let cause = StatusCause::unsupported("fieldValidation", validation, VALIDATIONS);
        causes.push(cause);
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiStatus::wrong_options(kind, &causes))
    }
}
