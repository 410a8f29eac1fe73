//! The HTTP routes travel with the descriptor set (spec 08 B2.1).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flyte_idl::descriptors;
use prost_reflect::{MethodDescriptor, Value};

/// The path of a GET binding.
fn get_path(method: &MethodDescriptor) -> Option<String> {
    let http = descriptors::pool()
        .get_extension_by_name("google.api.http")
        .unwrap();
    let options = method.options();
    let rule = options.get_extension(&http);
    let rule = rule.as_message().unwrap();
    let path = rule.get_field_by_name("get")?;
    match path.as_ref() {
        Value::String(path) => Some(path.clone()),
        _ => None,
    }
}

#[test]
fn methods_carry_their_http_rules() {
    let service = descriptors::pool()
        .get_service_by_name("flyteidl.service.AdminService")
        .unwrap();
    let list = service
        .methods()
        .find(|method| method.name() == "ListWorkflows")
        .unwrap();
    assert_eq!(
        get_path(&list).as_deref(),
        Some("/api/v1/workflows/{id.project}/{id.domain}/{id.name}")
    );
}
