//! Random workflows end as an evaluator says that knows nothing of the engine.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flyte_tests::{
    simulation::{Delays, Reloads, Simulation},
    truth::{
        evaluate::{self, How},
        generate::{generate, with_timeouts},
        program::{Program, Runs},
        templates, verdict,
    },
};

/// Graphs of one run of the test.
const GRAPHS: u64 = 2_000;
/// Graphs of one run of the test with restarts.
const RELOADED: u64 = 120;
/// Virtual time after the end of a workflow in which pods go.
const SETTLING: Duration = Duration::from_secs(10);
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
        reason = "who runs a test by hand has no other way to set it"
    )]
    let text = std::env::var(name).ok();
    text.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}"))
    })
}

/// What the engine of a run has to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// Nothing.
    Plain,
    /// It is started again after every write of a status.
    Reloads,
    /// Its requests take time, so that its writes come at any point.
    Delays,
    /// Both: it is started again after half of those writes.
    DelaysAndReloads,
}

fn examine(seed: u64, trial: Trial) -> Option<Fault> {
    let program = match trial {
        Trial::Plain | Trial::Reloads => with_timeouts(seed),
        // What takes long depends on the requests.
        Trial::Delays | Trial::DelaysAndReloads => generate(seed),
    };
    let fault = |why: String| {
        Some(Fault {
            seed,
            program: program.clone(),
            why: format!("{trial:?}: {why}"),
        })
    };
    let workflow = match templates::resource(&program) {
        Ok(workflow) => workflow,
        Err(why) => return fault(format!("it does not compile: {why}")),
    };
    let mut expected = evaluate::evaluate(&program);
    let simulation = Simulation::new(workflow).settling(SETTLING);
    let delayed = Delays::Random(seed);
    let simulation = match trial {
        Trial::Plain => simulation,
        Trial::Reloads => simulation.reloading(Reloads::Always),
        Trial::Delays => simulation.delayed(delayed),
        Trial::DelaysAndReloads => simulation.delayed(delayed).reloading(Reloads::Half(seed)),
    };
    if matches!(trial, Trial::Delays | Trial::DelaysAndReloads) {
        expected.close = evaluate::ANY;
    }
    let run = match simulation.attempt() {
        Ok(run) => run,
        Err(why) => return fault(why),
    };
    let mut wrong = verdict::compare(&expected, &run);
    if trial == Trial::Reloads && u64::from(run.restarts) + 1 < run.status_writes {
        wrong.push("the engine was not started again".into());
    }
    if wrong.is_empty() {
        return None;
    }
    fault(wrong.join("\n"))
}

/// Examines many graphs on all cores; tells of all that end otherwise, and fails with the smallest.
#[expect(
    clippy::print_stdout,
    reason = "seed, time and failing seeds are for whoever reads the output of the test"
)]
fn survey(trials: &[Trial], count: u64) {
    let (first, count) = (
        number("FLYTE_TEST_SEED", FIRST),
        number("FLYTE_TEST_GRAPHS", count),
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
                    for trial in trials {
                        let fault = examine(seed, *trial);
                        faults.lock().unwrap().extend(fault);
                    }
                }
            });
        }
    });
    println!("{count} graphs, {trials:?}, in {:?}", began.elapsed());
    let mut faults = faults.into_inner().unwrap();
    faults.sort_by_key(|fault| (fault.program.size(), fault.seed));
    for Fault { seed, program, why } in &faults {
        let why = why.lines().next().unwrap_or_default();
        let why: String = why.chars().take(300).collect();
        println!("seed {seed}, {} nodes: {why}", program.size());
    }
    if let Some(Fault { seed, program, why }) = faults.first() {
        panic!(
            "{} runs end otherwise; the smallest has FLYTE_TEST_SEED={seed} FLYTE_TEST_GRAPHS=1: {program}\n{why}",
            faults.len()
        );
    }
}

#[test]
fn random_workflows_end_as_the_rules_say() {
    survey(&[Trial::Plain], GRAPHS);
}

/// An engine that dies has written everything that another needs: facts come from the state, not from a transition.
#[test]
fn random_workflows_end_the_same_whichever_write_is_the_last_of_an_engine() {
    let trials = [Trial::Reloads, Trial::Delays, Trial::DelaysAndReloads];
    survey(&trials, RELOADED);
}

/// That what takes too long ends in each of the ways, so that the tests above say something about them.
#[test]
fn timeouts_decide_in_many_random_workflows() {
    let (mut given_up, mut expired, mut around) = (0, 0, 0);
    for seed in FIRST..FIRST + GRAPHS {
        let program = with_timeouts(seed);
        let expected = evaluate::evaluate(&program);
        let containers = program.workflows[0]
            .nodes
            .iter()
            .filter(|node| node.timeout.is_some() && !matches!(node.runs, Runs::Task(_)));
        let containers: Vec<&str> = containers.map(|node| node.id.as_str()).collect();
        for (id, record) in &expected.nodes {
            match &record.how {
                How::TimedOut => given_up += 1,
                How::Failed(codes) if codes.contains("RetriesExhausted|TimeoutExpired") => {
                    expired += 1;
                    around += u32::from(containers.contains(&id.as_str()));
                }
                _ => {}
            }
        }
    }
    let counts = (given_up, expired, around);
    assert!(given_up > 50 && expired > 200 && around > 20, "{counts:?}");
}
