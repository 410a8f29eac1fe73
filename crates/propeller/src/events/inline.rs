//! Events that carry data instead of saying where they are (spec 04 §11.3). Pure.

use flyte_idl::{
    core::LiteralMap,
    event::{node_execution_event, task_execution_event, workflow_execution_event},
};

use super::Event;

/// Where the data are that an event speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References<'a> {
    /// URI of the node's `inputs.pb`.
    pub inputs: Option<&'a str>,
    /// URI of the node's `outputs.pb`.
    pub outputs: Option<&'a str>,
}

/// The data themselves, as far as they could be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Data {
    /// The inputs themselves; none where the event carries their URI.
    pub inputs: Option<LiteralMap>,
    /// The outputs themselves; none where the event carries their URI.
    pub outputs: Option<LiteralMap>,
}

impl Event {
    /// Where its data are.
    pub fn references(&self) -> References<'_> {
        match self {
            Self::Workflow(event) => References {
                inputs: None,
                outputs: match &event.output_result {
                    Some(workflow_execution_event::OutputResult::OutputUri(uri)) => Some(uri),
                    _ => None,
                },
            },
            Self::Node(event) => References {
                inputs: match &event.input_value {
                    Some(node_execution_event::InputValue::InputUri(uri)) => Some(uri),
                    _ => None,
                },
                outputs: match &event.output_result {
                    Some(node_execution_event::OutputResult::OutputUri(uri)) => Some(uri),
                    _ => None,
                },
            },
            Self::Task(event) => References {
                inputs: match &event.input_value {
                    Some(task_execution_event::InputValue::InputUri(uri)) => Some(uri),
                    _ => None,
                },
                outputs: match &event.output_result {
                    Some(task_execution_event::OutputResult::OutputUri(uri)) => Some(uri),
                    _ => None,
                },
            },
        }
    }

    /// With data in the place of their references. What could not be read stays a reference.
    #[must_use]
    pub fn with_data(mut self, data: Data) -> Self {
        match &mut self {
            Self::Workflow(event) => {
                if let Some(outputs) = data.outputs {
                    event.output_result =
                        Some(workflow_execution_event::OutputResult::OutputData(outputs));
                }
            }
            Self::Node(event) => {
                if let Some(inputs) = data.inputs {
                    event.input_value = Some(node_execution_event::InputValue::InputData(inputs));
                }
                if let Some(outputs) = data.outputs {
                    event.output_result =
                        Some(node_execution_event::OutputResult::OutputData(outputs));
                }
            }
            Self::Task(event) => {
                if let Some(inputs) = data.inputs {
                    event.input_value = Some(task_execution_event::InputValue::InputData(inputs));
                }
                if let Some(outputs) = data.outputs {
                    event.output_result =
                        Some(task_execution_event::OutputResult::OutputData(outputs));
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::{
        core::Literal,
        event::{NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent},
    };

    use super::*;

    fn literals(name: &str) -> LiteralMap {
        LiteralMap {
            literals: [(name.to_owned(), Literal::default())].into(),
        }
    }

    fn events() -> [(&'static str, Event, References<'static>); 5] {
        let node = NodeExecutionEvent {
            input_value: Some(node_execution_event::InputValue::InputUri("i".into())),
            output_result: Some(node_execution_event::OutputResult::OutputUri("o".into())),
            ..NodeExecutionEvent::default()
        };
        let failed = NodeExecutionEvent {
            output_result: Some(node_execution_event::OutputResult::Error(
                flyte_idl::core::ExecutionError::default(),
            )),
            ..node.clone()
        };
        let task = TaskExecutionEvent {
            input_value: Some(task_execution_event::InputValue::InputUri("i".into())),
            output_result: Some(task_execution_event::OutputResult::OutputUri("o".into())),
            ..TaskExecutionEvent::default()
        };
        let workflow = WorkflowExecutionEvent {
            output_result: Some(workflow_execution_event::OutputResult::OutputUri(
                "o".into(),
            )),
            ..WorkflowExecutionEvent::default()
        };
        let both = References {
            inputs: Some("i"),
            outputs: Some("o"),
        };
        let inputs = References {
            outputs: None,
            ..both
        };
        let outputs = References {
            inputs: None,
            ..both
        };
        [
            ("a node", Event::Node(Box::new(node)), both),
            ("a failed node", Event::Node(Box::new(failed)), inputs),
            ("an attempt", Event::Task(Box::new(task)), both),
            ("a workflow", Event::Workflow(Box::new(workflow)), outputs),
            (
                "a workflow under way",
                Event::Workflow(Box::default()),
                References::default(),
            ),
        ]
    }

    #[test]
    fn data_take_the_place_of_their_references_and_of_nothing_else() {
        for (case, event, references) in events() {
            assert_eq!(event.references(), references, "{case}");
            let data = Data {
                inputs: references.inputs.map(literals),
                outputs: references.outputs.map(literals),
            };
            let inlined = event.clone().with_data(data);
            assert_eq!(inlined.references(), References::default(), "{case}");
            assert_eq!(event.clone().with_data(Data::default()), event, "{case}");
        }
    }
}
