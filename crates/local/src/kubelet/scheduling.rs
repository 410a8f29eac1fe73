//! Which pods may run: they are admitted in order of creation against the cores and the memory of the machine.
//!
//! The order is strict: a pod that does not fit yet holds back younger ones, because else a large one would wait for ever
//! behind small ones. A pod larger than the machine holds back nobody.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::kubelet::quantity::{bytes_text, cores_text, millis, units};

/// Cores and memory, of a pod or of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_millis: i128,
    /// Bytes.
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
        Self {
            amount: mains.most(initial),
            others,
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
pub(crate) struct Turn {
    pub(crate) created: jiff::Timestamp,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What becomes of a pod that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted(Turn),
    /// It waits; the text is for its condition `PodScheduled`.
    Waits(Turn, String),
}

struct Waiting {
    request: Request,
    told: Option<String>,
}

/// The machine's cores and memory, who holds them and who waits for them.
pub(crate) struct Scheduling {
    capacity: Amount,
    held: HashMap<String, Amount>,
    waiting: BTreeMap<Turn, Waiting>,
}

impl Scheduling {
    pub(crate) fn new(capacity: Amount) -> Self {
        Self {
            capacity,
            held: HashMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    fn free(&self) -> Amount {
        self.held
            .values()
            .fold(self.capacity, |free, held| free.minus(*held))
    }

    /// A pod that runs here already.
    pub(crate) fn hold(&mut self, uid: &str, request: &Request) {
        self.held.insert(uid.to_owned(), request.amount);
    }

    /// A pod that wants to run. Knowing it already changes nothing.
    pub(crate) fn enqueue(&mut self, turn: Turn, request: Request) {
        if !self.held.contains_key(&turn.uid) {
            self.waiting.entry(turn).or_insert(Waiting {
                request,
                told: None,
            });
        }
    }

    /// A pod that is over or gone.
    pub(crate) fn release(&mut self, uid: &str) {
        self.held.remove(uid);
        self.waiting.retain(|turn, _| turn.uid != uid);
    }

    /// Admits all whose turn it is. A pod that waits is told so once, and again when the reason is another kind.
    pub(crate) fn decide(&mut self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut free = self.free();
        let mut blocked = false;
        let mut admitted = Vec::new();
        for (turn, waiting) in &mut self.waiting {
            let amount = waiting.request.amount;
            let why = if !waiting.request.others.is_empty() {
                format!(
                    "0/1 nodes are available: this machine has no {}; requested {amount}.",
                    waiting.request.others.join(", ")
                )
            } else if !amount.fits(self.capacity) {
                format!(
                    "0/1 nodes are available: the pod is larger than the machine: requested {amount}, available {}.",
                    self.capacity
                )
            } else if blocked || !amount.fits(free) {
                blocked = true;
                format!(
                    "0/1 nodes are available: waiting for other pods to end: requested {amount}, available {free} of {}.",
                    self.capacity
                )
            } else {
                free = free.minus(amount);
                admitted.push(turn.clone());
                continue;
            };
            if waiting.told.is_none() {
                waiting.told = Some(why.clone());
                verdicts.push(Verdict::Waits(turn.clone(), why));
            }
        }
        for turn in admitted {
            if let Some(waiting) = self.waiting.remove(&turn) {
                self.held.insert(turn.uid.clone(), waiting.request.amount);
                verdicts.push(Verdict::Admitted(turn));
            }
        }
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(second: i64) -> Turn {
        let name = format!("p{second}");
        let created = jiff::Timestamp::from_second(second).unwrap();
        Turn {
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
            others: Vec::new(),
        }
    }

    fn admitted(verdicts: &[Verdict]) -> Vec<&str> {
        let names = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Admitted(turn) => Some(turn.name.as_str()),
            Verdict::Waits(..) => None,
        });
        names.collect()
    }

    #[test]
    fn pods_are_admitted_in_order_of_creation_as_room_is_released() {
        let mut scheduling = Scheduling::new(Amount {
            cpu_millis: 2000,
            memory: 100,
        });
        for (second, cpu) in [(3, 500), (1, 1500), (2, 1000)] {
            scheduling.enqueue(turn(second), cores(cpu));
        }
        let first = scheduling.decide();
        assert_eq!(
            admitted(&first),
            ["p1"],
            "p2 does not fit, and p3 must not overtake it"
        );
        let Some(Verdict::Waits(waits, why)) = first.first() else {
            panic!("p2 is told that it waits")
        };
        assert_eq!(waits.name, "p2");
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
    fn a_pod_larger_than_the_machine_holds_back_nobody() {
        let mut scheduling = Scheduling::new(Amount {
            cpu_millis: 2000,
            memory: 1 << 30,
        });
        scheduling.enqueue(turn(1), cores(8000));
        scheduling.enqueue(
            turn(2),
            Request {
                others: vec!["nvidia.com/gpu".to_owned()],
                ..cores(100)
            },
        );
        scheduling.enqueue(turn(3), cores(100));
        let verdicts = scheduling.decide();
        assert_eq!(admitted(&verdicts), ["p3"]);
        let Some(Verdict::Waits(_, why)) = verdicts.first() else {
            panic!("p1 waits")
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
}
