//! Tasks: what a template must have (spec 01 §7).

use flyte_core::identifiers::EntityId;
use flyte_idl::core;

use super::task_resources::{self, PlatformResources};
use crate::{
    config::AdminConfig,
    error::{Error, Result},
};

/// Checks the template of a task that is registered under `id`, in the reference's order.
///
/// # Errors
/// INVALID_ARGUMENT for the first thing that is missing or not allowed.
pub(crate) fn validate(
    config: &AdminConfig,
    id: &EntityId,
    template: &core::TaskTemplate,
) -> Result<()> {
    if template.r#type.is_empty() {
        return Err(Error::missing("type"));
    }
    if let Some(scopes) = config.task_type_whitelist.0.get(&template.r#type) {
        let allowed = scopes.0.iter().any(|scope| {
            scope.project.is_empty()
                || scope.project == id.project.as_str()
                    && (scope.domain.is_empty() || scope.domain == id.domain.as_str())
        });
        if !scopes.0.is_empty() && !allowed {
            return Err(Error::invalid("task type must be whitelisted before use"));
        }
    }
    let metadata = template
        .metadata
        .as_ref()
        .ok_or_else(|| Error::missing("metadata"))?;
    if let Some(runtime) = &metadata.runtime
        && runtime.version.is_empty()
    {
        return Err(Error::missing("runtime version"));
    }
    if template.interface.is_none() {
        return Err(Error::missing("typed interface"));
    }
    let platform = PlatformResources::of_config(&config.task_resources)?;
    task_resources::validate(template, &platform)
}
