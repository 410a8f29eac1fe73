//! Elements of arrays as nodes: made when they begin, and let go of when they are over.

use std::{collections::HashMap, sync::Arc};

use flyte_core::unique_id::{self, Parent};
use flyte_crd::{NodeSpec, NodeStatus};
use flyte_plugins::pod;

use super::{
    Graph, GraphIndex, Node, NodeIndex, Nodes,
    build::{Place, new_node},
};
use crate::{
    machine::{Unreadable, graph_state::GraphState},
    node::{Element, WorkflowContext, WorkflowDefinition},
};

/// Which element of which array a node is.
#[derive(Clone, Debug)]
pub(in crate::machine) struct Member {
    pub(in crate::machine) array: NodeIndex,
    pub(in crate::machine) element: Element,
}

/// Indices of elements that are over, for those that come.
#[derive(Debug, Default)]
pub(super) struct Recycling {
    free: Vec<NodeIndex>,
    /// Whoever counts what became of nodes still looks at these.
    ended: Vec<NodeIndex>,
}

impl Nodes {
    /// A graph without edges for the elements of an array that are under way.
    pub(in crate::machine) fn add_array_graph(
        &mut self,
        array: NodeIndex,
    ) -> Result<GraphIndex, Unreadable> {
        let number = u32::try_from(self.graphs.len());
        let graph = GraphIndex(number.map_err(|_| Unreadable::TooLarge)?);
        let entities = self[self[array].graph].definition.entities.clone();
        self.graphs.push(Graph {
            owner: Some(array),
            definition: WorkflowDefinition {
                spec: Arc::default(),
                entities,
            },
            ids: HashMap::new(),
            failure_node: None,
            remaining: 0,
            aborting: 0,
            first_failed: None,
            state: GraphState::Running,
        });
        self[array].inner = Some(graph);
        Ok(graph)
    }

    /// Adds an element to the graph of its array.
    pub(in crate::machine) fn add_element(
        &mut self,
        context: &WorkflowContext,
        member: Member,
        spec: NodeSpec,
        status: NodeStatus,
    ) -> Result<NodeIndex, Unreadable> {
        let Some(graph) = self[member.array].inner else {
            let message = format!("element [{}] is of no array", spec.id);
            return Err(Unreadable::Graph(message));
        };
        let place = self.element_place(&member, status.attempts)?;
        let id = spec.id.clone();
        let mut node = new_node(graph, Arc::new(spec), status, place);
        node.member = Some(member);
        let index = match self.recycling.free.pop() {
            Some(index) => {
                self[index] = node;
                index
            }
            None => {
                let number = u32::try_from(self.arena.len());
                let index = NodeIndex(number.map_err(|_| Unreadable::TooLarge)?);
                self.arena.push(node);
                index
            }
        };
        self[graph].ids.insert(id, index);
        self.remember_pod(context, index);
        Ok(index)
    }

    /// Name and files of an attempt of an element.
    pub(super) fn element_place(&self, member: &Member, attempt: u32) -> Result<Place, Unreadable> {
        let array = &self[member.array];
        let parent = Parent {
            unique_id: array.unique_id.clone(),
            attempt: array.status.attempts,
        };
        Ok(Place {
            unique_id: unique_id::node(Some(&parent), &Element::id(member.element.index)),
            files: array.files.element(member.element.index, attempt)?,
            parent: Some(parent),
        })
    }

    /// Forgets an element that is over; its index is given to another one once nobody looks at it any more.
    pub(in crate::machine) fn forget_element(
        &mut self,
        context: &WorkflowContext,
        index: NodeIndex,
    ) {
        let node = &self[index];
        let names = (0..=node.status.attempts).map(|attempt| {
            let max = unique_id::GENERATED_NAME_MAX;
            let name = unique_id::generated_name(&context.name, &node.unique_id, attempt, max);
            pod::object_name(&name.unwrap_or_else(|too_long| too_long.name))
        });
        for name in names.collect::<Vec<_>>() {
            if self.pods.get(&name) == Some(&index) {
                self.pods.remove(&name);
            }
        }
        let node = &self[index];
        let (graph, id) = (node.graph, node.spec.id.clone());
        self[graph].ids.remove(&id);
        self.recycling.ended.push(index);
    }

    /// Nobody looks any more at what was forgotten until now.
    pub(in crate::machine) fn recycle(&mut self) {
        self.recycling.free.append(&mut self.recycling.ended);
    }
}

impl Node {
    /// The array that it is an element of.
    pub(in crate::machine) fn array(&self) -> Option<NodeIndex> {
        self.member.as_ref().map(|member| member.array)
    }
}
