//! How a process is asked to end: once nicely, twice at once (spec 07 §5.4).

use std::{io, thread};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::complain;
use crate::Tasks;

/// Requests to end, from now on: SIGINT and SIGTERM.
struct Requests {
    interrupt: Signal,
    terminate: Signal,
}

impl Requests {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Stops `tasks` when the process is asked to end. When it is asked again, it exits 1 without waiting for anything.
pub fn stop_on_signals(tasks: &mut Tasks) {
    let stop = tasks.stop_token();
    let requests = Requests::new();
    tasks.spawn("signals", async move {
        let mut requests = requests?;
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = requests.next() => {
                let listening = leave_when_asked_again();
                stop.cancel();
                listening
            }
        }
    });
}

/// Listens on a thread of its own: what is stopping may keep every other one busy, and outlives the tasks.
fn leave_when_asked_again() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut requests = {
        let _entered = runtime.enter();
        Requests::new()?
    };
    // Nobody joins it: it ends with the process, or ends the process.
    thread::Builder::new()
        .name("second signal".to_owned())
        .spawn(move || {
            runtime.block_on(requests.next());
            complain("asked to end a second time: left without waiting for what was under way");
            exit();
        })
        .map(drop)
}

#[expect(
    clippy::exit,
    reason = "whoever asks twice wants no destructor to be waited for"
)]
fn exit() {
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
        time::Duration,
    };

    use tokio_util::sync::CancellationToken;

    use super::*;

    /// The other process of the test below.
    #[test]
    #[ignore = "never ends by itself; started by a_second_signal_ends_what_does_not_stop"]
    fn stubborn_process() {
        let runtime = crate::cli::runtime().unwrap();
        runtime.block_on(async {
            let mut tasks = Tasks::new(CancellationToken::new());
            let stop = tasks.stop_token();
            stop_on_signals(&mut tasks);
            tasks.spawn_infallible("stubborn", async move {
                println!("\nlistening");
                stop.cancelled().await;
                println!("\nstopping");
                std::future::pending::<()>().await;
            });
            drop(tasks.run_until_stopped(Duration::from_secs(600)).await);
        });
    }

    #[test]
    fn a_second_signal_ends_what_does_not_stop() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::signals::tests::stubborn_process"])
            .args(["--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let interrupt = |child: &std::process::Child| {
            let sent = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status();
            assert!(sent.unwrap().success());
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "listening"));
        interrupt(&child);
        assert!(lines.any(|line| line.unwrap() == "stopping"));
        interrupt(&child);
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}
