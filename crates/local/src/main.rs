//! Runs the supervisor alone, for tests of the kubelet; `flyte` has it as a hidden subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyte_local::supervisor::main(std::env::args_os().skip(1))
}
