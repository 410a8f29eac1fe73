//! Workflows as plain data: what the compiler accepts, without its messages.

use std::collections::BTreeMap;

mod text;

use super::{
    compute::Behaviour,
    values::{Type, Value},
};

/// Workflows that run one another, the tasks in them, and the inputs of the first.
#[derive(Clone, Debug)]
pub struct Program {
    /// The first is the one that is run.
    pub workflows: Vec<Workflow>,
    /// All tasks.
    pub tasks: Vec<Task>,
    /// Inputs of the first workflow.
    pub inputs: BTreeMap<String, Value>,
    /// Whether nodes that do not need what failed still run.
    pub policy: Policy,
    /// How many nodes run at once; none is as many as there are.
    pub max_parallelism: Option<u32>,
}

/// What happens to the rest when a node fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It is aborted.
    FailImmediately,
    /// What can run still does.
    FailAfterExecutableNodesComplete,
}

/// A workflow or sub-workflow.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its inputs.
    pub inputs: BTreeMap<String, Type>,
    /// Its outputs, and where they come from.
    pub outputs: BTreeMap<String, (Type, Bind)>,
    /// Its nodes in the order of the template, which says nothing about their order in time.
    pub nodes: Vec<Node>,
    /// What runs after a failure; its bindings read the workflow's inputs only.
    pub on_failure: Option<Node>,
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its inputs.
    pub inputs: BTreeMap<String, Type>,
    /// What it does.
    pub behaviour: Behaviour,
    /// How often it may be tried again.
    pub retries: u32,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id; of an arm, without that of the branch.
    pub id: String,
    /// What it runs.
    pub runs: Runs,
    /// Its bindings by input.
    pub inputs: BTreeMap<String, Bind>,
    /// Nodes that it comes after without needing anything from them; of an arm, nobody reads these.
    pub after: Vec<String>,
    /// Overrides the retries of its task when it is not zero.
    pub retries: u32,
    /// After how many seconds an attempt of it is given up; all of them together after twice as many. Without: never.
    pub timeout: Option<u64>,
}

/// What a node runs.
#[derive(Clone, Debug)]
pub enum Runs {
    /// The task of this index.
    Task(usize),
    /// The workflow of this index.
    Workflow(usize),
    /// One of several nodes.
    Branch(Branch),
}

/// Conditions and nodes.
#[derive(Clone, Debug)]
pub struct Branch {
    /// At least one.
    pub cases: Vec<(Condition, Node)>,
    /// When no condition holds.
    pub otherwise: Otherwise,
}

/// What happens when no condition holds.
#[derive(Clone, Debug)]
pub enum Otherwise {
    /// This node runs.
    Run(Box<Node>),
    /// The branch fails with this text.
    Fail(String),
}

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Two operands compared.
    Compare(Comparison, Operand, Operand),
    /// Both hold.
    And(Box<Condition>, Box<Condition>),
    /// One of both holds.
    Or(Box<Condition>, Box<Condition>),
}

/// How two operands are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub enum Operand {
    /// An input of the branch.
    Input(String),
    /// A primitive, or nothing.
    Constant(Value),
}

/// Where an input or output comes from.
#[derive(Clone, Debug)]
pub enum Bind {
    /// A constant that is a scalar.
    Constant(Value),
    /// An output of a node; of the start node, an input of the workflow.
    Promise(Promise),
    /// A list of such.
    List(Vec<Bind>),
    /// A map of such.
    Map(BTreeMap<String, Bind>),
}

/// An output of a node, or something inside of it.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The node.
    pub node: String,
    /// Its output.
    pub output: String,
    /// The older way to name an element of a list: `[index].output`.
    pub index: Option<usize>,
    /// A way into the value.
    pub path: Vec<Step>,
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a map or a field of a dataclass.
    Key(String),
    /// An element of a list.
    Index(i32),
}

/// The id of the node that stands for the inputs of a workflow.
pub const START: &str = "start-node";
/// The id of the node that gathers the outputs of a workflow.
pub const END: &str = "end-node";

impl Bind {
    /// Ids of the nodes that it reads, with repetitions.
    pub fn promised(&self, found: &mut Vec<String>) {
        match self {
            Self::Constant(_) => {}
            Self::Promise(promise) => found.push(promise.node.clone()),
            Self::List(items) => items.iter().for_each(|item| item.promised(found)),
            Self::Map(items) => items.values().for_each(|item| item.promised(found)),
        }
    }
}

impl Node {
    /// Ids of the nodes that its bindings read, with repetitions.
    pub fn promised(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.inputs
            .values()
            .for_each(|bind| bind.promised(&mut found));
        found
    }
}

impl Branch {
    /// The nodes of all cases and of the default.
    pub fn arms(&self) -> impl Iterator<Item = &Node> {
        let otherwise = match &self.otherwise {
            Otherwise::Run(node) => Some(&**node),
            Otherwise::Fail(_) => None,
        };
        self.cases.iter().map(|(_, node)| node).chain(otherwise)
    }
}

impl Program {
    /// How many nodes there are, those of arms and sub-workflows too; a measure of how hard it is to read.
    pub fn size(&self) -> usize {
        fn of(nodes: &[&Node]) -> usize {
            nodes
                .iter()
                .map(|node| match &node.runs {
                    Runs::Branch(branch) => 1 + of(&branch.arms().collect::<Vec<_>>()),
                    Runs::Task(_) | Runs::Workflow(_) => 1,
                })
                .sum()
        }
        self.workflows
            .iter()
            .map(|workflow| of(&workflow.nodes.iter().collect::<Vec<_>>()))
            .sum()
    }
}
