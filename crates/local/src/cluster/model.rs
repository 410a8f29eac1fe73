//! The objects in memory, with a bounded history for watches. Everything here is synchronous and reads no clock: time
//! comes in with the call, and what must be made durable goes out as a batch.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::cluster::admission::typed;
use crate::cluster::api_status::ApiStatus;
use crate::cluster::json;
use crate::cluster::object::{self, Key, ObjectRef, SharedKey, Stored, text_at};
use crate::cluster::resource::{DEFINITIONS, EVENTS, Registry, ResourceId};
use crate::cluster::store::{Contents, Row, RowChange};

mod deletion;
mod expiry;

pub(crate) use deletion::{DeleteOrder, Deleted, Propagation};
use expiry::EventAges;

/// So many revisions may pass without one being written to the store: those of events, which are kept in memory alone. A
/// start goes on so far after the last written one that no revision is given twice.
pub(crate) const UNWRITTEN_REVISIONS: u64 = 10_000;

/// How much deeper than what clients sent an object may be: `metadata.managedFields[].fieldsV1` of the server has a level for
/// each of the object's, below these, and `{}` where those end.
const MANAGED_LEVELS: usize = 8;

/// How far back watches may resume, per resource. A limit on bytes keeps many versions of one large object from filling the
/// memory; the minimum lets watchers that keep up resume in any case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryLimits {
    pub(crate) changes: usize,
    pub(crate) bytes: usize,
    pub(crate) minimum: usize,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One entry of the history.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) object: Arc<Stored>,
    pub(crate) previous: Option<Arc<Stored>>,
}

/// The objects of one resource.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) objects: BTreeMap<SharedKey, Arc<Stored>>,
    history: VecDeque<Change>,
    history_bytes: usize,
    /// The revision of the last change that the history has forgotten; a watch from here on is complete.
    pub(crate) forgotten: u64,
}

impl Table {
    fn remember(&mut self, change: Change, limits: HistoryLimits) {
        self.history_bytes += change.object.own_bytes();
        self.history.push_back(change);
        while self.history.len() > limits.changes
            || (self.history_bytes > limits.bytes && self.history.len() > limits.minimum)
        {
            let Some(old) = self.history.pop_front() else {
                break;
            };
            self.history_bytes = self.history_bytes.saturating_sub(old.object.own_bytes());
            self.forgotten = old.revision;
        }
    }

    /// The changes after `revision`, or nothing if some of them are forgotten.
    pub(crate) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Change>> {
        if revision < self.forgotten {
            return None;
        }
        let start = self
            .history
            .partition_point(|change| change.revision <= revision);
        Some(self.history.range(start..))
    }

    /// The objects as they were at `revision`, or nothing if that is forgotten.
    pub(crate) fn at(&self, revision: u64) -> Option<BTreeMap<SharedKey, Arc<Stored>>> {
        let mut objects = self.objects.clone();
        let later: Vec<&Change> = self.since(revision)?.collect();
        for change in later.into_iter().rev() {
            match &change.previous {
                Some(previous) => objects.insert(previous.key.clone(), previous.clone()),
                None => objects.remove(&change.object.key),
            };
        }
        Some(objects)
    }
}

/// All objects of a cluster.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) revision: u64,
    pub(crate) registry: Arc<Registry>,
    tables: HashMap<ResourceId, Table>,
    by_uid: HashMap<Uuid, ObjectRef>,
    /// Uid of the owner, and dependent.
    dependents: BTreeSet<(Uuid, ObjectRef)>,
    event_ages: EventAges,
    batch: Vec<RowChange>,
    limits: HistoryLimits,
    keeps_rows: bool,
}

