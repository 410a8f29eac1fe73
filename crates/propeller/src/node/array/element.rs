//! One element of an array: what it is called, what it is given, and how many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flyte_idl::core::{ExecutionError, LiteralMap, literal};

use crate::node::user;

/// Variable that names the one with the element's index.
const INDEX_VARIABLE_NAME: &str = "BATCH_JOB_ARRAY_INDEX_VAR_NAME";
/// Variable with the element's index.
const INDEX_VARIABLE: &str = "FLYTE_K8S_ARRAY_INDEX";
/// Code of an array whose inputs do not say how long it is.
const INVALID_LENGTH: &str = "InvalidArrayLength";

/// Which element of an array a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// From 0.
    pub index: u32,
    /// Inputs that each element gets whole.
    pub bound: Arc<BTreeSet<String>>,
}

impl Element {
    /// Id and name of the node that is made for an element.
    pub fn id(index: u32) -> String {
        format!("n{index}")
    }

    /// The variables of the execution with those by which flytekit finds the element.
    pub fn environment(&self, all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut variables = all.clone();
        variables.insert(INDEX_VARIABLE_NAME.into(), INDEX_VARIABLE.into());
        variables.insert(INDEX_VARIABLE.into(), self.index.to_string());
        variables
    }

    /// The inputs of this element out of those of the array.
    pub fn inputs(&self, all: &LiteralMap) -> LiteralMap {
        let place = usize::try_from(self.index).unwrap_or(usize::MAX);
        let of_element = all.literals.iter().map(|(name, value)| {
            let element = match &value.value {
                Some(literal::Value::Collection(list)) if !self.bound.contains(name) => {
                    list.literals.get(place)
                }
                _ => None,
            };
            (name.clone(), element.unwrap_or(value).clone())
        });
        LiteralMap {
            literals: of_element.collect(),
        }
    }
}

/// How many elements an array has: as many as its lists have, which is one number (spec 04 §7.7).
///
/// # Errors
/// The user's, when lists differ or there is none.
pub(super) fn count(
    inputs: &LiteralMap,
    bound: &BTreeSet<String>,
) -> Result<u32, Box<ExecutionError>> {
    let invalid = |message: String| Box::new(user(INVALID_LENGTH, message));
    let mut known: Option<(&str, usize)> = None;
    for (name, value) in inputs
        .literals
        .iter()
        .filter(|(name, _)| !bound.contains(*name))
    {
        let Some(literal::Value::Collection(list)) = &value.value else {
            continue;
        };
        let length = list.literals.len();
        match known {
            None => known = Some((name, length)),
            Some((first, expected)) if expected != length => {
                return Err(invalid(format!(
                    "input arrays have different lengths: expecting '{expected}' (as [{first}]) found '{length}' (in \
                     [{name}])"
                )));
            }
            Some(_) => {}
        }
    }
    match known {
        Some((name, length)) => u32::try_from(length)
            .map_err(|_| invalid(format!("input array [{name}] is too long: '{length}'"))),
        None if inputs.literals.keys().all(|name| bound.contains(name)) => Ok(1),
        None => Err(invalid("no input array provided".into())),
    }
}

/// Whether an input that is to be taken apart is not in the inputs but in an object of its own.
pub(super) fn is_incomplete(inputs: &LiteralMap, bound: &BTreeSet<String>) -> bool {
    let mut taken_apart = inputs
        .literals
        .iter()
        .filter(|(name, _)| !bound.contains(*name));
    taken_apart.any(|(_, value)| matches!(value.value, Some(literal::Value::OffloadedMetadata(_))))
}
