//! What the watches know of a pod (spec 05 §4.7).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

/// A pod as the watch shows it, and what the cluster tells of it.
#[derive(Clone, Debug, Default)]
pub struct Sighting {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its events in the order in which they arrived; empty while nobody sends them.
    pub events: Arc<[ObjectEvent]>,
}

impl From<Arc<Pod>> for Sighting {
    fn from(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            events: Arc::default(),
        }
    }
}

/// The first occurrence of an event about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    /// Why, for programs: `Scheduled`, `Pulling`.
    pub reason: String,
    /// Why, for people.
    pub note: String,
    /// When the event was created, to the second.
    pub created_at: Timestamp,
    /// Its number among all that arrived in this process.
    pub arrival: u64,
}

/// Up to which event admin has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Creation of the last one, as the task's state keeps it.
    pub created_at: Option<Timestamp>,
    /// Arrival of the last one, if this process told it. Several are created in one second, and not all of them
    /// arrive before the first ones are told.
    pub arrival: Option<u64>,
}

impl Told {
    /// The events that admin has not been told, in the order of their creation.
    pub fn untold(self, events: &[ObjectEvent]) -> Vec<&ObjectEvent> {
        let mut untold: Vec<_> = events
            .iter()
            .filter(|event| match (self.arrival, self.created_at) {
                (Some(arrival), _) => event.arrival > arrival,
                (None, Some(created_at)) => event.created_at > created_at,
                (None, None) => true,
            })
            .collect();
        untold.sort_by_key(|event| (event.created_at, event.arrival));
        untold
    }

    /// After those of these that were untold were told: what an earlier process told counts as told from now on.
    #[must_use]
    pub fn after(self, events: &[ObjectEvent]) -> Self {
        let created_at = events.iter().map(|event| event.created_at).max();
        let arrival = events.iter().map(|event| event.arrival).max();
        Self {
            created_at: self.created_at.max(created_at),
            arrival: self.arrival.max(arrival),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: i64, arrival: u64) -> ObjectEvent {
        ObjectEvent {
            reason: String::new(),
            note: String::new(),
            created_at: Timestamp::from_second(second).unwrap(),
            arrival,
        }
    }

    #[test]
    fn each_event_is_told_once_in_the_order_of_creation() {
        let events = [event(5, 1), event(3, 2), event(5, 3), event(4, 4)];
        let second = |second| Some(Timestamp::from_second(second).unwrap());
        for (case, created_at, arrival, expected) in [
            ("nothing was told", None, None, &[2, 4, 1, 3][..]),
            ("another process told until then", second(4), None, &[1, 3]),
            ("all of that second count as told", second(5), None, &[]),
            (
                "this process told of the second before all had arrived",
                second(5),
                Some(1),
                &[2, 4, 3],
            ),
            ("this process told all", second(5), Some(4), &[]),
        ] {
            let told = Told {
                created_at,
                arrival,
            };
            let untold = told.untold(&events);
            let arrivals: Vec<_> = untold.iter().map(|event| event.arrival).collect();
            assert_eq!(arrivals, expected, "{case}");
            assert_eq!(
                told.after(&events).untold(&events),
                [] as [&ObjectEvent; 0],
                "{case}"
            );
        }
    }
}
