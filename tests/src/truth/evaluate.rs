//! What must happen to a program, by the rules of Flyte alone (spec 04 §4 to §7.4, §10).
//!
//! Each node is settled when somebody asks for it: from the ends of the nodes that it comes after follow when it begins,
//! with which inputs, and how and when it ends. Time is counted in seconds of tasks, for one purpose: what a failure
//! aborts depends on it. What happens at about the same time as a failure is not determined.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    program::{Branch, Node, Otherwise, Policy, Program, Runs, START, Workflow},
    resolve::{self, Outputs},
    values::Value,
};

mod attempts;
mod choose;
mod order;
mod place;

use place::{Place, Spot};

/// Seconds since the workflow began.
pub type Seconds = u64;
/// Things that happen so close to each other may happen in either order.
pub const CLOSE: Seconds = 5;
/// Nobody knows when things happen.
pub const ANY: Seconds = Seconds::MAX / 2;
/// A binding names what its node does not have.
const UNRESOLVED: &str = "BindingResolutionFailure";
/// The failure of what is around a node that took too long.
const TIMEOUT: &str = "Timeout";
/// A node with others inside whose one attempt took too long.
const EXPIRED: &str = "RetriesExhausted|TimeoutExpired";

/// What must happen.
#[derive(Clone, Debug)]
pub struct Expected {
    /// How far apart things must be for their order to be determined.
    pub close: Seconds,
    /// The outputs of the workflow, or the codes one of which its error has.
    pub end: Result<BTreeMap<String, Value>, Codes>,
    /// All nodes that may be heard of, by unique id.
    pub nodes: BTreeMap<String, Record>,
}

/// One of these codes.
pub type Codes = BTreeSet<String>;

/// What must happen to one node.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it begins, if nothing aborts it before.
    pub began: Seconds,
    /// When it ends, if nothing aborts it before; none if what it waits for never comes.
    pub ended: Option<Seconds>,
    /// How it ends.
    pub how: How,
    /// The folder of its outputs, below that of the workflow.
    pub folder: String,
    /// When a failure ends all that still runs around it.
    pub cut: Option<Seconds>,
    /// The nodes that it is inside of, by unique id.
    around: Vec<String>,
}

impl Record {
    /// All that still runs at this time is ended.
    fn cut_at(&mut self, time: Seconds) {
        self.cut = Some(self.cut.map_or(time, |cut| cut.min(time)));
    }
}

/// How a node ends.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// With these outputs; none when it writes none.
    Succeeded(Option<BTreeMap<String, Value>>),
    /// With an error of one of these codes.
    Failed(Codes),
    /// It took too long, all attempts together.
    TimedOut,
    /// It comes after something that failed or was skipped.
    Skipped,
    /// It does not: what it waits for never comes, until a failure ends the workflow.
    Unfinished,
}

impl How {
    /// The codes of its failure, for what is around it.
    fn failure(&self) -> Option<Codes> {
        match self {
            Self::Failed(codes) => Some(codes.clone()),
            Self::TimedOut => Some([TIMEOUT.to_owned()].into()),
            Self::Succeeded(_) | Self::Skipped | Self::Unfinished => None,
        }
    }
}

/// The end of a node for those that come after it; none when it never begins or never ends.
#[derive(Clone, Debug)]
struct Ending {
    at: Option<Seconds>,
    how: How,
}

impl Ending {
    fn never() -> Self {
        Self {
            at: None,
            how: How::Unfinished,
        }
    }
}

/// When a node begins, and with what.
struct Start {
    at: Seconds,
    inputs: BTreeMap<String, Value>,
}

/// What a node waits for.
struct Waiting {
    upstream: BTreeSet<String>,
    earliest: Seconds,
}

