//! How objects go: graceful deletion of pods, finalizers, and what an object's end causes — its dependents are collected,
//! a terminating namespace or definition that is empty goes too. All of it happens in the change that causes it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cluster::api_status::ApiStatus;
use crate::cluster::model::Model;
use crate::cluster::object::{ObjectRef, Stored, metadata_mut, set_metadata, text_at};
use crate::cluster::resource::{DEFINITIONS, NAMESPACES, PODS, ResourceId};

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// A request to delete one object, preconditions already checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeleteOrder {
    /// Seconds; the pod's own when absent.
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: Propagation,
}

/// What a deletion did.
#[derive(Debug, Clone)]
pub(crate) enum Deleted {
    /// The object is gone; this was its last version.
    Gone(Arc<Stored>),
    /// The object waits for its finalizers or its kubelet.
    Pending(Arc<Stored>),
}

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Something whose consequences are still to be drawn.
enum Consequence {
    Removed(Arc<Stored>),
    Terminating(Arc<Stored>),
}

/// Whether nothing holds a deleted object any more: finalizers are gone and, for a pod, its kubelet has let go.
pub(crate) fn is_released(meta: &crate::cluster::object::Meta) -> bool {
    meta.deletion_timestamp.is_some()
        && meta.finalizers.is_empty()
        && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
}

impl Model {
    /// Deletes an object as far as grace period and finalizers let it, and everything that follows from it.
    pub(crate) fn delete(
        &mut self,
        reference: &ObjectRef,
        order: DeleteOrder,
        now: &str,
    ) -> Result<Option<Deleted>, ApiStatus> {
        let mut queue = VecDeque::new();
        let deleted = self.delete_one(reference, order, now, &mut queue)?;
        self.settle(queue, now)?;
        // A finalizer that only the collector serves may be gone by now.
        Ok(match deleted {
            Some(Deleted::Pending(object)) => {
                Some(match self.get(&reference.resource, &reference.key) {
                    Some(current) if current.meta.uid == object.meta.uid => {
                        Deleted::Pending(current.clone())
                    }
                    _ => Deleted::Gone(object),
                })
            }
            other => other,
        })
    }

    /// Stores a new version of an object that is there, and draws its consequences. The version that lets go of a deleted
    /// object is not stored: the object goes in its place, and watchers see the version before go.
    pub(crate) fn replace(
        &mut self,
        resource: &ResourceId,
        value: &Value,
        now: &str,
    ) -> Result<Arc<Stored>, ApiStatus> {
        let next = Stored::new(resource.clone(), self.revision + 1, value, None)?;
        if is_released(&next.meta) && !self.is_held(&next) {
            if let Some(last) = self.remove(&next.reference()) {
                self.settle(VecDeque::from([Consequence::Removed(last)]), now)?;
            }
            return Ok(Arc::new(next));
        }
        let stored = self.put(resource, value)?;
        self.after_put(&stored, now)?;
        Ok(stored)
    }

    /// Whether what is in a namespace, or of a definition, keeps it.
    fn is_held(&self, stored: &Stored) -> bool {
        match &*stored.resource {
            NAMESPACES => !self.namespace_may_go(stored),
            DEFINITIONS => !self.of_resource(stored.name()).is_empty(),
            _ => false,
        }
    }

    /// Draws the consequences of a version that was just stored: an object that nothing holds any more is removed, and one
    /// whose owners are all gone is collected.
    pub(crate) fn after_put(&mut self, stored: &Arc<Stored>, now: &str) -> Result<(), ApiStatus> {
        self.note_event(stored, now);
        let mut queue = VecDeque::new();
        if is_released(&stored.meta) && !self.is_held(stored) {
            if let Some(last) = self.remove(&stored.reference()) {
                queue.push_back(Consequence::Removed(last));
            }
        } else if stored.meta.deletion_timestamp.is_none() && self.is_orphaned(stored) {
            self.delete_one(&stored.reference(), DeleteOrder::default(), now, &mut queue)?;
        }
        self.settle(queue, now)
    }

    /// Whether every owner of the object is known to be gone. Owners of kinds that are not served are left alone, as
    /// Kubernetes' collector does.
    fn is_orphaned(&self, stored: &Stored) -> bool {
        let owners = &stored.meta.owner_references;
        !owners.is_empty()
            && owners.iter().all(|owner| {
                self.uid(&owner.uid).is_none()
                    && self
                        .registry
                        .id_of_kind(&owner.api_version, &owner.kind)
                        .is_some()
            })
    }

