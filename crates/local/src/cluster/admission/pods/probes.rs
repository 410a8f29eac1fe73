//! Probes and lifecycle hooks of a container: their defaults, and what they must be.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value};

use super::containers::Context;
use super::ports::{PORT_RULE, is_port};
use crate::cluster::admission::names::wrong_port_name;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// `terminationGracePeriodSeconds` of a pod that does not say.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The probes of a container, by their members.
const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];

/// Fills in what a real server fills in.
pub(super) fn fill_defaults(container: &mut Map<String, Value>) {
    for member in PROBES {
        let Some(probe) = container.get_mut(member).and_then(Value::as_object_mut) else {
            continue;
        };
        for (name, default) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            let number = probe.entry(name).or_insert_with(|| default.into());
            if number.as_i64() == Some(0) {
                *number = default.into();
            }
        }
        fill_http(probe);
        if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
            grpc.entry("service").or_insert_with(|| "".into());
        }
    }
    for hook in ["postStart", "preStop"] {
        let hooks = container
            .get_mut("lifecycle")
            .and_then(|hooks| hooks.get_mut(hook));
        if let Some(hook) = hooks.and_then(Value::as_object_mut) {
            fill_http(hook);
        }
    }
}

fn fill_http(handler: &mut Map<String, Value>) {
    if let Some(get) = handler.get_mut("httpGet").and_then(Value::as_object_mut) {
        get.entry("path").or_insert_with(|| "/".into());
        get.entry("scheme").or_insert_with(|| "HTTP".into());
    }
}

/// Adds a cause for each rule that the probes and hooks of the container at `field` break.
pub(super) fn validate(
    container: &Container,
    context: Context<'_>,
    field: &str,
    causes: &mut Causes,
) {
    if !context.stays {
        return forbid(container, field, causes);
    }
    let probes = [
        &container.startup_probe,
        &container.readiness_probe,
        &container.liveness_probe,
    ];
    for (member, probe) in PROBES.into_iter().zip(probes) {
        if let Some(probe) = probe {
            validate_probe(probe, member, &format!("{field}.{member}"), causes);
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        for (member, hook) in [
            ("postStart", &lifecycle.post_start),
            ("preStop", &lifecycle.pre_stop),
        ] {
            if let Some(hook) = hook {
                let field = format!("{field}.lifecycle.{member}");
                let grace = context.spec.termination_grace_period_seconds;
                validate_hook(hook, grace.unwrap_or(DEFAULT_GRACE_SECONDS), &field, causes);
            }
        }
    }
}

/// Containers that end before the others begin have no probes and no hooks.
fn forbid(container: &Container, field: &str, causes: &mut Causes) {
    for (member, is_given) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if is_given {
            let rule = "may not be set for init containers without restartPolicy=Always";
            causes.push(StatusCause::forbidden(format!("{field}.{member}"), rule));
        }
    }
}

fn validate_probe(probe: &Probe, member: &str, field: &str, causes: &mut Causes) {
    validate_handler(
        (&probe.exec, &probe.http_get, &probe.tcp_socket),
        probe.grpc.as_ref().map(|_| "grpc"),
        field,
        causes,
    );
    if let Some(grpc) = probe.grpc.as_ref().filter(|grpc| !is_port(grpc.port)) {
        let field = format!("{field}.grpc.port");
        causes.push(StatusCause::number(field, grpc.port.into(), PORT_RULE));
    }
    for (name, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(number) = number.filter(|number| *number < 0) {
            let rule = "must be greater than or equal to 0";
            causes.push(StatusCause::number(
                format!("{field}.{name}"),
                number.into(),
                rule,
            ));
        }
    }
    let is_readiness = member == "readinessProbe";
    if let (false, Some(threshold)) = (is_readiness, probe.success_threshold)
        && threshold > 1
    {
        let field = format!("{field}.successThreshold");
        causes.push(StatusCause::number(field, threshold.into(), "must be 1"));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds {
        let field = format!("{field}.terminationGracePeriodSeconds");
        if is_readiness {
            let rule = "must not be set for readinessProbes";
            causes.push(StatusCause::number(field, seconds, rule));
        } else if seconds < 1 {
            causes.push(StatusCause::number(
                field,
                seconds,
                "must be greater than 0",
            ));
        }
    }
}

fn validate_hook(hook: &LifecycleHandler, grace_seconds: i64, field: &str, causes: &mut Causes) {
    validate_handler(
        (&hook.exec, &hook.http_get, &hook.tcp_socket),
        hook.sleep.as_ref().map(|_| "sleep"),
        field,
        causes,
    );
    let fits = |seconds: i64| (0..=grace_seconds).contains(&seconds);
    if let Some(sleep) = hook.sleep.as_ref().filter(|sleep| !fits(sleep.seconds)) {
        let rule = format!(
            "must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"
        );
        let field = format!("{field}.sleep");
        causes.push(StatusCause::number(field, sleep.seconds, &rule));
    }
}

/// Checks a handler that has one of these members, or the one named `other`.
fn validate_handler(
    (exec, get, tcp): (
        &Option<ExecAction>,
        &Option<HTTPGetAction>,
        &Option<TCPSocketAction>,
    ),
    other: Option<&str>,
    field: &str,
    causes: &mut Causes,
) {
    let given = [
        exec.as_ref().map(|_| "exec"),
        get.as_ref().map(|_| "httpGet"),
        tcp.as_ref().map(|_| "tcpSocket"),
        other,
    ];
    let mut given = given.into_iter().flatten();
    if given.next().is_none() {
        let rule = "must specify a handler type";
        causes.push(StatusCause::missing(field, rule));
    }
    for more in given {
        let rule = "may not specify more than 1 handler type";
        causes.push(StatusCause::forbidden(format!("{field}.{more}"), rule));
    }
    if let Some(exec) = exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        causes.push(StatusCause::required(format!("{field}.exec.command")));
    }
    if let Some(get) = get {
        validate_port(&get.port, &format!("{field}.httpGet.port"), causes);
        if get.path.as_ref().is_none_or(String::is_empty) {
            causes.push(StatusCause::required(format!("{field}.httpGet.path")));
        }
        for header in get.http_headers.iter().flatten() {
            let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if header.name.is_empty() || !header.name.bytes().all(is_inner) {
                let rule = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
                            'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                let field = format!("{field}.httpGet.httpHeaders");
                causes.push(StatusCause::value(field, &header.name, rule));
            }
        }
        if let Some(scheme) = get.scheme.as_deref()
            && !matches!(scheme, "HTTP" | "HTTPS")
        {
            let field = format!("{field}.httpGet.scheme");
            causes.push(StatusCause::unsupported(field, scheme, &["HTTP", "HTTPS"]));
        }
    }
    if let Some(tcp) = tcp {
        validate_port(&tcp.port, &format!("{field}.tcpSocket.port"), causes);
    }
}

/// A number, or the name of a port.
pub(in crate::cluster::admission) fn validate_port(
    port: &IntOrString,
    field: &str,
    causes: &mut Causes,
) {
    match port {
        IntOrString::Int(number) if !is_port(*number) => {
            causes.push(StatusCause::number(field, (*number).into(), PORT_RULE));
        }
        IntOrString::String(name) => {
            if let Some(rule) = wrong_port_name(name) {
                causes.push(StatusCause::value(field, name, rule));
            }
        }
        IntOrString::Int(_) => {}
    }
}
