//! Which pods may run: they are admitted in order of creation against the cores and the memory of the machine.
//!
//! The order is strict: a pod that does not fit yet holds back younger ones, because else a large one would wait for ever
//! behind small ones. A pod larger than the machine holds back nobody, nor does one with
//! scheduling gates, which does not wait here.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::kubelet::quantity::{bytes_text, cores_text, millis, units};

/// Cores and memory, of a pod or of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_millis: i128,
    /// Memory in bytes.
    pub memory: i128,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis + other.cpu_millis,
            memory: self.memory + other.memory,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis - other.cpu_millis,
            memory: self.memory - other.memory,
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory: self.memory.max(other.memory),
        }
    }

    fn fits(self, room: Self) -> bool {
        // Who asks for nothing always fits, also beside those who took too much.
        (self.cpu_millis <= room.cpu_millis || self.cpu_millis == 0)
            && (self.memory <= room.memory || self.memory == 0)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "cpu {} and memory {}",
            cores_text(self.cpu_millis),
            bytes_text(self.memory)
        )
    }
}

/// What a pod asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) amount: Amount,
    /// Other resources, such as GPUs: this machine lends none.
    pub(crate) others: Vec<String>,
    /// `spec.nodeSelector`.
    pub(crate) selector: BTreeMap<String, String>,
    /// Whether it runs on a cordoned node too.
    pub(crate) tolerates_cordon: bool,
}

/// What a pod may ask of the node besides room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeState {
    /// The labels of the Node object.
    pub(crate) labels: BTreeMap<String, String>,
    /// `spec.unschedulable`: cordoned.
    pub(crate) unschedulable: bool,
}

impl Request {
    /// What a pod asks for: its containers together, or its largest init container (Kubernetes' rule).
    pub(crate) fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else {
            return Self::default();
        };
        let mut others = Vec::new();
        let mut sidecars = Amount::default();
        let mut initial = Amount::default();
        for container in spec.init_containers.iter().flatten() {
            let amount = of_container(container, &mut others);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars = sidecars.plus(amount);
                initial = initial.most(sidecars);
            } else {
                initial = initial.most(sidecars.plus(amount));
            }
        }
        let mains = spec.containers.iter().fold(sidecars, |sum, container| {
            sum.plus(of_container(container, &mut others))
        });
        others.sort();
        others.dedup();
        let cordon = "node.kubernetes.io/unschedulable";
        let tolerates_cordon = spec.tolerations.iter().flatten().any(|toleration| {
            let exists = toleration.operator.as_deref() == Some("Exists");
            match toleration.key.as_deref() {
                None | Some("") => exists,
                Some(key) => key == cordon,
            }
        });
        Self {
            amount: mains.most(initial),
            others,
            selector: spec.node_selector.clone().unwrap_or_default(),
            tolerates_cordon,
        }
    }
}

fn of_container(container: &Container, others: &mut Vec<String>) -> Amount {
    let mut amount = Amount::default();
    let requests = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    for (name, quantity) in requests.into_iter().flatten() {
        match name.as_str() {
            "cpu" => amount.cpu_millis = millis(&quantity.0).unwrap_or(0),
            "memory" => amount.memory = units(&quantity.0).unwrap_or(0),
            "ephemeral-storage" => {}
            other => {
                if units(&quantity.0).unwrap_or(0) > 0 {
                    others.push(other.to_owned());
                }
            }
        }
    }
    amount
}

/// The order in which pods are admitted: creation time, then namespace and name, then uid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuedPod {
    pub(crate) created: jiff::Timestamp,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl QueuedPod {
    pub(crate) fn of(pod: &Pod, uid: &str) -> Self {
        let meta = &pod.metadata;
        Self {
            created: meta
                .creation_timestamp
                .as_ref()
                .map_or(jiff::Timestamp::MIN, |time| time.0),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: uid.to_owned(),
        }
    }
}

/// A decision about a pod that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Schedule(QueuedPod),
    /// It waits; the text is for its condition `PodScheduled`.
    Unschedulable(QueuedPod, String),
}

/// The machine's cores and memory, who holds them and who waits for them.
///
/// A decision costs what it admits and what is new, not how many wait.
pub(crate) struct Scheduler {
    capacity: Amount,
    free: Amount,
    held: HashMap<String, Amount>,
    /// Who waits for room, in the order of admission.
    waiting: BTreeMap<QueuedPod, Request>,
    /// Who came since the last decision.
    new: Vec<(QueuedPod, Request)>,
    node: NodeState,
    /// Who cannot run on the node as it is.
    unfit: BTreeMap<QueuedPod, Request>,
    /// By uid, all who wait, also those whom this machine is too small for.
    queued: HashMap<String, QueuedPod>,
}

impl Scheduler {
    pub(crate) fn new(capacity: Amount) -> Self {
        Self {
            capacity,
            free: capacity,
            held: HashMap::new(),
            waiting: BTreeMap::new(),
            new: Vec::new(),
            node: NodeState::default(),
            unfit: BTreeMap::new(),
            queued: HashMap::new(),
        }
    }

