//! Watch: a stream of the changes of one resource. A watcher keeps only its place in the history, so a slow one costs
//! nothing and gets 410 Expired when its place is forgotten.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::cluster::api::{Call, json_answer};
use crate::cluster::api_status::ApiStatus;
use crate::cluster::model::{Change, ChangeKind};
use crate::cluster::object::Stored;
use crate::cluster::request::{Form, Target};
use crate::cluster::selector::Selector;

/// How long a watch lasts when its client does not say.
const DEFAULT_LENGTH: Duration = Duration::from_mins(60);

/// One event of the stream.
enum Frame {
    /// As it is sent.
    Text(Bytes),
    /// A type and an object, which is shared with history and other watchers until it is its turn.
    Object(&'static str, Arc<Stored>),
}

struct Watcher {
    cluster: Cluster,
    target: Target,
    selector: Selector,
    form: Form,
    /// The revision up to which everything was sent.
    position: u64,
    durable: watch::Receiver<u64>,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    /// Frames that are sent next.
    ready: VecDeque<Frame>,
    over: bool,
}

impl Cluster {
    pub(crate) fn watch(&self, target: &Target, call: &Call) -> Result<Response<Body>, ApiStatus> {
        let mut target = target.clone();
        let form = call.form()?;
        let selector = Self::selector(&target, call)?;
        if let Some(name) = target.name.take() {
            return Err(ApiStatus::bad_request(format!(
                "watch a collection with fieldSelector metadata.name={name}"
            )));
        }
        let asked = call.query.version()?;
        let bookmarks = call.query.flag("allowWatchBookmarks");
        let send_initial = match call.query.text("sendInitialEvents") {
            "" => asked == 0,
            _ => call.query.flag("sendInitialEvents"),
        };
        let mark_initial = bookmarks && call.query.flag("sendInitialEvents");
        let length = call
            .query
            .number::<u64>("timeoutSeconds")?
            .filter(|seconds| *seconds > 0);
        let now = Instant::now();
        let mut watcher = Watcher {
            cluster: self.clone(),
            selector,
            form,
            position: asked,
            durable: self.durable(),
            bookmarks,
            next_bookmark: now + self.options().bookmark_interval,
            end: now + length.map_or(DEFAULT_LENGTH, Duration::from_secs),
            ready: VecDeque::new(),
            over: false,
            target,
        };
        // What is not durable yet is not shown: the state is that of the durable revision.
        let shown = *watcher.durable.borrow_and_update();
        if asked > self.model().revision {
            // A client of an earlier cluster. As in Kubernetes the error is an event of the watch: that is where clients
            // understand that they have to list again.
            watcher.fail(&ApiStatus::expired(asked, shown));
        } else if send_initial {
            match watcher.send_initial(shown) {
                Ok(()) if mark_initial => {
                    watcher.position = shown;
                    watcher.bookmark(true);
                }
                Ok(()) => watcher.position = shown,
                Err(refusal) => watcher.fail(&refusal),
            }
        } else if asked == 0 {
            watcher.position = shown;
        }
        if !watcher.over {
            watcher.catch_up(shown);
        }
        let frames = stream::unfold(watcher, |mut watcher| async move {
            let frame = watcher.next().await?;
            Some((Ok::<Bytes, Infallible>(frame), watcher))
        });
        Ok(json_answer(StatusCode::OK, Body::from_stream(frames)))
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.ready.pop_front() {
                Some(Frame::Text(text)) => return Some(text),
                Some(Frame::Object(kind, object)) => match self.text(kind, &object) {
                    Ok(text) => return Some(text),
                    Err(refusal) => {
                        self.ready.clear();
                        self.fail(&refusal);
                        continue;
                    }
                },
                None => {}
            }
            if self.over {
                return None;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.end) => {
                    if self.bookmarks {
                        self.bookmark(false);
                    }
                    self.over = true;
                }
                changed = self.durable.changed() => match changed {
                    Ok(()) => {
                        let shown = *self.durable.borrow_and_update();
                        self.catch_up(shown);
                    }
                    Err(_) => self.over = true,
                },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => self.bookmark(false),
            }
        }
    }

    /// The objects as they are at `revision`, as if all had just been added.
    fn send_initial(&mut self, revision: u64) -> Result<(), ApiStatus> {
        let objects = {
            let model = self.cluster.model();
            match model.table(&self.target.resource.id) {
                None => return Ok(()),
                Some(table) if revision == model.revision => table.objects.clone(),
                Some(table) => table
                    .at(revision)
                    .ok_or_else(|| ApiStatus::expired(revision, table.forgotten))?,
            }
        };
        for object in objects.values() {
            if self.is_in_scope(object) && self.selector.matches(object) {
                self.send("ADDED", object);
            }
        }
        Ok(())
    }

    /// Sends the changes between the position and `until`.
    fn catch_up(&mut self, until: u64) {
        if until <= self.position {
            return;
        }
        let changes: Result<Vec<Change>, u64> = {
            let model = self.cluster.model();
            match model.table(&self.target.resource.id) {
                None => Ok(Vec::new()),
                Some(table) => match table.since(self.position) {
                    Some(changes) => Ok(changes
                        .take_while(|change| change.revision <= until)
                        .cloned()
                        .collect()),
                    None => Err(table.forgotten),
                },
            }
        };
        match changes {
            Ok(changes) => {
                for change in changes {
                    self.send_change(&change);
                }
                self.position = until;
            }
            Err(forgotten) => self.fail(&ApiStatus::expired(self.position, forgotten)),
        }
    }

    /// Sends an error and ends.
    fn fail(&mut self, refusal: &ApiStatus) {
        let error = json!({ "type": "ERROR", "object": refusal.to_value() });
        self.ready
            .push_back(Frame::Text(format!("{error}\n").into()));
        self.over = true;
    }

    /// An object that leaves the selection is deleted for this watcher, one that enters is added.
    fn send_change(&mut self, change: &Change) {
        if !self.is_in_scope(&change.object) {
            return;
        }
        let (was, is) = match &change.previous {
            Some(previous) => self.selector.matches_both(previous, &change.object),
            None => (false, self.selector.matches(&change.object)),
        };
        match (was, is && change.kind != ChangeKind::Deleted) {
            (false, true) => self.send("ADDED", &change.object),
            (true, true) => self.send("MODIFIED", &change.object),
            // The last version that was selected, as that of the change: an object that goes is none of the selection's.
            (true, false) => {
                let last = change.previous.as_ref().unwrap_or(&change.object);
                let last = last.at_revision(change.revision);
                self.send("DELETED", &Arc::new(last));
            }
            (false, false) => {}
        }
    }

    fn is_in_scope(&self, object: &Stored) -> bool {
        self.target.namespace.is_empty() || self.target.namespace == object.namespace()
    }

    fn send(&mut self, kind: &'static str, object: &Arc<Stored>) {
        self.ready.push_back(Frame::Object(kind, object.clone()));
    }

    fn text(&self, kind: &str, object: &Stored) -> Result<Bytes, ApiStatus> {
        let json = self
            .cluster
            .render(object, &self.target.resource, self.form)?;
        Ok([
            br#"{"type":""#,
            kind.as_bytes(),
            br#"","object":"#,
            &json,
            b"}\n",
        ]
        .concat()
        .into())
    }

    fn bookmark(&mut self, initial_end: bool) {
        self.next_bookmark = Instant::now() + self.cluster.options().bookmark_interval;
        let mut metadata = json!({ "resourceVersion": self.position.to_string() });
        if let (true, Some(map)) = (initial_end, metadata.as_object_mut()) {
            map.insert("creationTimestamp".to_owned(), serde_json::Value::Null);
            map.insert(
                "annotations".to_owned(),
                json!({ "k8s.io/initial-events-end": "true" }),
            );
        }
        let resource = &self.target.resource;
        let (kind, api_version) = match self.form {
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            _ => (resource.kind.as_str(), resource.api_version()),
        };
        let mut object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        // Typed clients insist on the members that their type requires.
        if let (true, Some(map)) = (
            resource.is_pod() && self.form == Form::Object,
            object.as_object_mut(),
        ) {
            map.insert("spec".to_owned(), json!({ "containers": null }));
        }
        let event = json!({ "type": "BOOKMARK", "object": object });
        self.ready
            .push_back(Frame::Text(format!("{event}\n").into()));
    }
}
