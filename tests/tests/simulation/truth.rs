//! Random workflows end as an evaluator says that knows nothing of the engine.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use flyte_tests::{
    simulation::Simulation,
    truth::{evaluate, generate::generate, program::Program, templates, verdict},
};

/// Graphs of one run of the test.
const GRAPHS: u64 = 2_000;
/// Where their seeds begin.
const FIRST: u64 = 0;

/// What is wrong with the graph of a seed.
struct Fault {
    seed: u64,
    program: Program,
    why: String,
}

/// `FLYTE_TEST_SEED` and `FLYTE_TEST_GRAPHS` choose other graphs and more of them.
fn number(name: &str, default: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "who runs a test by hand has no other way to tell it something"
    )]
    let told = std::env::var(name).ok();
    told.map_or(default, |told| {
        told.parse()
            .unwrap_or_else(|error| panic!("{name}={told}: {error}"))
    })
}

fn examine(seed: u64) -> Option<Fault> {
    let program = generate(seed);
    let fault = |why: String| {
        Some(Fault {
            seed,
            program: program.clone(),
            why,
        })
    };
    let workflow = match templates::resource(&program) {
        Ok(workflow) => workflow,
        Err(why) => return fault(format!("it does not compile: {why}")),
    };
    let expected = evaluate::evaluate(&program);
    let run = match Simulation::new(workflow).attempt() {
        Ok(run) => run,
        Err(why) => return fault(why),
    };
    let wrong = verdict::compare(&expected, &run);
    if wrong.is_empty() {
        return None;
    }
    fault(wrong.join("\n"))
}

#[test]
fn random_workflows_end_as_the_rules_say() {
    let (first, count) = (
        number("FLYTE_TEST_SEED", FIRST),
        number("FLYTE_TEST_GRAPHS", GRAPHS),
    );
    println!("FLYTE_TEST_SEED={first} FLYTE_TEST_GRAPHS={count}");
    let next = AtomicU64::new(first);
    let faults = Mutex::new(Vec::new());
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if let Some(fault) = examine(seed) {
                        faults.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    println!("{count} graphs in {:?}", began.elapsed());
    let mut faults = faults.into_inner().unwrap();
    faults.sort_by_key(|fault| (fault.program.size(), fault.seed));
    for Fault { seed, program, why } in &faults {
        let why = why.lines().next().unwrap_or_default();
        let why: String = why.chars().take(300).collect();
        println!("seed {seed}, {} nodes: {why}", program.size());
    }
    if let Some(Fault { seed, program, why }) = faults.first() {
        panic!(
            "{} of {count} graphs end otherwise; the smallest has FLYTE_TEST_SEED={seed} FLYTE_TEST_GRAPHS=1: {program}\n{why}",
            faults.len()
        );
    }
}
