//! Routes from the `google.api.http` annotations of the descriptor set.

use flyte_idl::descriptors;
use http::Method;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, Value};

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// A dotted path of a field.
    Variable(String),
}

/// An HTTP method and path, and the RPC that it is.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) method: Method,
    segments: Vec<Segment>,
    /// Whether the body is the whole request message; else fields come from the query.
    pub(super) whole_body: bool,
    /// Path of the RPC, `/service/method`.
    pub(super) rpc: String,
    /// The request message.
    pub(super) input: MessageDescriptor,
    /// The answer message.
    pub(super) output: MessageDescriptor,
}

impl Route {
    /// The path as the annotation has it.
    pub(super) fn template(&self) -> String {
        let mut template = String::new();
        for segment in &self.segments {
            template.push('/');
            match segment {
                Segment::Literal(literal) => template.push_str(literal),
                Segment::Variable(field) => {
                    template.push('{');
                    template.push_str(field);
                    template.push('}');
                }
            }
        }
        template
    }

    /// Dotted paths of the fields that the path sets.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable(field) => Some(field.as_str()),
            Segment::Literal(_) => None,
        })
    }
}

/// Fields of the request message and their text in the path.
pub(super) type Variables = Vec<(String, String)>;

/// What a request matches.
pub(super) enum Found<'a> {
    Route(&'a Route, Variables),
    /// The path exists for another method.
    OtherMethod,
    Nothing,
}

/// What the `google.api.http` annotations of all services say, in the order of their declaration.
pub(super) struct Routes(Vec<Route>);

impl Routes {
    /// Those of every service in the descriptor set. A service that is not served answers UNIMPLEMENTED.
    pub(super) fn from_descriptors() -> Self {
        let pool = descriptors::pool();
        let mut routes = Vec::new();
        let Some(extension) = pool.get_extension_by_name("google.api.http") else {
            return Self(routes);
        };
        for service in pool.services() {
            for method in service.methods() {
                let options = method.options();
                if !options.has_extension(&extension) {
                    continue;
                }
                if let Value::Message(rule) = options.get_extension(&extension).as_ref() {
                    add(&mut routes, &method, rule);
                }
            }
        }
        // More literal segments first: `/a/b` before `/a/{x}`.
        routes.sort_by_key(|route| {
            route
                .segments
                .iter()
                .filter(|segment| matches!(segment, Segment::Variable(_)))
                .count()
        });
        Self(routes)
    }

    /// The routes of one service's RPCs.
    pub(super) fn of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Route> {
        self.0.iter().filter(move |route| {
            route.rpc.trim_start_matches('/').split('/').next() == Some(service)
        })
    }

    /// The route of a request. A form that is posted to a path that can only be got is got.
    pub(super) fn find(&self, method: &Method, path: &[String], form: bool) -> Found<'_> {
        let matching = || {
            self.0
                .iter()
                .filter_map(|route| Some((route, variables(&route.segments, path)?)))
        };
        if let Some((route, variables)) = matching().find(|(route, _)| route.method == method) {
            return Found::Route(route, variables);
        }
        if form
            && let Some((route, variables)) =
                matching().find(|(route, _)| route.method == Method::GET)
        {
            return Found::Route(route, variables);
        }
        if matching().next().is_some() {
            Found::OtherMethod
        } else {
            Found::Nothing
        }
    }
}

fn variables(segments: &[Segment], path: &[String]) -> Option<Variables> {
    if segments.len() != path.len() {
        return None;
    }
    let mut variables = Variables::new();
    for (segment, text) in segments.iter().zip(path) {
        match segment {
            Segment::Literal(literal) if literal == text => {}
            Segment::Literal(_) => return None,
            Segment::Variable(field) => variables.push((field.clone(), text.clone())),
        }
    }
    Some(variables)
}

fn add(routes: &mut Vec<Route>, method: &MethodDescriptor, rule: &DynamicMessage) {
    let text = |name: &str| {
        rule.get_field_by_name(name)
            .and_then(|value| value.as_str().map(str::to_owned))
            .filter(|text| !text.is_empty())
    };
    for (name, http) in [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ] {
        let Some(template) = text(name) else {
            continue;
        };
        routes.push(Route {
            method: http,
            segments: segments(&template),
            whole_body: text("body").is_some(),
            rpc: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            input: method.input(),
            output: method.output(),
        });
    }
    if let Some(bindings) = rule.get_field_by_name("additional_bindings")
        && let Some(bindings) = bindings.as_list()
    {
        for binding in bindings {
            if let Some(rule) = binding.as_message() {
                add(routes, method, rule);
            }
        }
    }
}

fn segments(template: &str) -> Vec<Segment> {
    template
        .trim_start_matches('/')
        .split('/')
        .map(|segment| {
            segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
                .map_or_else(
                    || Segment::Literal(segment.to_owned()),
                    |field| Segment::Variable(field.to_owned()),
                )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(method: &Method, path: &str) -> Option<String> {
        let routes = Routes::from_descriptors();
        let path: Vec<String> = path
            .trim_start_matches('/')
            .split('/')
            .map(str::to_owned)
            .collect();
        match routes.find(method, &path, false) {
            Found::Route(route, _) => Some(route.rpc.clone()),
            Found::OtherMethod => Some("other method".to_owned()),
            Found::Nothing => None,
        }
    }

    #[test]
    fn paths_of_the_annotations_lead_to_their_rpcs() {
        for (method, path, expected) in [
            (
                Method::GET,
                "/api/v1/tasks/p/d/n/v",
                Some("/flyteidl.service.AdminService/GetTask"),
            ),
            (
                Method::GET,
                "/api/v1/tasks/p/d",
                Some("/flyteidl.service.AdminService/ListTasks"),
            ),
            (
                Method::POST,
                "/api/v1/executions/relaunch",
                Some("/flyteidl.service.AdminService/RelaunchExecution"),
            ),
            (
                Method::GET,
                "/api/v1/executions/p/d/",
                Some("/flyteidl.service.AdminService/GetExecution"),
            ),
            (
                Method::DELETE,
                "/api/v1/executions/p/d/n",
                Some("/flyteidl.service.AdminService/TerminateExecution"),
            ),
            (
                Method::GET,
                "/api/v1/data",
                Some("/flyteidl.service.DataProxyService/GetData"),
            ),
            (
                Method::GET,
                "/me",
                Some("/flyteidl.service.IdentityService/UserInfo"),
            ),
            (Method::HEAD, "/api/v1/domains", Some("other method")),
            (Method::GET, "/API/v1/domains", None),
        ] {
            assert_eq!(rpc(&method, path).as_deref(), expected, "{path}");
        }
    }
}
