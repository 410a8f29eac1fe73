//! What is kept of the cache, and that nobody finds half of an entry while others remove it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use flyte_datacatalog::{DataCatalog, Run, config::RetentionConfig, repository::turns};
use flyte_platform::{Clock, Tasks, config};
use jiff::{SignedDuration, Timestamp};
use sea_query::{Expr, Query};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use crate::{
    harness::{Settings, Store, World, data, overwriting, refusal, task, wired},
    on_both_databases,
};

/// How long anything here may take before its test fails.
const WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at what a loop has done; it tells nobody.
const LOOK: Duration = Duration::from_millis(10);

fn keeping(retention: RetentionConfig) -> Settings {
    let mut settings = Settings::default();
    settings.datacatalog.retention = retention;
    settings
}

/// A clock that is ahead of the system's.
fn ahead(by: SignedDuration) -> Clock {
    Clock::simulated(Timestamp::now() + by)
}

impl World {
    /// Another datacatalog on the same database and blobs that keeps what `retention` says, where it is later.
    fn keeper(&self, retention: RetentionConfig, by: SignedDuration) -> DataCatalog {
        let stores = (&self.database, &self.blobs);
        wired(stores, &keeping(retention), ahead(by)).0
    }

    async fn count(&self, table: &'static str) -> i64 {
        let count = Query::select()
            .expr_as(Expr::cust("COUNT(*)"), "count")
            .from(table)
            .take();
        let mut tx = self.database.read().await.unwrap();
        let row = tx.fetch_optional(&count).await.unwrap().unwrap();
        row.integer("count").unwrap()
    }
}

/// Hours and minutes from now on.
fn at(hours: i64, minutes: i64) -> SignedDuration {
    SignedDuration::from_hours(hours) + SignedDuration::from_mins(minutes)
}

async fn entries_go_a_while_after_they_were_written_last(store: Store) {
    let world = World::start(store).await;
    let id = task("aged");
    world.dataset(&id, &[]).await;
    for (name, outputs) in [
        ("old", &[("o0", 1), ("o1", 2)][..]),
        ("renewed", &[("o0", 3)]),
    ] {
        world.artifact(&id, name, outputs).await.unwrap();
        world.tag(&id, name, name).await.unwrap();
    }
    world.tag(&id, "second", "old").await.unwrap();
    let created = world.tagged(&id, "renewed").await.unwrap().created_at;
    let mut later = world.at(&Settings::default(), ahead(at(20, 0)));
    let overwrite = overwriting(&id, "renewed", &[("o0", 4)]);
    later.update_artifact(overwrite).await.unwrap();

    let a_day = || RetentionConfig {
        max_age: config::Duration::hours(24),
        ..RetentionConfig::default()
    };
    // Nothing is too old yet.
    let run = world.keeper(a_day(), at(23, 0)).retain().await.unwrap();
    assert_eq!(run, Run::default());
    let run = world.keeper(a_day(), at(25, 0)).retain().await.unwrap();
    assert_eq!((run.expired, run.over_size, run.orphans), (1, 0, 0));
    assert!(run.bytes > 0);
    for tag in ["old", "second"] {
        let (code, _text) = refusal(world.tagged(&id, tag).await).unwrap();
        assert_eq!(code, Code::NotFound, "{tag}");
    }
    // As young as its outputs, for clients who go by the time of creation.
    let renewed = world.tagged(&id, "renewed").await.unwrap();
    assert_eq!(renewed.data, data(&[("o0", 4)]));
    let age = renewed.created_at.unwrap().seconds - created.unwrap().seconds;
    assert!(
        (at(19, 59).as_secs()..at(20, 5).as_secs()).contains(&age),
        "{age}"
    );
    // Neither rows nor objects are left.
    assert_eq!(world.keys().await.len(), 1);
    for (table, rows) in [
        ("artifacts", 1),
        ("artifact_data", 1),
        ("tags", 1),
        ("flyte_rs_artifact_sizes", 1),
    ] {
        assert_eq!(world.count(table).await, rows, "{table}");
    }
    // The task runs again and puts its outputs under the same tag.
    world.artifact(&id, "new", &[("o0", 5)]).await.unwrap();
    world.tag(&id, "old", "new").await.unwrap();
    assert_eq!(world.tagged(&id, "old").await.unwrap().id, "new");
}