    fn delete_one(
        &mut self,
        reference: &ObjectRef,
        order: DeleteOrder,
        now: &str,
        queue: &mut VecDeque<Consequence>,
    ) -> Result<Option<Deleted>, ApiStatus> {
        let Some(current) = self.get(&reference.resource, &reference.key).cloned() else {
            return Ok(None);
        };
        let mut value = current.value()?;
        let grace = grace_seconds(&current, &value, order.grace);
        let mut finalizers = current.meta.finalizers.clone();
        if current.meta.deletion_timestamp.is_none() {
            let has_dependents = self.dependents_of(&current.meta.uid).next().is_some();
            match order.propagation {
                Propagation::Foreground if has_dependents => finalizers.push(FOREGROUND.to_owned()),
                Propagation::Orphan if has_dependents => finalizers.push(ORPHAN.to_owned()),
                _ => {}
            }
        }
        let is_namespace = &*reference.resource == NAMESPACES;
        let holds = match &*reference.resource {
            NAMESPACES => !self.namespace_is_empty(current.name()) || has_spec_finalizers(&value),
            DEFINITIONS => !self.of_resource(current.name()).is_empty(),
            _ => false,
        };
        if finalizers.is_empty() && grace == 0 && !holds {
            let removed = self.remove(reference);
            return Ok(removed.map(|last| {
                queue.push_back(Consequence::Removed(last.clone()));
                Deleted::Gone(last)
            }));
        }
        let shortened = current
            .meta
            .deletion_grace_period_seconds
            .is_some_and(|before| grace < before);
        if current.meta.deletion_timestamp.is_some()
            && !shortened
            && finalizers == current.meta.finalizers
        {
            queue.push_back(Consequence::Terminating(current.clone()));
            return Ok(Some(Deleted::Pending(current)));
        }
        if let Some(metadata) = metadata_mut(&mut value) {
            metadata.insert("deletionTimestamp".to_owned(), later(now, grace).into());
            metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
            if finalizers != current.meta.finalizers {
                metadata.insert("finalizers".to_owned(), json!(finalizers));
            }
            let generation = metadata.get("generation").and_then(Value::as_i64);
            if let Some(generation) = generation {
                metadata.insert("generation".to_owned(), (generation + 1).into());
            }
        }
        if is_namespace && let Some(object) = value.as_object_mut() {
            object.insert("status".to_owned(), json!({ "phase": "Terminating" }));
        }
        let stored = self.put(&reference.resource, &value)?;
        queue.push_back(Consequence::Terminating(stored.clone()));
        Ok(Some(Deleted::Pending(stored)))
    }

    fn settle(&mut self, mut queue: VecDeque<Consequence>, now: &str) -> Result<(), ApiStatus> {
        while let Some(consequence) = queue.pop_front() {
            match consequence {
                Consequence::Removed(object) => self.after_removal(&object, now, &mut queue)?,
                Consequence::Terminating(object) => {
                    self.while_terminating(&object, now, &mut queue)?;
                }
            }
        }
        Ok(())
    }

    fn after_removal(
        &mut self,
        gone: &Stored,
        now: &str,
        queue: &mut VecDeque<Consequence>,
    ) -> Result<(), ApiStatus> {
        for dependent in self
            .dependents_of(&gone.meta.uid)
            .cloned()
            .collect::<Vec<_>>()
        {
            let Some(current) = self.get(&dependent.resource, &dependent.key).cloned() else {
                continue;
            };
            let other_owner = current
                .meta
                .owner_references
                .iter()
                .any(|owner| self.uid(&owner.uid).is_some());
            if other_owner {
                self.drop_owner(&current, &gone.meta.uid)?;
            } else {
                self.delete_one(&dependent, DeleteOrder::default(), now, queue)?;
            }
        }
        for owner in &gone.meta.owner_references {
            self.recheck(&owner.uid, queue);
        }
        if !gone.namespace().is_empty() {
            let key = (String::new(), gone.namespace().to_owned());
            if let Some(namespace) = self.get(NAMESPACES, &key).cloned()
                && namespace.meta.deletion_timestamp.is_some()
                && self.namespace_is_empty(namespace.name())
            {
                queue.push_back(Consequence::Terminating(namespace));
            }
        }
        let definition = self
            .get(DEFINITIONS, &(String::new(), gone.resource.to_string()))
            .cloned();
        if let Some(definition) = definition
            && definition.meta.deletion_timestamp.is_some()
            && self.of_resource(&gone.resource).is_empty()
        {
            queue.push_back(Consequence::Terminating(definition));
        }
        Ok(())
    }

    /// Decides again on an owner that may have waited for a dependent.
    fn recheck(&self, uid: &str, queue: &mut VecDeque<Consequence>) {
        if let Some(owner) = self
            .uid(uid)
            .and_then(|owner| self.get(&owner.resource, &owner.key))
            .cloned()
            && owner
                .meta
                .finalizers
                .iter()
                .any(|finalizer| finalizer == FOREGROUND)
        {
            queue.push_back(Consequence::Terminating(owner));
        }
    }

