//! From bindings to literals (spec 04 §10.1-10.3). Pure: upstream outputs are handed in.

mod attribute;
mod error;
mod shown;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use flyte_idl::core::{
    Binding, BindingData, Literal, LiteralCollection, LiteralMap, OutputReference, binding_data,
    literal,
};

use attribute::attribute;
pub use error::{PromiseError, PromiseFault, ResolveError, Unreadable};

/// What a node that a binding refers to has written.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Where its outputs are.
    pub uri: String,
    /// Its outputs.
    pub literals: Result<Arc<LiteralMap>, Unreadable>,
}

/// Outputs of the upstream nodes that bindings refer to, by node id.
pub type Outputs = BTreeMap<String, Upstream>;

/// Ids of the nodes whose outputs the bindings read.
pub fn promised_nodes(bindings: &[Binding]) -> Vec<String> {
    fn visit(data: &BindingData, found: &mut Vec<String>) {
        match &data.value {
            Some(binding_data::Value::Promise(promise)) => found.push(node_of(promise).to_owned()),
            Some(binding_data::Value::Collection(list)) => {
                list.bindings.iter().for_each(|item| visit(item, found));
            }
            Some(binding_data::Value::Map(map)) => {
                map.bindings.values().for_each(|item| visit(item, found));
            }
            Some(binding_data::Value::Scalar(_) | binding_data::Value::OffloadedMetadata(_))
            | None => {}
        }
    }
    let mut found = Vec::new();
    bindings
        .iter()
        .filter_map(|binding| binding.binding.as_ref())
        .for_each(|data| visit(data, &mut found));
    found.sort();
    found.dedup();
    found
}

/// All bindings of a node, as its inputs.
pub fn resolve(bindings: &[Binding], outputs: &Outputs) -> Result<LiteralMap, ResolveError> {
    let mut literals = BTreeMap::new();
    for binding in bindings {
        if let Some(data) = &binding.binding {
            let literal = resolve_data(data, outputs).map_err(|cause| ResolveError {
                variable: binding.var.clone(),
                cause,
            })?;
            literals.insert(binding.var.clone(), literal);
        }
    }
    Ok(LiteralMap { literals })
}

fn resolve_data(data: &BindingData, outputs: &Outputs) -> Result<Literal, PromiseError> {
    let value = match &data.value {
        Some(binding_data::Value::Scalar(scalar)) => {
            Some(literal::Value::Scalar(Box::new(scalar.clone())))
        }
        Some(binding_data::Value::Collection(list)) => {
            let literals = list
                .bindings
                .iter()
                .map(|item| resolve_data(item, outputs))
                .collect::<Result<_, _>>()?;
            Some(literal::Value::Collection(LiteralCollection { literals }))
        }
        Some(binding_data::Value::Map(map)) => {
            let literals = map
                .bindings
                .iter()
                .map(|(key, item)| Ok((key.clone(), resolve_data(item, outputs)?)))
                .collect::<Result<_, PromiseError>>()?;
            Some(literal::Value::Map(LiteralMap { literals }))
        }
        Some(binding_data::Value::OffloadedMetadata(metadata)) => {
            Some(literal::Value::OffloadedMetadata(metadata.clone()))
        }
        Some(binding_data::Value::Promise(promise)) => return resolve_promise(promise, outputs),
        None => None,
    };
    Ok(Literal {
        value,
        ..Literal::default()
    })
}

fn node_of(promise: &OutputReference) -> &str {
    if promise.node_id.is_empty() {
        "start-node"
    } else {
        &promise.node_id
    }
}

fn resolve_promise(promise: &OutputReference, outputs: &Outputs) -> Result<Literal, PromiseError> {
    let node = node_of(promise);
    let upstream = outputs.get(node).ok_or(PromiseFault::NoNode);
    let literal = upstream
        .and_then(|upstream| output(promise, upstream))
        .and_then(|literal| {
            if promise.attr_path.is_empty() {
                Ok(literal)
            } else {
                attribute(literal, &promise.attr_path)
            }
        });
    literal.map_err(|fault| PromiseError {
        node: node.to_owned(),
        fault,
    })
}

/// The output that a promise names, or one element of it: `[index].name`.
fn output(promise: &OutputReference, upstream: &Upstream) -> Result<Literal, PromiseFault> {
    let uri = &upstream.uri;
    let known = upstream
        .literals
        .as_ref()
        .map_err(|unreadable| PromiseFault::Unreadable {
            uri: uri.clone(),
            unreadable: unreadable.clone(),
        })?;
    if known.literals.is_empty() {
        return Err(PromiseFault::NoOutputs(uri.clone()));
    }
    if let Some(literal) = known.literals.get(&promise.var) {
        return Ok(literal.clone());
    }
    let node = node_of(promise);
    let Some((index, variable)) = indexed(&promise.var) else {
        return Err(PromiseFault::NoOutput(format!(
            "[{node}].[{}]",
            promise.var
        )));
    };
    let list = known.literals.get(variable);
    let list = list.ok_or(PromiseFault::NoCollection)?;
    match &list.value {
        Some(literal::Value::Collection(list)) => list
            .literals
            .get(index)
            .cloned()
            .ok_or_else(|| PromiseFault::NoOutput(format!("[{node}[{index}].{variable}]"))),
        Some(literal::Value::Scalar(_)) => Err(PromiseFault::NotCollection("*core.Literal_Scalar")),
        Some(literal::Value::Map(_)) => Err(PromiseFault::NotCollection("*core.Literal_Map")),
        Some(literal::Value::OffloadedMetadata(_)) => Err(PromiseFault::NotCollection(
            "*core.Literal_OffloadedMetadata",
        )),
        None => Err(PromiseFault::NotCollection("<nil>")),
    }
}

fn indexed(variable: &str) -> Option<(usize, &str)> {
    let (index, name) = variable.strip_prefix('[')?.split_once("].")?;
    Some((index.parse().ok()?, name))
}
