//! `flyte cache`: what cached tasks have, and its eviction.
//!
//! A client of a running datacatalog ([`flyte_datacatalog::management`]); the one of `flyte start` unless told otherwise.

mod client;
mod show;

use std::{
    ffi::OsString,
    io::{BufRead as _, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use flyte_datacatalog::{
    domain::entries::{Selection, TASK},
    management::{EntriesRequest, Eviction, EvictionRequest},
};
use flyte_platform::{
    Clock, cli,
    config::{Config, Sources},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use client::Client;

/// Where `flyte start` listens by default; datacatalog is behind the same port.
const EMBEDDED: &str = "localhost:30080";

/// The most entries that are asked for at once.
const PAGE: u32 = 1_000;

/// The part of section `catalog-cache` that says where datacatalog is (spec 06 B1). Its other keys are the engine's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// `host:port`.
    endpoint: String,
    /// Without TLS.
    insecure: bool,
}

/// Runs the command line `arguments`, program name included. It has no flags for configuration keys, of which it reads two.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match cli::parse(alone(), arguments) {
        Ok(matches) => cli::run(run(matches)),
        Err(code) => code,
    }
}

/// The subcommand as a command line of its own.
fn alone() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILES")
        .help("Configuration of the engine, whose catalog-cache.endpoint is asked")
        .global(true);
    command().bin_name("flyte cache").arg(config)
}

/// The subcommand.
pub(crate) fn command() -> Command {
    Command::new("cache")
        .about("Shows and evicts what cached tasks have")
        .long_about(
            "Shows and evicts what cached tasks have. An entry is what one task, cache version and set of inputs came to; \
             a task whose entry is evicted runs again.\n\nIt asks a running datacatalog: that of `flyte start`, or the one \
             that --endpoint or catalog-cache.endpoint of --config names.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(list_command())
        .subcommand(evict_command())
}

fn list_command() -> Command {
    let command = Command::new("ls")
        .about("Lists entries, the newest first, with size, age and the execution that wrote them")
        .after_help(
            "Examples:\n  flyte cache ls\n  flyte cache ls --project flytesnacks --domain development --task my.module.square\n  \
             flyte cache ls --older-than 30d --output json",
        );
    with_connection(with_selection(command)).arg(
        Arg::new("limit")
            .long("limit")
            .value_name("COUNT")
            .help("The most entries that are shown; 0 shows all")
            .value_parser(value_parser!(u32))
            .default_value("100"),
    )
}

fn evict_command() -> Command {
    let command = Command::new("evict")
        .about("Evicts entries: their tasks run again")
        .long_about(
            "Evicts entries: their tasks run again. What is selected must fit all flags that are given. Entries that are \
             written while it works stay. Files and data frames that outputs refer to belong to executions and stay too.",
        )
        .after_help(
            "Examples:\n  flyte cache evict --task my.module.square --cache-version 1.0\n  flyte cache evict --project \
             flytesnacks --older-than 30d --dry-run\n  flyte cache evict --all",
        );
    let selecting = [
        "project", "domain", "task", "dataset", "version", "tag", "older",
    ];
    with_connection(with_selection(command))
        .arg(
            Arg::new("all")
                .long("all")
                .help("Every entry of every project; asks first")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(selecting),
        )
        .arg(
            Arg::new("yes")
                .long("yes")
                .short('y')
                .help("Does not ask")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .help("Says what would be evicted, and evicts nothing")
                .action(ArgAction::SetTrue),
        )
}

fn with_selection(command: Command) -> Command {
    let text = |id: &'static str, long: &'static str, value: &'static str, help: &'static str| {
        Arg::new(id).long(long).value_name(value).help(help)
    };
    command
        .arg(text("project", "project", "PROJECT", "Of tasks of this project").short('p'))
        .arg(text("domain", "domain", "DOMAIN", "Of tasks of this domain").short('d'))
        .arg(
            text("task", "task", "NAME", "Of the task of this name, such as my.module.square")
                .conflicts_with("dataset"),
        )
        .arg(text(
            "dataset",
            "dataset",
            "NAME",
            "Of the dataset of this name; that of a task is flyte_task- and its name",
        ))
        .arg(
            text(
                "version",
                "cache-version",
                "VERSION",
                "Of this cache version, or of this version of the dataset, which has the hashes of the task's interface behind it",
            )
            .alias("version"),
        )
        .arg(text(
            "tag",
            "tag",
            "TAG",
            "That this tag names: flyte_cached- and the hash of the inputs",
        ))
        .arg(
            text(
                "older",
                "older-than",
                "TIME",
                "Written last at least so long ago, such as 90m, 12h, 30d or 2w",
            )
            .value_parser(seconds),
        )
}

fn with_connection(command: Command) -> Command {
    command
        .arg(
            Arg::new("endpoint")
                .long("endpoint")
                .value_name("HOST:PORT")
                .help("The port of datacatalog [default: catalog-cache.endpoint of --config, or localhost:30080]"),
        )
        .arg(
            Arg::new("tls")
                .long("tls")
                .help("Speaks TLS to --endpoint")
                .action(ArgAction::SetTrue)
                .requires("endpoint"),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FORMAT")
                .help("How answers are written")
                .value_parser(["text", "json"])
                .default_value("text"),
        )
}

/// Seconds of a length of time with its unit.
fn seconds(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no time: a number and s, m, h, d or w, such as 12h or 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u32 = number.parse().map_err(|_no_number| wrong())?;
    number
        .checked_mul(each)
        .ok_or_else(|| format!("{text:?} is longer than a hundred years"))
}

/// How answers are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Text,
    Json,
}

