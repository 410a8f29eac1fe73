//! The settings of an execution, merged from the request, the launch plan and the configuration (spec 01 §12.4, spec 03 §2).

use std::collections::BTreeMap;

use flyte_idl::{
    admin::{ExecutionSpec, LaunchPlanSpec, RawOutputDataConfig},
    core::{Identity, KeyValuePair, SecurityContext},
};

use crate::{
    caller::Caller,
    config::FlyteAdminConfig,
    error::{Error, Result},
};

/// What an execution runs with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EffectiveConfig {
    pub(crate) max_parallelism: i32,
    pub(crate) security_context: SecurityContext,
    pub(crate) raw_output: Option<RawOutputDataConfig>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) interruptible: Option<bool>,
    pub(crate) overwrite_cache: bool,
    pub(crate) envs: Option<BTreeMap<String, String>>,
}

/// The settings of one of the three.
#[derive(Default)]
struct Source<'a> {
    max_parallelism: i32,
    security_context: Option<SecurityContext>,
    raw_output: Option<&'a RawOutputDataConfig>,
    labels: Option<&'a BTreeMap<String, String>>,
    annotations: Option<&'a BTreeMap<String, String>>,
    interruptible: Option<bool>,
    overwrite_cache: bool,
    envs: Option<&'a [KeyValuePair]>,
}

/// Merges, highest first: request, launch plan (none for a single task), server.
pub(crate) fn merge(
    spec: &ExecutionSpec,
    plan: Option<&LaunchPlanSpec>,
    server: &FlyteAdminConfig,
    caller: &Caller,
) -> EffectiveConfig {
    let mut merged = EffectiveConfig::default();
    let mut security = None;
    merged.take(&of_request(spec), &mut security);
    if let Some(plan) = plan {
        merged.take(&of_plan(plan), &mut security);
    }
    if security.is_none() {
        security = legacy_role(spec, plan);
    }
    let server_raw = RawOutputDataConfig {
        output_location_prefix: server.output_location_prefix.clone(),
    };
    let server_envs: Vec<KeyValuePair> = server
        .envs
        .0
        .iter()
        .map(|(key, value)| KeyValuePair {
            key: key.clone(),
            value: value.clone(),
        })
        .collect();
    let server = Source {
        max_parallelism: server.max_parallelism,
        security_context: identity(&server.assumable_iam_role, &server.k8s_service_account),
        raw_output: Some(&server_raw),
        labels: Some(&server.labels.0),
        annotations: Some(&server.annotations.0),
        interruptible: server.interruptible.then_some(true),
        overwrite_cache: server.overwrite_cache,
        envs: Some(&server_envs),
    };
    merged.take(&server, &mut security);
    merged.security_context = complete(security, spec, caller);
    merged
}

impl EffectiveConfig {
    /// Takes from a lower source what no higher one has set.
    fn take(&mut self, source: &Source<'_>, security: &mut Option<SecurityContext>) {
        if self.max_parallelism == 0 && source.max_parallelism > 0 {
            self.max_parallelism = source.max_parallelism;
        }
        if security.is_none()
            && source
                .security_context
                .as_ref()
                .is_some_and(runs_as_someone)
        {
            security.clone_from(&source.security_context);
        }
        let unset = self
            .raw_output
            .as_ref()
            .is_none_or(|raw| raw.output_location_prefix.is_empty());
        if unset
            && let Some(raw) = source.raw_output
            && !raw.output_location_prefix.is_empty()
        {
            self.raw_output = Some(raw.clone());
        }
        for (ours, theirs) in [
            (&mut self.labels, source.labels),
            (&mut self.annotations, source.annotations),
        ] {
            if ours.is_empty()
                && let Some(theirs) = theirs
            {
                ours.clone_from(theirs);
            }
        }
        if self.interruptible.is_none() {
            self.interruptible = source.interruptible;
        }
        self.overwrite_cache |= source.overwrite_cache;
        if self.envs.is_none()
            && let Some(envs) = source.envs
            && !envs.is_empty()
        {
            self.envs = Some(
                envs.iter()
                    .map(|pair| (pair.key.clone(), pair.value.clone()))
                    .collect(),
            );
        }
    }
}

fn of_request(spec: &ExecutionSpec) -> Source<'_> {
    Source {
        max_parallelism: spec.max_parallelism,
        security_context: spec.security_context.clone(),
        raw_output: spec.raw_output_data_config.as_ref(),
        labels: spec.labels.as_ref().map(|labels| &labels.values),
        annotations: spec
            .annotations
            .as_ref()
            .map(|annotations| &annotations.values),
        interruptible: spec.interruptible,
        overwrite_cache: spec.overwrite_cache,
        envs: spec.envs.as_ref().map(|envs| envs.values.as_slice()),
    }
}

