//! Network policies.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::one_of;
use crate::cluster::admission::names::{CIDR_RULE, cidr};
use crate::cluster::admission::pods::ports::PROTOCOLS;
use crate::cluster::admission::pods::probes::validate_port;
use crate::cluster::admission::selectors;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that a policy breaks.
pub(super) fn validate(policy: &NetworkPolicy, causes: &mut Causes) {
    const TYPES: &[&str] = &["Egress", "Ingress"];
    let spec = policy.spec.clone().unwrap_or_default();
    selectors::validate(spec.pod_selector.as_ref(), "spec.podSelector", causes);
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let field = format!("spec.ingress[{index}]");
        ports(rule.ports.as_deref(), &field, causes);
        peers(rule.from.as_deref(), &format!("{field}.from"), causes);
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let field = format!("spec.egress[{index}]");
        ports(rule.ports.as_deref(), &field, causes);
        peers(rule.to.as_deref(), &format!("{field}.to"), causes);
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > TYPES.len() {
        let rule = "may not specify more than two policyTypes";
        causes.push(StatusCause::value(
            "spec.policyTypes",
            &types.join(","),
            rule,
        ));
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        one_of(
            Some(kind),
            TYPES,
            &format!("spec.policyTypes[{index}]"),
            causes,
        );
    }
}

fn ports(ports: Option<&[NetworkPolicyPort]>, field: &str, causes: &mut Causes) {
    for (index, port) in ports.into_iter().flatten().enumerate() {
        let at = |member: &str| format!("{field}.ports[{index}].{member}");
        let protocol = port.protocol.as_deref();
        one_of(protocol, PROTOCOLS, &at("protocol"), causes);
        if let Some(given) = &port.port {
            validate_port(given, &at("port"), causes);
        }
        match (&port.port, port.end_port) {
            (Some(IntOrString::Int(first)), Some(last)) if last < *first => {
                let rule = "must be greater than or equal to `port`";
                causes.push(StatusCause::number(at("endPort"), last.into(), rule));
            }
            (Some(IntOrString::String(_)), Some(last)) => {
                let rule = "may not be specified when `port` is non-numeric";
                causes.push(StatusCause::number(at("endPort"), last.into(), rule));
            }
            (None, Some(last)) => {
                let rule = "may not be specified when `port` is not specified";
                causes.push(StatusCause::number(at("endPort"), last.into(), rule));
            }
            _ => {}
        }
    }
}

fn peers(peers: Option<&[NetworkPolicyPeer]>, field: &str, causes: &mut Causes) {
    for (index, peer) in peers.into_iter().flatten().enumerate() {
        let field = format!("{field}[{index}]");
        let selectors = [
            ("podSelector", &peer.pod_selector),
            ("namespaceSelector", &peer.namespace_selector),
        ];
        for (member, selector) in selectors {
            selectors::validate(selector.as_ref(), &format!("{field}.{member}"), causes);
        }
        let selects = selectors.iter().any(|(_, selector)| selector.is_some());
        match &peer.ip_block {
            Some(_) if selects => {
                let rule = "may not specify both ipBlock and another peer";
                causes.push(StatusCause::forbidden(field, rule));
            }
            Some(block) => validate_block(block, &format!("{field}.ipBlock"), causes),
            None if !selects => causes.push(StatusCause::missing(field, "must specify a peer")),
            None => {}
        }
    }
}

fn validate_block(block: &IPBlock, field: &str, causes: &mut Causes) {
    if block.cidr.is_empty() {
        causes.push(StatusCause::required(format!("{field}.cidr")));
        return;
    }
    let Some(range) = cidr(&block.cidr) else {
        let field = format!("{field}.cidr");
        causes.push(StatusCause::value(field, &block.cidr, CIDR_RULE));
        return;
    };
    for (index, except) in block.except.iter().flatten().enumerate() {
        let field = format!("{field}.except[{index}]");
        match cidr(except) {
            None => causes.push(StatusCause::value(field, except, CIDR_RULE)),
            Some(inner) if !is_strictly_in(inner, range) => {
                let rule = "must be a strict subset of `cidr`";
                causes.push(StatusCause::value(field, except, rule));
            }
            Some(_) => {}
        }
    }
}

type Range = (std::net::IpAddr, u8);

fn is_strictly_in(inner: Range, outer: Range) -> bool {
    use std::net::IpAddr::{V4, V6};
    let shift = |length: u8, bits: u32| bits - u32::from(length).min(bits);
    let same = match (inner.0, outer.0) {
        (V4(inner), V4(with)) => {
            let by = shift(outer.1, 32);
            inner.to_bits().checked_shr(by).unwrap_or(0)
                == with.to_bits().checked_shr(by).unwrap_or(0)
        }
        (V6(inner), V6(with)) => {
            let by = shift(outer.1, 128);
            inner.to_bits().checked_shr(by).unwrap_or(0)
                == with.to_bits().checked_shr(by).unwrap_or(0)
        }
        _ => false,
    };
    same && inner.1 > outer.1
}
