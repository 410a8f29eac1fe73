//! Leases of tags (spec 06 A8): one of many owners makes an output that all of them want.
//!
//! | stored | its owner | expires | becomes |
//! |---|---|---|---|
//! | nothing | | | the caller's |
//! | a reservation | the caller | whenever | the caller's, from now on |
//! | a reservation | another | before now | the caller's |
//! | a reservation | another | now or later | stays |
//!
//! The statement that writes has the same conditions, so that of many callers at once one holds it.

use std::time::Duration;

use flyte_idl::datacatalog::ReservationId;
use jiff::{SignedDuration, Timestamp};

use super::ids::{DatasetKey, required};
use crate::{
    config::DataCatalogConfig,
    error::{Error, Result},
    records::Reservation,
};

/// How long reservations last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The longest time between two heartbeats.
    pub max_heartbeat: Duration,
    /// How many heartbeats a reservation outlives.
    pub multiplier: u32,
}

impl Terms {
    /// What section `datacatalog` says.
    pub fn of(config: &DataCatalogConfig) -> Self {
        Self {
            max_heartbeat: config.max_reservation_heartbeat.to_std(),
            multiplier: config.heartbeat_grace_period_multiplier,
        }
    }

    /// The time between two heartbeats: what is asked for, and at most the most.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for one that is not longer than nothing: the reservation would be everybody's at once.
    pub fn heartbeat(&self, requested: Option<&prost_types::Duration>) -> Result<Duration> {
        let Some(requested) = requested else {
            return Ok(self.max_heartbeat);
        };
        match Duration::try_from(*requested) {
            Ok(heartbeat) if !heartbeat.is_zero() => Ok(heartbeat.min(self.max_heartbeat)),
            _ => Err(Error::invalid(format!(
                "invalid value for heartbeatInterval, value:[{}.{:09}s]",
                requested.seconds,
                requested.nanos.unsigned_abs()
            ))),
        }
    }

    /// When a reservation ends that was taken or extended `now`.
    pub fn expiry(&self, now: Timestamp, heartbeat: Duration) -> Timestamp {
        let lasts = SignedDuration::try_from(heartbeat.saturating_mul(self.multiplier))
            .unwrap_or(SignedDuration::MAX);
        now.saturating_add(lasts).unwrap_or(Timestamp::MAX)
    }
}

/// What is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationKey {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The tag.
    pub tag: String,
}

impl ReservationKey {
    /// The key in a request. Go checks nothing, and takes a key without dataset for any.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what is missing or too long.
    pub fn of_request(id: Option<&ReservationId>) -> Result<Self> {
        let id = id.ok_or_else(|| Error::missing("reservationID"))?;
        let dataset = DatasetKey::of_request(id.dataset_id.as_ref())?;
        let tag = required("tagName", &id.tag_name)?.to_owned();
        dataset.require_room(&[&tag])?;
        Ok(Self { dataset, tag })
    }

    /// The key on the wire.
    pub fn to_wire(&self) -> ReservationId {
        ReservationId {
            dataset_id: Some(self.dataset.to_wire(None)),
            tag_name: self.tag.clone(),
        }
    }
}

/// Whether somebody other than `owner` holds what is stored.
pub fn is_held_by_another(stored: &Reservation, owner: &str, now: Timestamp) -> bool {
    stored.owner != owner && stored.expires_at >= now
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        max_heartbeat: Duration::from_secs(10),
        multiplier: 3,
    };

    #[test]
    fn a_heartbeat_is_what_is_asked_for_and_at_most_the_most() {
        let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        for (requested, expected) in [
            (None, Some(Duration::from_secs(10))),
            (duration(5, 0), Some(Duration::from_secs(5))),
            (duration(0, 1), Some(Duration::from_nanos(1))),
            (duration(11, 0), Some(Duration::from_secs(10))),
            (duration(i64::MAX, 0), Some(Duration::from_secs(10))),
            (duration(0, 0), None),
            (duration(-5, 0), None),
            (duration(0, -1), None),
        ] {
            let heartbeat = TERMS.heartbeat(requested.as_ref()).ok();
            assert_eq!(heartbeat, expected, "{requested:?}");
        }
    }

    #[test]
    fn a_reservation_outlives_some_heartbeats() {
        let now = Timestamp::from_second(1_000).unwrap();
        let expiry = TERMS.expiry(now, Duration::from_secs(5));
        assert_eq!(expiry, Timestamp::from_second(1_015).unwrap());
        let endless = Terms {
            multiplier: u32::MAX,
            ..TERMS
        };
        let expiry = endless.expiry(now, Duration::from_secs(u64::MAX));
        assert_eq!(expiry, Timestamp::MAX);
    }

    #[test]
    fn it_is_another_owners_until_it_has_expired() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let stored = Reservation {
            owner: "a".to_owned(),
            expires_at: at(10),
        };
        for (owner, now, held) in [
            ("a", 5, false),
            ("a", 11, false),
            ("b", 5, true),
            ("b", 10, true),
            ("b", 11, false),
        ] {
            assert_eq!(
                is_held_by_another(&stored, owner, at(now)),
                held,
                "{owner} {now}"
            );
        }
    }

    #[test]
    fn a_key_is_whole() {
        let dataset = DatasetKey::new("p", "d", "n", "v").unwrap().to_wire(None);
        let id = |dataset: Option<_>, tag: &str| {
            Some(ReservationId {
                dataset_id: dataset,
                tag_name: tag.to_owned(),
            })
        };
        for (id, wrong) in [
            (None, Some("missing reservationID")),
            (id(None, "t"), Some("missing dataset")),
            (id(Some(dataset.clone()), ""), Some("missing tagName")),
            (id(Some(dataset.clone()), "t"), None),
        ] {
            let said = ReservationKey::of_request(id.as_ref()).err();
            let said = said.map(|error| error.to_string());
            assert_eq!(said.as_deref(), wrong, "{id:?}");
        }
    }
}
