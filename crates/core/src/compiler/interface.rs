//! What nodes take and give: the variables of tasks, workflows and launch plans.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use flyte_idl::core::{CompiledTask, Identifier, TypedInterface, Variable, VariableMap};

use super::errors::{Collector, CompileError};

/// Variables by name.
pub(super) type Variables = BTreeMap<String, Variable>;

/// Inputs and outputs by name; shared by all nodes that run the same thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub(super) inputs: Arc<Variables>,
    pub(super) outputs: Arc<Variables>,
    flaws: Flaws,
}

/// What is wrong with the variables of an interface, to be told at each node that has it.
#[derive(Debug, Clone, Copy, Default)]
struct Flaws {
    unnamed: bool,
    untyped: bool,
}

impl Interface {
    pub(super) fn new(inputs: Variables, outputs: Variables) -> Self {
        let mut flaws = Flaws::default();
        for (name, variable) in inputs.iter().chain(&outputs) {
            flaws.unnamed |= name.is_empty();
            flaws.untyped |= variable.r#type.is_none();
        }
        Self {
            inputs: Arc::new(inputs),
            outputs: Arc::new(outputs),
            flaws,
        }
    }

    pub(super) fn of(interface: &TypedInterface) -> Self {
        let variables = |map: &Option<VariableMap>| {
            map.as_ref()
                .map(|map| map.variables.clone())
                .unwrap_or_default()
        };
        Self::new(variables(&interface.inputs), variables(&interface.outputs))
    }

    pub(super) fn report(&self, node: &str, errors: &mut Collector) {
        if self.flaws.unnamed {
            errors.add(CompileError::value_required(node, "paramName"));
        }
        if self.flaws.untyped {
            errors.add(CompileError::value_required(node, "param.Type"));
        }
    }
}

/// Makes absent parts of an interface present and empty, as they are stored and hashed (spec 08 A5.3).
pub(super) fn complete(interface: &mut TypedInterface) {
    interface.inputs.get_or_insert_default();
    interface.outputs.get_or_insert_default();
}

/// The tasks of a closure.
pub(super) struct Tasks {
    compiled: Vec<CompiledTask>,
    index: HashMap<Identifier, usize>,
    interfaces: HashMap<usize, Interface>,
}

impl Tasks {
    pub(super) fn new(tasks: Vec<CompiledTask>) -> Self {
        let index = tasks
            .iter()
            .enumerate()
            .filter_map(|(position, task)| Some((task.template.as_ref()?.id.clone()?, position)))
            .collect();
        Self {
            compiled: tasks,
            index,
            interfaces: HashMap::new(),
        }
    }

    pub(super) fn contains(&self, id: &Identifier) -> bool {
        self.index.contains_key(id)
    }

    /// The interface of a task. The first use completes it in the closure.
    pub(super) fn interface(&mut self, id: &Identifier) -> Option<Interface> {
        let position = *self.index.get(id)?;
        if let Some(known) = self.interfaces.get(&position) {
            return Some(known.clone());
        }
        let template = self.compiled.get_mut(position)?.template.as_mut()?;
        let interface = match &mut template.interface {
            Some(interface) => {
                complete(interface);
                Interface::of(interface)
            }
            None => Interface::default(),
        };
        self.interfaces.insert(position, interface.clone());
        Some(interface)
    }

    pub(super) fn into_closure(self) -> Vec<CompiledTask> {
        self.compiled
    }
}
