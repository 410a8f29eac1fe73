//! GetOrExtendReservation and ReleaseReservation (spec 06 A8).

use flyte_idl::{
    datacatalog::{
        self, GetOrExtendReservationRequest, GetOrExtendReservationResponse,
        ReleaseReservationRequest, ReleaseReservationResponse,
    },
    time,
};
use jiff::Timestamp;

use crate::{
    context::CatalogContext,
    domain::{
        ids::required,
        reservations::{ReservationKey, is_held_by_another},
    },
    error::{Error, Result},
    metrics::labels,
    records::Reservation,
    repository::reservations,
};

/// How often a reservation is tried that is neither free nor anybody's, because others take and release it meanwhile.
const TRIES: usize = 5;

/// Takes or extends a reservation, or says who holds it.
pub(crate) async fn get_or_extend(
    context: &CatalogContext,
    request: GetOrExtendReservationRequest,
) -> Result<GetOrExtendReservationResponse> {
    let metrics = &context.metrics.reservations;
    let id = request
        .reservation_id
        .as_ref()
        .and_then(|id| id.dataset_id.clone());
    let id = id.unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let outcome = acquire(context, &request).await;
    match &outcome {
        Ok(held) if held.owner_id == request.owner_id => metrics.acquired.inc(&labels),
        Ok(_) => metrics.in_progress.inc(&labels),
        Err(_) => metrics.acquire_failure.inc(&labels),
    }
    Ok(GetOrExtendReservationResponse {
        reservation: Some(outcome?),
    })
}

async fn acquire(
    context: &CatalogContext,
    request: &GetOrExtendReservationRequest,
) -> Result<datacatalog::Reservation> {
    let key = ReservationKey::of_request(request.reservation_id.as_ref())?;
    let owner = required("ownerID", &request.owner_id)?;
    let heartbeat = context
        .terms
        .heartbeat(request.heartbeat_interval.as_ref())?;
    let now = context.clock.now();
    let wanted = Reservation {
        owner: owner.to_owned(),
        expires_at: context.terms.expiry(now, heartbeat),
    };
    let held = hold(context, &key, wanted, now).await?;
    Ok(datacatalog::Reservation {
        reservation_id: Some(key.to_wire()),
        owner_id: held.owner,
        // Of this request, whoever holds it: the time after which to ask again.
        heartbeat_interval: Some(prost_types::Duration {
            seconds: i64::try_from(heartbeat.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(heartbeat.subsec_nanos()).unwrap_or_default(),
        }),
        expires_at: Some(time::to_wire(held.expires_at)),
        metadata: None,
    })
}

/// The reservation as it is now: `wanted`, or another owner's.
async fn hold(
    context: &CatalogContext,
    key: &ReservationKey,
    wanted: Reservation,
    now: Timestamp,
) -> Result<Reservation> {
    let repository = &context.metrics.repositories.reservation;
    let labels = labels(key.dataset.project(), key.dataset.domain());
    for _ in 0..TRIES {
        // Those who wait ask often, and write nothing.
        let look_up = async {
            let mut tx = context.database.read().await?;
            reservations::get(&mut tx, key).await
        };
        let stored = repository.get.timed(&labels, look_up).await?;
        let watch = match stored {
            Some(stored) if is_held_by_another(&stored, &wanted.owner, now) => return Ok(stored),
            Some(_) => &repository.update,
            None => &repository.create,
        };
        let taking = context.database.write(
            (key.clone(), wanted.clone(), now),
            |(key, wanted, now), tx| Box::pin(reservations::take(tx, key, wanted, *now)),
        );
        if watch.timed(&labels, taking).await? {
            return Ok(wanted);
        }
    }
    Err(Error::Contended)
}

/// Gives a reservation back. One that is not the owner's is none of its business, and no error.
pub(crate) async fn release(
    context: &CatalogContext,
    request: ReleaseReservationRequest,
) -> Result<ReleaseReservationResponse> {
    let metrics = &context.metrics.reservations;
    let id = request
        .reservation_id
        .as_ref()
        .and_then(|id| id.dataset_id.clone());
    let id = id.unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let work = async {
        let key = ReservationKey::of_request(request.reservation_id.as_ref())?;
        let owner = required("ownerID", &request.owner_id)?.to_owned();
        let removal = context.database.write((key, owner), |(key, owner), tx| {
            Box::pin(reservations::release(tx, key, owner))
        });
        let watch = &context.metrics.repositories.reservation.delete;
        Ok::<_, Error>(watch.timed(&labels, removal).await?)
    };
    match work.await {
        Ok(true) => metrics.released.inc(&labels),
        Ok(false) => metrics.does_not_exist.inc(&labels),
        Err(error) => {
            metrics.release_failure.inc(&labels);
            return Err(error);
        }
    }
    Ok(ReleaseReservationResponse {})
}
