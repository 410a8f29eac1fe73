//! Random programs, always the same for one seed.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    compute::{Behaviour, End, produce},
    program::{Bind, Branch, Node, Otherwise, Policy, Program, Runs, START, Task, Workflow},
    values::{Type, Value},
};

mod binding;
mod condition;
mod timeouts;

use binding::Scope;
pub use timeouts::with_timeouts;

/// Sub-workflows nest so deeply.
const DEEPEST: usize = 3;
/// Branches in arms nest so deeply.
const DEEPEST_BRANCH: usize = 3;

/// A program for a seed.
pub fn generate(seed: u64) -> Program {
    let mut random = StdRng::seed_from_u64(seed);
    let failing = match random.random_range(0..4) {
        0 => 0.25,
        1 => 0.08,
        _ => 0.0,
    };
    let budget = *pick(&mut random, &[2, 3, 4, 4, 5, 6, 8, 10]);
    let slow = random.random_bool(0.7);
    let policy = if random.random_bool(0.5) {
        Policy::FailImmediately
    } else {
        Policy::FailAfterExecutableNodesComplete
    };
    let max_parallelism = random.random_bool(0.12).then(|| random.random_range(1..4));
    let mut maker = Maker {
        random,
        failing,
        slow,
        budget,
        names: 0,
        tasks: Vec::new(),
        workflows: Vec::new(),
    };
    let mut types = BTreeMap::from([("n".to_owned(), Type::Int)]);
    for name in ["a", "b"] {
        if maker.chance(0.5) {
            types.insert(name.to_owned(), maker.kind());
        }
    }
    let inputs = types
        .iter()
        .map(|(name, kind)| {
            let number = maker.random.random_range(0..1_000);
            (name.clone(), produce(kind, number))
        })
        .collect();
    maker.workflow(0, &types, None);
    Program {
        workflows: maker
            .workflows
            .into_iter()
            .map(|workflow| workflow.expect("every workflow that was begun is complete"))
            .collect(),
        tasks: maker.tasks,
        inputs,
        policy,
        max_parallelism,
    }
}

fn pick<'a, T>(random: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[random.random_range(0..of.len())]
}

type Types = BTreeMap<String, Type>;

struct Maker {
    random: StdRng,
    /// How likely a task fails for good.
    failing: f64,
    /// Whether tasks take time.
    slow: bool,
    /// So many nodes may still be made.
    budget: i32,
    /// How many names have been made.
    names: u32,
    tasks: Vec<Task>,
    /// None while they are being made: what is not complete is not used by what is inside of it.
    workflows: Vec<Option<Workflow>>,
}

impl Maker {
    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A type; integers more often than others, since conditions use them.
    fn kind(&mut self) -> Type {
        let boxed = Box::new;
        match self.random.random_range(0..16) {
            0 => Type::Float,
            1 => Type::Text,
            2 => Type::Flag,
            3 => Type::List(boxed(Type::Int)),
            4 => Type::List(boxed(Type::Text)),
            5 => Type::Map(boxed(Type::Int)),
            6 => Type::Map(boxed(Type::List(boxed(Type::Float)))),
            7 => Type::Record,
            8 => Type::Structure,
            9 => Type::Optional(boxed(Type::Int)),
            _ => Type::Int,
        }
    }

    fn types(&mut self, prefix: &str, most: usize) -> Types {
        let count = self.random.random_range(0..=most);
        (0..count)
            .map(|_| (self.name(prefix), self.kind()))
            .collect()
    }

