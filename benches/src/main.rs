//! The engine's numbers: the same shapes as were measured with Go Flyte, on the embedded cluster in memory with a node
//! that ends pods at once (Pending, Running and Succeeded in writes of their own), admin in memory.
//!
//! `make bench` prints wall time, its ratio to the floor (the cluster alone doing the same pods, measured in the same
//! run), writes of the workflow resource, calls of admin, and CPU and memory of the whole process.

use std::{fs, time::Duration};

use flyte_platform::cli;
use flyte_tests::simulation::{self, Simulation, graphs};

/// Each shape is run this often; the median is printed.
const REPETITIONS: usize = 9;

struct Shape {
    name: &'static str,
    width: usize,
    depth: usize,
    go: &'static str,
}

const SHAPES: [Shape; 7] = [
    Shape {
        name: "one task",
        width: 1,
        depth: 1,
        go: "263 ms, 10 writes",
    },
    Shape {
        name: "chain of 10",
        width: 1,
        depth: 10,
        go: "1.27 s, 50 writes",
    },
    Shape {
        name: "50 parallel",
        width: 50,
        depth: 1,
        go: "4.2 s",
    },
    Shape {
        name: "5x5 layers",
        width: 5,
        depth: 5,
        go: "3.1 s",
    },
    Shape {
        name: "6 layers of 3",
        width: 3,
        depth: 6,
        go: "2.2 s",
    },
    Shape {
        name: "9 layers of 3",
        width: 3,
        depth: 9,
        go: "6.8 s",
    },
    Shape {
        name: "12 layers of 3",
        width: 3,
        depth: 12,
        go: "106 s",
    },
];

fn main() -> std::io::Result<()> {
    let runtime = cli::runtime()?;
    cli::print(
        "shape             median      floor  ratio  writes  calls   cpu/run   Go, measured with a real API server\n",
    );
    for shape in SHAPES {
        let before = cpu();
        let mut runs: Vec<_> = (0..REPETITIONS)
            .map(|_| {
                runtime
                    .block_on(Simulation::new(graphs::layers(shape.width, shape.depth)).measure())
            })
            .collect();
        let spent = cpu().saturating_sub(before) / u32::try_from(REPETITIONS).unwrap_or(1);
        let mut floors: Vec<_> = (0..REPETITIONS)
            .map(|_| runtime.block_on(simulation::floor(shape.width, shape.depth)))
            .collect();
        runs.sort_by_key(|run| run.elapsed);
        floors.sort();
        let (Some(run), Some(floor)) = (runs.get(REPETITIONS / 2), floors.get(REPETITIONS / 2))
        else {
            continue;
        };
        cli::print(&format!(
            "{:<15} {:>8.1} ms {:>7.1} ms {:>6.1} {:>7} {:>6} {:>7.1} ms   {}\n",
            shape.name,
            milliseconds(run.elapsed),
            milliseconds(*floor),
            run.elapsed.as_secs_f64() / floor.as_secs_f64(),
            run.status_writes,
            run.calls,
            milliseconds(spent),
            shape.go,
        ));
    }
    cli::print(&format!(
        "peak memory of this process: {} MiB\n",
        peak_memory_mib()
    ));
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// User and system time of this process so far, from /proc (proc(5), fields 14 and 15; 100 ticks a second).
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat
        .rsplit_once(')')
        .map(|(_, rest)| {
            rest.split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<u64>().ok())
                .sum()
        })
        .unwrap_or_default();
    Duration::from_millis(ticks * 10)
}

fn peak_memory_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or_default()
        / 1024
}