impl Model {
    /// Rebuilds the model from what a store kept. What it kept is read as what comes in is: nested no deeper than
    /// `json_depth`, and read by its type. Else an object of an earlier version of this program would end every start.
    pub(crate) fn new(
        contents: Contents,
        limits: HistoryLimits,
        json_depth: usize,
        keeps_rows: bool,
    ) -> Result<Self, ApiStatus> {
        let mut model = Self {
            revision: match contents.revision {
                0 => 1,
                written => written + UNWRITTEN_REVISIONS,
            },
            registry: Arc::new(Registry::built_in()),
            tables: HashMap::new(),
            by_uid: HashMap::new(),
            dependents: BTreeSet::new(),
            event_ages: EventAges::default(),
            batch: Vec::new(),
            limits,
            keeps_rows,
        };
        for row in contents.rows {
            if row.resource == EVENTS {
                // Kept by an earlier version of this program.
                model.batch.push(RowChange::Remove {
                    resource: row.resource,
                    namespace: row.namespace,
                    name: row.name,
                });
                continue;
            }
            let known = model.tables.get_key_value(row.resource.as_str());
            let resource = known.map_or_else(|| row.resource.as_str().into(), |(id, _)| id.clone());
            let stored = match Self::restore(resource, &row, json_depth) {
                Ok(stored) => stored,
                Err(error) => {
                    // Its row stays as it is, for whoever wants to repair it.
                    tracing::error!(
                        resource = row.resource, namespace = row.namespace, name = row.name, %error,
                        "a stored object is left out, because lists with it could not be read"
                    );
                    continue;
                }
            };
            if &*stored.resource == DEFINITIONS {
                Arc::make_mut(&mut model.registry).define(&stored.value()?);
            }
            let stored = Arc::new(stored);
            model.index(&stored);
            let table = model.tables.entry(stored.resource.clone()).or_default();
            table.objects.insert(stored.key.clone(), stored);
        }
        let revision = model.revision;
        for table in model.tables.values_mut() {
            table.forgotten = revision;
        }
        Ok(model)
    }

    /// An object that a store kept, if clients can read it. What comes in is checked, but an earlier version of this program
    /// took anything.
    fn restore(resource: ResourceId, row: &Row, json_depth: usize) -> Result<Stored, ApiStatus> {
        json::check_depth(json::depth(&row.json), json_depth + MANAGED_LEVELS)
            .map_err(ApiStatus::internal)?;
        let value = object::parse(&row.json)?;
        typed::check(&resource, &value).map_err(|wrong| ApiStatus::internal(wrong.to_string()))?;
        Stored::new(resource, row.revision, &value, None)
    }

    /// Whether the store keeps objects of this resource. Events are best effort everywhere, and a disk that syncs for each
    /// would make pods wait for events about them.
    fn is_stored(&self, resource: &str) -> bool {
        self.keeps_rows && resource != EVENTS
    }

    pub(crate) fn get(&self, resource: &str, key: &Key) -> Option<&Arc<Stored>> {
        self.tables.get(resource)?.objects.get(key)
    }

    pub(crate) fn table(&self, resource: &str) -> Option<&Table> {
        self.tables.get(resource)
    }

