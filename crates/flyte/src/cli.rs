//! The command line of `flyte`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use flyte_local::collection::{Age, Retention};
use flyte_platform::cli;

use crate::{
    cache,
    embedded::{self, Options, SUPERVISOR},
    standalone,
};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // The supervisor outlives everything else and wants none of it.
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == SUPERVISOR) {
        return flyte_local::supervisor::main(arguments);
    }
    if let Some(code) = service() {
        return code;
    }
    match cli::parse(command(), std::env::args_os()) {
        Ok(matches) => run(&matches),
        Err(code) => code,
    }
}

/// Subcommands whose command lines are their own; `flyte X …` is what the binary of X is, if there is one.
fn service() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let with_name = |name: &str| std::iter::once(name.into()).chain(arguments);
    Some(match first.to_str()? {
        "admin" => flyte_admin::cli::main(with_name("flyteadmin")),
        "propeller" => flyte_propeller::cli::main(with_name("flytepropeller")),
        "datacatalog" => flyte_datacatalog::cli::main(with_name("datacatalog")),
        "scheduler" => flyte_scheduler::cli::main(with_name("flytescheduler")),
        "copilot" => flyte_copilot::cli::main(with_name("flyte-copilot")),
        "cache" => cache::main(with_name("cache")),
        _ => return None,
    })
}

fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("start", inner)) if config_files(inner).is_empty() => {
            cli::run(without_sections(matches, embedded::start(options(inner))))
        }
        Some(("start", inner)) => cli::run(standalone::start(config_files(inner), inner.clone())),
        Some(("platform", inner)) => cli::run(without_sections(
            matches,
            embedded::platform(options(inner)),
        )),
        Some(("cache", inner)) => cli::run(cache::run(inner.clone())),
        Some(("webhook", inner)) => flyte_webhook::cli::dispatch(inner),
        Some(("config", inner)) => standalone::sections().run_config(inner),
        Some(("completion", inner)) => cli::complete(command(), inner),
        _ => ExitCode::FAILURE,
    }
}

/// Refuses flags of configuration sections where nothing would hear them.
async fn without_sections(
    matches: &ArgMatches,
    start: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let given = standalone::sections().given(matches);
    if let Some(key) = given.first() {
        anyhow::bail!(
            "--{key} configures services that are started with --config; without it everything is embedded and \
             configured here: leave the flag out, or name your configuration files"
        );
    }
    start.await
}

fn config_files(matches: &ArgMatches) -> String {
    matches
        .try_get_one::<String>("config")
        .ok()
        .flatten()
        .cloned()
        .unwrap_or_default()
}

fn command() -> Command {
    let start = platform_arguments(
        Command::new("start")
            .about("Starts Flyte: embedded without --config, else as the configuration says")
            .long_about(
                "Starts Flyte.\n\nWithout --config it is embedded: API, engine, storage and a node that runs tasks as \
                 processes, all in this process, with everything kept in one data folder. Clients find it where the \
                 sandbox of the tutorials is: HTTP and gRPC on localhost:30080, S3 on localhost:30002 \
                 (minio/miniostorage, bucket my-s3-bucket), Kubernetes on localhost:6443.\n\nWith --config F it starts \
                 the services that F describes, on F's database, bucket and cluster.",
            ),
    )
    .arg(
        Arg::new("http-port")
            .long("http-port")
            .value_name("PORT")
            .help("Port of HTTP and gRPC; 0 takes any")
            .value_parser(value_parser!(u16))
            .default_value("30080"),
    );
    let start = retention_arguments(start);
    let platform = platform_arguments(
        Command::new("platform").about("Starts the embedded platform alone: Kubernetes API, node and S3").long_about(
            "Starts the embedded platform alone, writes a kubeconfig and prints the storage settings, so that flyteadmin \
             and flytepropeller can run beside it with ordinary configuration.",
        ),
    );
    standalone::sections()
        .extend(
            Command::new("flyte")
                .version(env!("CARGO_PKG_VERSION"))
                .about("Flyte: all services in one process, or any one of them")
                .subcommand_required(true)
                .arg_required_else_help(true),
        )
        .subcommand(start)
        .subcommand(platform)
        .subcommand(flyte_admin::cli::program().command().clone().name("admin"))
        .subcommand(
            flyte_propeller::cli::program()
                .command()
                .clone()
                .name("propeller"),
        )
        .subcommand(
            flyte_datacatalog::cli::program()
                .command()
                .clone()
                .name("datacatalog"),
        )
        .subcommand(
            flyte_scheduler::cli::program()
                .command()
                .clone()
                .name("scheduler"),
        )
        .subcommand(
            flyte_copilot::cli::program()
                .command()
                .clone()
                .name("copilot"),
        )
        .subcommand(flyte_webhook::cli::command())
        .subcommand(cache::command())
        .subcommand(cli::completion())
}

