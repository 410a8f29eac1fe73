//! The command line of flyteadmin (spec 01 §22, spec 07 §5.1).

mod serve;

use std::{ffi::OsString, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use flyte_platform::{
    Chain, Clock,
    blob::BlobStore,
    config::{self, Config, Shape, Sources},
    sql::{Database, DatabaseConfig},
    telemetry::{LoggerConfig, OtelConfig},
};

use crate::{
    Admin, Dependencies,
    config::{
        AdminConfig, ClusterResourcesConfig, FlyteAdminConfig, NamespaceMappingConfig,
        RegistrationConfig, RemoteDataConfig, ServerConfig, TaskResourcesConfig,
    },
    repository::migrations,
    targets::ExecutionTargets,
    wire,
};

/// Threads need room for messages of a thousand levels, which decode recursively once they are counted.
const STACK: usize = 16 * 1024 * 1024;

/// Runs the command line `arguments`, program name included.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help goes to stdout and is a success, a mistake to stderr and is not.
            let failed = error.use_stderr();
            if error.print().is_err() || failed {
                return ExitCode::FAILURE;
            }
            return ExitCode::SUCCESS;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&matches)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("Error: {}", Chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

/// A line for the operator; there may be no log yet.
fn say(line: &str) {
    use std::io::Write as _;
    // Nobody can be told that stderr is closed.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

/// Sections whose keys are flags too, with the shape of their defaults.
fn sections() -> Vec<(&'static str, Shape)> {
    vec![
        ("server", Shape::of(&ServerConfig::default())),
        ("flyteadmin", Shape::of(&FlyteAdminConfig::default())),
        ("registration", Shape::of(&RegistrationConfig::default())),
        (
            "namespace_mapping",
            Shape::of(&NamespaceMappingConfig::default()),
        ),
        ("task_resources", Shape::of(&TaskResourcesConfig::default())),
        ("remoteData", Shape::of(&RemoteDataConfig::default())),
        (
            "cluster_resources",
            Shape::of(&ClusterResourcesConfig::default()),
        ),
        ("database", Shape::of(&DatabaseConfig::default())),
        (
            "storage",
            Shape::of(&flyte_platform::blob::StorageConfig::default()),
        ),
        ("logger", Shape::of(&LoggerConfig::default())),
        ("otel", Shape::of(&OtelConfig::default())),
    ]
}

/// The commands, without what runs them.
pub fn command() -> Command {
    let leaf = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let group = |name: &'static str, about: &'static str| {
        Command::new(name)
            .about(about)
            .subcommand_required(true)
            .arg_required_else_help(true)
    };
    let mut command = group("flyteadmin", "The API of the Flyte control plane.")
        .version(env!("CARGO_PKG_VERSION"))
        .arg(
            Arg::new("config")
                .long("config")
                .help("A configuration file or a glob of several, merged in order")
                .global(true)
                .default_value(""),
        )
        .arg(
            Arg::new("master")
                .long("master")
                .help("Address of the Kubernetes API; overrides the kubeconfig's")
                .global(true)
                .default_value(""),
        )
        .subcommand(leaf("serve", "Serve gRPC, REST and the profiler port"))
        .subcommand(
            group("migrate", "Change the database")
                .subcommand(leaf("run", "Apply migrations that are missing"))
                .subcommand(leaf("rollback", "Undo the last migration"))
                .subcommand(
                    leaf("seed-projects", "Insert projects that do not exist").arg(
                        Arg::new("names")
                            .required(true)
                            .num_args(1..)
                            .action(ArgAction::Append),
                    ),
                ),
        )
        .subcommand(
            group("clusterresource", "Create what projects need on clusters")
                .subcommand(leaf("run", "Do so at the configured interval"))
                .subcommand(leaf("sync", "Do so once")),
        )
        .subcommand(
            group("secret", "Make and upload the keys of authentication")
                .visible_alias("secrets")
                .subcommand(
                    leaf("init", "Generate keys into a folder")
                        .arg(Arg::new("localPath").long("localPath").short('p')),
                )
                .subcommand(
                    leaf("create", "Upload keys as a Kubernetes Secret")
                        .arg(Arg::new("name").long("name"))
                        .arg(Arg::new("fromPath").long("fromPath"))
                        .arg(
                            Arg::new("force")
                                .long("force")
                                .short('f')
                                .action(ArgAction::SetTrue),
                        ),
                ),
        )
        .subcommand(
            group("config", "Look at the configuration")
                .subcommand(
                    leaf("validate", "Read the configuration and report problems").arg(
                        Arg::new("strict")
                            .long("strict")
                            .action(ArgAction::SetTrue)
                            .help("Refuse keys that nothing reads"),
                    ),
                )
                .subcommand(leaf("discover", "Print the files that are read")),
        );
    for (section, shape) in sections() {
        for argument in config::arguments(section, &shape) {
            command = command.arg(argument);
        }
    }
    command
}

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Everything that the configuration says.
pub(crate) struct Loaded {
    pub(crate) admin: AdminConfig,
    pub(crate) logger: LoggerConfig,
    pub(crate) otel: OtelConfig,
}

/// The merged files, with flags on top.
fn merged(matches: &ArgMatches) -> Outcome<Config> {
    let names: Vec<String> = sections()
        .into_iter()
        .flat_map(|(section, shape)| {
            shape
                .leaves()
                .into_iter()
                .map(move |leaf| format!("{section}.{leaf}"))
        })
        .collect();
    let mut flags = config::given(matches, names.iter().map(String::as_str));
    if let Some(master) = matches
        .get_one::<String>("master")
        .filter(|text| !text.is_empty())
    {
        flags.insert("server.master".to_owned(), master.clone());
    }
    let pattern = matches
        .get_one::<String>("config")
        .cloned()
        .unwrap_or_default();
    Ok(Config::load(Sources::of_process(pattern, flags))?)
}

fn read(config: &mut Config) -> Loaded {
    Loaded {
        admin: AdminConfig::read(config),
        logger: config.section("logger"),
        otel: config.section("otel"),
    }
}

fn load(matches: &ArgMatches) -> Outcome<Loaded> {
    let mut config = merged(matches)?;
    let loaded = read(&mut config);
    for warning in config.finish()? {
        say(&format!("Warning: {}: {}", warning.key, warning.message));
    }
    Ok(loaded)
}

async fn run(matches: &ArgMatches) -> Outcome {
    let path: Vec<(&str, &ArgMatches)> =
        std::iter::successors(matches.subcommand(), |(_, inner)| inner.subcommand()).collect();
    let names: Vec<&str> = path.iter().map(|(name, _)| *name).collect();
    let Some((_, innermost)) = path.last() else {
        return Ok(());
    };
    match names.as_slice() {
        ["config", "discover"] => {
            for file in config::discover(
                innermost
                    .get_one::<String>("config")
                    .map_or("", String::as_str),
            ) {
                say(&file.display().to_string());
            }
            Ok(())
        }
        ["config", "validate"] => validate(innermost),
        ["migrate", "run"] => {
            let database = Database::open(&load(innermost)?.admin.database).await?;
            let count = migrations::run(&database)
                .await
                .map_err(|error| format!("database migration failed: {}", Chain(&error)))?;
            say(&format!("{count} migrations applied"));
            Ok(())
        }
        ["migrate", "rollback"] => {
            let database = Database::open(&load(innermost)?.admin.database).await?;
            let undone = migrations::migrations(database.dialect())
                .roll_back(&database)
                .await?;
            say(&format!("{undone} undone"));
            Ok(())
        }
        ["migrate", "seed-projects"] => {
            let admin = offline(load(innermost)?.admin).await?;
            let seeds: Vec<(String, String)> = innermost
                .get_many::<String>("names")
                .into_iter()
                .flatten()
                .map(|name| (name.clone(), String::new()))
                .collect();
            Ok(admin.seed_projects(&seeds).await?)
        }
        ["clusterresource", "sync"] => {
            let loaded = load(innermost)?;
            let admin = serve::connect(loaded.admin).await?;
            admin.sync_cluster_resources().await.map_err(|error| {
                format!("Failed to sync cluster resources : {}", Chain(&error)).into()
            })
        }
        ["clusterresource", "run"] => {
            serve::run(load(innermost)?, serve::Parts::ClusterResources).await
        }
        ["serve"] => serve::run(load(innermost)?, serve::Parts::Everything).await,
        ["secret", _] => {
            Err("secret: authentication, whose keys these are, is not built yet".into())
        }
        other => Err(format!("unknown command {}", other.join(" ")).into()),
    }
}

fn validate(matches: &ArgMatches) -> Outcome {
    let mut config = merged(matches)?;
    let files = config.files.clone();
    read(&mut config);
    if matches.get_flag("strict") {
        config.finish_strict()?;
    } else {
        for warning in config.finish()? {
            say(&format!("Warning: {}: {}", warning.key, warning.message));
        }
    }
    for file in files {
        say(&format!("Using config file: {}", file.display()));
    }
    say("Validated config file successfully.");
    Ok(())
}

/// An admin that needs no cluster.
async fn offline(config: AdminConfig) -> Outcome<Admin> {
    let dependencies = Dependencies {
        database: Database::open(&config.database).await?,
        blobs: BlobStore::in_memory(),
        targets: ExecutionTargets::new(Vec::new()),
        clock: Clock::system(),
    };
    Ok(wire(dependencies, config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_the_charts_are_understood() {
        command().debug_assert();
        for arguments in [
            "flyteadmin --config /etc/flyte/config/*.yaml serve",
            "flyteadmin --config c migrate run",
            "flyteadmin migrate run --config c",
            "flyteadmin --config c migrate seed-projects flytesnacks other",
            "flyteadmin --config c clusterresource sync",
            "flyteadmin clusterresource run --server.httpPort 80",
            "flyteadmin config validate --strict",
            "flyteadmin --config c secrets init --localPath /etc/scratch/secrets",
        ] {
            let matches = command().try_get_matches_from(arguments.split(' '));
            assert!(matches.is_ok(), "{arguments}: {:?}", matches.err());
        }
    }
}
