//! Keys of the task cache: which dataset a task's results belong to, and the tag of one set of inputs
//! (spec 06 B2 to B5 and B8).
//!
//! Entries that Go wrote must be found, so the keys are byte-exact: object hashes over Go's JSON, as digests are.

use std::collections::BTreeMap;

use flyte_idl::{
    core::{
        Identifier, Literal, LiteralCollection, LiteralMap, NodeExecutionIdentifier, ResourceType,
        TaskExecutionIdentifier, TypedInterface, Variable, VariableMap,
        WorkflowExecutionIdentifier, literal, literal_type::Type,
    },
    datacatalog::DatasetId,
    json::EncodeError,
};

use crate::digest;

/// Before the task's name in the name of its dataset.
pub const DATASET_PREFIX: &str = "flyte_task-";
/// Before the hash of the inputs in a tag.
pub const TAG_PREFIX: &str = "flyte_cached-";
/// Characters of each interface hash in a dataset's version.
const SHORT: usize = 8;

const TASK_VERSION: &str = "task-version";
/// In an artifact's metadata: the project of the execution that wrote it (spec 06 B8).
pub const PROJECT: &str = "exec-project";
/// Its domain.
pub const DOMAIN: &str = "exec-domain";
/// Its name.
pub const EXECUTION: &str = "execution-name";
/// The node that wrote it, by its id in its workflow.
pub const NODE: &str = "exec-node";
/// The number of its attempt.
pub const ATTEMPT: &str = "exec-attempt";
const UNKNOWN: &str = "unknown";

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The task is cached without saying under which version.
    #[error("task cannot have an empty discoveryVersion")]
    NoCacheVersion,
    /// A literal or type has no JSON form.
    #[error("cannot hash for the cache")]
    Hash(#[from] EncodeError),
    /// The attempt in an artifact's metadata is no number.
    #[error("exec-attempt {0:?} is not a number")]
    Attempt(String),
}

/// The dataset of a task. `interface` is the one in the workflow resource, stripped ([`crate::types::strip`]).
pub fn dataset(
    task: &Identifier,
    cache_version: &str,
    interface: Option<&TypedInterface>,
) -> Result<DatasetId, CatalogError> {
    let cache_version = cache_version.trim_matches(' ');
    if cache_version.is_empty() {
        return Err(CatalogError::NoCacheVersion);
    }
    let inputs = short_hash(interface.and_then(|interface| interface.inputs.as_ref()))?;
    let outputs = short_hash(interface.and_then(|interface| interface.outputs.as_ref()))?;
    Ok(DatasetId {
        project: task.project.clone(),
        domain: task.domain.clone(),
        name: format!("{DATASET_PREFIX}{}", task.name),
        version: format!("{cache_version}-{inputs}-{outputs}"),
        ..Default::default()
    })
}

fn short_hash(variables: Option<&VariableMap>) -> Result<String, EncodeError> {
    let hash = match variables {
        Some(variables) => digest::of_message(variables)?,
        None => digest::of_message(&VariableMap::default())?,
    };
    let mut text = hash.base64_url();
    text.truncate(SHORT);
    Ok(text)
}

/// The tag of inputs. A literal with a hash counts as that hash alone; inputs in `ignored` do not count.
pub fn input_tag(
    inputs: &BTreeMap<String, Literal>,
    ignored: &[String],
) -> Result<String, CatalogError> {
    let counted = inputs
        .iter()
        .filter(|(name, _)| !ignored.contains(name))
        .map(|(name, literal)| (name.clone(), hashed(literal)));
    let map = LiteralMap {
        literals: counted.collect(),
    };
    let hash = digest::of_message(&map)?;
    Ok(format!("{TAG_PREFIX}{}", hash.base64_url()))
}

/// A literal as it counts: by its hash if it has one, containers element by element, anything else as it is.
fn hashed(literal: &Literal) -> Literal {
    if !literal.hash.is_empty() {
        return Literal {
            hash: literal.hash.clone(),
            ..Default::default()
        };
    }
    let value = match &literal.value {
        Some(literal::Value::Collection(list)) => literal::Value::Collection(LiteralCollection {
            literals: list.literals.iter().map(hashed).collect(),
        }),
        Some(literal::Value::Map(map)) => {
            let entries = map.literals.iter();
            literal::Value::Map(LiteralMap {
                literals: entries
                    .map(|(key, value)| (key.clone(), hashed(value)))
                    .collect(),
            })
        }
        _ => return literal.clone(),
    };
    Literal {
        value: Some(value),
        ..Default::default()
    }
}