fn of_plan(plan: &LaunchPlanSpec) -> Source<'_> {
    Source {
        max_parallelism: plan.max_parallelism,
        security_context: plan.security_context.clone(),
        raw_output: plan.raw_output_data_config.as_ref(),
        labels: plan.labels.as_ref().map(|labels| &labels.values),
        annotations: plan
            .annotations
            .as_ref()
            .map(|annotations| &annotations.values),
        interruptible: plan.interruptible,
        overwrite_cache: plan.overwrite_cache,
        envs: plan.envs.as_ref().map(|envs| envs.values.as_slice()),
    }
}

fn runs_as_someone(context: &SecurityContext) -> bool {
    context.run_as.as_ref().is_some_and(|run_as| {
        !run_as.k8s_service_account.is_empty()
            || !run_as.iam_role.is_empty()
            || !run_as.execution_identity.is_empty()
    })
}

fn identity(iam_role: &str, service_account: &str) -> Option<SecurityContext> {
    let context = SecurityContext {
        run_as: Some(Identity {
            iam_role: iam_role.to_owned(),
            k8s_service_account: service_account.to_owned(),
            ..Identity::default()
        }),
        ..SecurityContext::default()
    };
    runs_as_someone(&context).then_some(context)
}

/// The role messages that came before the security context.
fn legacy_role(spec: &ExecutionSpec, plan: Option<&LaunchPlanSpec>) -> Option<SecurityContext> {
    let of_request = spec.auth_role.as_ref();
    if let Some(role) = of_request
        && let Some(context) = identity(&role.assumable_iam_role, &role.kubernetes_service_account)
    {
        return Some(context);
    }
    let plan = plan?;
    if let Some(role) = &plan.auth_role
        && let Some(context) = identity(&role.assumable_iam_role, &role.kubernetes_service_account)
    {
        return Some(context);
    }
    if let Some(auth) = &plan.auth
        && let Some(context) = identity(&auth.assumable_iam_role, &auth.kubernetes_service_account)
    {
        return Some(context);
    }
    identity(&plan.role, "")
}

/// Someone to run as, with the secrets of the request: the reference loses those of a context that names
/// nobody (spec 01 §24 no. 17).
fn complete(
    chosen: Option<SecurityContext>,
    spec: &ExecutionSpec,
    caller: &Caller,
) -> SecurityContext {
    let mut context = chosen.unwrap_or_default();
    if let Some(given) = &spec.security_context {
        if context.secrets.is_empty() {
            context.secrets.clone_from(&given.secrets);
        }
        if context.tokens.is_empty() {
            context.tokens.clone_from(&given.tokens);
        }
    }
    let run_as = context.run_as.get_or_insert_default();
    if run_as.execution_identity.is_empty() {
        run_as.execution_identity.clone_from(&caller.user);
    }
    context
}

/// Refuses more entries than `max`; 0 is no limit.
pub(crate) fn require_at_most(
    what: &str,
    entries: &BTreeMap<String, String>,
    max: usize,
) -> Result<()> {
    if max > 0 && entries.len() > max {
        return Err(Error::Invalid(format!(
            "{what} has too many entries [{} > {max}]",
            entries.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flyte_idl::admin::Labels;
    use flyte_platform::config::StringMap;

    use super::*;

    fn labels(key: &str) -> Labels {
        Labels {
            values: [(key.to_owned(), "v".to_owned())].into(),
        }
    }

    #[test]
    fn each_field_comes_from_the_highest_source_that_sets_it() {
        let spec = ExecutionSpec {
            max_parallelism: -3,
            overwrite_cache: true,
            ..ExecutionSpec::default()
        };
        let plan = LaunchPlanSpec {
            labels: Some(labels("plan")),
            interruptible: Some(false),
            ..LaunchPlanSpec::default()
        };
        let server = FlyteAdminConfig {
            labels: StringMap::from([("server", "v".to_owned())]),
            interruptible: true,
            k8s_service_account: "robot".to_owned(),
            ..FlyteAdminConfig::default()
        };
        let merged = merge(&spec, Some(&plan), &server, &Caller::default());
        assert_eq!(merged.max_parallelism, 25);
        assert_eq!(merged.labels.keys().collect::<Vec<_>>(), ["plan"]);
        assert_eq!(merged.interruptible, Some(false));
        assert!(merged.overwrite_cache);
        let run_as = merged.security_context.run_as.unwrap();
        assert_eq!(run_as.k8s_service_account, "robot");
    }

    #[test]
    fn nobody_to_run_as_is_an_empty_identity() {
        let merged = merge(
            &ExecutionSpec::default(),
            None,
            &FlyteAdminConfig::default(),
            &Caller::default(),
        );
        assert_eq!(merged.security_context.run_as, Some(Identity::default()));
        assert_eq!(merged.envs, None);
    }
}
