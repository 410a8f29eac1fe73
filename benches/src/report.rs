//! Tables for people, JSON for programs.

use std::time::Duration;

use flyte_platform::cli;
use serde::Serialize;

use crate::{
    alone::AloneResult,
    lists::ListResult,
    measure::{LoadResult, MemoryResult, ShapeResult},
    neighbours::NeighboursResult,
};

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// `debug` or `release`.
    pub(crate) profile: &'static str,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// One at a time, on the whole backend.
    pub(crate) shapes: Vec<ShapeResult>,
    /// Many clients.
    pub(crate) load: Vec<LoadResult>,
    /// Memory of the whole backend.
    pub(crate) memory: Option<MemoryResult>,
    /// The engine alone.
    pub(crate) engine_alone: Vec<AloneResult>,
    /// One workflow beside hopeless ones.
    pub(crate) neighbours: Vec<NeighboursResult>,
    /// Pages of lists.
    pub(crate) lists: Vec<ListResult>,
}

/// Columns of the rows of [`shape`].
pub(crate) fn shapes_header() -> String {
    format!(
        "\nOne at a time, on the whole backend: from CreateExecution until admin has it SUCCEEDED.\n\
         Writes, pods (writes of the engine, of the node), RPCs, CPU (that of the floor) and disk are of one execution.\n\
         {:<15} {:>9} {:>9} {:>9} {:>6} {:>7} {:>12} {:>6} {:>18} {:>9}   {}\n",
        "shape",
        "median",
        "p95",
        "floor",
        "ratio",
        "writes",
        "pods",
        "RPCs",
        "CPU",
        "disk",
        "Go Flyte"
    )
}

/// Columns of the rows of [`load`].
pub(crate) fn load_header() -> String {
    format!(
        "\nMany clients at once, one-task workflows\n{:<42} {:>7} {:>7} {:>10} {:>9} {:>9} {:>10}   {}\n",
        "what", "clients", "number", "a second", "p50", "p99", "CPU each", "Go Flyte"
    )
}

/// Columns of the rows of [`alone`].
pub(crate) fn alone_header() -> String {
    format!(
        "\nThe engine alone: cluster, blobs and admin in memory\n{:<15} {:>9} {:>9} {:>6} {:>7}\n",
        "shape", "median", "floor", "ratio", "updates"
    )
}

/// Columns of the rows of [`list`].
pub(crate) fn lists_header(rows: u32) -> String {
    format!(
        "\nPages of 100 from tables of {rows} rows, from call to answer over TCP\n{:<11} {:<50} {:>8} {:>10} {:>10}\n",
        "database", "list", "elements", "p50", "p99"
    )
}

/// Prints a row, or rows, at once.
pub(crate) fn show(text: &str) {
    cli::print(text);
}

/// A row of the table of shapes, and below it the calls by kind.
pub(crate) fn shape(row: &ShapeResult) -> String {
    let calls: f64 = row.calls.values().sum();
    let mut text = format!(
        "{:<15} {:>6.1} ms {:>6.1} ms {:>6.1} ms {:>6.2} {:>7.1} {:>12} {:>6.1} {:>18} {:>5.0} KiB   {}\n",
        row.shape,
        row.wall.p50,
        row.wall.p95,
        row.floor.p50,
        row.ratio,
        row.workflow_writes,
        format!("{:.0} + {:.0}", row.pod_writes, row.node_writes),
        calls,
        format!("{:.1} ({:.1}) ms", row.cpu_ms, row.floor_cpu_ms),
        row.disk_kib,
        row.go,
    );
    let kinds: Vec<String> = row
        .calls
        .iter()
        .map(|(method, count)| format!("{method} {count:.1}"))
        .collect();
    text.push_str(&format!("                {}\n", kinds.join(", ")));
    text
}

/// A row of the table of load.
pub(crate) fn load(row: &LoadResult) -> String {
    format!(
        "{:<42} {:>7} {:>7} {:>8.1}/s {:>6.1} ms {:>6.1} ms {:>7.1} ms   {}\n",
        row.title,
        row.clients,
        row.executions,
        row.rate,
        row.times.p50,
        row.times.p99,
        row.cpu_ms,
        row.go
    )
}

/// The line about memory.
pub(crate) fn memory(memory: &MemoryResult) -> String {
    let mut text = format!("\nResident memory: {} MiB idle", memory.idle);
    for (most, when) in [
        (memory.shapes, "while shapes ran"),
        (memory.load, "under sustained load"),
    ] {
        if let Some(most) = most {
            text.push_str(&format!(", {most} MiB at most {when}"));
        }
    }
    text.push_str(" (Go Flyte: 140 MB idle, 425 MB under load)\n");
    text
}

/// A row of the table of the engine alone.
pub(crate) fn alone(row: &AloneResult) -> String {
    format!(
        "{:<15} {:>6.1} ms {:>6.1} ms {:>6.2} {:>7}\n",
        row.shape,
        row.wall_ms,
        row.floor_ms,
        row.wall_ms / row.floor_ms,
        row.status_writes
    )
}

/// Columns of the rows of [`neighbours`].
pub(crate) fn neighbours_header() -> String {
    format!(
        "\nA healthy workflow of one node beside nodes whose pods are never taken, in memory\n{:>13} {:>12} {:>12} {:>12} {:>7}\n",
        "hopeless", "alone", "beside them", "slowest", "ratio"
    )
}

/// A row of the table of workflows beside hopeless ones.
pub(crate) fn neighbours(row: &NeighboursResult) -> String {
    format!(
        "{:>13} {:>9.1} ms {:>9.1} ms {:>9.1} ms {:>7.3}\n",
        row.nodes,
        row.alone_ms,
        row.beside_ms,
        row.slowest_ms,
        row.beside_ms / row.alone_ms
    )
}

/// A row of the table of lists.
pub(crate) fn list(row: &ListResult) -> String {
    format!(
        "{:<11} {:<50} {:>8} {:>7.1} ms {:>7.1} ms\n",
        row.database, row.list, row.elements, row.times.p50, row.times.p99
    )
}

/// How long a database took to be filled, and to make the indexes.
pub(crate) fn filled(database: &str, filled: Duration, indexed: Duration) -> String {
    format!("{database:<11} rows in {filled:.0?}, indexes of ours in {indexed:.0?}\n")
}
