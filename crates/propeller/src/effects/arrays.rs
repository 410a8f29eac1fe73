//! What array nodes read and write: their inputs, taken apart, and the outputs of all elements, put together (spec 04
//! §7.7).

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use flyte_crd::NodePhase;
use flyte_idl::core::{
    Literal, LiteralCollection, LiteralMap, Scalar, Void, execution_error::ErrorKind, literal,
    scalar,
};
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;

use super::{EffectError, PermanentError, WorkflowEffects, resolve::Unreadable};
use crate::node::{NodeView, array};

/// How many outputs are read at once for one array.
const READS_AT_ONCE: usize = 32;

impl WorkflowEffects {
    /// The inputs of a node: an array's with the lists that it takes apart, wherever those are.
    pub(super) async fn inputs(
        &self,
        view: &NodeView<'_>,
        uri: &str,
    ) -> Result<Arc<LiteralMap>, EffectError> {
        let inputs = self.read(uri).await?;
        match view.spec.array.as_deref() {
            Some(spec) => self.complete(inputs, &array::bound_inputs(spec)).await,
            None => Ok(inputs),
        }
    }

    /// The inputs of a task: an element's out of those of its array.
    pub(super) async fn task_inputs(
        &self,
        view: &NodeView<'_>,
    ) -> Result<Arc<LiteralMap>, EffectError> {
        let inputs = self.read(&view.files.inputs()).await?;
        match view.element {
            Some(element) => {
                let inputs = self.complete(inputs, &element.bound).await?;
                Ok(Arc::new(element.inputs(&inputs)))
            }
            None => Ok(inputs),
        }
    }

    /// Reads lists that are in objects of their own, but for those that are not taken apart.
    async fn complete(
        &self,
        inputs: Arc<LiteralMap>,
        bound: &BTreeSet<String>,
    ) -> Result<Arc<LiteralMap>, EffectError> {
        let offloaded = inputs.literals.iter().filter_map(|(name, value)| {
            let literal::Value::OffloadedMetadata(place) = value.value.as_ref()? else {
                return None;
            };
            (!bound.contains(name)).then(|| (name.clone(), place.uri.clone()))
        });
        let offloaded: Vec<_> = offloaded.collect();
        if offloaded.is_empty() {
            return Ok(inputs);
        }
        let reads = offloaded.into_iter().map(|(name, uri)| async move {
            Ok::<_, EffectError>((name, self.literal(&uri).await?))
        });
        let read = futures::future::try_join_all(reads).await?;
        let mut complete = Arc::unwrap_or_clone(inputs);
        complete.literals.extend(read);
        Ok(Arc::new(complete))
    }

    async fn literal(&self, uri: &str) -> Result<Literal, EffectError> {
        let unreadable = |unreadable: Unreadable| {
            let message = unreadable.to_string();
            PermanentError::new(ErrorKind::System, "CausedByError", message)
        };
        let Some(bytes) = self.get(uri).await? else {
            return Err(unreadable(Unreadable::Missing(uri.to_owned())).into());
        };
        self.decoded(bytes).map_err(|why| {
            let uri = uri.to_owned();
            unreadable(Unreadable::Malformed { uri, why }).into()
        })
    }

    /// Writes a list for each declared output, with one literal for each element: its own, or a none literal where it did
    /// not succeed.
    pub(super) async fn gather_outputs(
        &self,
        view: &NodeView<'_>,
        to: &str,
    ) -> Result<(), EffectError> {
        let outputs = array::template(view)
            .and_then(|template| template.interface.as_ref()?.outputs.as_ref())
            .map(|outputs| outputs.variables.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default();
        let elements = if outputs.is_empty() {
            Vec::new()
        } else {
            self.outputs_of_elements(view).await?
        };
        let literals = outputs.into_iter().map(|name| {
            let of_element = |element: &Option<Arc<LiteralMap>>| {
                let known = element.as_ref().and_then(|known| known.literals.get(&name));
                known.cloned().unwrap_or_else(none)
            };
            let literals = elements.iter().map(of_element).collect();
            let list = Literal {
                value: Some(literal::Value::Collection(LiteralCollection { literals })),
                ..Literal::default()
            };
            (name.clone(), list)
        });
        let literals = LiteralMap {
            literals: literals.collect(),
        };
        self.write(to, Bytes::from(literals.encode_to_vec())).await
    }

    /// What each element wrote, in order; none of those that did not succeed.
    async fn outputs_of_elements(
        &self,
        view: &NodeView<'_>,
    ) -> Result<Vec<Option<Arc<LiteralMap>>>, EffectError> {
        let Some(status) = &view.status.array_node_status else {
            return Ok(Vec::new());
        };
        let files = (0..status.subphase.len()).map(|index| {
            let phase = NodePhase::from(i64::from(status.subphase.get(index)));
            if !matches!(phase, NodePhase::Succeeded | NodePhase::Recovered) {
                return Ok(None);
            }
            let attempt = status.subattempts.get(index);
            let files = view.files.element(index, attempt).map_err(|error| {
                PermanentError::new(ErrorKind::System, "StorageError", error.to_string())
            })?;
            Ok::<_, EffectError>(Some(files.outputs()))
        });
        futures::stream::iter(files)
            .map(|uri| async {
                match uri? {
                    Some(uri) => self.read(&uri).await.map(Some),
                    None => Ok(None),
                }
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }
}

fn none() -> Literal {
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(scalar::Value::NoneType(Void {})),
        }))),
        ..Literal::default()
    }
}