async fn the_oldest_go_until_the_rest_fits(store: Store) {
    let world = World::start(store).await;
    let id = task("sized");
    world.dataset(&id, &[]).await;
    // Six bytes each.
    for number in 0..120 {
        let name = format!("a{number:03}");
        world.artifact(&id, &name, &[("o0", 1)]).await.unwrap();
        world.tag(&id, &name, &name).await.unwrap();
    }
    let six = |entries: u64| RetentionConfig {
        max_bytes: entries * 6,
        ..RetentionConfig::default()
    };
    let run = world.keeper(six(120), at(0, 0)).retain().await.unwrap();
    assert_eq!(run, Run::default());
    // Go notes no sizes, and leaves ours as they were when it replaces outputs.
    world
        .sql(
            "DELETE FROM flyte_rs_artifact_sizes WHERE artifact_id < 'a030';
             UPDATE flyte_rs_artifact_sizes SET bytes = 1000 WHERE artifact_id = 'a119';
             UPDATE artifacts SET updated_at = updated_at + INTERVAL_OF_ONE WHERE artifact_id = 'a119'"
                .replace(
                    "INTERVAL_OF_ONE",
                    match store {
                        Store::Sqlite => "1",
                        Store::Postgres => "interval '1 microsecond'",
                    },
                )
                .as_str(),
        )
        .await;
    let run = world.keeper(six(20), at(0, 0)).retain().await.unwrap();
    assert_eq!((run.expired, run.over_size, run.bytes), (0, 100, 600));
    for (name, there) in [
        ("a000", false),
        ("a099", false),
        ("a100", true),
        ("a119", true),
    ] {
        assert_eq!(world.tagged(&id, name).await.is_ok(), there, "{name}");
    }
    assert_eq!(world.keys().await.len(), 20);
    // An entry whose object is gone takes nothing.
    let key = world.keys().await.into_iter().next().unwrap();
    let lost = format!("{}/{key}", world.blobs.base());
    world.blobs.delete(&lost).await.unwrap();
    world.sql("DELETE FROM flyte_rs_artifact_sizes").await;
    let run = world.keeper(six(19), at(0, 0)).retain().await.unwrap();
    assert_eq!(run.over_size, 0);
}

async fn objects_that_no_row_names_go_after_a_grace(store: Store) {
    let world = World::start(store).await;
    let mut id = task("interrupted");
    // Names that references encode, and that are folders of their own.
    id.version = " 2.0 beta/é %41-GKw-c0Pw-GKw-c0Pw".to_owned();
    world.dataset(&id, &[]).await;
    let new = || Uuid::new_v4().to_string();
    let (kept, replaced) = (new(), new());
    for artifact in [&kept, &replaced] {
        world.artifact(&id, artifact, &[("o0", 1)]).await.unwrap();
        world.tag(&id, artifact, artifact).await.unwrap();
    }
    world.overwrite(&id, &replaced, &[("o0", 2)]).await.unwrap();
    let named: BTreeSet<String> = world.keys().await.into_iter().collect();
    let folder = format!("{}/metadata", world.blobs.base());
    let (one, two) = (new(), new());
    let orphans = [
        format!("p/d/flyte_task-t/v/{one}/o0/data.pb"),
        format!("p/d/flyte_task-t/v/{one}/o1/{two}/data.pb"),
        // Of an artifact that has another object.
        format!("p/d/flyte_task-t/v/{kept}/o0/{two}/data.pb"),
    ];
    let others = [
        "propeller/p-d-x/n0/data/0/outputs.pb".to_owned(),
        format!("admin/p/d/{one}/o0/data.pb"),
        format!("p/d/dataset/v/{one}/o0/data.pb"),
        format!("p/d/flyte_task-t/v/{one}/o0/other.pb"),
    ];
    for name in orphans.iter().chain(&others) {
        let reference = format!("{folder}/{name}");
        let object = vec![1_u8; 10].into();
        world.blobs.put(&reference, object).await.unwrap();
    }
    let removing = || RetentionConfig {
        remove_orphans: true,
        ..RetentionConfig::default()
    };
    // Whoever wrote them may still be about to write the rows.
    let run = world.keeper(removing(), at(23, 0)).retain().await.unwrap();
    assert_eq!(run, Run::default());
    // Off by default.
    let asked_for_nothing = world.keeper(RetentionConfig::default(), at(25, 0));
    assert_eq!(asked_for_nothing.retain().await.unwrap(), Run::default());
    let run = world.keeper(removing(), at(25, 0)).retain().await.unwrap();
    assert_eq!((run.orphans, run.orphan_bytes), (3, 30));
    let mut expected = named;
    expected.extend(others.map(|name| format!("metadata/{name}")));
    let left: BTreeSet<String> = world.keys().await.into_iter().collect();
    assert_eq!(left, expected);
    for artifact in [&kept, &replaced] {
        assert_eq!(world.tagged(&id, artifact).await.unwrap().id, *artifact);
    }
}

