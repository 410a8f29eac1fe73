//! Probes and lifecycle hooks of a container: their defaults, and what they must be.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value};

use crate::cluster::api_status::StatusCause;

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
pub(super) fn validate(container: &Container, field: &str, causes: &mut Vec<StatusCause>) {
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
                validate_hook(hook, &format!("{field}.lifecycle.{member}"), causes);
            }
        }
    }
}

fn validate_probe(probe: &Probe, member: &str, field: &str, causes: &mut Vec<StatusCause>) {
    validate_handler(
        (&probe.exec, &probe.http_get, &probe.tcp_socket),
        probe.grpc.is_some().into(),
        field,
        causes,
    );
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

fn validate_hook(hook: &LifecycleHandler, field: &str, causes: &mut Vec<StatusCause>) {
    validate_handler(
        (&hook.exec, &hook.http_get, &hook.tcp_socket),
        hook.sleep.is_some().into(),
        field,
        causes,
    );
    if let Some(sleep) = hook.sleep.as_ref().filter(|sleep| sleep.seconds < 0) {
        let rule = "must be greater than or equal to 0";
        causes.push(StatusCause::number(
            format!("{field}.sleep"),
            sleep.seconds,
            rule,
        ));
    }
}

/// Checks a handler that has one of these members, or one of `others`.
fn validate_handler(
    (exec, get, tcp): (
        &Option<ExecAction>,
        &Option<HTTPGetAction>,
        &Option<TCPSocketAction>,
    ),
    others: usize,
    field: &str,
    causes: &mut Vec<StatusCause>,
) {
    let given = [exec.is_some(), get.is_some(), tcp.is_some()];
    match others + given.iter().filter(|given| **given).count() {
        0 => causes.push(StatusCause {
            message: "Required value: must specify a handler type".to_owned(),
            ..StatusCause::required(field)
        }),
        1 => {}
        _ => causes.push(StatusCause::forbidden(
            field,
            "may not specify more than 1 handler type",
        )),
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

fn validate_port(port: &IntOrString, field: &str, causes: &mut Vec<StatusCause>) {
    match port {
        IntOrString::Int(number) if !(1..=65535).contains(number) => {
            let rule = "must be between 1 and 65535, inclusive";
            causes.push(StatusCause::number(field, (*number).into(), rule));
        }
        IntOrString::String(name) if name.is_empty() => causes.push(StatusCause::required(field)),
        IntOrString::Int(_) | IntOrString::String(_) => {}
    }
}
