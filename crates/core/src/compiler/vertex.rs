//! Nodes with what the compiler learns about them.

use flyte_idl::core::{
    BranchNode, Node, if_else_block,
    node::{self, Target},
};

use super::interface::Interface;

/// A node. The inner nodes of a branch are taken out of it, so that each can be changed on its own.
pub(super) struct Vertex {
    pub(super) node: Node,
    /// What the node takes and gives, once it is known.
    pub(super) interface: Option<Interface>,
    /// The nodes of a branch, in order.
    pub(super) cases: Vec<Case>,
    /// The inner node of an array.
    pub(super) inner: Option<Box<Vertex>>,
}

/// One node of a branch.
pub(super) struct Case {
    pub(super) place: Place,
    pub(super) vertex: Vertex,
}

/// Where in a branch a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    If,
    Other(usize),
    Else,
}

impl Vertex {
    /// Takes a node apart and gives the nodes of branches their final ids, `‹branch›-‹own id›` (spec 08 A7).
    pub(super) fn new(mut node: Node) -> Self {
        let mut cases = Vec::new();
        let mut inner = None;
        match &mut node.target {
            Some(Target::BranchNode(branch)) => {
                let complete = branch
                    .if_else
                    .as_ref()
                    .and_then(|block| block.case.as_ref())
                    .is_some_and(|case| case.then_node.is_some());
                for (place, mut case) in take_cases(branch) {
                    if complete {
                        case.id = format!("{}-{}", node.id, case.id);
                    }
                    cases.push(Case {
                        place,
                        vertex: Self::new(case),
                    });
                }
            }
            Some(Target::ArrayNode(array)) => {
                inner = array.node.take().map(|node| Box::new(Self::new(*node)));
            }
            _ => {}
        }
        Self {
            node,
            interface: None,
            cases,
            inner,
        }
    }

    /// Puts the node together again.
    pub(super) fn into_node(self) -> Node {
        let mut node = self.node;
        match &mut node.target {
            Some(Target::BranchNode(branch)) => {
                for case in self.cases {
                    put_case(branch, case.place, case.vertex.into_node());
                }
            }
            Some(Target::ArrayNode(array)) => {
                array.node = self.inner.map(|inner| Box::new(inner.into_node()));
            }
            _ => {}
        }
        node
    }

    pub(super) fn id(&self) -> &str {
        &self.node.id
    }

    pub(super) fn target(&self) -> Option<&node::Target> {
        self.node.target.as_ref()
    }
}

fn take_cases(branch: &mut BranchNode) -> Vec<(Place, Node)> {
    let mut cases = Vec::new();
    let Some(block) = &mut branch.if_else else {
        return cases;
    };
    if let Some(node) = block.case.as_mut().and_then(|case| case.then_node.take()) {
        cases.push((Place::If, *node));
    }
    for (index, other) in block.other.iter_mut().enumerate() {
        if let Some(node) = other.then_node.take() {
            cases.push((Place::Other(index), *node));
        }
    }
    if let Some(if_else_block::Default::ElseNode(node)) = &mut block.default {
        cases.push((Place::Else, std::mem::take(&mut **node)));
    }
    cases
}

fn put_case(branch: &mut BranchNode, place: Place, node: Node) {
    let Some(block) = &mut branch.if_else else {
        return;
    };
    let node = Box::new(node);
    match place {
        Place::If => {
            if let Some(case) = &mut block.case {
                case.then_node = Some(node);
            }
        }
        Place::Other(index) => {
            if let Some(other) = block.other.get_mut(index) {
                other.then_node = Some(node);
            }
        }
        Place::Else => block.default = Some(if_else_block::Default::ElseNode(node)),
    }
}