/// Runs the subcommand.
pub(crate) async fn run(matches: ArgMatches) -> anyhow::Result<()> {
    match matches.subcommand() {
        Some(("ls", inner)) => list(inner).await,
        Some(("evict", inner)) => evict(inner).await,
        _ => Ok(()),
    }
}

fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.try_get_one::<String>(id).ok().flatten().cloned()
}

fn output(matches: &ArgMatches) -> Output {
    match text(matches, "output").as_deref() {
        Some("json") => Output::Json,
        _ => Output::Text,
    }
}

/// What the flags select, but for the age.
fn selection(matches: &ArgMatches) -> Selection {
    let task = text(matches, "task").map(|task| format!("{TASK}{task}"));
    Selection {
        project: text(matches, "project"),
        domain: text(matches, "domain"),
        name: task.or_else(|| text(matches, "dataset")),
        version: text(matches, "version"),
        tag: text(matches, "tag"),
        written_before: None,
    }
}

fn older(matches: &ArgMatches) -> Option<u32> {
    matches.get_one::<u32>("older").copied()
}

/// A client of the datacatalog that flags or configuration name.
fn connect(matches: &ArgMatches) -> anyhow::Result<Client> {
    if let Some(endpoint) = text(matches, "endpoint") {
        return Client::new(&endpoint, !matches.get_flag("tls"));
    }
    let files = text(matches, "config").unwrap_or_default();
    if files.is_empty() {
        return Client::new(EMBEDDED, true);
    }
    let mut config = Config::load(Sources::of_process(files.clone(), [].into()))?;
    let place: Place = config.section("catalog-cache");
    config.finish()?;
    anyhow::ensure!(
        !place.endpoint.is_empty(),
        "--config {files:?} has no catalog-cache.endpoint; name the port of datacatalog with --endpoint"
    );
    Client::new(&place.endpoint, place.insecure)
}

async fn list(matches: &ArgMatches) -> anyhow::Result<()> {
    let client = connect(matches)?;
    let limit = match matches.get_one::<u32>("limit").copied() {
        None | Some(0) => u32::MAX,
        Some(limit) => limit,
    };
    let Selection {
        project,
        domain,
        name,
        version,
        tag,
        written_before: _,
    } = selection(matches);
    let mut request = EntriesRequest {
        project,
        domain,
        name,
        version,
        tag,
        older_than_seconds: older(matches),
        ..EntriesRequest::default()
    };
    let (mut entries, mut left) = (Vec::new(), limit);
    loop {
        request.limit = left.min(PAGE);
        let page = client.entries(&request).await?;
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        entries.extend(page.entries);
        request.token = page.next_token;
        if request.token.is_empty() || left == 0 {
            break;
        }
    }
    let more = !request.token.is_empty();
    match output(matches) {
        Output::Json => print_json(&json!({ "entries": entries, "more": more })),
        Output::Text => cli::print(&show::table(&entries, more, Clock::system().now())),
    }
    Ok(())
}

