//! Where outputs are in the blob store (spec 06 A7, spec 01 §15.1).
//!
//! ```text
//! <container>/<storage-prefix>/<project>/<domain>/<name>/<version>/<artifact>/<output>/data.pb             as Go has it
//! <container>/<storage-prefix>/<project>/<domain>/<name>/<version>/<artifact>/<output>/<attempt>/data.pb   otherwise
//! ```
//!
//! The second is for outputs whose object is there already and says something else: one that replaces another, or one of
//! another artifact with the same path. Nobody computes a location to read: rows have them.

use std::borrow::Cow;

use flyte_core::reference;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::entries::TASK;
use crate::{
    error::{Error, Result},
    records::ArtifactKey,
};

/// The object's own name.
const OBJECT: &str = "data.pb";

/// The longest key of an object in bytes, on S3 as on Google's and Azure's storage.
const MAX_KEY: usize = 1024;

/// What does not stay as it is in a part that is no path of a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// The folder that everything is in.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The container's URI.
    pub base: String,
    /// `datacatalog.storage-prefix`.
    pub prefix: String,
}

impl Folder {
    /// Its own URI.
    pub fn uri(&self) -> String {
        let prefix = self.prefix.trim_matches('/');
        format!("{}/{prefix}", self.base)
    }

    /// The URI of an output; `attempt` is none for Go's own location.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for names whose key no storage takes.
    pub fn location(
        &self,
        artifact: &ArtifactKey,
        output: &str,
        attempt: Option<Uuid>,
    ) -> Result<String> {
        let dataset = &artifact.dataset;
        let names = [
            dataset.project(),
            dataset.domain(),
            dataset.name(),
            dataset.version(),
            &artifact.id,
            output,
        ];
        let attempt = attempt.map(|attempt| attempt.to_string());
        let parts = |escape: fn(&str) -> Cow<'_, str>| {
            let names = names.iter().map(|name| escape(name).into_owned());
            let mut parts: Vec<String> =
                std::iter::once(self.prefix.clone()).chain(names).collect();
            parts.extend(attempt.clone());
            parts.push(OBJECT.to_owned());
            parts
        };
        let build = |parts: Vec<String>| {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            reference::construct(&self.base, &parts)
        };
        // Texts that Go cannot make a URL of are escaped too.
        let uri = build(parts(as_path))
            .or_else(|_refused| build(parts(escaped)))
            .map_err(|refused| Error::invalid(refused.to_string()))?;
        let key = reference::object(&uri)
            .map_err(|refused| Error::invalid(refused.to_string()))?
            .key;
        if key.len() > MAX_KEY {
            return Err(Error::invalid(format!(
                "the names in the request make a key of {} bytes for its data, and storage takes {MAX_KEY} at most",
                key.len()
            )));
        }
        Ok(uri)
    }
}

/// The id of the artifact that an object below the folder was written for; none for what nobody here writes for a task.
///
/// By default the folder has objects of other services too, so it must look like one in every respect: propeller's artifacts have
/// UUIDs for ids and tasks for datasets.
pub fn artifact_of(name: &str) -> Option<&str> {
    let parts: Vec<&str> = name.split('/').collect();
    let [_project, _domain, dataset, _version, .., last] = parts.as_slice() else {
        return None;
    };
    if *last != OBJECT || !dataset.starts_with(TASK) {
        return None;
    }
    // From behind: a version may have slashes.
    let from_behind = |place: usize| parts.iter().rev().nth(place).copied();
    let artifact = match (from_behind(1)?, from_behind(3)?) {
        (attempt, artifact) if is_uuid(attempt) && is_uuid(artifact) => 3,
        _ => 2,
    };
    let before = parts.len().checked_sub(artifact + 1)?;
    from_behind(artifact).filter(|id| before >= 4 && is_uuid(id))
}

/// Whether a text is a UUID as we write them.
fn is_uuid(text: &str) -> bool {
    Uuid::try_parse(text).is_ok_and(|uuid| uuid.to_string() == text)
}

/// A part as Go has it, unless it would leave its folder or end the path: those are escaped.
fn as_path(part: &str) -> Cow<'_, str> {
    if reference::is_safe_part(part) {
        Cow::Borrowed(part)
    } else {
        escaped(part)
    }
}