/// What propeller does with a tag: a look-up, and on a miss a run of the task, whose outputs are put.
async fn execution_of_a_task(world: &World, tag: &str, number: i64) -> Result<bool, tonic::Status> {
    let id = task("busy");
    match world.tagged(&id, tag).await {
        Ok(found) => {
            assert_eq!(found.data.len(), 2, "half of an entry: {found:?}");
            return Ok(true);
        }
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(status),
    }
    let artifact = Uuid::new_v4().to_string();
    let outputs = [("o0", number), ("o1", number)];
    world.artifact(&id, &artifact, &outputs).await?;
    match world.tag(&id, tag, &artifact).await {
        // Another execution was first, or the artifact was evicted before it had its name.
        Err(status) if !matches!(status.code(), Code::AlreadyExists | Code::NotFound) => {
            Err(status)
        }
        _ => Ok(false),
    }
}

/// Two replicas remove everything that they find while others look up, create, overwrite and name entries: a look-up is a hit with
/// all outputs or a miss, whoever was interrupted by whom, and afterwards no tag names what is gone.
async fn a_look_up_is_a_hit_or_a_miss_while_replicas_evict(store: Store) {
    let world = Arc::new(World::start(store).await);
    world.dataset(&task("busy"), &[]).await;
    let tags = ["t0", "t1", "t2"];
    let everything = || RetentionConfig {
        max_age: config::Duration::hours(1),
        ..RetentionConfig::default()
    };
    let done = CancellationToken::new();
    let keepers = (0..2).map(|_| {
        let (keeper, done) = (world.keeper(everything(), at(1, 0)), done.clone());
        async move {
            let mut removed = 0;
            while !done.is_cancelled() {
                removed += keeper.retain().await.unwrap().expired;
            }
            removed
        }
    });
    let executions = (0..4_i64).map(|worker| {
        let world = world.clone();
        async move {
            let id = task("busy");
            let mut created = 0;
            for round in 0..30_i64 {
                let number = worker * 1_000 + round;
                let tag = tags[usize::try_from(number % 3).unwrap()];
                if !execution_of_a_task(&world, tag, number).await.unwrap() {
                    created += 1;
                }
                if round % 5 == worker {
                    let outputs = [("o0", number), ("o1", number)];
                    let overwritten = world.overwrite(&id, tag, &outputs).await;
                    let code = refusal(overwritten).map(|(code, _)| code);
                    assert!(matches!(code, None | Some(Code::NotFound)), "{code:?}");
                }
            }
            created
        }
    });
    let keepers = futures::future::join_all(keepers);
    let executions = async {
        let created = futures::future::join_all(executions).await;
        done.cancel();
        created
    };
    let (removed, created): (Vec<u64>, Vec<i64>) = tokio::join!(keepers, executions);
    let (removed, created): (u64, i64) = (removed.iter().sum(), created.iter().sum());
    // Each entry was counted once, by whoever removed it.
    let left = world.count("artifacts").await;
    assert_eq!(created - i64::try_from(removed).unwrap(), left);
    assert!(removed > 0, "nothing was removed");
    for tag in tags {
        execution_of_a_task(&world, tag, 0).await.unwrap();
        let again = execution_of_a_task(&world, tag, 0).await.unwrap();
        assert!(again, "{tag} names what is gone");
    }
    // Whatever was replaced or evicted has taken its objects along.
    let objects = i64::try_from(world.keys().await.len()).unwrap();
    assert_eq!(objects, world.count("artifact_data").await);
}