async fn evict(matches: &ArgMatches) -> anyhow::Result<()> {
    let (all, dry_run) = (matches.get_flag("all"), matches.get_flag("dry-run"));
    let mut request = EvictionRequest {
        selection: selection(matches),
        older_than_seconds: older(matches),
        all,
        dry_run: true,
        limit: 0,
    };
    anyhow::ensure!(
        all || request.older_than_seconds.is_some() || !request.selection.is_everything(),
        "nothing says which entries to evict: select some with --project, --domain, --task, --cache-version, --tag or \
         --older-than, or all with --all"
    );
    let output = output(matches);
    let client = connect(matches)?;
    let found = client.evict(&request).await?;
    if dry_run || found.entries == 0 {
        say_evicted(output, &found, dry_run);
        return Ok(());
    }
    if all && !matches.get_flag("yes") && !confirm(&found)? {
        cli::print("Nothing is evicted.\n");
        return Ok(());
    }
    request.dry_run = false;
    // What is written from now on stays, however long this takes.
    request.selection.written_before = Some(found.written_before);
    let mut evicted = Eviction {
        entries: 0,
        bytes: 0,
        ..found
    };
    loop {
        let outcome = client.evict(&request).await;
        let more = outcome.with_context(|| {
            format!(
                "{} of {} entries are evicted; the same command goes on",
                show::count(evicted.entries),
                show::count(found.entries)
            )
        })?;
        evicted.entries += more.entries;
        evicted.bytes += more.bytes;
        if more.done {
            break;
        }
        progress(evicted.entries, found.entries);
    }
    say_evicted(output, &evicted, false);
    Ok(())
}

/// Asks whoever sits there.
fn confirm(found: &Eviction) -> anyhow::Result<bool> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "--all evicts {} and nobody is there to be asked; add --yes",
        show::entries(found.entries)
    );
    let size = show::size(found.bytes);
    let question = format!(
        "Evict all of {} ({size})? Their tasks run again. [y/N] ",
        show::entries(found.entries)
    );
    let mut terminal = anstream::stderr().lock();
    terminal.write_all(question.as_bytes())?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says on a terminal how far it is; nowhere else, so that logs have one line.
fn progress(done: u64, of: u64) {
    if std::io::stderr().is_terminal() {
        let line = format!(
            "\r{} of {} entries evicted",
            show::count(done),
            show::count(of)
        );
        drop(anstream::stderr().lock().write_all(line.as_bytes()));
    }
}

fn say_evicted(output: Output, eviction: &Eviction, dry_run: bool) {
    let Eviction { entries, bytes, .. } = *eviction;
    match output {
        Output::Json => {
            print_json(&json!({ "entries": entries, "bytes": bytes, "dryRun": dry_run }));
        }
        Output::Text => cli::print(&show::evicted(entries, bytes, dry_run)),
    }
}

fn print_json(value: &serde_json::Value) {
    cli::print(&format!("{value:#}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<ArgMatches, String> {
        let matches = alone().try_get_matches_from(line.split(' '));
        matches.map_err(|error| error.to_string())
    }

    fn evicting(line: &str) -> ArgMatches {
        let matches = parsed(line).unwrap();
        matches.subcommand().unwrap().1.clone()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        alone().debug_assert();
    }

    #[test]
    fn flags_select_entries() {
        let line = "cache evict -p p -d d --task a.b --cache-version 1.0 --tag t --older-than 2w";
        let matches = evicting(line);
        let expected = Selection {
            project: Some("p".to_owned()),
            domain: Some("d".to_owned()),
            name: Some("flyte_task-a.b".to_owned()),
            version: Some("1.0".to_owned()),
            tag: Some("t".to_owned()),
            written_before: None,
        };
        assert_eq!(selection(&matches), expected);
        assert_eq!(older(&matches), Some(1_209_600));
        let other = selection(&evicting("cache evict --dataset a.b --version 1.0"));
        assert_eq!(other.name.as_deref(), Some("a.b"));
        assert_eq!(other.version.as_deref(), Some("1.0"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (line, text) in [
            ("cache evict --all --project p", "cannot be used with"),
            ("cache evict --task a --dataset b", "cannot be used with"),
            ("cache ls --tls", "--endpoint"),
            ("cache ls --older-than 30", "such as 12h or 30d"),
            ("cache ls --older-than 9999w9", "such as 12h or 30d"),
            (
                "cache ls --older-than 9999999w",
                "longer than a hundred years",
            ),
            ("cache ls --output xml", "possible values: text, json"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }
}