fn platform_arguments(command: Command) -> Command {
    let port = |name: &'static str, help: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("PORT")
            .help(help)
            .value_parser(value_parser!(u16))
            .default_value(default)
    };
    command
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("FOLDER")
                .help("Where everything is kept [default: $XDG_DATA_HOME/flyte]")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("host")
                .long("host")
                .value_name("ADDRESS")
                .help("Address to listen on; anything but loopback lets others in, without authentication")
                .default_value("127.0.0.1"),
        )
        .arg(port("s3-port", "Port of the S3 endpoint; 0 takes any", "30002"))
        .arg(port("kubernetes-port", "Port of the Kubernetes API; 0 takes any", "6443"))
        .arg(
            Arg::new("kubeconfig")
                .long("kubeconfig")
                .value_name("FILE")
                .help(
                    "For tests and development: instead of the embedded Kubernetes API, the API server of this kubeconfig. It \
                     must have no nodes: this machine becomes its only one, and runs all its pods as your processes",
                )
                .conflicts_with("kubernetes-port"),
        )
        .arg(
            Arg::new("python")
                .long("python")
                .value_name("PROGRAM")
                .help("The Python whose environment tasks run in")
                .default_value("python3"),
        )
        .arg(
            Arg::new("node-cpu")
                .long("node-cpu")
                .value_name("QUANTITY")
                .help("Cores that tasks may request together [default: all of this machine's]"),
        )
        .arg(
            Arg::new("node-memory")
                .long("node-memory")
                .value_name("QUANTITY")
                .help("Memory that tasks may request together [default: all of this machine's]"),
        )
        .arg(
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .help("More log lines; twice for all of them")
                .action(ArgAction::Count),
        )
}

fn retention_arguments(command: Command) -> Command {
    let age = |name: &'static str, help: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("TIME")
            .help(help)
            .value_parser(Retention::parse)
            .default_value(default)
            // Which executions have ended is read from the embedded API alone; nothing would hear this.
            .conflicts_with("kubeconfig")
    };
    command
        .arg(age(
            "intermediate-retention",
            "How long after the end of an execution files stay that only the engine reads, such as 24h or 7d; or never to \
             remove them",
            "24h",
        ))
        .arg(age(
            "data-retention",
            "How long after the end of an execution its inputs, outputs and decks stay, such as 30d; never keeps what lists \
             show",
            "never",
        ))
        .arg(age(
            "cache-retention",
            "How long what a cached task has is kept after it was written, such as 30d; never keeps it until `flyte cache evict`",
            "never",
        ))
}

fn options(matches: &ArgMatches) -> Options {
    let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let port = |name: &str| {
        matches
            .try_get_one::<u16>(name)
            .ok()
            .flatten()
            .copied()
            .unwrap_or(0)
    };
    let age = |name: &str| matches.try_get_one::<Age>(name).ok().flatten().copied();
    Options {
        data_dir: matches.get_one::<PathBuf>("data-dir").cloned(),
        host: text("host").unwrap_or_else(|| "127.0.0.1".into()),
        http_port: port("http-port"),
        s3_port: port("s3-port"),
        kubernetes_port: port("kubernetes-port"),
        kubeconfig: text("kubeconfig"),
        python: text("python").unwrap_or_else(|| "python3".into()),
        node_cpu: text("node-cpu"),
        node_memory: text("node-memory"),
        // Without an engine of its own, a platform keeps everything.
        retention: match (age("intermediate-retention"), age("data-retention")) {
            (Some(intermediate), Some(shown)) => Retention {
                intermediate,
                shown,
            },
            _ => Retention::everything(),
        },
        cache_retention: age("cache-retention").flatten(),
        verbosity: matches.get_count("verbose"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_sandbox() {
        let matches = command().try_get_matches_from(["flyte", "start"]).unwrap();
        let options = options(matches.subcommand().unwrap().1);
        assert_eq!(
            (options.http_port, options.s3_port, options.kubernetes_port),
            (30080, 30002, 6443)
        );
        assert_eq!(options.host, "127.0.0.1");
        assert_eq!(options.retention, Retention::default());
    }

    #[test]
    fn retention_is_given_with_units() {
        let matches = |words: &[&str]| command().try_get_matches_from(words);
        let given = [
            "flyte",
            "start",
            "--intermediate-retention",
            "never",
            "--data-retention",
            "30d",
            "--cache-retention",
            "90m",
        ];
        let given = matches(&given).unwrap();
        let given = options(given.subcommand().unwrap().1);
        assert_eq!(Some(given.cache_retention), Retention::parse("90m").ok());
        let found = given.retention;
        assert_eq!(found.intermediate, None);
        assert_eq!(Some(found.shown), Retention::parse("30d").ok());
        assert!(matches(&["flyte", "start", "--data-retention", "30"]).is_err());
        let platform = matches(&["flyte", "platform"]).unwrap();
        let found = options(platform.subcommand().unwrap().1).retention;
        assert_eq!(found, Retention::everything());
    }
}
