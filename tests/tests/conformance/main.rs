//! The admin of the simulation decides as flyteadmin does on both databases (design: Simulation): the same events get
//! the same answers and leave the same state.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

mod depth;
mod sequences;
mod subjects;

use sequences::Step;
use subjects::{Admins, Subject};

/// Sequences at random, each with its own seed.
const SEEDS: std::ops::Range<u64> = 0..12;

/// Sends the steps to all admins, one by one, and compares every answer and what it is about. Says how many were
/// accepted.
async fn agree(admins: &Admins, name: &str, steps: &[Step]) -> usize {
    let subjects = admins.with_execution(name).await;
    let mut accepted = 0;
    for (number, step) in steps.iter().enumerate() {
        let mut expected = None;
        for Subject {
            name: subject,
            client,
        } in &subjects
        {
            let verdict = subjects::send(client, step).await;
            let state = subjects::look(client, step).await;
            let (first_verdict, first_state) =
                expected.get_or_insert((verdict.clone(), state.clone()));
            assert_eq!(
                &verdict, first_verdict,
                "{name}, step {number} at {subject}: {step:?}"
            );
            assert_eq!(
                &state, first_state,
                "{name}, state after step {number} at {subject}: {step:?}"
            );
        }
        accepted += usize::from(expected.is_some_and(|((code, ..), _)| code == tonic::Code::Ok));
    }
    let mut expected = None;
    for subject in &subjects {
        let lists = subjects::lists(&subject.client, name).await;
        let expected = expected.get_or_insert_with(|| lists.clone());
        assert_eq!(&lists, expected, "{name}, lists at {}", subject.name);
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_by_hand_are_decided_alike() {
    let admins = Box::pin(Admins::start()).await;
    for (name, steps) in sequences::by_hand() {
        agree(&admins, name, &steps).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_events_are_decided_alike() {
    let admins = Box::pin(Admins::start()).await;
    let (mut accepted, mut sent) = (0, 0);
    for seed in SEEDS {
        let name = format!("seed-{seed}");
        let steps = sequences::random(seed, &name);
        accepted += agree(&admins, &name, &steps).await;
        sent += steps.len();
    }
    // Little would be compared if nearly all were refused, or none.
    assert!(
        accepted > sent / 4 && accepted < sent * 3 / 4,
        "{accepted} of {sent} were accepted"
    );
}
