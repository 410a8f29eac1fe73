//! What the watches know of a pod (spec 05 §4.7).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

/// Whether all containers of a pod have ended for good.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod as the watch shows it, and what the cluster says about it.
#[derive(Clone, Debug, Default)]
pub struct ObservedPod {
    /// The pod as the watch delivered it last.
    pub pod: Arc<Pod>,
    /// Its events in the order in which they arrived; empty while nobody sends them.
    pub events: Arc<[ObjectEvent]>,
}

impl From<Arc<Pod>> for ObservedPod {
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

/// Up to which event of a pod admin has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCursor {
    /// Creation of the last one, as the task's state keeps it.
    pub created_at: Option<Timestamp>,
    /// Arrival of the last one, if this process sent it. Several are created in one second, and not all of them
    /// arrive before the first ones are sent.
    pub arrival: Option<u64>,
}

impl EventCursor {
    /// The events that admin does not have, in the order of their creation.
    pub fn unreported(self, events: &[ObjectEvent]) -> Vec<&ObjectEvent> {
        let mut unreported: Vec<_> = events
            .iter()
            .filter(|event| match (self.arrival, self.created_at) {
                (Some(arrival), _) => event.arrival > arrival,
                (None, Some(created_at)) => event.created_at > created_at,
                (None, None) => true,
            })
            .collect();
        unreported.sort_by_key(|event| (event.created_at, event.arrival));
        unreported
    }

    /// After those of these that were unreported were sent: what an earlier process sent counts as sent from now on.
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
    fn each_event_is_sent_once_in_the_order_of_creation() {
        let events = [event(5, 1), event(3, 2), event(5, 3), event(4, 4)];
        let second = |second| Some(Timestamp::from_second(second).unwrap());
        for (case, created_at, arrival, expected) in [
            ("nothing was sent", None, None, &[2, 4, 1, 3][..]),
            ("another process sent until then", second(4), None, &[1, 3]),
            ("all of that second count as sent", second(5), None, &[]),
            (
                "this process sent of the second before all had arrived",
                second(5),
                Some(1),
                &[2, 4, 3],
            ),
            ("this process sent all", second(5), Some(4), &[]),
        ] {
            let cursor = EventCursor {
                created_at,
                arrival,
            };
            let unreported = cursor.unreported(&events);
            let arrivals: Vec<_> = unreported.iter().map(|event| event.arrival).collect();
            assert_eq!(arrivals, expected, "{case}");
            assert_eq!(
                cursor.after(&events).unreported(&events),
                [] as [&ObjectEvent; 0],
                "{case}"
            );
        }
    }
}
