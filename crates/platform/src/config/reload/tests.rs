use std::{fs, path::Path};

use serde::Deserialize;
use tempfile::TempDir;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Logger {
    level: i64,
}

impl Default for Logger {
    fn default() -> Self {
        Self { level: 3 }
    }
}

/// A service that follows its section `logger` and does not follow `other`.
struct Service {
    folder: TempDir,
    level: watch::Receiver<Logger>,
    stop: CancellationToken,
    reload: tokio::task::JoinSet<()>,
}

impl Service {
    fn start(files: impl Fn(&Path)) -> Self {
        Self::start_after(files, |_folder| {})
    }

    /// One whose folder changes between the reading of the files and their following.
    fn start_after(files: impl Fn(&Path), meanwhile: impl Fn(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files(folder.path());
        let sources = Sources {
            pattern: format!("{}/*.yaml", folder.path().display()),
            ..Sources::default()
        };
        let sections =
            ["logger", "other"].map(|name| (name.to_owned(), decoded::<Logger> as Decode));
        let mut config = Config::load(sources).unwrap();
        let begin = config.section("logger");
        meanwhile(folder.path());
        let mut reload = Reload::new(&config, sections.into()).unwrap();
        let level = reload.follow("logger", begin);
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(reload.run(stop.clone()));
        Self {
            folder,
            level,
            stop,
            reload: tasks,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The level after the files have been looked at often enough.
    async fn level(&self) -> i64 {
        tokio::time::sleep(PERIOD * 4).await;
        self.level.borrow().level
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.reload.join_next().await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_edited_file_reaches_the_follower() {
    let service = Service::start(|folder| {
        fs::write(folder.join("a.yaml"), "logger: {level: 3}\n").unwrap();
    });
    service.write("a.yaml", "logger: {level: 5}\n");
    assert_eq!(service.level().await, 5);
    service.write("b.yaml", "logger: {level: 6}\n");
    assert_eq!(service.level().await, 6, "a new file that the glob matches");
    fs::remove_file(service.folder.path().join("b.yaml")).unwrap();
    assert_eq!(service.level().await, 5, "a file that is gone");
    service.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_swapped_config_map_reaches_the_follower() {
    // What kubelet does: files are links into ..data, which is a link that is renamed over.
    let version = |folder: &Path, name: &str, text: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("a.yaml"), text).unwrap();
    };
    let link = |to: &str, folder: &Path, name: &str| {
        std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
    };
    let service = Service::start(|folder| {
        version(folder, "..1", "logger: {level: 3}\n");
        link("..1", folder, "..data");
        link("..data/a.yaml", folder, "a.yaml");
    });
    let folder = service.folder.path();
    version(folder, "..2", "logger: {level: 4}\n");
    link("..2", folder, "..tmp");
    fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
    assert_eq!(service.level().await, 4);
    service.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_changes_nothing_and_a_good_one_after_it_does() {
    let service = Service::start(|folder| {
        fs::write(folder.join("a.yaml"), "logger: {level: 2}\n").unwrap();
    });
    for bad in [
        "logger: [",
        "logger: {level: many}\n",
        // A section that nobody follows spoils the whole change too.
        "logger: {level: 6}\nother: {level: many}\n",
    ] {
        service.write("a.yaml", bad);
        assert_eq!(service.level().await, 2, "{bad}");
    }
    service.write("a.yaml", "logger: {level: 1}\n");
    assert_eq!(service.level().await, 1);
    service.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_during_the_start_is_not_missed() {
    let level = |level: i64| {
        move |folder: &Path| {
            fs::write(
                folder.join("a.yaml"),
                format!(
                    "logger: {{level: {level}}} # {}\n",
                    "edited".repeat(usize::try_from(level).unwrap())
                ),
            )
            .unwrap();
        }
    };
    let service = Service::start_after(level(2), level(5));
    assert_eq!(service.level.borrow().level, 2, "what was read");
    assert_eq!(service.level().await, 5);
    service.end().await;
}

#[test]
fn keys_that_are_read_at_the_start_need_a_restart() {
    let sections = ["logger", "other"].map(|name| (name.to_owned(), decoded::<Logger> as Decode));
    let mut reload =
        Reload::new(&Config::load(Sources::default()).unwrap(), sections.into()).unwrap();
    reload.follow("logger", Logger { level: 3 });
    reload.fixed("logger", &["formatter", "file"]);
    for (section, key, expected) in [
        (0, "logger.level", false),
        (0, "logger.formatter", true),
        (0, "logger.formatter.type", true),
        (0, "logger.formatters", false),
        (1, "other.level", true),
    ] {
        let section: &Section = &reload.sections[section];
        assert_eq!(section.needs_restart(key), expected, "{key}");
    }
}

#[test]
fn differences_are_told_by_key() {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut found = Vec::new();
    differ(
        "logger",
        &value(r#"{"level": 3, "formatter": {"type": "json"}}"#),
        &value(r#"{"level": 3, "formatter": {"type": "text"}}"#),
        &mut found,
    );
    assert_eq!(
        found,
        [(
            "logger.formatter.type".to_owned(),
            "\"json\"".to_owned(),
            "\"text\"".to_owned()
        )]
    );
}
