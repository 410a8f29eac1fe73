//! The command line of flyteadmin (spec 01 §22, spec 07 §5.1).

mod loaded;
mod outcome;
mod ports;
mod serve;

use std::{ffi::OsString, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use flyte_platform::{
    Chain, Clock,
    blob::BlobStore,
    cli::{self, Program},
    metrics::Scope,
    sql::Database,
};

use crate::{
    Admin, Dependencies, config::AdminConfig, repository::migrations, targets::ExecutionTargets,
    wire,
};
use loaded::{load, say};

pub use loaded::sections;
pub use outcome::Outcome;
pub use ports::Ports;

/// Runs the command line `arguments`, program name included; `flyte admin` calls this too.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    program().main(arguments, |matches| {
        let matches = matches.clone();
        cli::run(async move { Box::pin(run(&matches)).await })
    })
}

/// Its command line.
pub fn program() -> Program {
    let leaf = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let group = |name: &'static str, about: &'static str| {
        leaf(name, about)
            .subcommand_required(true)
            .arg_required_else_help(true)
    };
    Program::new(
        "flyteadmin",
        "The API of the Flyte control plane",
        sections(),
    )
    .with(|command| {
        command.arg(
            Arg::new("master")
                .long("master")
                .value_name("URL")
                .help("Address of the Kubernetes API; overrides the kubeconfig's")
                .global(true)
                .default_value(""),
        )
    })
    .commands([
        leaf("serve", "Serves gRPC, REST and the profiler port"),
        group("migrate", "Changes the database")
            .subcommand(leaf("run", "Applies migrations that are missing"))
            .subcommand(leaf("rollback", "Undoes the last migration"))
            .subcommand(
                leaf("seed-projects", "Inserts projects that do not exist").arg(
                    Arg::new("names")
                        .value_name("PROJECT")
                        .help("Identifiers of the projects")
                        .required(true)
                        .num_args(1..)
                        .action(ArgAction::Append),
                ),
            ),
        group("clusterresource", "Creates what projects need on clusters")
            .subcommand(leaf("run", "Does so at the configured interval"))
            .subcommand(leaf("sync", "Does so once")),
        group("secret", "Makes and uploads the keys of authentication")
            .visible_alias("secrets")
            .subcommand(
                leaf("init", "Generates keys into a folder").arg(
                    Arg::new("localPath")
                        .long("localPath")
                        .short('p')
                        .value_name("FOLDER")
                        .help("The folder; made if it is missing [default: the current one]"),
                ),
            )
            .subcommand(
                leaf("create", "Uploads keys as a Kubernetes Secret")
                    .arg(
                        Arg::new("name")
                            .long("name")
                            .value_name("NAME")
                            .help("Name of the Secret")
                            .default_value("flyte-admin-auth"),
                    )
                    .arg(
                        Arg::new("fromPath")
                            .long("fromPath")
                            .value_name("FOLDER")
                            .help("Where the keys are")
                            .default_value("/etc/secrets"),
                    )
                    .arg(
                        Arg::new("force")
                            .long("force")
                            .short('f')
                            .help("Replaces a Secret that exists")
                            .action(ArgAction::SetTrue),
                    ),
            ),
    ])
}

async fn run(matches: &ArgMatches) -> Outcome {
    let path: Vec<(&str, &ArgMatches)> =
        std::iter::successors(matches.subcommand(), |(_, inner)| inner.subcommand()).collect();
    let names: Vec<&str> = path.iter().map(|(name, _)| *name).collect();
    let Some((_, innermost)) = path.last() else {
        return Ok(());
    };
    match names.as_slice() {
        ["migrate", "run"] => {
            let database =
                Database::open_as(&load(innermost)?.admin.database, "flyteadmin").await?;
            let count = migrations::run(&database)
                .await
                .map_err(|error| format!("database migration failed: {}", Chain(&error)))?;
            say(&format!("{count} migrations applied"));
            Ok(())
        }
        ["migrate", "rollback"] => {
            let database =
                Database::open_as(&load(innermost)?.admin.database, "flyteadmin").await?;
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
            let admin = serve::connect(loaded.admin, loaded.home, Scope::new("")).await?;
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

/// An admin that needs no cluster.
async fn offline(config: AdminConfig) -> Outcome<Admin> {
    let dependencies = Dependencies {
        database: Database::open_as(&config.database, "flyteadmin").await?,
        blobs: BlobStore::in_memory(),
        targets: ExecutionTargets::new(Vec::new()),
        clock: Clock::system(),
        metrics: Scope::new(""),
    };
    Ok(wire(dependencies, config)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_the_charts_are_understood() {
        let command = program().command().clone();
        command.clone().debug_assert();
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
            let matches = command.clone().try_get_matches_from(arguments.split(' '));
            assert!(matches.is_ok(), "{arguments}: {:?}", matches.err());
        }
    }
}
