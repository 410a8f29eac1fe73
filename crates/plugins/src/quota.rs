//! What a pod asks of a ResourceQuota, and what the API server says when it refuses one (spec 05 §4.6).
//!
//! Amounts go by the names that quotas use: `limits.cpu`, `requests.memory` or just `memory`, `pods`.

use std::collections::BTreeMap;

use flyte_core::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource,
};

/// Amounts in billionths, by the name that a quota has for them. Kubernetes compares quantities as finely.
pub type Amounts = BTreeMap<String, i128>;

/// One whole, in billionths.
const ONE: i128 = 1_000_000_000;
/// Where the lists of a refusal begin.
const MARKS: [&str; 3] = ["requested:", "used:", "limited:"];

type Quantities = BTreeMap<String, resource::Quantity>;

/// What a pod asks for: of each resource what its containers ask for together, or its greediest init container if
/// that asks for more.
pub fn demands(pod: &Pod) -> Amounts {
    let mut demands = Amounts::from([("pods".to_owned(), ONE), ("count/pods".to_owned(), ONE)]);
    let Some(spec) = &pod.spec else {
        return demands;
    };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for (name, amount) in effective(&spec.containers, init, |of| of.limits.as_ref()) {
        demands.insert(format!("limits.{name}"), amount);
    }
    for (name, amount) in effective(&spec.containers, init, |of| of.requests.as_ref()) {
        demands.insert(format!("requests.{name}"), amount);
        demands.insert(name, amount);
    }
    demands
}

fn effective(
    containers: &[Container],
    init_containers: &[Container],
    side: fn(&ResourceRequirements) -> Option<&Quantities>,
) -> Amounts {
    let amounts = |container: &Container| {
        let quantities = container.resources.as_ref().and_then(side);
        let pairs = quantities.into_iter().flatten();
        pairs
            .filter_map(|(name, quantity)| {
                Some((name.clone(), quantity.0.parse::<Quantity>().ok()?.nanos()))
            })
            .collect::<Amounts>()
    };
    let mut found = Amounts::new();
    for (name, amount) in containers.iter().flat_map(amounts) {
        let sum = found.entry(name).or_default();
        *sum = sum.saturating_add(amount);
    }
    for (name, amount) in init_containers.iter().flat_map(amounts) {
        let most = found.entry(name).or_default();
        *most = amount.max(*most);
    }
    found
}

/// What a quota says when it is exceeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceeded {
    /// What the pod asked for, of the resources that there was too little of.
    pub requested: Amounts,
    /// What the quota allows of them in all.
    pub limited: Amounts,
}

impl Exceeded {
    /// Reads the message of a refusal; none when no quota is exceeded. A list that is not there, or an entry that is
    /// no quantity, says nothing.
    pub fn parse(message: &str) -> Option<Self> {
        let (_, lists) = message.split_once("exceeded quota")?;
        Some(Self {
            requested: list(lists, "requested:"),
            limited: list(lists, "limited:"),
        })
    }

    /// Whether the pod does not fit into the quota even when nothing else is there.
    ///
    /// A pod that asks for exactly the whole quota would fit; the reference fails it nevertheless for resources whose
    /// names are of letters only, which are all that it reads, and so do we.
    pub fn is_hopeless(&self) -> bool {
        self.requested.iter().any(|(name, requested)| {
            self.limited.get(name).is_some_and(|limited| {
                requested > limited || (requested == limited && is_read_by_reference(name))
            })
        })
    }
}