    /// A pod that runs here already.
    pub(crate) fn hold(&mut self, uid: &str, request: &Request) {
        self.unqueue(uid);
        let before = self.held.insert(uid.to_owned(), request.amount);
        self.free = self
            .free
            .plus(before.unwrap_or_default())
            .minus(request.amount);
    }

    /// A pod that wants to run. Knowing it already changes nothing.
    pub(crate) fn enqueue(&mut self, queued_pod: QueuedPod, request: Request) {
        if !self.held.contains_key(&queued_pod.uid) && !self.queued.contains_key(&queued_pod.uid) {
            self.queued
                .insert(queued_pod.uid.clone(), queued_pod.clone());
            self.new.push((queued_pod, request));
        }
    }

    /// A pod that is over or gone.
    pub(crate) fn release(&mut self, uid: &str) {
        if let Some(amount) = self.held.remove(uid) {
            self.free = self.free.plus(amount);
        }
        self.unqueue(uid);
    }

    /// The node was labelled or cordoned: pods that could not run on it are decided on again, and so are those that wait for room.
    pub(crate) fn set_node(&mut self, node: NodeState) {
        if self.node == node {
            return;
        }
        self.node = node;
        let unfit = std::mem::take(&mut self.unfit).into_iter();
        let waiting = std::mem::take(&mut self.waiting);
        self.new.extend(unfit.chain(waiting));
    }

    fn unqueue(&mut self, uid: &str) {
        if let Some(queued_pod) = self.queued.remove(uid) {
            self.waiting.remove(&queued_pod);
            self.unfit.remove(&queued_pod);
            self.new.retain(|(new, _)| *new != queued_pod);
        }
    }

    /// Schedules all pods whose turn it is. A pod that has to wait is reported once, when it comes.
    pub(crate) fn decide(&mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let mut fresh = Vec::new();
        for (queued_pod, request) in std::mem::take(&mut self.new) {
            match self.unschedulable_reason(&request) {
                Some(why) => {
                    self.unfit.insert(queued_pod.clone(), request);
                    decisions.push(Decision::Unschedulable(queued_pod, why));
                }
                None => {
                    self.waiting.insert(queued_pod.clone(), request);
                    fresh.push(queued_pod);
                }
            }
        }
        while let Some(first) = self.waiting.first_entry() {
            if !first.get().amount.fits(self.free) {
                break;
            }
            let (queued_pod, request) = first.remove_entry();
            let amount = request.amount;
            self.queued.remove(&queued_pod.uid);
            self.free = self.free.minus(amount);
            self.held.insert(queued_pod.uid.clone(), amount);
            decisions.push(Decision::Schedule(queued_pod));
        }
        for queued_pod in fresh {
            if let Some(Request { amount, .. }) = self.waiting.get(&queued_pod) {
                let why = format!(
                    "0/1 nodes are available: waiting for other pods to end: requested {amount}, available {} of {}.",
                    self.free, self.capacity
                );
                decisions.push(Decision::Unschedulable(queued_pod, why));
            }
        }
        decisions
    }

