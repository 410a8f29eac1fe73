//! Ingresses.

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};

use super::one_of;
use crate::cluster::admission::names::{
    DNS_1035_LABEL_RULE, DNS_SUBDOMAIN_RULE, is_dns_1035_label, is_dns_subdomain, is_ip,
    wrong_port_name,
};
use crate::cluster::admission::pods::ports::{PORT_RULE, is_port};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that an ingress breaks.
pub(super) fn validate(ingress: &Ingress, causes: &mut Causes) {
    let spec = ingress.spec.clone().unwrap_or_default();
    let rules = spec.rules.as_deref().unwrap_or_default();
    match &spec.default_backend {
        Some(backend) => validate_backend(backend, "spec.defaultBackend", causes),
        None if rules.is_empty() => {
            let rule = "either `defaultBackend` or `rules` must be specified";
            causes.push(StatusCause::value("spec", "", rule));
        }
        None => {}
    }
    for (index, rule) in rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let host = rule.host.as_deref().unwrap_or_default();
        if !host.is_empty() {
            validate_host(host, &format!("{field}.host"), causes);
        }
        if let Some(http) = &rule.http {
            let field = format!("{field}.http.paths");
            if http.paths.is_empty() {
                causes.push(StatusCause::required(&field));
            }
            for (index, path) in http.paths.iter().enumerate() {
                validate_path(path, &format!("{field}[{index}]"), causes);
            }
        }
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        for (at, host) in tls.hosts.iter().flatten().enumerate() {
            if let Some(rule) = wrong_host(host) {
                let field = format!("spec.tls[{index}].hosts[{at}]");
                causes.push(StatusCause::value(field, host, rule));
            }
        }
        let secret = tls.secret_name.as_deref().unwrap_or_default();
        if !secret.is_empty() && !is_dns_subdomain(secret) {
            let field = format!("spec.tls[{index}].secretName");
            causes.push(StatusCause::value(field, secret, DNS_SUBDOMAIN_RULE));
        }
    }
    if let Some(class) = &spec.ingress_class_name
        && !is_dns_subdomain(class)
    {
        let field = "spec.ingressClassName";
        causes.push(StatusCause::value(field, class, DNS_SUBDOMAIN_RULE));
    }
}

/// A host may be all those of a domain: `*.example.org`.
fn wrong_host(host: &str) -> Option<&'static str> {
    const WILDCARD_RULE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS \
         subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric \
         character (e.g. '*.example.com', regex used for validation is \
         '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    if host.contains('*') {
        let is_right = host.strip_prefix("*.").is_some_and(is_dns_subdomain);
        (!is_right).then_some(WILDCARD_RULE)
    } else {
        (!is_dns_subdomain(host)).then_some(DNS_SUBDOMAIN_RULE)
    }
}

fn validate_host(host: &str, field: &str, causes: &mut Causes) {
    if is_ip(host) {
        let rule = "must be a DNS name, not an IP address";
        causes.push(StatusCause::value(field, host, rule));
    }
    if let Some(rule) = wrong_host(host) {
        causes.push(StatusCause::value(field, host, rule));
    }
}

fn validate_path(path: &HTTPIngressPath, field: &str, causes: &mut Causes) {
    const TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
    let text = path.path.as_deref().unwrap_or_default();
    let at = format!("{field}.path");
    match path.path_type.as_str() {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                causes.push(StatusCause::value(&at, text, "must be an absolute path"));
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(part) {
                    let rule = format!("must not contain '{part}'");
                    causes.push(StatusCause::value(&at, text, &rule));
                }
            }
            for end in ["/..", "/."] {
                if text.ends_with(end) {
                    let rule = format!("cannot end with '{end}'");
                    causes.push(StatusCause::value(&at, text, &rule));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                causes.push(StatusCause::value(&at, text, "must be an absolute path"));
            }
        }
        "" => causes.push(StatusCause::missing(
            format!("{field}.pathType"),
            "pathType must be specified",
        )),
        other => one_of(Some(other), TYPES, &format!("{field}.pathType"), causes),
    }
    validate_backend(&path.backend, &format!("{field}.backend"), causes);
}

fn validate_backend(backend: &IngressBackend, field: &str, causes: &mut Causes) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            let rule = "cannot set both resource and service backends";
            causes.push(StatusCause::value(field, "", rule));
        }
        (None, None) => {
            let rule = "resource or service backend is required";
            causes.push(StatusCause::value(field, "", rule));
        }
        (Some(resource), None) => {
            for (member, text) in [("kind", &resource.kind), ("name", &resource.name)] {
                if text.is_empty() {
                    causes.push(StatusCause::required(format!("{field}.resource.{member}")));
                }
            }
        }
        (None, Some(service)) => {
            let at = format!("{field}.service");
            if service.name.is_empty() {
                causes.push(StatusCause::required(format!("{at}.name")));
            } else if !is_dns_1035_label(&service.name) {
                let rule = DNS_1035_LABEL_RULE;
                causes.push(StatusCause::value(
                    format!("{at}.name"),
                    &service.name,
                    rule,
                ));
            }
            let port = service.port.clone().unwrap_or_default();
            let name = port.name.filter(|name| !name.is_empty());
            match (name, port.number.filter(|number| *number != 0)) {
                (Some(_), Some(_)) => {
                    let rule = "cannot set both port name & port number";
                    causes.push(StatusCause::value(field, "", rule));
                }
                (None, None) => {
                    let rule = "port name or number is required";
                    causes.push(StatusCause::missing(field, rule));
                }
                (Some(name), None) => {
                    if let Some(rule) = wrong_port_name(&name) {
                        let field = format!("{at}.port.name");
                        causes.push(StatusCause::value(field, &name, rule));
                    }
                }
                (None, Some(number)) => {
                    if !is_port(number) {
                        let field = format!("{at}.port.number");
                        causes.push(StatusCause::number(field, number.into(), PORT_RULE));
                    }
                }
            }
        }
    }
}
