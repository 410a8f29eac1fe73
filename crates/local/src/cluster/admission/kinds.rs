//! Rules and defaults of Kubernetes' kinds other than pods and their data, as `pkg/apis/…/validation` has them.

use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use serde_json::{Map, Value};

use super::typed::{self, WrongType};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::resource::{EVENTS, NAMESPACES, Resource};

mod classes;
mod endpoints;
mod events;
mod ingress;
mod limits;
mod network_policy;
mod nodes;
mod rights;
mod service;
mod storage;
mod webhooks;

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Fills in what a real server fills in.
pub(super) fn fill_defaults(id: &str, object: &mut Map<String, Value>) {
    if has_spec(id) {
        object
            .entry("spec")
            .or_insert_with(|| Value::Object(Map::new()));
    }
    match id {
        "services" => service::fill_defaults(object),
        "limitranges" => limits::fill_defaults(object),
        "podtemplates" => {
            let spec = object
                .entry("template")
                .or_insert_with(|| Value::Object(Map::new()))
                .as_object_mut()
                .map(|template| {
                    template
                        .entry("spec")
                        .or_insert_with(|| Value::Object(Map::new()))
                });
            if let Some(Value::Object(spec)) = spec {
                super::pods::default_spec(spec);
            }
        }
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io" => rights::fill_binding(object),
        _ => {}
    }
}

/// Whether objects have a spec even when it is empty: their Go type has it by value.
fn has_spec(id: &str) -> bool {
    matches!(
        id,
        "services"
            | "nodes"
            | "resourcequotas"
            | "limitranges"
            | "persistentvolumeclaims"
            | "persistentvolumes"
            | "leases.coordination.k8s.io"
            | "ingresses.networking.k8s.io"
            | "networkpolicies.networking.k8s.io"
            | "poddisruptionbudgets.policy"
    )
}

/// Adds a cause for each change of what must stay.
pub(super) fn guard(resource: &Resource, current: &Value, next: &Value, causes: &mut Causes) {
    let changes = |member: &str| current.get(member) != next.get(member);
    match &*resource.id {
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io"
            if changes("roleRef") =>
        {
            let role = next.get("roleRef").unwrap_or(&Value::Null).to_string();
            let rule = "cannot change roleRef";
            causes.push(StatusCause::value("roleRef", &role, rule));
        }
        "priorityclasses.scheduling.k8s.io" if changes("value") => {
            let rule = "may not be changed in an update.";
            causes.push(StatusCause::forbidden("value", rule));
        }
        "storageclasses.storage.k8s.io" => {
            for member in [
                "provisioner",
                "parameters",
                "reclaimPolicy",
                "volumeBindingMode",
            ] {
                if changes(member) {
                    let rule = format!("updates to {member} are forbidden.");
                    causes.push(StatusCause::forbidden(member, &rule));
                }
            }
        }
        "runtimeclasses.node.k8s.io" if changes("handler") => {
            let handler = next.get("handler").and_then(Value::as_str);
            let rule = "field is immutable";
            causes.push(StatusCause::value(
                "handler",
                handler.unwrap_or_default(),
                rule,
            ));
        }
        "resourcequotas" => limits::guard_quota(current, next, causes),
        "persistentvolumeclaims" => storage::guard_claim(current, next, causes),
        "persistentvolumes" => storage::guard_volume(current, next, causes),
        EVENTS if resource.is_modern_event() => events::guard(current, next, causes),
        _ => {}
    }
}

/// Adds a cause for each rule that an object of the resource breaks.
pub(super) fn validate(
    resource: &Resource,
    value: &Value,
    causes: &mut Causes,
) -> Result<(), WrongType> {
    match &*resource.id {
        EVENTS => events::validate(resource, value, causes),
        NAMESPACES => nodes::namespace(&typed::read(value)?, causes),
        "nodes" => nodes::validate(&typed::read(value)?, causes),
        "podtemplates" => {
            nodes::template(&typed::read(value)?, value, causes);
        }
        "services" => service::validate(&typed::read(value)?, causes),
        "endpoints" => endpoints::validate(&typed::read(value)?, causes),
        "endpointslices.discovery.k8s.io" => endpoints::slice(&typed::read(value)?, causes),
        "resourcequotas" => limits::quota(&typed::read(value)?, causes),
        "limitranges" => limits::range(&typed::read(value)?, causes),
        "persistentvolumeclaims" => storage::claim(&typed::read(value)?, causes),
        "persistentvolumes" => storage::volume(&typed::read(value)?, causes),
        "storageclasses.storage.k8s.io" => storage::class(&typed::read(value)?, causes),
        "leases.coordination.k8s.io" => classes::lease(&typed::read(value)?, causes),
        "poddisruptionbudgets.policy" => classes::budget(&typed::read(value)?, causes),
        "priorityclasses.scheduling.k8s.io" => classes::priority(&typed::read(value)?, causes),
        "runtimeclasses.node.k8s.io" => classes::runtime(&typed::read(value)?, causes),
        "ingresses.networking.k8s.io" => ingress::validate(&typed::read(value)?, causes),
        "networkpolicies.networking.k8s.io" => {
            network_policy::validate(&typed::read(value)?, causes);
        }
        "mutatingwebhookconfigurations.admissionregistration.k8s.io"
        | "validatingwebhookconfigurations.admissionregistration.k8s.io" => {
            webhooks::validate(value, causes)?;
        }
        "roles.rbac.authorization.k8s.io" => {
            let role: Role = typed::read(value)?;
            rights::rules(role.rules.as_deref(), true, causes);
        }
        "clusterroles.rbac.authorization.k8s.io" => {
            let role: ClusterRole = typed::read(value)?;
            rights::rules(role.rules.as_deref(), false, causes);
            rights::aggregation(&role, causes);
        }
        // Bindings of both scopes have the same members.
        "rolebindings.rbac.authorization.k8s.io" => {
            rights::binding(&typed::read(value)?, &["ClusterRole", "Role"], causes);
        }
        "clusterrolebindings.rbac.authorization.k8s.io" => {
            let mut same = value.clone();
            if let Some(members) = same.as_object_mut() {
                members.insert("kind".to_owned(), "RoleBinding".into());
            }
            rights::binding(&typed::read(&same)?, &["ClusterRole"], causes);
        }
        _ => {}
    }
    Ok(())
}

/// Refuses a word that is none of `known`.
fn one_of(given: Option<&str>, known: &[&str], field: &str, causes: &mut Causes) {
    if let Some(given) = given.filter(|given| !known.contains(given)) {
        causes.push(StatusCause::unsupported(field, given, known));
    }
}