    /// Makes a workflow and answers its index. It has at least the outputs that are wanted.
    fn workflow(&mut self, depth: usize, inputs: &Types, wanted: Option<&Types>) -> usize {
        let index = self.workflows.len();
        self.workflows.push(None);
        let mut scope = Scope::of(inputs);
        let mut ids = Ids::default();
        let most = if depth == 0 { 7 } else { 4 };
        let count = self.random.random_range(1..=most);
        let mut nodes = Vec::new();
        for made in 0..count {
            if made > 0 && self.budget <= 0 {
                break;
            }
            let id = ids.next(&mut self.random);
            let (mut node, outputs) = self.node(id, &scope, Nesting { depth, branch: 0 }, None);
            for earlier in scope.nodes() {
                if self.chance(0.12) && !node.after.contains(&earlier) {
                    node.after.push(earlier);
                }
            }
            scope.add(&node.id, &outputs);
            nodes.push(node);
        }
        if self.chance(0.3) {
            for place in 1..nodes.len() {
                let other = self.random.random_range(0..=place);
                nodes.swap(place, other);
            }
        }
        let types = wanted.cloned().unwrap_or_else(|| self.types("o", 3));
        let outputs = types
            .into_iter()
            .map(|(name, kind)| {
                let bind = self.bind(&kind, &scope);
                (name, (kind, bind))
            })
            .collect();
        let on_failure = self
            .chance(if depth == 0 { 0.3 } else { 0.2 })
            .then(|| self.failure_node(inputs));
        self.workflows[index] = Some(Workflow {
            inputs: inputs.clone(),
            outputs,
            nodes,
            on_failure,
        });
        index
    }

    /// Runs a task on some of the workflow's inputs, and often on the error.
    fn failure_node(&mut self, inputs: &Types) -> Node {
        let mut types = Types::new();
        let mut binds = BTreeMap::new();
        for (name, kind) in inputs {
            if self.chance(0.7) {
                types.insert(name.clone(), kind.clone());
                binds.insert(name.clone(), Scope::promise(START, name));
            }
        }
        if self.chance(0.7) {
            types.insert("err".into(), Type::Failure);
            let nothing = Value::Union(Box::new(Value::None));
            binds.insert("err".into(), Bind::Constant(nothing));
        }
        let outputs = self.types("o", 1);
        let task = self.task(types, outputs);
        Node {
            id: "fn0".into(),
            runs: Runs::Task(task),
            inputs: binds,
            after: Vec::new(),
            retries: 0,
            timeout: None,
        }
    }

    /// Makes a node that may use what is in scope. It has at least the outputs that are wanted.
    fn node(
        &mut self,
        id: String,
        scope: &Scope,
        nesting: Nesting,
        wanted: Option<&Types>,
    ) -> (Node, Types) {
        self.budget -= 1;
        let may_nest = self.budget > 0;
        match self.random.random_range(0..10) {
            0..=3 if may_nest && nesting.branch < DEEPEST_BRANCH => {
                self.branch_node(id, scope, nesting, wanted)
            }
            4..=5 if may_nest && nesting.depth + 1 < DEEPEST => {
                self.workflow_node(id, scope, nesting, wanted)
            }
            _ => self.task_node(id, scope, wanted),
        }
    }

    fn outputs_of_a_node(&mut self, wanted: Option<&Types>) -> Types {
        let mut outputs = wanted.cloned().unwrap_or_default();
        let most = if wanted.is_some() { 1 } else { 3 };
        outputs.extend(self.types("o", most));
        outputs
    }

    fn task(&mut self, inputs: Types, outputs: Types) -> usize {
        let retries = *pick(&mut self.random, &[0, 0, 0, 1, 2]);
        let fails = self.random.random_bool(self.failing);
        let end = match (fails, self.random.random_range(0..8)) {
            (true, 0..=2) => End::Crashes(9),
            (true, 3) => End::Recoverable(9),
            (true, _) => End::Error,
            (false, 0) => End::Crashes(retries),
            (false, 1) => End::Recoverable(retries),
            (false, _) => End::Well,
        };
        let seconds = if self.slow {
            *pick(&mut self.random, &[0, 10, 20, 30, 50])
        } else {
            0
        };
        let index = self.tasks.len();
        self.tasks.push(Task {
            inputs,
            behaviour: Behaviour {
                end,
                seconds,
                salt: i64::try_from(index).expect("there are few tasks"),
                outputs,
            },
            retries,
        });
        index
    }

    fn task_node(&mut self, id: String, scope: &Scope, wanted: Option<&Types>) -> (Node, Types) {
        let again = wanted.is_none() && !self.tasks.is_empty() && self.chance(0.15);
        let index = if again {
            self.random.random_range(0..self.tasks.len())
        } else {
            let inputs = self.input_types(scope);
            let outputs = self.outputs_of_a_node(wanted);
            self.task(inputs, outputs)
        };
        let (inputs, outputs) = {
            let task = &self.tasks[index];
            (task.inputs.clone(), task.behaviour.outputs.clone())
        };
        let tries_more = matches!(
            self.tasks[index].behaviour.end,
            End::Crashes(_) | End::Recoverable(_)
        ) && self.chance(0.2);
        let retries = if tries_more {
            self.tasks[index].retries + 1
        } else {
            0
        };
        let node = Node {
            id,
            runs: Runs::Task(index),
            inputs: self.bind_all(&inputs, scope),
            after: Vec::new(),
            retries,
            timeout: None,
        };
        (node, outputs)
    }