/// The hash that the engine gives a literal when it moves its value to the blob store.
pub fn offloaded_hash(literal: &Literal) -> Result<String, CatalogError> {
    Ok(digest::of_message(literal)?.base64_url())
}

/// The interface under which the items of a map task are cached: inputs as they are, of outputs that are lists
/// the element (spec 06 B2).
pub fn item_interface(interface: &TypedInterface) -> TypedInterface {
    let item = |variable: &Variable| match variable.r#type.as_ref().map(|known| &known.r#type) {
        Some(Some(Type::CollectionType(element))) => Variable {
            r#type: Some((**element).clone()),
            description: variable.description.clone(),
            ..Default::default()
        },
        _ => variable.clone(),
    };
    TypedInterface {
        inputs: interface.inputs.clone(),
        outputs: interface.outputs.as_ref().map(|outputs| {
            let variables = outputs.variables.iter();
            VariableMap {
                variables: variables
                    .map(|(name, variable)| (name.clone(), item(variable)))
                    .collect(),
            }
        }),
    }
}

/// The inputs of one item of a map task: its element of each list that is not bound, everything else whole.
/// `None` when a list is shorter.
pub fn item_inputs(
    inputs: &BTreeMap<String, Literal>,
    bound: &[String],
    index: usize,
) -> Option<BTreeMap<String, Literal>> {
    inputs
        .iter()
        .map(|(name, literal)| {
            let item = match &literal.value {
                Some(literal::Value::Collection(list)) if !bound.contains(name) => {
                    list.literals.get(index)?.clone()
                }
                _ => literal.clone(),
            };
            Some((name.clone(), item))
        })
        .collect()
}

/// What is written beside a dataset.
pub fn dataset_metadata(task: &Identifier) -> BTreeMap<String, String> {
    [(TASK_VERSION.to_owned(), task.version.clone())].into()
}

