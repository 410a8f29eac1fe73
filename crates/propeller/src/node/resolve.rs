//! From bindings to literals (spec 04 §10.1-10.3). Pure: upstream outputs are handed in.

use std::{collections::BTreeMap, sync::Arc};

use flyte_idl::core::{
    Binary, Binding, BindingData, Literal, LiteralCollection, LiteralMap, OutputReference,
    Primitive, PromiseAttribute, Scalar, binding_data, literal, primitive, promise_attribute,
    scalar,
};

/// The tag of binary literals that flytekit writes.
const MSGPACK: &str = "msgpack";

/// A binding cannot be resolved, whatever is retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The upstream node wrote no such output.
    #[error("OutputsNotFoundError: failed to find [{node}].[{variable}]")]
    NoOutput {
        /// The id of the node that the promise refers to.
        node: String,
        /// The name of its output.
        variable: String,
    },
    /// The promise names a node that is not in the graph.
    #[error("IllegalStateError: promise of unknown node [{0}]")]
    NoNode(String),
    /// `[index].name` of something that is not a list of that length.
    #[error("BadSpecificationError: [{node}].[{variable}] has no element {index}")]
    NoElement {
        /// The id of the node that the promise refers to.
        node: String,
        /// The name of its output.
        variable: String,
        /// The position in the collection, from 0.
        index: usize,
    },
    /// A promise names an attribute that the value does not have.
    #[error("PromiseAttributeResolveError: {0}")]
    Attribute(String),
}

/// Outputs of the upstream nodes that bindings refer to, by node id.
pub type Outputs = BTreeMap<String, Arc<LiteralMap>>;

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
            literals.insert(binding.var.clone(), resolve_data(data, outputs)?);
        }
    }
    Ok(LiteralMap { literals })
}

fn resolve_data(data: &BindingData, outputs: &Outputs) -> Result<Literal, ResolveError> {
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
                .collect::<Result<_, ResolveError>>()?;
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

fn resolve_promise(promise: &OutputReference, outputs: &Outputs) -> Result<Literal, ResolveError> {
    let node = node_of(promise);
    let known = outputs
        .get(node)
        .ok_or_else(|| ResolveError::NoNode(node.to_owned()))?;
    let missing = || ResolveError::NoOutput {
        node: node.to_owned(),
        variable: promise.var.clone(),
    };
    let literal = match known.literals.get(&promise.var) {
        Some(literal) => literal.clone(),
        None => {
            // `[index].name`: one element of a list.
            let (index, variable) = indexed(&promise.var).ok_or_else(missing)?;
            let list = known.literals.get(variable).ok_or_else(missing)?;
            let element = match &list.value {
                Some(literal::Value::Collection(list)) => list.literals.get(index),
                _ => None,
            };
            element.cloned().ok_or_else(|| ResolveError::NoElement {
                node: node.to_owned(),
                variable: variable.to_owned(),
                index,
            })?
        }
    };
    if promise.attr_path.is_empty() {
        Ok(literal)
    } else {
        attribute(literal, &promise.attr_path)
    }
}

fn indexed(variable: &str) -> Option<(usize, &str)> {
    let (index, name) = variable.strip_prefix('[')?.split_once("].")?;
    Some((index.parse().ok()?, name))
}

fn describe(attribute: &PromiseAttribute) -> String {
    match &attribute.value {
        Some(promise_attribute::Value::StringValue(key)) => format!("key [{key}]"),
        Some(promise_attribute::Value::IntValue(index)) => format!("index [{index}]"),
        None => "an empty attribute".into(),
    }
}

/// Follows a path through maps, lists and the insides of binary and generic scalars (spec 04 §10.3).
fn attribute(literal: Literal, path: &[PromiseAttribute]) -> Result<Literal, ResolveError> {
    let mut current = literal;
    let mut rest = path;
    while let Some((step, tail)) = rest.split_first() {
        let missing = || ResolveError::Attribute(format!("{} is not in the value", describe(step)));
        let next = match (&current.value, &step.value) {
            (Some(literal::Value::Map(map)), Some(promise_attribute::Value::StringValue(key))) => {
                map.literals.get(key).cloned().ok_or_else(missing)?
            }
            (
                Some(literal::Value::Collection(list)),
                Some(promise_attribute::Value::IntValue(index)),
            ) => usize::try_from(*index)
                .ok()
                .and_then(|index| list.literals.get(index))
                .cloned()
                .ok_or_else(missing)?,
            (Some(literal::Value::Map(_) | literal::Value::Collection(_)), _) => {
                return Err(missing());
            }
            _ => break,
        };
        current = next;
        rest = tail;
    }
    let Some(literal::Value::Scalar(scalar)) = &current.value else {
        return Ok(current);
    };
    match &scalar.value {
        Some(scalar::Value::Binary(binary)) => binary_attribute(binary, rest),
        Some(scalar::Value::Generic(structure)) if !rest.is_empty() => {
            let value = prost_types::Value {
                kind: Some(prost_types::value::Kind::StructValue(structure.clone())),
            };
            generic_attribute(value, rest)
        }
        _ => Ok(current),
    }
}

fn binary_attribute(binary: &Binary, path: &[PromiseAttribute]) -> Result<Literal, ResolveError> {
    if binary.tag != MSGPACK {
        return Err(ResolveError::Attribute(format!(
            "a binary value tagged {:?} cannot be looked into",
            binary.tag
        )));
    }
    let mut value = rmpv::decode::read_value(&mut binary.value.as_slice())
        .map_err(|error| ResolveError::Attribute(format!("the value is not msgpack: {error}")))?;
    for step in path {
        let missing = || ResolveError::Attribute(format!("{} is not in the value", describe(step)));
        value = match (value, &step.value) {
            (rmpv::Value::Map(entries), Some(promise_attribute::Value::StringValue(wanted))) => {
                entries
                    .into_iter()
                    .find(|(key, _)| key.as_str() == Some(wanted))
                    .map(|(_, value)| value)
                    .ok_or_else(missing)?
            }
            (rmpv::Value::Array(mut items), Some(promise_attribute::Value::IntValue(index))) => {
                let index = usize::try_from(*index).map_err(|_| missing())?;
                if index >= items.len() {
                    return Err(missing());
                }
                items.swap_remove(index)
            }
            _ => return Err(missing()),
        };
    }
    of_msgpack(value)
}

fn primitive(value: primitive::Value) -> Literal {
    scalar_literal(scalar::Value::Primitive(Primitive { value: Some(value) }))
}

fn scalar_literal(value: scalar::Value) -> Literal {
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(value),
        }))),
        ..Literal::default()
    }
}