/// The nodes of one graph that is run once.
struct GraphRun<'a> {
    workflow: &'a Workflow,
    began: Seconds,
    place: Place,
    /// Of the nodes that have been settled.
    ends: BTreeMap<String, Ending>,
    /// Of the nodes that have been settled and wrote some, and of the start node.
    outputs: Outputs,
    records: BTreeMap<String, Record>,
}

/// What must happen to this program.
pub fn evaluate(program: &Program) -> Expected {
    // When nodes wait for their turn nobody knows when they begin.
    evaluate_within(program, program.max_parallelism.map_or(CLOSE, |_| ANY))
}

/// What must happen to this program when nobody knows how long its tasks take.
pub fn evaluate_at_any_pace(program: &Program) -> Expected {
    evaluate_within(program, ANY)
}

fn evaluate_within(program: &Program, close: Seconds) -> Expected {
    let evaluator = Evaluator { program, close };
    let place = Place {
        parent: None,
        folder: String::new(),
        around: Vec::new(),
    };
    let (_, end, nodes) = evaluator.graph(0, program.inputs.clone(), 0, place);
    Expected { close, end, nodes }
}

struct Evaluator<'a> {
    program: &'a Program,
    close: Seconds,
}

/// When and how a graph ends, and what becomes of its nodes.
type GraphEnd = (
    Seconds,
    Result<BTreeMap<String, Value>, Codes>,
    BTreeMap<String, Record>,
);

