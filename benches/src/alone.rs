//! The engine alone: cluster, blobs and admin in memory, so that nothing but the engine is measured.

use std::time::Duration;

use flyte_tests::simulation::{self, Simulation, graphs};
use serde::Serialize;

use crate::{measure::milliseconds, shapes::Shape};

/// One shape on an engine alone.
#[derive(Debug, Serialize)]
pub(crate) struct AloneResult {
    /// Name of the shape.
    pub(crate) shape: &'static str,
    /// Median, milliseconds.
    pub(crate) wall_ms: f64,
    /// Median of the floor, milliseconds.
    pub(crate) floor_ms: f64,
    /// Updates of the resource per execution.
    pub(crate) status_writes: u64,
}

/// Runs `shape` so often.
pub(crate) async fn shape(shape: &Shape, repetitions: usize) -> AloneResult {
    let mut times = Vec::new();
    let mut floors = Vec::new();
    let mut status_writes = 0;
    for _ in 0..repetitions {
        let run = Simulation::new(graphs::layers(shape.width, shape.depth))
            .measure()
            .await;
        status_writes = run.status_writes;
        times.push(run.elapsed);
        floors.push(simulation::floor(shape.width, shape.depth).await);
    }
    AloneResult {
        shape: shape.title,
        wall_ms: median(times),
        floor_ms: median(floors),
        status_writes,
    }
}

/// The middle one in milliseconds; 0 of none.
pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .copied()
        .map_or(0.0, milliseconds)
}