fn is_read_by_reference(name: &str) -> bool {
    let resource = name
        .strip_prefix("limits.")
        .or_else(|| name.strip_prefix("requests."));
    resource.is_some_and(|resource| resource.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// The pairs `name=quantity` after a mark, up to the next mark.
fn list(lists: &str, mark: &str) -> Amounts {
    let Some((_, rest)) = lists.split_once(mark) else {
        return Amounts::new();
    };
    let end = MARKS.iter().filter_map(|next| rest.find(next)).min();
    let own = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
    own.split(',')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            // Whoever passes the message on may have put more behind it.
            let value = value.split_whitespace().next()?;
            let quantity: Quantity = value.parse().ok()?;
            Some((name.trim().to_owned(), quantity.nanos()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amounts(pairs: &[(&str, &str)]) -> Amounts {
        pairs
            .iter()
            .map(|(name, text)| {
                let quantity: Quantity = text.parse().unwrap();
                ((*name).to_owned(), quantity.nanos())
            })
            .collect()
    }

    #[test]
    fn lists_of_a_refusal_are_read_whatever_stands_in_them() {
        for (lists, requested, limited) in [
            (
                "project-quota, requested: limits.memory=3Gi, used: limits.memory=7976Gi, limited: limits.memory=8000Gi",
                &[("limits.memory", "3Gi")][..],
                &[("limits.memory", "8000Gi")][..],
            ),
            (
                "project-quota, requested: limits.cpu=3640m, used: limits.cpu=6000m, limited: limits.cpu=8000m",
                &[("limits.cpu", "3640m")],
                &[("limits.cpu", "8")],
            ),
            (
                "project-quota, requested: requests.cpu=7,requests.memory=64Gi, used: requests.cpu=249,requests.memory=2012730Mi, limited: requests.cpu=250,requests.memory=2000Gi",
                &[("requests.cpu", "7"), ("requests.memory", "64Gi")],
                &[("requests.cpu", "250"), ("requests.memory", "2000Gi")],
            ),
            (
                "q, requested: limits.cpu=1.5,limits.ephemeral-storage=20Gi,requests.cpu=500m,requests.nvidia.com/gpu=2, used: limits.cpu=0, limited: limits.cpu=1.75,limits.ephemeral-storage=10Gi,requests.cpu=1,requests.nvidia.com/gpu=8",
                &[
                    ("limits.cpu", "1500m"),
                    ("limits.ephemeral-storage", "20Gi"),
                    ("requests.cpu", "0.5"),
                    ("requests.nvidia.com/gpu", "2"),
                ],
                &[
                    ("limits.cpu", "1750m"),
                    ("limits.ephemeral-storage", "10Gi"),
                    ("requests.cpu", "1"),
                    ("requests.nvidia.com/gpu", "8"),
                ],
            ),
            (
                "q, requested: pods=1, used: pods=10, limited: pods=10",
                &[("pods", "1")],
                &[("pods", "10")],
            ),
            (
                "q, limited: pods=10, used: pods=10, requested: pods=1, count/pods=one (admission)",
                &[("pods", "1")],
                &[("pods", "10")],
            ),
            ("q", &[], &[]),
        ] {
            let message = format!("pods \"a\" is forbidden: exceeded quota: {lists}");
            let expected = Exceeded {
                requested: amounts(requested),
                limited: amounts(limited),
            };
            assert_eq!(Exceeded::parse(&message), Some(expected), "{message}");
        }
        assert_eq!(
            Exceeded::parse("pods \"a\" is forbidden: failed quota: q: must specify limits.cpu"),
            None
        );
    }

    #[test]
    fn what_can_never_fit_is_told_from_what_must_wait() {
        for (requested, limited, expected) in [
            ("limits.cpu=7", "limits.cpu=250", false),
            ("limits.cpu=250", "limits.cpu=250", true),
            ("limits.cpu=250001m", "limits.cpu=250", true),
            ("limits.cpu=249999m", "limits.cpu=250", false),
            (
                "limits.cpu=7,limits.memory=64Gi",
                "limits.cpu=250,limits.memory=32Gi",
                true,
            ),
            ("requests.memory=1Ti", "requests.memory=1000Gi", true),
            ("limits.cpu=7", "limits.memory=1Mi", false),
            // Not read by the reference, which waits for these as long as they may fit.
            ("pods=1", "pods=1", false),
            ("pods=1", "pods=0", true),
            (
                "requests.nvidia.com/gpu=8",
                "requests.nvidia.com/gpu=8",
                false,
            ),
            (
                "requests.nvidia.com/gpu=9",
                "requests.nvidia.com/gpu=8",
                true,
            ),
        ] {
            let message =
                format!("exceeded quota: q, requested: {requested}, used: , limited: {limited}");
            let exceeded = Exceeded::parse(&message).unwrap();
            assert_eq!(exceeded.is_hopeless(), expected, "{message}");
        }
    }

    #[test]
    fn a_pod_demands_its_containers_together_or_its_greediest_init_container() {
        let container = |cpu: &str, memory: &str| json!({ "name": "c", "resources": { "limits": { "cpu": cpu, "memory": memory } } });
        let gpu = json!({ "name": "g", "resources": { "limits": { "nvidia.com/gpu": "1", "cpu": "?" } } });
        for (containers, init, expected) in [
            (json!([]), json!([]), &[][..]),
            (
                json!([container("1", "1Gi"), container("500m", "512Mi")]),
                json!([]),
                &[("limits.cpu", "1500m"), ("limits.memory", "1536Mi")],
            ),
            (
                json!([container("1", "1Gi"), container("500m", "512Mi")]),
                json!([container("1200m", "4Gi"), container("1400m", "1Gi")]),
                &[("limits.cpu", "1.5"), ("limits.memory", "4Gi")],
            ),
            (json!([]), json!([gpu]), &[("limits.nvidia.com/gpu", "1")]),
        ] {
            let pod: Pod = serde_json::from_value(
                json!({ "spec": { "containers": containers, "initContainers": init } }),
            )
            .unwrap();
            let mut found = demands(&pod);
            assert_eq!(found.remove("pods"), Some(ONE));
            assert_eq!(found.remove("count/pods"), Some(ONE));
            assert_eq!(found, amounts(expected), "{containers} {init}");
        }
    }

    #[test]
    fn requests_count_under_both_of_their_names() {
        let pod = json!({ "spec": { "containers": [
            { "name": "c", "resources": { "requests": { "cpu": "2" } } } ] } });
        let found = demands(&serde_json::from_value(pod).unwrap());
        assert_eq!(found.get("requests.cpu"), Some(&(2 * ONE)));
        assert_eq!(found.get("cpu"), Some(&(2 * ONE)));
        assert_eq!(found.get("limits.cpu"), None);
    }
}
