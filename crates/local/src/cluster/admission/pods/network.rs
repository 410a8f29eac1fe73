//! What a pod says of names and addresses.

use k8s_openapi::api::core::v1::PodSpec;

use crate::cluster::admission::names::{DNS_SUBDOMAIN_RULE, IP_RULE, is_dns_subdomain, is_ip};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that name servers and host aliases break.
pub(super) fn validate(spec: &PodSpec, causes: &mut Causes) {
    const SERVERS: usize = 3;
    let config = spec.dns_config.as_ref();
    let servers = config.and_then(|config| config.nameservers.as_deref());
    let servers = servers.unwrap_or_default();
    let field = "spec.dnsConfig.nameservers";
    if spec.dns_policy.as_deref() == Some("None") {
        let rule = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        match config {
            None => causes.push(StatusCause::missing(
                "spec.dnsConfig",
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )),
            Some(_) if servers.is_empty() => causes.push(StatusCause::missing(field, rule)),
            Some(_) => {}
        }
    }
    if servers.len() > SERVERS {
        let rule = "must not have more than 3 nameservers";
        causes.push(StatusCause::value(field, &servers.join(","), rule));
    }
    for (index, server) in servers
        .iter()
        .enumerate()
        .filter(|(_, server)| !is_ip(server))
    {
        let field = format!("{field}[{index}]");
        causes.push(StatusCause::value(field, server, IP_RULE));
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let field = format!("spec.hostAliases[{index}]");
        if !is_ip(&alias.ip) {
            causes.push(StatusCause::value(
                format!("{field}.ip"),
                &alias.ip,
                IP_RULE,
            ));
        }
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            if !is_dns_subdomain(name) {
                let field = format!("{field}.hostnames[{index}]");
                causes.push(StatusCause::value(field, name, DNS_SUBDOMAIN_RULE));
            }
        }
    }
}
