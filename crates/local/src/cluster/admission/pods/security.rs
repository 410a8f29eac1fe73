//! What security contexts must be.

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};

use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that the security context of the container at `field` breaks.
pub(super) fn validate(container: &Container, field: &str, causes: &mut Causes) {
    let Some(context) = &container.security_context else {
        return;
    };
    let field = format!("{field}.securityContext");
    let at = |member: &str| format!("{field}.{member}");
    identity("runAsUser", context.run_as_user, &field, causes);
    identity("runAsGroup", context.run_as_group, &field, causes);
    const MOUNTS: &[&str] = &["Default", "Unmasked"];
    if let Some(given) = context
        .proc_mount
        .as_deref()
        .filter(|given| !MOUNTS.contains(given))
    {
        causes.push(StatusCause::unsupported(at("procMount"), given, MOUNTS));
    }
    profile(context.seccomp_profile.as_ref(), &field, causes);
    if context.privileged == Some(true) && context.allow_privilege_escalation == Some(false) {
        let rule = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        causes.push(StatusCause::value(&field, "", rule));
    }
}

/// As [`validate`], of the pod's own context.
pub(super) fn validate_pod(spec: &PodSpec, causes: &mut Causes) {
    const FIELD: &str = "spec.securityContext";
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        let rule = "ShareProcessNamespace and HostPID cannot both be enabled";
        let field = format!("{FIELD}.shareProcessNamespace");
        causes.push(StatusCause::value(field, "true", rule));
    }
    let Some(context) = &spec.security_context else {
        return;
    };
    identity("fsGroup", context.fs_group, FIELD, causes);
    identity("runAsUser", context.run_as_user, FIELD, causes);
    identity("runAsGroup", context.run_as_group, FIELD, causes);
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        let member = format!("supplementalGroups[{index}]");
        identity(&member, Some(*group), FIELD, causes);
    }
    profile(context.seccomp_profile.as_ref(), FIELD, causes);
    for (index, setting) in context.sysctls.iter().flatten().enumerate() {
        let field = format!("{FIELD}.sysctls[{index}].name");
        if setting.name.is_empty() {
            causes.push(StatusCause::required(field));
        } else if !is_setting(&setting.name) {
            let rule = "must have at most 253 characters and consist of parts of lower case letters, digits, '-' and \
                        '_', with '.' or '/' between them";
            causes.push(StatusCause::value(field, &setting.name, rule));
        }
    }
}

/// A name of a kernel setting.
fn is_setting(name: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(inner)
            && !part.starts_with(['-', '_'])
            && !part.ends_with(['-', '_'])
    };
    name.len() <= 253 && name.split(['.', '/']).all(is_part)
}

fn identity(member: &str, number: Option<i64>, field: &str, causes: &mut Causes) {
    if let Some(number) = number.filter(|number| !(0..=i64::from(i32::MAX)).contains(number)) {
        let rule = "must be between 0 and 2147483647, inclusive";
        causes.push(StatusCause::number(
            format!("{field}.{member}"),
            number,
            rule,
        ));
    }
}

fn profile(profile: Option<&SeccompProfile>, field: &str, causes: &mut Causes) {
    const TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
    let Some(profile) = profile else {
        return;
    };
    let at = |member: &str| format!("{field}.seccompProfile.{member}");
    let path = profile.localhost_profile.as_deref().unwrap_or_default();
    match profile.type_.as_str() {
        "Localhost" if path.is_empty() => causes.push(StatusCause::missing(
            at("localhostProfile"),
            "must be set when seccomp type is Localhost",
        )),
        "" => causes.push(StatusCause::required(at("type"))),
        kind if !TYPES.contains(&kind) => {
            causes.push(StatusCause::unsupported(at("type"), kind, TYPES));
        }
        kind if kind != "Localhost" && !path.is_empty() => causes.push(StatusCause::value(
            at("localhostProfile"),
            path,
            "can only be set when seccomp type is Localhost",
        )),
        _ => {}
    }
}