    fn workflow_node(
        &mut self,
        id: String,
        scope: &Scope,
        nesting: Nesting,
        wanted: Option<&Types>,
    ) -> (Node, Types) {
        let complete: Vec<usize> = (0..self.workflows.len())
            .filter(|index| self.workflows[*index].is_some())
            .collect();
        let again = wanted.is_none() && !complete.is_empty() && self.chance(0.4);
        let index = if again {
            *pick(&mut self.random, &complete)
        } else {
            let inputs = self.input_types(scope);
            self.workflow(nesting.depth + 1, &inputs, wanted)
        };
        let workflow = self.workflows[index]
            .as_ref()
            .expect("only complete workflows are used");
        let inputs = workflow.inputs.clone();
        let outputs = workflow
            .outputs
            .iter()
            .map(|(name, (kind, _))| (name.clone(), kind.clone()))
            .collect();
        let node = Node {
            id,
            runs: Runs::Workflow(index),
            inputs: self.bind_all(&inputs, scope),
            after: Vec::new(),
            retries: 0,
            timeout: None,
        };
        (node, outputs)
    }

    fn branch_node(
        &mut self,
        id: String,
        scope: &Scope,
        nesting: Nesting,
        wanted: Option<&Types>,
    ) -> (Node, Types) {
        let wanted = wanted.cloned().unwrap_or_else(|| self.types("o", 2));
        let inside = Nesting {
            branch: nesting.branch + 1,
            ..nesting
        };
        let mut inputs = BTreeMap::new();
        let cases = *pick(&mut self.random, &[1, 1, 2, 3]);
        let mut common: Option<Types> = None;
        let mut arm = |maker: &mut Self, number: usize| {
            let (mut node, outputs) =
                maker.node(format!("n{number}"), scope, inside, Some(&wanted));
            for earlier in scope.nodes() {
                if maker.chance(0.05) {
                    node.after.push(earlier);
                }
            }
            match &mut common {
                None => common = Some(outputs),
                Some(common) => common.retain(|name, _| outputs.contains_key(name)),
            }
            node
        };
        let cases = (0..cases)
            .map(|number| {
                let condition = self.condition(scope, &mut inputs, 0);
                (condition, arm(self, number))
            })
            .collect::<Vec<_>>();
        let otherwise = if self.chance(0.15) {
            Otherwise::Fail("nothing holds".into())
        } else {
            Otherwise::Run(Box::new(arm(self, cases.len())))
        };
        let node = Node {
            id,
            runs: Runs::Branch(Branch { cases, otherwise }),
            inputs,
            after: Vec::new(),
            retries: 0,
            timeout: None,
        };
        (node, common.unwrap_or_default())
    }

    /// Inputs that something in scope may fill.
    fn input_types(&mut self, scope: &Scope) -> Types {
        let count = *pick(&mut self.random, &[0, 1, 1, 2, 2, 3]);
        (0..count)
            .map(|_| {
                let kind = match scope.any(&mut self.random) {
                    Some((_, kind)) if self.chance(0.8) => kind,
                    _ => self.kind(),
                };
                (self.name("i"), kind)
            })
            .collect()
    }
}

/// How deep a node lies.
#[derive(Clone, Copy)]
struct Nesting {
    depth: usize,
    branch: usize,
}

/// Ids of nodes, in no order: what is done in the order of ids is not done in that of time.
#[derive(Default)]
struct Ids(BTreeSet<String>);

impl Ids {
    fn next(&mut self, random: &mut StdRng) -> String {
        loop {
            let number = random.random_range(0..100);
            let id = match random.random_range(0..12) {
                0 => format!("a-node-whose-id-is-long-{number}"),
                1 => format!("Node_{number}"),
                _ => format!("n{number}"),
            };
            if self.0.insert(id.clone()) {
                return id;
            }
        }
    }
}