impl Evaluator<'_> {
    fn immediate(&self) -> bool {
        self.program.policy == Policy::FailImmediately
    }

    fn graph(
        &self,
        index: usize,
        inputs: BTreeMap<String, Value>,
        began: Seconds,
        place: Place,
    ) -> GraphEnd {
        let workflow = &self.program.workflows[index];
        let mut run = GraphRun {
            workflow,
            began,
            place,
            ends: BTreeMap::new(),
            outputs: BTreeMap::from([(START.to_owned(), inputs.clone())]),
            records: BTreeMap::new(),
        };
        let start = run.place.spot(START);
        run.end(&start, (began, began), How::Succeeded(Some(inputs)));
        for node in &workflow.nodes {
            self.end_of(&mut run, &node.id);
        }
        let failed: Vec<(Seconds, Codes)> = run
            .ends
            .values()
            .filter_map(|end| Some((end.at?, end.how.failure()?)))
            .collect();
        let first = failed.iter().map(|(at, _)| *at).min();
        let (at, codes) = match (first, self.immediate()) {
            (Some(first), true) => {
                for record in run.records.values_mut() {
                    record.cut_at(first);
                }
                let close = failed
                    .into_iter()
                    .filter(|(at, _)| *at <= first.saturating_add(self.close));
                (first, close.flat_map(|(_, codes)| codes).collect())
            }
            _ => {
                let end = self.end_node(&mut run);
                let last = run.ends.values().filter_map(|end| end.at).max();
                let last = last.unwrap_or(began);
                if let How::Succeeded(outputs) = end.how {
                    return (last, Ok(outputs.unwrap_or_default()), run.records);
                }
                (last, order::last_failure(&run))
            }
        };
        let (at, codes) = self.after_failure(&mut run, at, codes);
        (at, Err(codes), run.records)
    }

    /// The failure node runs, and may fail with an error that hides the first.
    fn after_failure(&self, run: &mut GraphRun<'_>, at: Seconds, codes: Codes) -> (Seconds, Codes) {
        let Some(handler) = &run.workflow.on_failure else {
            return (at, codes);
        };
        let mut inputs = match resolve::all(&handler.inputs, &run.outputs) {
            Ok(inputs) => inputs,
            // An input of its workflow that is optional and was not given.
            Err(resolve::Missing) => {
                let codes = Codes::from([UNRESOLVED.to_owned()]);
                let spot = run.place.spot(&handler.id);
                run.end(&spot, (at, at), How::Failed(codes.clone()));
                return (at, codes);
            }
        };
        if let Some(error) = inputs.get_mut("err") {
            *error = Value::Union(Box::new(Value::Failure(handler.id.clone())));
        }
        let spot = run.place.spot(&handler.id);
        let end = self.run(run, handler, &spot, Start { at, inputs });
        let codes = end.how.failure().unwrap_or(codes);
        (end.at.unwrap_or(at), codes)
    }

    /// The end node gathers outputs after everything else.
    fn end_node(&self, run: &mut GraphRun<'_>) -> Ending {
        let id = super::program::END;
        let upstream = order::sinks(run.workflow)
            .into_iter()
            .chain(order::promised_by_outputs(run.workflow))
            .collect();
        let spot = run.place.spot(id);
        let waiting = Waiting {
            upstream,
            earliest: run.began,
        };
        let end = match self.wait(run, &waiting) {
            Wait::Never => Ending::never(),
            Wait::Skip(at) => run.end(&spot, (at, at), How::Skipped),
            Wait::Until(at) => {
                let outputs = run.workflow.outputs.iter();
                let binds = outputs.map(|(name, (_, bind))| (name, bind));
                let how = match resolve::all(binds, &run.outputs) {
                    Ok(outputs) => How::Succeeded(Some(outputs)),
                    Err(resolve::Missing) => How::Failed([UNRESOLVED.to_owned()].into()),
                };
                run.end(&spot, (at, at), how)
            }
        };
        run.ends.insert(id.to_owned(), end.clone());
        end
    }

    fn end_of(&self, run: &mut GraphRun<'_>, id: &str) -> Ending {
        if let Some(known) = run.ends.get(id) {
            return known.clone();
        }
        let nodes = &run.workflow.nodes;
        let node = nodes
            .iter()
            .find(|node| node.id == id)
            .unwrap_or_else(|| panic!("no node {id}"));
        let upstream = node.promised().into_iter().chain(node.after.clone());
        let waiting = Waiting {
            upstream: upstream.collect(),
            earliest: run.began,
        };
        let spot = run.place.spot(id);
        let end = self.settle(run, node, &spot, waiting);
        if let How::Succeeded(Some(outputs)) = &end.how {
            run.outputs.insert(id.to_owned(), outputs.clone());
        }
        run.ends.insert(id.to_owned(), end.clone());
        end
    }

    /// Waits for the nodes that this one comes after, then runs it.
    fn settle(&self, run: &mut GraphRun<'_>, node: &Node, spot: &Spot, waiting: Waiting) -> Ending {
        match self.wait(run, &waiting) {
            Wait::Never => Ending::never(),
            Wait::Skip(at) => run.end(spot, (at, at), How::Skipped),
            Wait::Until(at) => match resolve::all(&node.inputs, &run.outputs) {
                Ok(inputs) => self.run(run, node, spot, Start { at, inputs }),
                Err(resolve::Missing) => {
                    let codes = [UNRESOLVED.to_owned()].into();
                    run.end(spot, (at, at), How::Failed(codes))
                }
            },
        }
    }

    fn wait(&self, run: &mut GraphRun<'_>, waiting: &Waiting) -> Wait {
        let (mut at, mut skip, mut never) = (waiting.earliest, false, false);
        for id in waiting.upstream.iter().filter(|id| *id != START) {
            let end = self.end_of(run, id);
            match end.how {
                How::Succeeded(_) => {}
                How::Failed(_) | How::TimedOut if self.immediate() => never = true,
                How::Failed(_) | How::TimedOut | How::Skipped => skip = true,
                How::Unfinished => never = true,
            }
            at = at.max(end.at.unwrap_or_default());
        }
        match (never, skip) {
            (true, _) => Wait::Never,
            (_, true) => Wait::Skip(at),
            _ => Wait::Until(at),
        }
    }

    fn run(
        &self,
        run: &mut GraphRun<'_>,
        node: &Node,
        spot: &Spot,
        Start { at, inputs }: Start,
    ) -> Ending {
        match &node.runs {
            Runs::Task(index) => {
                let task = &self.program.tasks[*index];
                let deciding = attempts::deciding(task, node, &inputs, at);
                let (until, how) = (Some(deciding.ended), deciding.how);
                run.record(spot, deciding.attempt, (at, until), how.clone());
                Ending { at: until, how }
            }
            Runs::Workflow(index) => {
                let (until, end, records) = self.graph(*index, inputs, at, spot.inside());
                run.records.extend(records);
                let how = match end {
                    Ok(outputs) if outputs.is_empty() => How::Succeeded(None),
                    Ok(outputs) => How::Succeeded(Some(outputs)),
                    Err(codes) => How::Failed(codes),
                };
                let end = Ending {
                    at: Some(until),
                    how,
                };
                run.within(node, spot, at, end)
            }
            Runs::Branch(branch) => {
                let end = self.branch(run, branch, spot, Start { at, inputs });
                run.within(node, spot, at, end)
            }
        }
    }

    fn branch(
        &self,
        run: &mut GraphRun<'_>,
        branch: &Branch,
        spot: &Spot,
        Start { at, inputs }: Start,
    ) -> Ending {
        let failed = |code: &str| Ending {
            at: Some(at),
            how: How::Failed([code.to_owned()].into()),
        };
        let arm = match choose::choose(branch, &inputs) {
            Err(choose::Malformed) => {
                return failed("MalformedBranchUserError");
            }
            Ok(Some(case)) => &branch.cases[case].1,
            Ok(None) => match &branch.otherwise {
                Otherwise::Run(arm) => arm,
                Otherwise::Fail(_) => {
                    return failed("UserProvidedError");
                }
            },
        };
        // Of an arm only what it binds counts; what it is said to come after does not.
        let waiting = Waiting {
            upstream: arm.promised().into_iter().collect(),
            earliest: at,
        };
        let arm_spot = spot.inside().spot(&format!("{}-{}", spot.id, arm.id));
        let end = self.settle(run, arm, &arm_spot, waiting);
        let how = match end.how {
            // An arm that was skipped leaves nothing to hand on.
            How::Skipped => How::Succeeded(None),
            // The reference tells no reason here; this engine does.
            How::TimedOut => How::Failed([TIMEOUT.to_owned()].into()),
            other => other,
        };
        Ending { at: end.at, how }
    }
}