    /// Why this machine, even an idle one, is not enough; none when it is.
    fn unschedulable_reason(&self, request: &Request) -> Option<String> {
        let amount = request.amount;
        let unmatched = request
            .selector
            .iter()
            .find(|(key, value)| self.node.labels.get(*key) != Some(value));
        if let Some((key, value)) = unmatched {
            Some(format!(
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector: {key}={value}; label the \
                 node to run the pod here."
            ))
        } else if self.node.unschedulable && !request.tolerates_cordon {
            Some("0/1 nodes are available: 1 node(s) were unschedulable.".to_owned())
        } else if !request.others.is_empty() {
            Some(format!(
                "0/1 nodes are available: this machine has no {}; requested {amount}.",
                request.others.join(", ")
            ))
        } else if !amount.fits(self.capacity) {
            Some(format!(
                "0/1 nodes are available: the pod is larger than the machine: requested {amount}, available {}.",
                self.capacity
            ))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued_pod(second: i64) -> QueuedPod {
        let name = format!("p{second}");
        let created = jiff::Timestamp::from_second(second).unwrap();
        QueuedPod {
            created,
            namespace: "n".to_owned(),
            uid: name.clone(),
            name,
        }
    }

    fn cores(cpu_millis: i128) -> Request {
        Request {
            amount: Amount {
                cpu_millis,
                memory: 0,
            },
            ..Request::default()
        }
    }

    fn admitted(decisions: &[Decision]) -> Vec<&str> {
        let names = decisions.iter().filter_map(|decision| match decision {
            Decision::Schedule(queued_pod) => Some(queued_pod.name.as_str()),
            Decision::Unschedulable(..) => None,
        });
        names.collect()
    }

    #[test]
    fn pods_are_admitted_in_order_of_creation_as_room_is_released() {
        let mut scheduling = Scheduler::new(Amount {
            cpu_millis: 2000,
            memory: 100,
        });
        for (second, cpu) in [(3, 500), (1, 1500), (2, 1000)] {
            scheduling.enqueue(queued_pod(second), cores(cpu));
        }
        let first = scheduling.decide();
        assert_eq!(
            admitted(&first),
            ["p1"],
            "p2 does not fit, and p3 must not overtake it"
        );
        let waits = |name: &str| {
            let reported = first.iter().find_map(|decision| match decision {
                Decision::Unschedulable(queued_pod, why) if queued_pod.name == name => {
                    Some(why.as_str())
                }
                Decision::Unschedulable(..) | Decision::Schedule(_) => None,
            });
            reported.unwrap_or_else(|| panic!("{name} is not reported as waiting"))
        };
        let why = waits("p2");
        waits("p3");
        assert_eq!(
            why,
            "0/1 nodes are available: waiting for other pods to end: requested cpu 1 and memory 0, available cpu 500m and \
             memory 100 of cpu 2 and memory 100."
        );
        assert_eq!(
            scheduling.decide(),
            [],
            "nothing changed and everybody knows"
        );
        scheduling.release("p1");
        assert_eq!(admitted(&scheduling.decide()), ["p2", "p3"]);
    }

    #[test]
    fn room_is_given_back_once_and_a_pod_that_is_gone_no_longer_waits() {
        let mut scheduling = Scheduler::new(Amount {
            cpu_millis: 1000,
            memory: 100,
        });
        for second in [1, 2, 3] {
            scheduling.enqueue(queued_pod(second), cores(1000));
        }
        assert_eq!(admitted(&scheduling.decide()), ["p1"]);
        scheduling.hold("p1", &cores(1000));
        scheduling.release("p2");
        assert_eq!(admitted(&scheduling.decide()), [""; 0]);
        scheduling.release("p1");
        scheduling.release("p1");
        scheduling.enqueue(queued_pod(4), cores(1000));
        assert_eq!(admitted(&scheduling.decide()), ["p3"]);
    }

    #[test]
    fn a_pod_larger_than_the_machine_holds_back_nobody() {
        let mut scheduling = Scheduler::new(Amount {
            cpu_millis: 2000,
            memory: 1 << 30,
        });
        scheduling.enqueue(queued_pod(1), cores(8000));
        scheduling.enqueue(
            queued_pod(2),
            Request {
                others: vec!["nvidia.com/gpu".to_owned()],
                ..cores(100)
            },
        );
        scheduling.enqueue(queued_pod(3), cores(100));
        let decisions = scheduling.decide();
        assert_eq!(admitted(&decisions), ["p3"]);
        let Some(Decision::Unschedulable(_, why)) = decisions.first() else {
            panic!("p1 waits: {decisions:?}")
        };
        assert_eq!(
            why,
            "0/1 nodes are available: the pod is larger than the machine: requested cpu 8 and memory 0, available cpu 2 and \
             memory 1Gi."
        );
    }

    #[test]
    fn the_largest_init_container_counts_if_it_is_larger_than_the_rest() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": "1"}}}],
        }}))
        .unwrap();
        let request = Request::of(&pod);
        assert_eq!(
            request.amount,
            Amount {
                cpu_millis: 2100,
                memory: 2 << 30
            }
        );
        assert_eq!(request.others, ["nvidia.com/gpu"]);
    }

    #[test]
    fn a_pod_waits_for_a_node_that_it_selects_and_that_takes_pods() {
        let mut scheduling = Scheduler::new(Amount {
            cpu_millis: 1000,
            memory: 100,
        });
        let picky = Request {
            selector: BTreeMap::from([("disk".to_owned(), "fast".to_owned())]),
            ..cores(100)
        };
        scheduling.enqueue(queued_pod(1), picky.clone());
        scheduling.enqueue(queued_pod(2), cores(100));
        let decisions = scheduling.decide();
        assert_eq!(admitted(&decisions), ["p2"]);
        let Some(Decision::Unschedulable(_, why)) = decisions.first() else {
            panic!("p1 waits: {decisions:?}")
        };
        assert!(
            why.contains("didn't match Pod's node affinity/selector: disk=fast"),
            "{why}"
        );
        let node = |unschedulable| NodeState {
            labels: picky.selector.clone(),
            unschedulable,
        };
        scheduling.set_node(node(true));
        scheduling.enqueue(queued_pod(3), cores(100));
        scheduling.enqueue(
            queued_pod(4),
            Request {
                tolerates_cordon: true,
                ..cores(100)
            },
        );
        assert_eq!(admitted(&scheduling.decide()), ["p4"]);
        scheduling.set_node(node(true));
        assert_eq!(scheduling.decide(), [], "nothing changed");
        scheduling.set_node(node(false));
        assert_eq!(admitted(&scheduling.decide()), ["p1", "p3"]);
    }
}