/// A tag that somebody else removed the artifact of, by hand or otherwise, is no obstacle for ever.
async fn a_tag_of_what_is_gone_moves_to_the_next_artifact(store: Store) {
    let world = World::start(store).await;
    let id = task("dangling");
    world.dataset(&id, &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    world.tag(&id, "t", "a").await.unwrap();
    world
        .sql("DELETE FROM artifact_data; DELETE FROM artifacts")
        .await;
    assert_eq!(
        refusal(world.tagged(&id, "t").await).unwrap().0,
        Code::NotFound
    );
    world.artifact(&id, "b", &[("o0", 2)]).await.unwrap();
    world.tag(&id, "t", "b").await.unwrap();
    assert_eq!(world.tagged(&id, "t").await.unwrap().id, "b");
}

async fn of_those_who_ask_at_once_one_has_the_turn(store: Store) {
    let world = World::start(store).await;
    let hour = SignedDuration::from_hours(1);
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let turns_at = async |now: Timestamp, interval: SignedDuration| {
        let asked = (0..6).map(|_| {
            world
                .database
                .write((now, interval), |(now, interval), tx| {
                    Box::pin(turns::take(tx, "work", *now, *interval))
                })
        });
        let taken = futures::future::try_join_all(asked).await.unwrap();
        taken.into_iter().filter(|taken| *taken).count()
    };
    for (case, now, interval, expected) in [
        ("the first time", start, hour, 1),
        ("before it is due", start + hour / 2, hour, 0),
        ("when it is due", start + hour, hour, 1),
        // Another process's clock is behind.
        (
            "when another has just taken it",
            start + hour - hour / 6,
            hour,
            0,
        ),
        // The turn of an hour later, left by a configuration with a longer interval.
        (
            "with a shorter interval",
            start + hour + hour / 6,
            hour / 6,
            1,
        ),
    ] {
        assert_eq!(turns_at(now, interval).await, expected, "{case}");
    }
}

async fn the_loop_removes_what_is_too_old(store: Store) {
    let world = World::start(store).await;
    let id = task("looped");
    world.dataset(&id, &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    let retention = RetentionConfig {
        max_age: config::Duration::hours(1),
        ..RetentionConfig::default()
    };
    let stores = (&world.database, &world.blobs);
    let (keeper, metrics) = wired(stores, &keeping(retention), ahead(at(2, 0)));
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    keeper.spawn(&mut tasks);
    let done = async {
        let ran = "datacatalog:datacatalog:retention:run_success_count 1";
        while !metrics.render().contains(ran) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(WITHIN, done).await.unwrap();
    assert_eq!(world.count("artifacts").await, 0);
    let text = metrics.render();
    let counted = "datacatalog:datacatalog:retention:expired_entries 1";
    assert!(text.contains(counted), "{text}");
    stop.cancel();
    tasks.run_until_stopped(WITHIN).await.unwrap();
}

on_both_databases!(
    entries_go_a_while_after_they_were_written_last,
    the_oldest_go_until_the_rest_fits,
    objects_that_no_row_names_go_after_a_grace,
    a_look_up_is_a_hit_or_a_miss_while_replicas_evict,
    a_tag_of_what_is_gone_moves_to_the_next_artifact,
    of_those_who_ask_at_once_one_has_the_turn,
    the_loop_removes_what_is_too_old,
);