fn of_msgpack(value: rmpv::Value) -> Result<Literal, ResolveError> {
    match value {
        rmpv::Value::Boolean(flag) => Ok(primitive(primitive::Value::Boolean(flag))),
        rmpv::Value::Integer(number) => number
            .as_i64()
            .map(|number| primitive(primitive::Value::Integer(number)))
            .ok_or_else(|| {
                ResolveError::Attribute(format!(
                    "InvalidPrimitiveType: {number} is larger than a 64-bit signed integer"
                ))
            }),
        rmpv::Value::F32(number) => Ok(primitive(primitive::Value::FloatValue(f64::from(number)))),
        rmpv::Value::F64(number) => Ok(primitive(primitive::Value::FloatValue(number))),
        rmpv::Value::String(text) => Ok(primitive(primitive::Value::StringValue(
            text.into_str()
                .ok_or_else(|| ResolveError::Attribute("a text is not UTF-8".into()))?,
        ))),
        rmpv::Value::Array(items) => {
            let literals = items.iter().map(encoded).collect::<Result<_, _>>()?;
            Ok(Literal {
                value: Some(literal::Value::Collection(LiteralCollection { literals })),
                ..Literal::default()
            })
        }
        other => encoded(&other),
    }
}

fn encoded(value: &rmpv::Value) -> Result<Literal, ResolveError> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).map_err(|error| {
        ResolveError::Attribute(format!("the value cannot be encoded: {error}"))
    })?;
    Ok(scalar_literal(scalar::Value::Binary(Binary {
        value: bytes,
        tag: MSGPACK.into(),
    })))
}

fn generic_attribute(
    value: prost_types::Value,
    path: &[PromiseAttribute],
) -> Result<Literal, ResolveError> {
    use prost_types::value::Kind;
    let mut current = value;
    for step in path {
        let missing = || ResolveError::Attribute(format!("{} is not in the value", describe(step)));
        current = match (current.kind, &step.value) {
            (
                Some(Kind::StructValue(mut structure)),
                Some(promise_attribute::Value::StringValue(key)),
            ) => structure.fields.remove(key).ok_or_else(missing)?,
            (Some(Kind::ListValue(mut list)), Some(promise_attribute::Value::IntValue(index))) => {
                let index = usize::try_from(*index).map_err(|_| missing())?;
                if index >= list.values.len() {
                    return Err(missing());
                }
                list.values.swap_remove(index)
            }
            _ => return Err(missing()),
        };
    }
    Ok(of_generic(current))
}