    fn while_terminating(
        &mut self,
        object: &Arc<Stored>,
        now: &str,
        queue: &mut VecDeque<Consequence>,
    ) -> Result<(), ApiStatus> {
        // The queue may hold an older version.
        let Some(object) = self.get(&object.resource, &object.key).cloned() else {
            return Ok(());
        };
        match &*object.resource {
            NAMESPACES => {
                let contents = self.in_namespace(object.name());
                for reference in &contents {
                    let terminating = self
                        .get(&reference.resource, &reference.key)
                        .is_some_and(|found| found.meta.deletion_timestamp.is_some());
                    if !terminating {
                        self.delete_one(reference, DeleteOrder::default(), now, queue)?;
                    }
                }
                if self.namespace_is_empty(object.name()) && object.meta.finalizers.is_empty() {
                    self.finish(&object, queue);
                }
                return Ok(());
            }
            DEFINITIONS => {
                for reference in self.of_resource(object.name()) {
                    self.delete_one(&reference, DeleteOrder::default(), now, queue)?;
                }
                if self.of_resource(object.name()).is_empty() && object.meta.finalizers.is_empty() {
                    self.finish(&object, queue);
                }
                return Ok(());
            }
            _ => {}
        }
        let waits_for = |name: &str| {
            object
                .meta
                .finalizers
                .iter()
                .any(|finalizer| finalizer == name)
        };
        if waits_for(FOREGROUND) {
            for dependent in self
                .dependents_of(&object.meta.uid)
                .cloned()
                .collect::<Vec<_>>()
            {
                let terminating = self
                    .get(&dependent.resource, &dependent.key)
                    .is_none_or(|found| found.meta.deletion_timestamp.is_some());
                if !terminating {
                    let order = DeleteOrder {
                        grace: None,
                        propagation: Propagation::Foreground,
                    };
                    self.delete_one(&dependent, order, now, queue)?;
                }
            }
            let blocked = self.dependents_of(&object.meta.uid).any(|dependent| {
                self.get(&dependent.resource, &dependent.key)
                    .is_some_and(|found| {
                        let owners = &found.meta.owner_references;
                        owners
                            .iter()
                            .any(|owner| owner.uid == object.meta.uid && owner.block_owner_deletion)
                    })
            });
            if !blocked {
                self.drop_finalizer(&object, FOREGROUND, queue)?;
            }
        } else if waits_for(ORPHAN) {
            for dependent in self
                .dependents_of(&object.meta.uid)
                .cloned()
                .collect::<Vec<_>>()
            {
                if let Some(current) = self.get(&dependent.resource, &dependent.key).cloned() {
                    self.drop_owner(&current, &object.meta.uid)?;
                }
            }
            self.drop_finalizer(&object, ORPHAN, queue)?;
        }
        Ok(())
    }

    fn finish(&mut self, object: &Stored, queue: &mut VecDeque<Consequence>) {
        if let Some(last) = self.remove(&object.reference()) {
            queue.push_back(Consequence::Removed(last));
        }
    }

    fn drop_finalizer(
        &mut self,
        object: &Stored,
        name: &str,
        queue: &mut VecDeque<Consequence>,
    ) -> Result<(), ApiStatus> {
        let mut value = object.value()?;
        let rest: Vec<&String> = object
            .meta
            .finalizers
            .iter()
            .filter(|finalizer| *finalizer != name)
            .collect();
        let rest = if rest.is_empty() {
            Value::Null
        } else {
            json!(rest)
        };
        set_metadata(&mut value, "finalizers", rest);
        let stored = self.put(&object.resource, &value)?;
        if is_released(&stored.meta) {
            self.finish(&stored, queue);
        }
        Ok(())
    }

    fn drop_owner(&mut self, object: &Stored, uid: &str) -> Result<(), ApiStatus> {
        let mut value = object.value()?;
        if let Some(metadata) = metadata_mut(&mut value)
            && let Some(owners) = metadata
                .get_mut("ownerReferences")
                .and_then(Value::as_array_mut)
        {
            owners.retain(|owner| text_at(owner, "/uid") != uid);
            if owners.is_empty() {
                metadata.shift_remove("ownerReferences");
            }
        }
        self.put(&object.resource, &value)?;
        Ok(())
    }

    fn namespace_may_go(&self, stored: &Stored) -> bool {
        self.namespace_is_empty(stored.name())
    }
}

fn has_spec_finalizers(namespace: &Value) -> bool {
    // "kubernetes" is the mark of the namespace controller, which is this code.
    let finalizers = namespace
        .pointer("/spec/finalizers")
        .and_then(Value::as_array);
    finalizers
        .into_iter()
        .flatten()
        .any(|finalizer| finalizer != "kubernetes")
}

/// Seconds that a deletion waits: only pods that a kubelet runs are given any.
fn grace_seconds(current: &Stored, value: &Value, asked: Option<i64>) -> i64 {
    if &*current.resource != PODS {
        return 0;
    }
    let on_a_node = !text_at(value, "/spec/nodeName").is_empty();
    let over = matches!(text_at(value, "/status/phase"), "Succeeded" | "Failed");
    if !on_a_node || over {
        return 0;
    }
    let own = value
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(30);
    asked.unwrap_or(own).max(0)
}

fn later(now: &str, seconds: i64) -> String {
    let Ok(now_) = now.parse::<jiff::Timestamp>() else {
        return now.to_owned();
    };
    let later = now_
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(now_);
    crate::cluster::time_text(later)
}