enum Wait {
    Never,
    Skip(Seconds),
    Until(Seconds),
}

impl GraphRun<'_> {
    fn record(
        &mut self,
        spot: &Spot,
        attempt: u32,
        (began, ended): (Seconds, Option<Seconds>),
        how: How,
    ) {
        let record = Record {
            began,
            ended,
            how,
            folder: spot.folder(attempt),
            cut: None,
            around: spot.place.around.clone(),
        };
        let twice = self.records.insert(spot.unique_id(), record);
        assert!(twice.is_none(), "two nodes have the unique id of {spot:?}");
    }

    /// Records a node with others inside, which are ended if it takes too long.
    fn within(&mut self, node: &Node, spot: &Spot, began: Seconds, mut end: Ending) -> Ending {
        let most = node.timeout.map(|timeout| began + timeout);
        if let Some(most) = most
            && end.at.is_none_or(|at| most < at)
        {
            let id = spot.unique_id();
            let records = self.records.values_mut();
            records
                .filter(|record| record.around.contains(&id))
                .for_each(|record| record.cut_at(most));
            end = Ending {
                at: Some(most),
                how: How::Failed([EXPIRED.to_owned()].into()),
            };
        }
        self.record(spot, 0, (began, end.at), end.how.clone());
        end
    }

    /// Records a node that ends in its first attempt.
    fn end(&mut self, spot: &Spot, (began, ended): (Seconds, Seconds), how: How) -> Ending {
        self.record(spot, 0, (began, Some(ended)), how.clone());
        Ending {
            at: Some(ended),
            how,
        }
    }
}