fn of_generic(value: prost_types::Value) -> Literal {
    use prost_types::value::Kind;
    match value.kind {
        Some(Kind::StructValue(structure)) => scalar_literal(scalar::Value::Generic(structure)),
        Some(Kind::ListValue(list)) => Literal {
            value: Some(literal::Value::Collection(LiteralCollection {
                literals: list.values.into_iter().map(of_generic).collect(),
            })),
            ..Literal::default()
        },
        Some(Kind::StringValue(text)) => primitive(primitive::Value::StringValue(text)),
        Some(Kind::NumberValue(number)) => primitive(primitive::Value::FloatValue(number)),
        Some(Kind::BoolValue(flag)) => primitive(primitive::Value::Boolean(flag)),
        Some(Kind::NullValue(_)) | None => {
            scalar_literal(scalar::Value::NoneType(flyte_idl::core::Void {}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(number: i64) -> Literal {
        primitive(primitive::Value::Integer(number))
    }

    fn promise(var: &str, path: Vec<PromiseAttribute>) -> Binding {
        Binding {
            var: "x".into(),
            binding: Some(BindingData {
                value: Some(binding_data::Value::Promise(OutputReference {
                    node_id: "n0".into(),
                    var: var.into(),
                    attr_path: path,
                })),
                ..BindingData::default()
            }),
        }
    }

    fn key(name: &str) -> PromiseAttribute {
        PromiseAttribute {
            value: Some(promise_attribute::Value::StringValue(name.into())),
        }
    }

    fn index(number: i32) -> PromiseAttribute {
        PromiseAttribute {
            value: Some(promise_attribute::Value::IntValue(number)),
        }
    }

    fn outputs() -> Outputs {
        let structure = rmpv::Value::Map(vec![
            ("a".into(), 7.into()),
            (
                "list".into(),
                rmpv::Value::Array(vec!["one".into(), "two".into()]),
            ),
        ]);
        let list = Literal {
            value: Some(literal::Value::Collection(LiteralCollection {
                literals: vec![integer(1), integer(2)],
            })),
            ..Literal::default()
        };
        let literals = BTreeMap::from([
            ("o0".to_owned(), integer(5)),
            ("list".to_owned(), list),
            ("data".to_owned(), encoded(&structure).unwrap()),
        ]);
        BTreeMap::from([("n0".to_owned(), Arc::new(LiteralMap { literals }))])
    }

    #[test]
    fn promises_reach_outputs_elements_and_attributes() {
        let text = |text: &str| primitive(primitive::Value::StringValue(text.into()));
        for (case, binding, expected) in [
            ("an output", promise("o0", vec![]), integer(5)),
            ("an indexed output", promise("[1].list", vec![]), integer(2)),
            ("an element", promise("list", vec![index(0)]), integer(1)),
            ("a field", promise("data", vec![key("a")]), integer(7)),
            (
                "an element of a field",
                promise("data", vec![key("list"), index(1)]),
                text("two"),
            ),
        ] {
            let resolved = resolve(&[binding], &outputs()).unwrap();
            assert_eq!(resolved.literals["x"], expected, "{case}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (binding, expected) in [
            (
                promise("o1", vec![]),
                "OutputsNotFoundError: failed to find [n0].[o1]",
            ),
            (
                promise("[7].list", vec![]),
                "BadSpecificationError: [n0].[list] has no element 7",
            ),
            (
                promise("list", vec![index(-1)]),
                "PromiseAttributeResolveError: index [-1] is not in the value",
            ),
            (
                promise("data", vec![key("b")]),
                "PromiseAttributeResolveError: key [b] is not in the value",
            ),
        ] {
            assert_eq!(
                resolve(&[binding], &outputs()).unwrap_err().to_string(),
                expected
            );
        }
    }

    #[test]
    fn an_empty_node_id_means_the_start_node() {
        let mut binding = promise("n", vec![]);
        if let Some(binding_data::Value::Promise(promise)) =
            &mut binding.binding.as_mut().unwrap().value
        {
            promise.node_id.clear();
        }
        assert_eq!(promised_nodes(&[binding]), ["start-node"]);
    }
}
