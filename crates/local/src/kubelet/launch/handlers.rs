//! Probes and lifecycle hooks of a container, as its supervisor runs them.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe as ProbeSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::LaunchError;
use crate::kubelet::record::{Handler, Hooks, Probe, Probes, Scheme};

/// The probes of a container.
pub(super) fn probes(container: &Container) -> Result<Probes, LaunchError> {
    Ok(Probes {
        startup: probe(container, "startupProbe", container.startup_probe.as_ref())?,
        readiness: probe(
            container,
            "readinessProbe",
            container.readiness_probe.as_ref(),
        )?,
        liveness: probe(
            container,
            "livenessProbe",
            container.liveness_probe.as_ref(),
        )?,
    })
}

/// The hooks of a container.
pub(super) fn hooks(container: &Container) -> Result<Hooks, LaunchError> {
    let lifecycle = container.lifecycle.as_ref();
    let hook = |member: &str, given: Option<&LifecycleHandler>| {
        let Some(given) = given else { return Ok(None) };
        let cannot = |why: &str| unsupported(container, &format!("lifecycle.{member}"), why);
        if let Some(exec) = &given.exec {
            Ok(Some(Handler::Exec(
                exec.command.clone().unwrap_or_default(),
            )))
        } else if let Some(get) = &given.http_get {
            http(container, get).map(Some).map_err(|why| cannot(&why))
        } else if let Some(sleep) = &given.sleep {
            Ok(Some(Handler::Sleep(
                u64::try_from(sleep.seconds).unwrap_or(0),
            )))
        } else {
            Err(cannot("supported are exec, httpGet and sleep"))
        }
    };
    if lifecycle.is_some_and(|lifecycle| lifecycle.stop_signal.is_some()) {
        let why = "processes here are asked to end by SIGTERM alone";
        return Err(unsupported(container, "lifecycle.stopSignal", why));
    }
    Ok(Hooks {
        post_start: hook(
            "postStart",
            lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()),
        )?,
        pre_stop: hook(
            "preStop",
            lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()),
        )?,
    })
}

fn unsupported(container: &Container, member: &str, why: &str) -> LaunchError {
    LaunchError::Handler {
        container: container.name.clone(),
        member: member.to_owned(),
        why: why.to_owned(),
    }
}

/// A probe with the defaults of Kubernetes.
fn probe(
    container: &Container,
    member: &str,
    given: Option<&ProbeSpec>,
) -> Result<Option<Probe>, LaunchError> {
    let Some(given) = given else { return Ok(None) };
    let cannot = |why: &str| unsupported(container, member, why);
    let handler = if let Some(exec) = &given.exec {
        Handler::Exec(exec.command.clone().unwrap_or_default())
    } else if let Some(get) = &given.http_get {
        http(container, get).map_err(|why| cannot(&why))?
    } else if let Some(tcp) = &given.tcp_socket {
        Handler::Tcp {
            host: tcp.host.clone().unwrap_or_default(),
            port: port(container, &tcp.port).map_err(|why| cannot(&why))?,
        }
    } else if let Some(grpc) = &given.grpc {
        Handler::Grpc {
            port: port(container, &IntOrString::Int(grpc.port)).map_err(|why| cannot(&why))?,
            service: grpc.service.clone().unwrap_or_default(),
        }
    } else {
        return Err(cannot("supported are exec, grpc, httpGet and tcpSocket"));
    };
    let number = |given: Option<i32>, default: u32| {
        given
            .and_then(|given| u32::try_from(given).ok())
            .unwrap_or(default)
    };
    Ok(Some(Probe {
        handler,
        initial_delay_seconds: number(given.initial_delay_seconds, 0),
        period_seconds: number(given.period_seconds, 10).max(1),
        timeout_seconds: number(given.timeout_seconds, 1).max(1),
        success_threshold: number(given.success_threshold, 1).max(1),
        failure_threshold: number(given.failure_threshold, 3).max(1),
        grace_seconds: given
            .termination_grace_period_seconds
            .and_then(|seconds| u64::try_from(seconds).ok()),
    }))
}

fn http(container: &Container, get: &HTTPGetAction) -> Result<Handler, String> {
    let scheme = match get.scheme.as_deref() {
        None | Some("" | "HTTP") => Scheme::Http,
        Some("HTTPS") => Scheme::Https,
        Some(other) => {
            return Err(format!(
                "httpGet is made by HTTP and HTTPS, not by {other:?}"
            ));
        }
    };
    let path = get.path.clone().unwrap_or_default();
    Ok(Handler::Http {
        scheme,
        host: get.host.clone().unwrap_or_default(),
        port: port(container, &get.port)?,
        path: if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        },
        headers: get
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    })
}

/// The number of a port that is given by number or by name.
fn port(container: &Container, given: &IntOrString) -> Result<u16, String> {
    let number = match given {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| match given {
            IntOrString::Int(number) => format!("{number} is no port"),
            IntOrString::String(name) => format!("the container has no port {name:?}"),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(members: Value) -> Container {
        let mut value = json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]});
        for (name, member) in members.as_object().unwrap() {
            value[name] = member.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn probes_have_the_defaults_of_kubernetes() {
        let given = container(json!({"livenessProbe": {"httpGet": {"port": "web"}}}));
        let liveness = probes(&given).unwrap().liveness.unwrap();
        let handler = Handler::Http {
            scheme: Scheme::Http,
            host: String::new(),
            port: 8080,
            path: "/".to_owned(),
            headers: Vec::new(),
        };
        assert_eq!(liveness.handler, handler);
        let numbers = (
            liveness.initial_delay_seconds,
            liveness.period_seconds,
            liveness.timeout_seconds,
            liveness.success_threshold,
            liveness.failure_threshold,
        );
        assert_eq!(numbers, (0, 10, 1, 1, 3));
        let given = container(json!({"readinessProbe": {"grpc": {"port": 9000}}}));
        let handler = Handler::Grpc {
            port: 9000,
            service: String::new(),
        };
        let readiness = probes(&given).unwrap().readiness.unwrap();
        assert_eq!(readiness.handler, handler);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_a_sentence() {
        for (members, part) in [
            (
                json!({"livenessProbe": {}}),
                "livenessProbe: supported are exec",
            ),
            (
                json!({"readinessProbe": {"httpGet": {"port": 1, "scheme": "FTP"}}}),
                "readinessProbe: httpGet is made by HTTP and HTTPS",
            ),
            (
                json!({"startupProbe": {"tcpSocket": {"port": "none"}}}),
                "no port \"none\"",
            ),
            (
                json!({"startupProbe": {"tcpSocket": {"port": 0}}}),
                "0 is no port",
            ),
            (
                json!({"lifecycle": {"preStop": {"tcpSocket": {"port": 1}}}}),
                "lifecycle.preStop: supported are exec, httpGet and sleep",
            ),
            (
                json!({"lifecycle": {"stopSignal": "SIGUSR1"}}),
                "SIGTERM alone",
            ),
        ] {
            let given = container(members.clone());
            let error = probes(&given)
                .map(drop)
                .and_then(|()| hooks(&given).map(drop));
            let text = error.unwrap_err().to_string();
            assert!(text.contains(part), "{members}: {text}");
        }
        let hook = json!({"lifecycle": {"preStop": {"sleep": {"seconds": 3}}, "postStart": {"exec": {"command": ["a"]}}}});
        let found = hooks(&container(hook)).unwrap();
        assert_eq!(found.pre_stop, Some(Handler::Sleep(3)));
        assert_eq!(found.post_start, Some(Handler::Exec(vec!["a".to_owned()])));
    }
}
