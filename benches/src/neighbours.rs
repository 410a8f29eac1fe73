//! One healthy workflow beside thousands of nodes whose pods the API server never takes: what the engine's budgets are for.

use flyte_tests::simulation::{Answer, Refusal, Rule, Simulation, graphs};
use serde::Serialize;

use crate::{alone::median, measure::milliseconds};

/// Nodes of a hopeless workflow: as many as may run at once by default.
const WIDTH: usize = 25;

/// A healthy one-node workflow, alone and beside hopeless ones.
#[derive(Debug, Serialize)]
pub(crate) struct NeighboursResult {
    /// Hopeless nodes beside it.
    pub(crate) nodes: usize,
    /// Median alone, milliseconds.
    pub(crate) alone_ms: f64,
    /// Median beside them, milliseconds.
    pub(crate) beside_ms: f64,
    /// Slowest beside them, milliseconds.
    pub(crate) slowest_ms: f64,
}

/// Runs a workflow whose one task takes `seconds`, so often alone and so often beside `nodes` hopeless ones, each of which
/// has been refused once before the workflow is created.
pub(crate) async fn neighbours(nodes: usize, seconds: u64, repetitions: usize) -> NeighboursResult {
    let mut alone = Vec::new();
    let mut beside = Vec::new();
    for _ in 0..repetitions {
        let run = Box::pin(healthy(seconds).measure()).await;
        alone.push(run.elapsed);
        let run = Box::pin(noisy(seconds, nodes).measure()).await;
        beside.push(run.elapsed);
    }
    NeighboursResult {
        nodes,
        slowest_ms: beside.iter().max().copied().map_or(0.0, milliseconds),
        alone_ms: median(alone),
        beside_ms: median(beside),
    }
}

fn healthy(seconds: u64) -> Simulation {
    Simulation::new(graphs::taking(seconds))
}

fn noisy(seconds: u64, nodes: usize) -> Simulation {
    let workflows = (0..nodes.div_ceil(WIDTH)).map(|index| {
        let width = WIDTH.min(nodes - index * WIDTH);
        graphs::neighbour(graphs::waiting(width), &format!("noisy{index}"))
    });
    healthy(seconds)
        .beside(workflows.collect())
        .after_refusals(nodes)
        .ruled(vec![Rule {
            method: "POST",
            path: "/namespaces/noisy-development/pods",
            count: usize::MAX,
            answer: Answer::Refuse(Refusal {
                code: 500,
                reason: "InternalError",
                message: "Internal error occurred: failed calling webhook \"pods.example.com\"",
            }),
        }])
}
