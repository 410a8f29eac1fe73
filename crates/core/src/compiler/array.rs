//! Array nodes: what they take and give, and whether what they run can be run (spec 08 A6.1, A18).

use flyte_idl::core::{ArrayNode, LiteralType, SimpleType, Variable, array_node};

use super::{
    edges::Direction,
    errors::{CompileError, CompileErrors},
    graph::Graph,
    interface::{Interface, Variables},
    vertex::Vertex,
};
use crate::types;

impl Graph<'_, '_> {
    pub(super) fn infer_array(&mut self, vertex: &mut Vertex, wrap: Wrap) -> Option<Interface> {
        match &mut vertex.inner {
            Some(inner) => self.infer(inner).map(|interface| wrap.apply(interface)),
            None => self.fail(CompileError::value_required("", "Target")),
        }
    }

    /// Checks what an array runs. The bindings of its inner node are looked at and left as they are: the engine goes by
    /// those of the array, which flytekit repeats inside.
    pub(super) fn validate_inner(&mut self, vertex: &mut Vertex) {
        let Some(mut inner) = vertex.inner.take() else {
            return;
        };
        self.validate_target(&mut inner);
        if let (Some(array), Some(single)) = (&vertex.interface, &inner.interface) {
            let errors = self.unbindable(&inner, &array.inputs);
            // A producer may bind the inner node as one of its runs sees it.
            let fits = errors.is_empty() || self.unbindable(&inner, &single.inputs).is_empty();
            if !fits {
                self.errors.add_all(&errors);
            }
        }
        vertex.inner = Some(inner);
    }

    /// What is wrong with those inputs that a node binds; the others are bound by the array around it.
    fn unbindable(&mut self, inner: &Vertex, inputs: &Variables) -> CompileErrors {
        let bound = inner.node.inputs.iter();
        let declared: Variables = bound
            .filter_map(|binding| inputs.get_key_value(&binding.var))
            .map(|(name, variable)| (name.clone(), variable.clone()))
            .collect();
        let mut node = inner.node.clone();
        let errors = std::mem::take(&mut self.errors);
        let edges = std::mem::take(&mut self.edges);
        self.check_bindings(&mut node, &declared, Direction::Upstream);
        self.edges = edges;
        std::mem::replace(&mut self.errors, errors).into_errors()
    }
}

/// How an array changes the interface of its inner node. flytekit sends mapped tasks with list types already;
/// where it says that the interface is the original one, inputs that vary and all outputs become lists
/// (spec 08 A18, 10).
pub(super) enum Wrap {
    No,
    Lists { bound: Vec<String>, partial: bool },
}

impl Wrap {
    pub(super) fn of(array: &ArrayNode) -> Self {
        if array.is_original_sub_node_interface == Some(true) {
            Self::Lists {
                bound: array.bound_inputs.clone(),
                partial: match array.success_criteria {
                    Some(array_node::SuccessCriteria::MinSuccesses(_)) => true,
                    Some(array_node::SuccessCriteria::MinSuccessRatio(ratio)) => ratio < 1.0,
                    None => false,
                },
            }
        } else {
            Self::No
        }
    }

    fn apply(self, interface: Interface) -> Interface {
        let Self::Lists { bound, partial } = self else {
            return interface;
        };
        let element = |literal_type: LiteralType| {
            if partial {
                types::union(vec![literal_type, types::simple(SimpleType::None)])
            } else {
                literal_type
            }
        };
        let listed = |variable: &Variable, element: &dyn Fn(LiteralType) -> LiteralType| Variable {
            r#type: variable
                .r#type
                .clone()
                .map(|literal_type| types::collection(element(literal_type))),
            ..variable.clone()
        };
        let inputs = interface.inputs.iter().map(|(name, variable)| {
            let variable = if bound.contains(name) {
                variable.clone()
            } else {
                listed(variable, &|literal_type| literal_type)
            };
            (name.clone(), variable)
        });
        let outputs = interface
            .outputs
            .iter()
            .map(|(name, variable)| (name.clone(), listed(variable, &element)));
        Interface::new(inputs.collect(), outputs.collect())
    }
}