    pub(crate) fn uid(&self, uid: &str) -> Option<&ObjectRef> {
        self.by_uid.get(&Uuid::try_parse(uid).ok()?)
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &ObjectRef> {
        // An owner that this cluster made has such a uid.
        let owner = Uuid::try_parse(uid).ok();
        let found = owner.map(|owner| {
            let first = ObjectRef {
                resource: "".into(),
                key: SharedKey::default(),
            };
            let later = self.dependents.range((owner, first)..);
            later.take_while(move |(of, _)| *of == owner)
        });
        found.into_iter().flatten().map(|(_, dependent)| dependent)
    }

    /// The changes that are not durable yet, and the revision up to which they go.
    pub(crate) fn take_batch(&mut self) -> (Vec<RowChange>, u64) {
        (std::mem::take(&mut self.batch), self.revision)
    }

    /// Stores a new version of an object. The caller has decided that it may be.
    pub(crate) fn put(
        &mut self,
        resource: &ResourceId,
        value: &Value,
    ) -> Result<Arc<Stored>, ApiStatus> {
        let revision = self.revision + 1;
        let key = (
            text_at(value, "/metadata/namespace").to_owned(),
            text_at(value, "/metadata/name").to_owned(),
        );
        let previous = self.get(resource, &key).map(AsRef::as_ref);
        let stored = Stored::new(resource.clone(), revision, value, previous)?;
        let stored = Arc::new(stored);
        self.revision = revision;
        if &**resource == DEFINITIONS {
            Arc::make_mut(&mut self.registry).define(value);
        }
        let table = self.tables.entry(resource.clone()).or_default();
        let previous = table.objects.remove(&stored.key);
        table.objects.insert(stored.key.clone(), stored.clone());
        let kind = if previous.is_some() {
            ChangeKind::Modified
        } else {
            ChangeKind::Added
        };
        table.remember(
            Change {
                revision,
                kind,
                object: stored.clone(),
                previous: previous.clone(),
            },
            self.limits,
        );
        match previous {
            Some(previous) if Arc::ptr_eq(&previous.meta, &stored.meta) => {}
            Some(previous) => {
                self.unindex(&previous);
                self.index(&stored);
            }
            None => self.index(&stored),
        }
        if self.is_stored(resource) {
            self.batch.push(RowChange::Put(Row {
                resource: resource.to_string(),
                namespace: key.0,
                name: key.1,
                revision,
                json: stored.json(),
            }));
        }
        Ok(stored)
    }

    /// Removes an object for good; the last version carries the revision of the removal.
    fn remove(&mut self, reference: &ObjectRef) -> Option<Arc<Stored>> {
        let table = self.tables.get_mut(&reference.resource)?;
        let previous = table.objects.remove(&reference.key)?;
        self.revision += 1;
        let revision = self.revision;
        let last = Arc::new(previous.at_revision(revision));
        table.remember(
            Change {
                revision,
                kind: ChangeKind::Deleted,
                object: last.clone(),
                previous: Some(previous.clone()),
            },
            self.limits,
        );
        self.unindex(&previous);
        if &*reference.resource == DEFINITIONS {
            Arc::make_mut(&mut self.registry).undefine(previous.name());
        }
        if self.is_stored(&reference.resource) {
            let (namespace, name) = (*reference.key).clone();
            self.batch.push(RowChange::Remove {
                resource: reference.resource.to_string(),
                namespace,
                name,
            });
        }
        Some(last)
    }

    fn index(&mut self, stored: &Stored) {
        if let Ok(uid) = Uuid::try_parse(&stored.meta.uid) {
            self.by_uid.insert(uid, stored.reference());
        }
        for owner in &stored.meta.owner_references {
            if let Ok(owner) = Uuid::try_parse(&owner.uid) {
                self.dependents.insert((owner, stored.reference()));
            }
        }
    }

    fn unindex(&mut self, stored: &Stored) {
        if let Ok(uid) = Uuid::try_parse(&stored.meta.uid) {
            self.by_uid.remove(&uid);
        }
        for owner in &stored.meta.owner_references {
            if let Ok(owner) = Uuid::try_parse(&owner.uid) {
                self.dependents.remove(&(owner, stored.reference()));
            }
        }
    }

    /// All objects in a namespace.
    fn in_namespace(&self, namespace: &str) -> Vec<ObjectRef> {
        let mut found = Vec::new();
        for (resource, table) in &self.tables {
            let from = (namespace.to_owned(), String::new());
            let keys = table
                .objects
                .range::<Key, _>(from..)
                .map(|(key, _)| key)
                .take_while(|key| key.0 == namespace);
            found.extend(keys.map(|key| ObjectRef {
                resource: resource.clone(),
                key: key.clone(),
            }));
        }
        found.sort();
        found
    }

    fn namespace_is_empty(&self, namespace: &str) -> bool {
        let from = (namespace.to_owned(), String::new());
        self.tables.values().all(|table| {
            table
                .objects
                .range::<Key, _>(from.clone()..)
                .next()
                .is_none_or(|(key, _)| key.0 != namespace)
        })
    }

    fn of_resource(&self, resource: &str) -> Vec<ObjectRef> {
        let Some((id, table)) = self.tables.get_key_value(resource) else {
            return Vec::new();
        };
        table
            .objects
            .keys()
            .map(|key| ObjectRef {
                resource: id.clone(),
                key: key.clone(),
            })
            .collect()
    }
}
