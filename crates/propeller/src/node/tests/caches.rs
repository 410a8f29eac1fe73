//! The cache around tasks: asked before they start, kept reserved while they run, written when they have ended.

use flyte_crd::status::TaskPhase;
use flyte_idl::{
    core::{CatalogCacheStatus, CatalogMetadata},
    datacatalog::DatasetId,
};
use jiff::SignedDuration;
use serde_json::json;

use super::{
    super::{
        cache::{CacheKey, LookUp, Reservation, Written},
        *,
    },
    scene::*,
};

fn cached() -> Scene {
    Scene::of("task", json!({ "task": "cached" }))
}

fn serialized() -> Scene {
    Scene::of("task", json!({ "task": "serialized" }))
}

fn key() -> Arc<CacheKey> {
    Arc::new(CacheKey {
        dataset: DatasetId::default(),
        tag: "tag".into(),
    })
}

fn found(found: LookUp) -> NodeResult {
    NodeResult::CacheLookedUp(key(), found)
}

fn hit() -> NodeResult {
    found(LookUp::Hit(Box::<CatalogMetadata>::default()))
}

fn prepared() -> NodeResult {
    NodeResult::Prepared(Ok(Arc::default()))
}

/// Reserved by this node or by somebody else, to be asked about again in so many seconds.
fn reserved(scene: Scene, is_ours: bool, seconds: i64) -> Scene {
    scene.change(|scene| {
        scene.cache.reservation = Some(Reservation {
            is_ours,
            ask_again: now() + SignedDuration::from_secs(seconds),
        });
    })
}

fn waiting(scene: Scene) -> Scene {
    scene.change(|scene| scene.status.message = "waiting on serialized cache".into())
}

fn written(status: CatalogCacheStatus) -> NodeResult {
    let written = Written {
        status,
        metadata: None,
        reservation: None,
    };
    let result = NodeResult::TaskResult(TaskResult::Outputs { deck: false });
    NodeResult::CacheWritten(written, Some(Box::new(result)))
}

#[test]
fn the_cache_is_asked_before_a_task_starts() {
    let new = |scene: Scene| scene.at(NodePhase::NotYetStarted);
    check(vec![
        (
            "it is asked",
            new(cached()),
            Some(prepared()),
            "look the cache up",
        ),
        (
            "not for others",
            new(Scene::task()),
            Some(prepared()),
            "QUEUED, Queued",
        ),
        (
            "it has it",
            new(cached()),
            Some(hit()),
            "SUCCEEDED, Succeeded",
        ),
        (
            "it has nothing",
            new(cached()),
            Some(found(LookUp::Miss)),
            "QUEUED, Queued",
        ),
        (
            "it has nothing of use",
            new(cached()),
            Some(found(LookUp::Stale)),
            "QUEUED, Queued",
        ),
        ("the task starts", cached(), None, "create the pod"),
    ]);
    let context = context_with(json!({ "executionConfig": { "OverwriteCache": true } }));
    let scene = new(cached());
    let step = scene.with_view_in(&context, |view| step(view, Some(prepared()), now()));
    let Step::Change(change) = step else {
        panic!("an entry that is to be overwritten is asked for")
    };
    assert_eq!(described(&change), "QUEUED, Queued");
}

#[test]
fn one_at_a_time_runs_of_what_is_serialized() {
    let runs = serialized()
        .with_task(TaskPhase::Running)
        .reported()
        .with_pod("Running");
    check(vec![
        (
            "it is reserved",
            serialized(),
            None,
            "reserve its entry in the cache",
        ),
        (
            "it is ours",
            reserved(serialized(), true, 10),
            None,
            "create the pod",
        ),
        (
            "somebody else has it",
            reserved(serialized(), false, 10),
            None,
            "Queued",
        ),
        (
            "it is waited for",
            waiting(reserved(serialized(), false, 10)),
            None,
            "wait 10 s",
        ),
        (
            "it is time to ask again",
            waiting(reserved(serialized(), false, 0)),
            None,
            "look the cache up",
        ),
        (
            "another process waited",
            waiting(serialized()),
            None,
            "look the cache up",
        ),
        (
            "there is nothing yet",
            waiting(serialized()),
            Some(found(LookUp::Miss)),
            "reserve its entry in the cache",
        ),
        (
            "there is",
            waiting(serialized()),
            Some(hit()),
            "SUCCEEDED, Succeeded",
        ),
        (
            "it runs, and is looked at again in time",
            reserved(runs.clone(), true, 10),
            None,
            "wait 10 s",
        ),
        (
            "it runs on with what it has reserved",
            reserved(runs.clone(), true, 0),
            None,
            "reserve its entry in the cache",
        ),
        (
            "another process had reserved it",
            runs.clone(),
            None,
            "reserve its entry in the cache",
        ),
        (
            "it runs on although somebody else has it now",
            reserved(runs, false, 10),
            None,
            "wait 10 s",
        ),
    ]);
}

#[test]
fn what_a_task_brings_is_written_before_it_is_told() {
    let done = cached()
        .with_task(TaskPhase::Running)
        .reported()
        .with_pod("Succeeded");
    let result = || Some(NodeResult::TaskResult(TaskResult::Outputs { deck: false }));
    let failed = NodeResult::TaskResult(TaskResult::Failed {
        error: failure().clone(),
        recoverable: false,
        deck: false,
    });
    check(vec![
        ("it is written", done.clone(), result(), "write the cache"),
        (
            "it was",
            done.clone(),
            Some(written(CatalogCacheStatus::CachePopulated)),
            "task SUCCEEDED, SUCCEEDED, Succeeded",
        ),
        (
            "it could not be",
            done.clone(),
            Some(written(CatalogCacheStatus::CachePutFailure)),
            "task SUCCEEDED, SUCCEEDED, Succeeded",
        ),
        (
            "what failed is not",
            done,
            Some(failed),
            "task FAILED, FAILED, Failed Code",
        ),
        (
            "nor what is not cached",
            Scene::task().with_task(TaskPhase::Running).reported(),
            result(),
            "task SUCCEEDED, SUCCEEDED, Succeeded",
        ),
    ]);
}
