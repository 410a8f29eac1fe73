//! `flyte://v1/…` references (spec 01 §16.3).

use flyte_idl::core;

/// What a `flyte://` reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) node: core::NodeExecutionIdentifier,
    pub(crate) attempt: Option<u32>,
    pub(crate) artifact: Artifact,
}

/// What of a node or attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Artifact {
    /// All inputs, or the one with this name.
    Inputs(Option<String>),
    /// All outputs, or the one with this name.
    Outputs(Option<String>),
    /// The HTML page that a task wrote about itself (`deck.html`).
    Deck,
}

/// Reads a reference; none for any other text.
pub(crate) fn parse(url: &str) -> Option<Reference> {
    let parts: Vec<&str> = url.strip_prefix("flyte://v1/")?.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    if !parts.iter().all(plain) {
        return None;
    }
    let (head, rest) = parts.split_at_checked(4)?;
    let [project, domain, name, node] = head else {
        return None;
    };
    let artifact = |kind: &str, literal: Option<&&str>| {
        let literal = literal.map(|text| (*text).to_owned());
        match kind {
            "i" => Some(Artifact::Inputs(literal)),
            "o" => Some(Artifact::Outputs(literal)),
            "d" if literal.is_none() => Some(Artifact::Deck),
            _ => None,
        }
    };
    let number = |part: &str| part.parse::<u32>().ok();
    let (attempt, artifact) = match rest {
        [kind] => (None, artifact(kind, None)?),
        [first, second] => match (number(first), artifact(second, None)) {
            (Some(attempt), Some(artifact)) => (Some(attempt), artifact),
            _ => (None, artifact(first, Some(second))?),
        },
        [first, kind, literal] => (Some(number(first)?), artifact(kind, Some(literal))?),
        _ => return None,
    };
    Some(Reference {
        node: core::NodeExecutionIdentifier {
            node_id: (*node).to_owned(),
            execution_id: Some(core::WorkflowExecutionIdentifier {
                project: (*project).to_owned(),
                domain: (*domain).to_owned(),
                name: (*name).to_owned(),
                org: String::new(),
            }),
        },
        attempt,
        artifact,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_nodes_attempts_and_literals() {
        for (url, expected) in [
            (
                "flyte://v1/fs/dev/abc/n0-dn0-9-n0-n0/i",
                Some(("n0-dn0-9-n0-n0", None, Artifact::Inputs(None))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/o/o0",
                Some(("n0", None, Artifact::Outputs(Some("o0".to_owned())))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/3/o",
                Some(("n0", Some(3), Artifact::Outputs(None))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/3/o/o0",
                Some(("n0", Some(3), Artifact::Outputs(Some("o0".to_owned())))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/d",
                Some(("n0", None, Artifact::Deck)),
            ),
            ("flyte://v1/fs/dev/abc/n0/x", None),
            ("flyte://v1/fs/dev/n0/i", None),
            ("flyte://v1/fs/dev/a.b/n0/i", None),
        ] {
            let parsed = parse(url).map(|reference| {
                (
                    reference.node.node_id,
                    reference.attempt,
                    reference.artifact,
                )
            });
            let expected =
                expected.map(|(node, attempt, artifact)| (node.to_owned(), attempt, artifact));
            assert_eq!(parsed, expected, "{url}");
        }
    }
}
