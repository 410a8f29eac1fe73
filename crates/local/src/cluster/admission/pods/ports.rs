//! What the ports of a container must be.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::cluster::admission::names::wrong_port_name;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

pub(in crate::cluster::admission) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
pub(in crate::cluster::admission) const PORT_RULE: &str = "must be between 1 and 65535, inclusive";

pub(in crate::cluster::admission) fn is_port(number: i32) -> bool {
    (1..=65535).contains(&number)
}

/// Adds a cause for each rule that the ports of the container at `field` break.
pub(super) fn validate(container: &Container, spec: &PodSpec, field: &str, causes: &mut Causes) {
    let (mut names, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let is_host_network = spec.host_network == Some(true);
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let at = |member: &str| format!("{field}.ports[{index}].{member}");
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            if let Some(rule) = wrong_port_name(name) {
                causes.push(StatusCause::value(at("name"), name, rule));
            } else if !names.insert(name) {
                causes.push(StatusCause::duplicate(at("name"), name));
            }
        }
        let host = port.host_port.unwrap_or(0);
        let must_match = is_host_network && host != 0 && host != port.container_port;
        if !is_port(port.container_port) {
            let number = port.container_port.into();
            causes.push(StatusCause::number(at("containerPort"), number, PORT_RULE));
        }
        if host != 0 && !is_port(host) {
            causes.push(StatusCause::number(at("hostPort"), host.into(), PORT_RULE));
        } else if must_match {
            let rule = "must match `containerPort` when `hostNetwork` is true";
            causes.push(StatusCause::number(at("hostPort"), host.into(), rule));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if !PROTOCOLS.contains(&protocol) {
            let cause = StatusCause::unsupported(at("protocol"), protocol, PROTOCOLS);
            causes.push(cause);
        }
        if host != 0 && !taken.insert((protocol, port.host_ip.as_deref(), host)) {
            let taken = format!(
                "{protocol}/{}/{host}",
                port.host_ip.as_deref().unwrap_or("")
            );
            causes.push(StatusCause::duplicate(at("hostPort"), &taken));
        }
    }
}
