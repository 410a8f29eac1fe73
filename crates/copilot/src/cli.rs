//! The command line of `flyte-copilot` (spec 07 §5.7).

mod run;

use std::{ffi::OsString, process::ExitCode};

use clap::{Arg, ArgAction, Command};
use flyte_platform::{
    Chain,
    blob::{self, StorageConfig},
    cli::{self, Program, Sections},
    config::Duration,
    server::ProfConfig,
    telemetry::{LoggerConfig, OtelConfig},
};
use tokio::signal::unix::{SignalKind, signal};

/// The sections that copilot reads (spec 07 §1.12).
pub fn sections() -> Sections {
    Sections::new()
        .with::<StorageConfig>("storage")
        .with::<LoggerConfig>("logger")
        .with::<OtelConfig>("otel")
        .with::<ProfConfig>("prof")
        .unheard(blob::UNHEARD)
}

/// Its command line.
pub fn program() -> Program {
    Program::new(
        "flyte-copilot",
        "Brings a raw container its inputs as files, and takes its outputs away",
        sections(),
    )
    .commands([download(), sidecar()])
    .with(|command| {
        command
            .arg(
                Arg::new("err-output-name")
                    .long("err-output-name")
                    .value_name("NAME")
                    .help("Name of the error document below the output prefix")
                    .global(true)
                    .default_value("error.pb"),
            )
            // Go's program takes them and does nothing with them.
            .arg(unused("kubeconfig").num_args(1))
            .arg(unused("show-source").short('s').action(ArgAction::SetTrue))
    })
}

fn unused(name: &'static str) -> Arg {
    Arg::new(name).long(name).global(true).hide(true)
}

fn download() -> Command {
    Command::new("download")
        .about("Downloads inputs into a folder; an init container")
        .arg(option(
            "from-remote",
            Some('f'),
            "URI",
            "Where the inputs are",
        ))
        .arg(option(
            "to-output-prefix",
            None,
            "URI",
            "Where an error document goes",
        ))
        .arg(option("to-local-dir", Some('o'), "DIR", "Folder to fill"))
        .arg(format())
        .arg(
            option("download-mode", Some('d'), "MODE", "How much is downloaded")
                .value_parser(["DOWNLOAD_EAGER", "DOWNLOAD_STREAM", "DO_NOT_DOWNLOAD"])
                .default_value("DOWNLOAD_EAGER"),
        )
        .arg(timeout())
        .arg(option(
            "input-interface",
            Some('i'),
            "BASE64",
            "Types of the inputs: a VariableMap in base64",
        ))
}

fn sidecar() -> Command {
    let watcher = |name: &'static str, help: &'static str| {
        option(name, None, "TYPE", help)
            .value_parser(["signal", "noop"])
            .default_value("signal")
    };
    Command::new("sidecar")
        .about("Waits for the container to end, then uploads what it wrote")
        .arg(option(
            "to-output-prefix",
            Some('o'),
            "URI",
            "Where outputs.pb goes",
        ))
        .arg(option(
            "to-raw-output",
            Some('x'),
            "URI",
            "Where files and folders go",
        ))
        .arg(option(
            "from-local-dir",
            Some('f'),
            "DIR",
            "Folder that the container wrote",
        ))
        .arg(format())
        .arg(
            option(
                "upload-mode",
                Some('u'),
                "MODE",
                "When outputs are uploaded",
            )
            .value_parser(["UPLOAD_ON_EXIT", "UPLOAD_EAGER", "DO_NOT_UPLOAD"])
            .default_value("UPLOAD_ON_EXIT"),
        )
        .arg(
            option(
                "meta-output-name",
                None,
                "NAME",
                "Name of the outputs document",
            )
            .default_value("outputs.pb"),
        )
        .arg(timeout())
        .arg(option(
            "interface",
            Some('i'),
            "BASE64",
            "Types of the task: a TypedInterface in base64; without it there is nothing to do",
        ))
        .arg(watcher(
            "start-watcher-type",
            "How the start of the container is noticed",
        ))
        .arg(watcher("exit-watcher-type", "How its end is noticed"))
        .arg(option(
            "start-timeout",
            None,
            "DURATION",
            "Deprecated; has no effect",
        ))
}

fn option(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Arg {
    let argument = Arg::new(long)
        .long(long)
        .value_name(value)
        .help(help)
        .num_args(1);
    match short {
        Some(short) => argument.short(short),
        None => argument,
    }
}

fn format() -> Arg {
    option(
        "format",
        Some('m'),
        "FORMAT",
        "How literals are written in files",
    )
    .value_parser(["JSON", "YAML", "PROTO"])
    .default_value("JSON")
}

fn timeout() -> Arg {
    option(
        "timeout",
        Some('t'),
        "DURATION",
        "Longest time for the transfer, as Go writes it; 0 is no limit",
    )
    .value_parser(|text: &str| text.parse::<Duration>())
    .default_value("1h")
}

/// Runs the command line `arguments`, program name included; `flyte copilot` calls this too.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A container may end before this process has read its command line. SIGTERM must not end it then: it says that
    // outputs are to be uploaded.
    let begun = cli::runtime().and_then(|runtime| {
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        drop(entered);
        Ok((runtime, terminate))
    });
    let (runtime, terminate) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            cli::complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    program().main(arguments, |matches| {
        let done = runtime.block_on(run::run(matches.clone(), terminate));
        // What still reads or writes after time was up must not hold up the end.
        runtime.shutdown_background();
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                cli::complain(&Chain(error.as_ref()).to_string());
                ExitCode::FAILURE
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_propeller_writes_into_pods_are_understood() {
        for line in [
            "flyte-copilot --storage.limits.maxDownloadMBs=0 --logger.level=5 --storage.enable-multicontainer \
             --storage.container=b --storage.type=stow --storage.stow.config a=b --storage.stow.config c=d \
             --storage.stow.kind=s3 sidecar --timeout 1h0m0s --to-raw-output s3://b/r --to-output-prefix s3://b/o \
             --from-local-dir /var/flyte/outputs --interface CgA=",
            "flyte-copilot --kubeconfig k -s --storage.connection.secret-key=s --storage.connection.access-key=a \
             --storage.connection.auth-type=accesskey --storage.connection.region=us-east-1 \
             --storage.connection.endpoint=http://minio:9000 download --from-remote s3://b/i \
             --to-output-prefix s3://b/o --to-local-dir /var/flyte/inputs --format YAML --input-interface CgA=",
        ] {
            let command = program().command().clone();
            let matches = command.try_get_matches_from(line.split_whitespace());
            assert!(matches.is_ok(), "{line}: {}", matches.unwrap_err());
        }
    }
}
