//! Executions that would write into one folder.
//!
//! The engine's folder of an execution is `‹project›-‹domain›-‹name›` (spec 04 §9). All three may have hyphens, so several
//! ids lead to one folder, where each would overwrite the outputs of the other. The path is fixed: Go's engine reads and
//! writes it too. So only the first of them is created. With the default `namespace_mapping.template` those are also all
//! ids whose resources would have one name in one namespace.

use flyte_core::{identifiers::ExecutionId, names};

/// The folder of `id`, without what it is in.
pub(crate) fn folder(id: &ExecutionId) -> String {
    format!("{}-{}-{}", id.project, id.domain, id.name)
}

/// All other ids that lead to the folder of `id`: the other ways to cut its name in three. There are none if nothing but
/// the two joints is a hyphen, and else no more than pairs of hyphens.
pub(crate) fn others(id: &ExecutionId) -> Vec<ExecutionId> {
    let folder = folder(id);
    let hyphens: Vec<usize> = folder.match_indices('-').map(|(at, _)| at).collect();
    let mut found = Vec::new();
    for (index, first) in hyphens.iter().enumerate() {
        let Some((project, rest)) = split_around(&folder, *first) else {
            continue;
        };
        // Neither this nor Go's flyteadmin has projects with other ids.
        if !names::rfc1123_label(project).is_empty() {
            continue;
        }
        for second in hyphens.iter().skip(index + 1) {
            let Some((domain, name)) = split_around(rest, second - first - 1) else {
                continue;
            };
            // An empty part makes no id.
            if let Ok(other) = ExecutionId::new(project, domain, name)
                && other != *id
            {
                found.push(other);
            }
        }
    }
    found
}

/// What is before and after the byte `at`.
fn split_around(text: &str, at: usize) -> Option<(&str, &str)> {
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_ids_of_a_folder_are_the_other_ways_to_cut_it() {
        for (id, expected) in [
            (["p", "d", "n"], vec![]),
            (["p", "d", "a-b"], vec!["p:d-a:b", "p-d:a:b"]),
            (["p-d", "a", "b"], vec!["p:d:a-b", "p:d-a:b"]),
            (
                ["x-development", "development", "yy"],
                vec![
                    "x:development:development-yy",
                    "x:development-development:yy",
                ],
            ),
            // No part is empty, and no project ends in a hyphen.
            (["p", "d", "-b"], vec!["p:d-:b"]),
            (["p", "d", "b-"], vec![]),
        ] {
            let [project, domain, name] = id;
            let id = ExecutionId::new(project, domain, name).unwrap();
            let found: Vec<_> = others(&id).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{id}");
            for other in others(&id) {
                assert_eq!(folder(&other), folder(&id));
                assert!(others(&other).contains(&id), "{other} knows {id}");
            }
        }
    }

    #[test]
    fn the_longest_ids_have_few_enough_others_for_one_statement() {
        let part = "a-".repeat(31) + "a";
        let id = ExecutionId::new(&part, "d-e-f", &part).unwrap();
        // Three parameters each, of which SQLite takes 32,766.
        assert!(others(&id).len() < 10_000, "{}", others(&id).len());
    }
}
