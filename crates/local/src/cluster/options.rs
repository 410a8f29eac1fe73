//! The parameters of a write (`metav1.CreateOptions`, `UpdateOptions`, `PatchOptions`) and of a list or watch
//! (`metav1.ListOptions`), checked before anything is read.

use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::causes::Causes;
use crate::cluster::request::{Query, Verb};

/// The longest name of a field manager, in bytes.
const MANAGER_BYTES: usize = 128;

/// The version of a list is that which is asked for, or a later one.
const NOT_OLDER_THAN: &str = "NotOlderThan";

/// Refuses parameters that a write, a list or a watch cannot have. `is_apply` is whether it is a server-side apply.
pub(crate) fn check(query: &Query, verb: Verb, is_apply: bool) -> Result<(), ApiStatus> {
    let kind = match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        Verb::List => return check_list(query),
        // Deletions have most of theirs in the body.
        Verb::Get | Verb::Delete | Verb::DeleteCollection => return Ok(()),
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
        causes.push(StatusCause::unsupported_dry_run(&[dry_run]));
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

/// Which parameters of a list and of a watch go together.
fn check_list(query: &Query) -> Result<(), ApiStatus> {
    const MATCH: &str = "resourceVersionMatch";
    let mut causes = Causes::default();
    let (watches, continues) = (query.flag("watch"), !query.text("continue").is_empty());
    let initial = !query.text("sendInitialEvents").is_empty();
    let matching = query.text(MATCH);
    let mut forbid = |field, rule: &str| causes.push(StatusCause::forbidden(field, rule));
    if initial && !watches {
        forbid(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        );
    }
    if initial && watches && matching != NOT_OLDER_THAN {
        let rule = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        forbid(MATCH, rule);
    }
    if !matching.is_empty() {
        let version = query.text("resourceVersion");
        if watches && !initial {
            let rule =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            forbid(MATCH, rule);
        }
        if !watches && version.is_empty() {
            let rule = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            forbid(MATCH, rule);
        }
        if continues {
            let rule = "resourceVersionMatch is forbidden when continue is provided";
            forbid(MATCH, rule);
        }
        if !watches && matching == "Exact" && version == "0" {
            let rule = r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#;
            forbid(MATCH, rule);
        }
        let known: &[&str] = if watches {
            &[NOT_OLDER_THAN]
        } else {
            &["Exact", NOT_OLDER_THAN, ""]
        };
        if !known.contains(&matching) {
            causes.push(StatusCause::unsupported(MATCH, matching, known));
        }
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiStatus::wrong_options("ListOptions", &causes))
    }
}
