//! Projects: what a registration must obey, and which take new entities and executions (spec 01 §6).

use std::collections::BTreeMap;

use flyte_core::names;
use flyte_idl::admin;

use crate::{
    config::AdminConfig,
    error::{Error, Result},
    filters::{Comparison, PROJECTS, Predicate, Test},
    records::{Project, ProjectState},
};

/// Checks that the project that was found under its id is active and that `domain` is configured (spec 01 §6.4).
///
/// # Errors
/// INVALID_ARGUMENT for a project that does not exist or is archived, and for a domain that is not configured.
pub(crate) fn require_active(
    found: Option<Project>,
    project: &str,
    domain: &str,
    config: &AdminConfig,
) -> Result<Project> {
    let Some(found) = found else {
        return Err(Error::Invalid(format!(
            "failed to validate that project [{project}] and domain [{domain}] are registered, err: [project [{project}] not found]"
        )));
    };
    if found.state != ProjectState::Active {
        return Err(Error::InactiveProject(project.to_owned()));
    }
    if !config.domains.0.iter().any(|known| known.id == domain) {
        return Err(Error::Invalid(format!(
            "domain [{domain}] is unrecognized by system"
        )));
    }
    Ok(found)
}

/// The labels of a project, empty if it has none.
pub(crate) fn labels(project: &Project) -> BTreeMap<String, String> {
    project
        .labels
        .as_ref()
        .and_then(|stored| stored.get().labels.as_ref())
        .map(|labels| labels.values.clone())
        .unwrap_or_default()
}

/// Checks a project that is registered or changed.
///
/// # Errors
/// INVALID_ARGUMENT for the first thing that is wrong.
pub(crate) fn validate(project: &admin::Project) -> Result<()> {
    if project.id.is_empty() {
        return Err(Error::missing("project_id"));
    }
    if let Some(labels) = &project.labels {
        names::labels(&labels.values)?;
    }
    names::project_id(&project.id)?;
    names::at_most("project_name", &project.name, 64)?;
    names::at_most("project_description", &project.description, 300)?;
    if !project.domains.is_empty() {
        return Err(Error::invalid(
            "Domains are currently only set system wide. Please retry without domains included in your request.",
        ));
    }
    Ok(())
}

/// The predicate that leaves archived projects out.
pub(crate) fn not_archived() -> Option<Predicate> {
    Some(Predicate {
        entity: &PROJECTS,
        column: PROJECTS.column("state")?,
        test: Test::Compare(Comparison::NotEqual, ProjectState::Archived.number().into()),
        checked: false,
    })
}
