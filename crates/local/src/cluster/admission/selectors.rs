//! Selectors of labels, which many kinds have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::metadata::label;
use super::names::{LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, is_label_value, is_qualified_name};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that the selector at `field` breaks.
pub(super) fn validate(selector: Option<&LabelSelector>, field: &str, causes: &mut Causes) {
    let Some(selector) = selector else {
        return;
    };
    for (key, value) in selector.match_labels.iter().flatten() {
        label(&format!("{field}.matchLabels"), key, value, causes);
    }
    for (index, rule) in selector.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let values = rule.values.as_deref().unwrap_or_default();
        match rule.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => causes.push(StatusCause::missing(
                format!("{field}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => causes.push(StatusCause::forbidden(
                format!("{field}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => causes.push(StatusCause::value(
                format!("{field}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
        if !is_qualified_name(&rule.key) {
            causes.push(StatusCause::value(
                format!("{field}.key"),
                &rule.key,
                QUALIFIED_NAME_RULE,
            ));
        }
        for (index, value) in values.iter().enumerate() {
            if !is_label_value(value) {
                let field = format!("{field}.values[{index}]");
                causes.push(StatusCause::value(field, value, LABEL_VALUE_RULE));
            }
        }
    }
}