/// What is written beside an artifact: who made it. Nothing without an execution.
pub fn artifact_metadata(source: Option<&TaskExecutionIdentifier>) -> BTreeMap<String, String> {
    let Some(source) = source else {
        return BTreeMap::new();
    };
    let node = source.node_execution_id.clone().unwrap_or_default();
    let execution = node.execution_id.unwrap_or_default();
    [
        (PROJECT, execution.project),
        (DOMAIN, execution.domain),
        (EXECUTION, execution.name),
        (NODE, node.node_id),
        (ATTEMPT, source.retry_attempt.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Who made an artifact, from the metadata of its dataset and its own; `task` is the one that looks it up.
pub fn source(
    task: &Identifier,
    dataset: &BTreeMap<String, String>,
    artifact: &BTreeMap<String, String>,
) -> Result<TaskExecutionIdentifier, CatalogError> {
    let read = |from: &BTreeMap<String, String>, key: &str, default: &str| {
        from.get(key).cloned().unwrap_or_else(|| default.to_owned())
    };
    let attempt = read(artifact, ATTEMPT, "0");
    Ok(TaskExecutionIdentifier {
        task_id: Some(Identifier {
            resource_type: ResourceType::Task as i32,
            version: read(dataset, TASK_VERSION, UNKNOWN),
            ..task.clone()
        }),
        node_execution_id: Some(NodeExecutionIdentifier {
            node_id: read(artifact, NODE, UNKNOWN),
            execution_id: Some(WorkflowExecutionIdentifier {
                project: read(artifact, PROJECT, &task.project),
                domain: read(artifact, DOMAIN, &task.domain),
                name: read(artifact, EXECUTION, UNKNOWN),
                org: String::new(),
            }),
        }),
        retry_attempt: attempt
            .parse()
            .map_err(|_| CatalogError::Attempt(attempt))?,
    })
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::SimpleType;

    use super::*;
    use crate::{literals, types::simple};

    fn variables(entries: &[(&str, SimpleType)]) -> VariableMap {
        let variable = |kind| Variable {
            r#type: Some(simple(kind)),
            ..Default::default()
        };
        VariableMap {
            variables: entries
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), variable(*kind)))
                .collect(),
        }
    }

    #[test]
    fn datasets_are_named_after_task_version_and_interface() {
        let task = Identifier {
            name: "name".into(),
            ..Default::default()
        };
        let test = variables(&[("test", SimpleType::String)]);
        let ints = variables(&[("1", SimpleType::Integer), ("2", SimpleType::Integer)]);
        for (interface, version) in [
            (None, "1.0.0-GKw-c0Pw-GKw-c0Pw"),
            (
                Some(TypedInterface {
                    inputs: Some(ints),
                    outputs: None,
                }),
                "1.0.0-UxVtPm0k-GKw-c0Pw",
            ),
            (
                Some(TypedInterface {
                    inputs: Some(test.clone()),
                    outputs: Some(test),
                }),
                "1.0.0-ue5g6uuI-ue5g6uuI",
            ),
        ] {
            let dataset = dataset(&task, " 1.0.0 ", interface.as_ref()).unwrap();
            assert_eq!(dataset.version, version);
            assert_eq!(dataset.name, "flyte_task-name");
        }
        assert_eq!(
            dataset(&task, "  ", None),
            Err(CatalogError::NoCacheVersion)
        );
    }

    #[test]
    fn tags_are_those_of_the_reference() {
        let map = |entries: &[(&str, Literal)]| -> BTreeMap<String, Literal> {
            entries
                .iter()
                .map(|(name, literal)| ((*name).to_owned(), literal.clone()))
                .collect()
        };
        let int = literals::integer;
        let mut with_hash = literals::string("ignored");
        with_hash.hash = "abcde".into();
        for (inputs, ignored, tag) in [
            (
                map(&[]),
                vec![],
                "GKw-c0PwFokMUQ6T-TUmEWnZ4_VlQ2Qpgw-vCTT0-OQ",
            ),
            (
                map(&[("1", int(1)), ("2", int(2))]),
                vec![],
                "GQid5LjHbakcW68DS3P2jp80QLbiF0olFHF2hTh5bg8",
            ),
            (
                map(&[("1", int(1)), ("2", int(2)), ("3", int(3))]),
                vec!["3".to_owned()],
                "GQid5LjHbakcW68DS3P2jp80QLbiF0olFHF2hTh5bg8",
            ),
            (
                map(&[("a", literals::float(0.0))]),
                vec![],
                "bV6FeWMprV7UQaT-PJm6K61HlbvjsGKIm2gWwaV1NRw",
            ),
            (
                map(&[("a", literals::collection(vec![]))]),
                vec![],
                "4ZnkW4ehbijBMHwq9wMvjCLRqq6N1aHm7XUUTR4mIqE",
            ),
            (
                map(&[("o0", with_hash)]),
                vec![],
                "D_HyPwXQXbEmBpF4dFrqDWDNu7bnI3H-9gjmNOHH_-s",
            ),
        ] {
            assert_eq!(
                input_tag(&inputs, &ignored),
                Ok(format!("flyte_cached-{tag}"))
            );
        }
    }

    #[test]
    fn the_maker_of_an_artifact_is_read_back() {
        let task = Identifier {
            resource_type: ResourceType::Task as i32,
            project: "p".into(),
            domain: "d".into(),
            name: "n".into(),
            version: "v2".into(),
            org: String::new(),
        };
        let maker = TaskExecutionIdentifier {
            task_id: Some(Identifier {
                version: "v1".into(),
                ..task.clone()
            }),
            node_execution_id: Some(NodeExecutionIdentifier {
                node_id: "n0".into(),
                execution_id: Some(WorkflowExecutionIdentifier {
                    project: "q".into(),
                    domain: "d".into(),
                    name: "e".into(),
                    org: String::new(),
                }),
            }),
            retry_attempt: 3,
        };
        let by = Identifier {
            version: "v1".into(),
            ..task.clone()
        };
        let found = source(
            &task,
            &dataset_metadata(&by),
            &artifact_metadata(Some(&maker)),
        );
        assert_eq!(found, Ok(maker));
        let nobody = source(&task, &BTreeMap::new(), &artifact_metadata(None)).unwrap();
        assert_eq!(nobody.task_id.unwrap().version, "unknown");
        let odd = [("exec-attempt".to_owned(), "x".to_owned())].into();
        assert_eq!(
            source(&task, &BTreeMap::new(), &odd),
            Err(CatalogError::Attempt("x".into()))
        );
    }
}
