//! Services.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::{Map, Value};

use super::one_of;
use crate::cluster::admission::metadata::label;
use crate::cluster::admission::names::{
    DNS_1035_LABEL_RULE, DNS_LABEL_RULE, DNS_SUBDOMAIN_RULE, IP_RULE, is_dns_1035_label,
    is_dns_label, is_dns_subdomain, is_ip,
};
use crate::cluster::admission::pods::ports::PROTOCOLS;
use crate::cluster::admission::pods::probes::validate_port;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Fills in what a real server fills in.
pub(super) fn fill_defaults(object: &mut Map<String, Value>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, default) in [("type", "ClusterIP"), ("sessionAffinity", "None")] {
        spec.entry(name).or_insert_with(|| default.into());
    }
    let is_external = spec.get("type").and_then(Value::as_str) == Some("ExternalName");
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        port.entry("protocol").or_insert_with(|| "TCP".into());
        if let (false, Some(number)) = (is_external, port.get("port").cloned()) {
            port.entry("targetPort").or_insert(number);
        }
    }
}

/// Adds a cause for each rule that a service breaks.
pub(super) fn validate(service: &Service, causes: &mut Causes) {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    if !name.is_empty() && !is_dns_1035_label(name) {
        causes.push(StatusCause::value(
            "metadata.name",
            name,
            DNS_1035_LABEL_RULE,
        ));
    }
    let Some(spec) = &service.spec else {
        causes.push(StatusCause::required("spec.ports"));
        return;
    };
    for (member, given, known) in [
        (
            "spec.type",
            &spec.type_,
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"][..],
        ),
        (
            "spec.sessionAffinity",
            &spec.session_affinity,
            &["ClientIP", "None"],
        ),
    ] {
        if let Some(given) = given.as_deref().filter(|given| !known.contains(given)) {
            causes.push(StatusCause::unsupported(member, given, known));
        }
    }
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_external && spec.cluster_ip.as_deref() != Some("None") {
        causes.push(StatusCause::required("spec.ports"));
    }
    let external = spec.external_name.as_deref().unwrap_or_default();
    if is_external && external.is_empty() {
        causes.push(StatusCause::required("spec.externalName"));
    } else if is_external && !is_dns_subdomain(external.trim_end_matches('.')) {
        let rule = DNS_SUBDOMAIN_RULE;
        causes.push(StatusCause::value("spec.externalName", external, rule));
    }
    for (key, value) in spec.selector.iter().flatten() {
        label("spec.selector", key, value, causes);
    }
    addresses(spec, causes);
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        service_port(port, &field, ports.len() > 1, causes);
        let is_own = matches!(spec.type_.as_deref(), None | Some("ClusterIP"));
        if is_own && port.node_port.is_some_and(|number| number != 0) {
            let rule = "may not be used when `type` is 'ClusterIP'";
            causes.push(StatusCause::forbidden(format!("{field}.nodePort"), rule));
        }
        if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty())
            && !names.insert(name.clone())
        {
            causes.push(StatusCause::duplicate(format!("{field}.name"), name));
        }
        if !numbers.insert((port.protocol.clone(), port.port)) {
            causes.push(StatusCause::duplicate(&field, &port.port.to_string()));
        }
    }
}

fn service_port(port: &ServicePort, field: &str, needs_name: bool, causes: &mut Causes) {
    if needs_name && port.name.as_ref().is_none_or(String::is_empty) {
        causes.push(StatusCause::required(format!("{field}.name")));
    }
    for (member, number) in [("port", Some(port.port)), ("nodePort", port.node_port)] {
        let may_be_none = member == "nodePort" && number == Some(0);
        if let Some(number) = number.filter(|number| !(1..=65535).contains(number) && !may_be_none)
        {
            let rule = "must be between 1 and 65535, inclusive";
            causes.push(StatusCause::number(
                format!("{field}.{member}"),
                number.into(),
                rule,
            ));
        }
    }
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty())
        && !is_dns_label(name)
    {
        let field = format!("{field}.name");
        causes.push(StatusCause::value(field, name, DNS_LABEL_RULE));
    }
    if let Some(target) = &port.target_port {
        validate_port(target, &format!("{field}.targetPort"), causes);
    }
    if let Some(protocol) = port
        .protocol
        .as_deref()
        .filter(|given| !PROTOCOLS.contains(given))
    {
        causes.push(StatusCause::unsupported(
            format!("{field}.protocol"),
            protocol,
            PROTOCOLS,
        ));
    }
}

/// Addresses that a service is given.
fn addresses(spec: &ServiceSpec, causes: &mut Causes) {
    let given = spec.cluster_ip.as_deref().unwrap_or_default();
    if !matches!(given, "" | "None") && !is_ip(given) {
        causes.push(StatusCause::value("spec.clusterIPs[0]", given, IP_RULE));
    }
    for (index, address) in spec.external_ips.iter().flatten().enumerate() {
        if !is_ip(address) {
            let field = format!("spec.externalIPs[{index}]");
            causes.push(StatusCause::value(field, address, IP_RULE));
        }
    }
    let policy = spec.external_traffic_policy.as_deref();
    let field = "spec.externalTrafficPolicy";
    one_of(
        policy.filter(|policy| !policy.is_empty()),
        &["Cluster", "Local"],
        field,
        causes,
    );
}
