//! Endpoints and slices of them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::one_of;
use crate::cluster::admission::names::{DNS_SUBDOMAIN_RULE, IP_RULE, is_dns_subdomain, is_ip};
use crate::cluster::admission::pods::ports::{PORT_RULE, PROTOCOLS, is_port};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that endpoints break.
pub(super) fn validate(endpoints: &Endpoints, causes: &mut Causes) {
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let field = format!("subsets[{index}]");
        for (member, addresses) in [
            ("addresses", &subset.addresses),
            ("notReadyAddresses", &subset.not_ready_addresses),
        ] {
            for (index, address) in addresses.iter().flatten().enumerate() {
                if !is_ip(&address.ip) {
                    let field = format!("{field}.{member}[{index}].ip");
                    causes.push(StatusCause::value(field, &address.ip, IP_RULE));
                }
            }
        }
        for (index, port) in subset.ports.iter().flatten().enumerate() {
            let field = format!("{field}.ports[{index}]");
            if !is_port(port.port) {
                let number = port.port.into();
                causes.push(StatusCause::number(
                    format!("{field}.port"),
                    number,
                    PORT_RULE,
                ));
            }
            let protocol = port.protocol.as_deref();
            one_of(protocol, PROTOCOLS, &format!("{field}.protocol"), causes);
        }
    }
}

/// Adds a cause for each rule that a slice breaks.
pub(super) fn slice(slice: &EndpointSlice, causes: &mut Causes) {
    const TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
    let kind = slice.address_type.as_str();
    if kind.is_empty() {
        causes.push(StatusCause::required("addressType"));
    } else {
        one_of(Some(kind), TYPES, "addressType", causes);
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let field = format!("endpoints[{index}].addresses");
        if endpoint.addresses.is_empty() {
            let rule = "must contain at least 1 address";
            causes.push(StatusCause::missing(&field, rule));
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            let rule = match kind {
                "FQDN" => (!is_dns_subdomain(address)).then_some(DNS_SUBDOMAIN_RULE),
                "IPv4" | "IPv6" => (!is_ip(address)).then_some(IP_RULE),
                _ => None,
            };
            if let Some(rule) = rule {
                causes.push(StatusCause::value(
                    format!("{field}[{index}]"),
                    address,
                    rule,
                ));
            }
        }
    }
    let mut names = BTreeSet::new();
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        let name = port.name.as_deref().unwrap_or_default();
        if !names.insert(name) {
            causes.push(StatusCause::duplicate(format!("ports[{index}].name"), name));
        }
    }
}
