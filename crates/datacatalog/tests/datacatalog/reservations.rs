//! Reservations (spec 06 A8): of many owners at once, one holds what all of them want.

use flyte_idl::datacatalog::{
    DatasetId, GetOrExtendReservationRequest, ReleaseReservationRequest, Reservation, ReservationId,
};
use flyte_platform::Clock;
use futures::future::join_all;
use jiff::Timestamp;
use tonic::{Code, Status};

use crate::{
    harness::{Client, Settings, Store, World, refusal, task},
    on_both_databases,
};

const START: i64 = 1_700_000_000;

/// A client of a datacatalog on the same database, where it is `seconds` after the start.
fn after(world: &World, seconds: i64) -> Client {
    let epoch = Timestamp::from_second(START + seconds).unwrap();
    world.at(&Settings::default(), Clock::simulated(epoch))
}

fn id(tag: &str) -> ReservationId {
    ReservationId {
        dataset_id: Some(task("reserved")),
        tag_name: tag.to_owned(),
    }
}

async fn ask(client: &Client, owner: &str, heartbeat: Option<i64>) -> Result<Reservation, Status> {
    let request = GetOrExtendReservationRequest {
        reservation_id: Some(id("t")),
        owner_id: owner.to_owned(),
        heartbeat_interval: heartbeat.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    };
    let answer = client.clone().get_or_extend_reservation(request).await?;
    Ok(answer.into_inner().reservation.unwrap())
}

async fn release(client: &Client, owner: &str) -> Result<(), Status> {
    let request = ReleaseReservationRequest {
        reservation_id: Some(id("t")),
        owner_id: owner.to_owned(),
    };
    client.clone().release_reservation(request).await.map(drop)
}

async fn a_lease_is_taken_extended_taken_over_and_released(store: Store) {
    let world = World::start(store).await;
    // When, who, with which heartbeat; then who holds it, until when, and the heartbeat of the answer.
    for (case, at, owner, heartbeat, holder, until, told) in [
        ("free", 0, "a", Some(5), "a", 15, 5),
        ("held by another", 5, "b", Some(2), "a", 15, 2),
        ("extended", 10, "a", Some(5), "a", 25, 5),
        ("more than the most", 12, "a", Some(60), "a", 42, 10),
        ("shortened", 13, "a", Some(1), "a", 16, 1),
        ("expired, and taken over", 20, "b", None, "b", 50, 10),
        ("lost by who was late", 21, "a", Some(5), "b", 50, 5),
    ] {
        let held = ask(&after(&world, at), owner, heartbeat).await.unwrap();
        assert_eq!(held.owner_id, holder, "{case}");
        // Clocks go on while the test runs.
        let expires = held.expires_at.unwrap().seconds - START;
        assert!((until..until + 3).contains(&expires), "{case}: {expires}");
        assert_eq!(held.heartbeat_interval.unwrap().seconds, told, "{case}");
        assert_eq!(held.metadata, None);
        let reservation = held.reservation_id.unwrap();
        assert_eq!(reservation, id("t"));
    }
    // Only the owner gives it back; the others are not told.
    release(&world.client, "a").await.unwrap();
    assert_eq!(
        ask(&after(&world, 22), "c", None).await.unwrap().owner_id,
        "b"
    );
    release(&world.client, "b").await.unwrap();
    release(&world.client, "b").await.unwrap();
    assert_eq!(
        ask(&after(&world, 22), "c", None).await.unwrap().owner_id,
        "c"
    );
}

async fn of_many_owners_at_once_one_holds_it(store: Store) {
    let world = World::start(store).await;
    // In each round all of them, over datacatalogs of their own.
    for (round, seconds) in [("free", 0), ("expired", 100), ("released", 101)] {
        let clients = (0..20).map(|_| after(&world, seconds)).collect();
        let holder = one_of_many(&world, clients, seconds).await;
        if round == "expired" {
            release(&world.client, &holder).await.unwrap();
        }
    }
}

/// Everybody asks at once: all are told the same owner, who is one of them.
async fn one_of_many(world: &World, clients: Vec<Client>, seconds: i64) -> String {
    let asked = clients
        .iter()
        .enumerate()
        .map(|(number, client)| async move {
            let owner = format!("owner-{seconds}-{number}");
            let held = ask(client, &owner, None).await.unwrap();
            (owner, held.owner_id)
        });
    let told = join_all(asked).await;
    let holders: Vec<&String> = told
        .iter()
        .filter(|(owner, holder)| owner == holder)
        .map(|(owner, _)| owner)
        .collect();
    let [holder] = holders[..] else {
        panic!("{told:?}")
    };
    for (owner, told) in &told {
        assert_eq!(told, holder, "{owner}");
    }
    let again = ask(&after(world, seconds + 1), "another", None)
        .await
        .unwrap();
    assert_eq!(&again.owner_id, holder);
    holder.clone()
}

/// Go checks nothing: an empty field matches every row, and an owner alone releases all of theirs.
async fn keys_and_owners_are_whole(store: Store) {
    let world = World::start(store).await;
    ask(&world.client, "a", None).await.unwrap();
    let mut client = world.client.clone();
    let with = |dataset: Option<DatasetId>, tag: &str| {
        Some(ReservationId {
            dataset_id: dataset,
            tag_name: tag.to_owned(),
        })
    };
    for (reservation, owner, text) in [
        (None, "a", "missing reservationID"),
        (with(None, "t"), "a", "missing dataset"),
        (
            with(Some(DatasetId::default()), "t"),
            "a",
            "missing project",
        ),
        (with(Some(task("reserved")), ""), "a", "missing tagName"),
        (Some(id("t")), "", "missing ownerID"),
    ] {
        let asked = GetOrExtendReservationRequest {
            reservation_id: reservation.clone(),
            owner_id: owner.to_owned(),
            heartbeat_interval: None,
        };
        let released = ReleaseReservationRequest {
            reservation_id: reservation,
            owner_id: owner.to_owned(),
        };
        let expected = Some((Code::InvalidArgument, text.to_owned()));
        assert_eq!(
            refusal(client.get_or_extend_reservation(asked).await),
            expected
        );
        assert_eq!(
            refusal(client.release_reservation(released).await),
            expected
        );
    }
    for seconds in [0, -1] {
        let refused = ask(&world.client, "a", Some(seconds)).await;
        let expected = format!("invalid value for heartbeatInterval, value:[{seconds}.000000000s]");
        assert_eq!(refusal(refused), Some((Code::InvalidArgument, expected)));
    }
    assert_eq!(ask(&world.client, "b", None).await.unwrap().owner_id, "a");
}

on_both_databases!(
    a_lease_is_taken_extended_taken_over_and_released,
    of_many_owners_at_once_one_holds_it,
    keys_and_owners_are_whole,
);