/// A part as one segment, each character that is not a plain one as `=` and hexadecimal digits: not as `%`, which URLs and some
/// stores take back.
fn escaped(part: &str) -> Cow<'_, str> {
    let key = utf8_percent_encode(part, ESCAPED).to_string();
    Cow::Owned(key.replace('%', "="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::DatasetKey;

    fn artifact(version: &str, id: &str) -> ArtifactKey {
        ArtifactKey {
            dataset: DatasetKey::new("flytesnacks", "development", "flyte_task-t", version)
                .unwrap(),
            id: id.to_owned(),
        }
    }

    fn folder() -> Folder {
        Folder {
            base: "s3://b".to_owned(),
            prefix: "metadata/datacatalog".to_owned(),
        }
    }

    #[test]
    fn locations_are_those_of_go() {
        const COMMON: &str = "metadata/datacatalog/flytesnacks/development/flyte_task-t/";
        for (version, id, output, uri, key) in [
            (
                "1.0-a-b",
                "u",
                "o0",
                "1.0-a-b/u/o0/data.pb",
                "1.0-a-b/u/o0/data.pb",
            ),
            // Recorded: the slash of a cache version is one of the path.
            (
                "2.0 beta/é-6gxP21Xo-0h9u3msO",
                "u",
                "o0",
                "2.0%20beta/%C3%A9-6gxP21Xo-0h9u3msO/u/o0/data.pb",
                "2.0 beta/é-6gxP21Xo-0h9u3msO/u/o0/data.pb",
            ),
            // What would leave the folder, or cut the path, stays one name.
            (
                "..",
                "u",
                "o0",
                "=2E=2E/u/o0/data.pb",
                "=2E=2E/u/o0/data.pb",
            ),
            (
                "a/../../b",
                "u",
                "o0",
                "a=2F=2E=2E=2F=2E=2E=2Fb/u/o0/data.pb",
                "a=2F=2E=2E=2F=2E=2E=2Fb/u/o0/data.pb",
            ),
            (
                "v",
                "..",
                "o0",
                "v/=2E=2E/o0/data.pb",
                "v/=2E=2E/o0/data.pb",
            ),
            ("v", "u", "..", "v/u/=2E=2E/data.pb", "v/u/=2E=2E/data.pb"),
            ("1#2", "u", "o0", "1=232/u/o0/data.pb", "1=232/u/o0/data.pb"),
            ("1?2", "u", "o0", "1=3F2/u/o0/data.pb", "1=3F2/u/o0/data.pb"),
            (
                "%2e%2e",
                "u",
                "o0",
                "=252e=252e/u/o0/data.pb",
                "=252e=252e/u/o0/data.pb",
            ),
            ("/", "u", "o0", "=2F/u/o0/data.pb", "=2F/u/o0/data.pb"),
            // What is no URL.
            ("50%", "u", "o0", "50=25/u/o0/data.pb", "50=25/u/o0/data.pb"),
            (
                "a\nb",
                "u",
                "o0",
                "a=0Ab/u/o0/data.pb",
                "a=0Ab/u/o0/data.pb",
            ),
        ] {
            let location = folder()
                .location(&artifact(version, id), output, None)
                .unwrap();
            let object = reference::object(&location).unwrap();
            assert_eq!(
                location,
                format!("s3://b/{COMMON}{uri}"),
                "{version} {id} {output}"
            );
            assert_eq!(
                object.key,
                format!("{COMMON}{key}"),
                "{version} {id} {output}"
            );
        }
    }

    #[test]
    fn only_what_was_written_for_a_task_is_of_an_artifact() {
        const ID: &str = "cff77f44-8f4a-41ed-9f79-a8f3d5d073cd";
        const OTHER: &str = "0ab4ee2c-5a4e-4d5e-8f0a-0d1f0e2b7c11";
        let of = |text: &str| text.replace("ID", ID).replace("OTHER", OTHER);
        for (name, expected) in [
            ("p/d/flyte_task-t/v/ID/o0/data.pb", Some(ID)),
            ("p/d/flyte_task-t/v/ID/o0/OTHER/data.pb", Some(ID)),
            // A version with a slash, and one that is a UUID.
            ("p/d/flyte_task-t/1/2/ID/o0/data.pb", Some(ID)),
            ("p/d/flyte_task-t/OTHER/ID/o0/data.pb", Some(ID)),
            // Not ours, or not whole.
            ("p/d/flyte_task-t/ID/o0/data.pb", None),
            ("p/d/flyte_task-t/v/ID/data.pb", None),
            ("p/d/flyte_task-t/v/ID/o0/outputs.pb", None),
            ("p/d/other/v/ID/o0/data.pb", None),
            ("p/d/flyte_task-t/v/a/o0/data.pb", None),
            ("propeller/p-d-x/n0/data/0/outputs.pb", None),
            ("data.pb", None),
            ("", None),
        ] {
            assert_eq!(artifact_of(&of(name)), expected, "{name}");
        }
        for (prefix, uri) in [("metadata", "s3://b/metadata"), ("/a/b/", "s3://b/a/b")] {
            let folder = Folder {
                base: "s3://b".to_owned(),
                prefix: prefix.to_owned(),
            };
            assert_eq!(folder.uri(), uri);
        }
    }

    #[test]
    fn an_attempt_has_a_folder_of_its_own() {
        let location = folder()
            .location(&artifact("v", "u"), "o0", Some(Uuid::nil()))
            .unwrap();
        assert!(location.ends_with("/v/u/o0/00000000-0000-0000-0000-000000000000/data.pb"));
    }

    #[test]
    fn keys_that_no_storage_takes_are_refused() {
        for (length, fits) in [(900, true), (1_100, false)] {
            let outcome = folder().location(&artifact(&"v".repeat(length), "u"), "o0", None);
            assert_eq!(outcome.is_ok(), fits, "{length}");
        }
    }
}
