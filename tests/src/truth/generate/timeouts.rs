//! Timeouts for random programs.
//!
//! No two things that decide something end at the same moment: tasks take multiples of ten seconds, their timeouts and
//! sums of these are even and no such multiples, and the one node with others inside that has a timeout has an odd one.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{generate, pick};
use crate::truth::program::{Branch, Node, Otherwise, Program, Runs};

/// Timeouts of tasks; twice each of them is no multiple of ten either.
const OF_TASKS: [u64; 4] = [4, 14, 24, 44];
/// Timeouts of a branch or a sub-workflow.
const OF_CONTAINERS: [u64; 4] = [5, 15, 35, 75];

/// The program for a seed, with timeouts at some of its nodes. Where nodes wait for their turn nobody knows how long what is
/// inside of one takes: such programs have none.
pub fn with_timeouts(seed: u64) -> Program {
    let mut program = generate(seed);
    let mut random = StdRng::seed_from_u64(seed ^ 0x7131_e0f7);
    if program.max_parallelism.is_some() || random.random_bool(0.4) {
        return program;
    }
    for workflow in &mut program.workflows {
        for node in &mut workflow.nodes {
            of_tasks(node, &mut random);
        }
    }
    if random.random_bool(0.5)
        && let Some(first) = program.workflows.first_mut()
    {
        let mut containers: Vec<&mut Node> = first
            .nodes
            .iter_mut()
            .filter(|node| !matches!(node.runs, Runs::Task(_)))
            .collect();
        if !containers.is_empty() {
            let one = random.random_range(0..containers.len());
            containers[one].timeout = Some(*pick(&mut random, &OF_CONTAINERS));
        }
    }
    program
}

fn of_tasks(node: &mut Node, random: &mut StdRng) {
    match &mut node.runs {
        Runs::Task(_) => {
            if random.random_bool(0.4) {
                node.timeout = Some(*pick(random, &OF_TASKS));
            }
        }
        Runs::Workflow(_) => {}
        Runs::Branch(Branch { cases, otherwise }) => {
            for (_, arm) in cases {
                of_tasks(arm, random);
            }
            if let Otherwise::Run(arm) = otherwise {
                of_tasks(arm, random);
            }
        }
    }
}
