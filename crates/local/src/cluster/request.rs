//! What a request asks for: path, query and negotiated form, read once at the edge.

use std::sync::Arc;

use flyte_idl::text::quoted;
use http::{HeaderMap, Method};

use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::resource::{Registry, Resource};

/// What a path names.
#[derive(Debug, Clone)]
pub(crate) enum Path {
    Resource(Target),
    /// `/api`, `/apis`, `/version`, `/openapi`, health: everything that is not an object.
    Other(Vec<String>),
}

/// An object, a collection, or a part of an object.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) resource: Arc<Resource>,
    /// Empty for cluster-scoped kinds and for lists across namespaces.
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    pub(crate) fn key(&self) -> Result<(String, String), ApiStatus> {
        let name = self
            .name
            .clone()
            .ok_or_else(ApiStatus::method_not_allowed)?;
        Ok((self.namespace.clone(), name))
    }

    pub(crate) fn not_found(&self, name: &str) -> ApiStatus {
        ApiStatus::not_found(&self.resource.group, &self.resource.plural, name)
    }
}

/// Reads a request path.
pub(crate) fn parse_path(path: &str, registry: &Registry) -> Result<Path, ApiStatus> {
    let segments: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            percent_encoding::percent_decode_str(segment)
                .decode_utf8_lossy()
                .into_owned()
        })
        .collect();
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    // Reviews are questions, not objects.
    if let [
        "apis",
        "authorization.k8s.io" | "authentication.k8s.io",
        "v1",
        _,
    ] = words.as_slice()
    {
        return Ok(Path::Other(segments));
    }
    let (group, version, rest) = match words.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(Path::Other(segments)),
    };
    let (namespace, rest) = match rest {
        // Below a namespace, these two are parts of the namespace itself.
        ["namespaces", namespace, plural, more @ ..]
            if !(group.is_empty()
                && more.is_empty()
                && matches!(*plural, "status" | "finalize")) =>
        {
            (Some(*namespace), [&[*plural], more].concat())
        }
        _ => (None, rest.to_vec()),
    };
    let (plural, name, subresource) = match rest.as_slice() {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return Err(ApiStatus::no_such_path()),
    };
    let resource = registry
        .find(group, version, plural)
        .ok_or_else(ApiStatus::no_such_path)?;
    if namespace.is_some() && !resource.namespaced() {
        return Err(ApiStatus::no_such_path());
    }
    if namespace.is_none() && resource.namespaced() && name.is_some() {
        return Err(ApiStatus::no_such_path());
    }
    Ok(Path::Resource(Target {
        resource,
        namespace: namespace.unwrap_or_default().to_owned(),
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
    }))
}

/// The query of a request; later values of a repeated key are ignored, as in Go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(
            pairs
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map_or("", |(_, value)| value)
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.text(key), "true" | "1" | "True" | "TRUE")
    }

    /// A number; an empty text is absent.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiStatus> {
        match self.text(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let text = quoted(text);
                ApiStatus::bad_request(format!("strconv.ParseInt: parsing {text}: invalid syntax"))
            }),
        }
    }

    /// The version that a list or watch begins with; 0, which is any, when there is none.
    pub(crate) fn version(&self) -> Result<u64, ApiStatus> {
        let text = self.text("resourceVersion");
        if text.is_empty() {
            return Ok(0);
        }
        text.parse().map_err(|_| {
            let text = quoted(text);
            ApiStatus::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {text}: strconv.ParseUint: parsing {text}: \
                 invalid syntax"
            ))
        })
    }

    pub(crate) fn dry_run(&self) -> Result<bool, ApiStatus> {
        match self.text("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(ApiStatus::wrong_options(
                "DeleteOptions",
                &[StatusCause::unsupported_dry_run(&[other])].into(),
            )),
        }
    }
}

/// The form in which objects are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Metadata,
    Table,
}

/// Chooses the form by the `Accept` header: the first one that can be served.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Form, ApiStatus> {
    let Some(accept) = headers
        .get(http::header::ACCEPT)
        .and_then(|value| value.to_str().ok())
    else {
        return Ok(Form::Object);
    };
    for choice in accept.split(',') {
        let mut parts = choice.split(';').map(str::trim);
        if !matches!(
            parts.next(),
            Some("application/json" | "*/*" | "application/*")
        ) {
            continue;
        }
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        let form = match parameter("as") {
            None => Form::Object,
            Some("Table") => Form::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Form::Metadata,
            Some(_) => continue,
        };
        if form == Form::Object
            || (parameter("g") == Some("meta.k8s.io") && parameter("v") == Some("v1"))
        {
            return Ok(form);
        }
    }
    Err(ApiStatus::not_acceptable())
}

/// What is done to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn of(method: &Method, target: &Target) -> Result<Self, ApiStatus> {
        let is_part = target.subresource.is_some();
        match (method.as_str(), target.name.is_some()) {
            // Objects are created in their collection.
            ("POST", true) if !is_part => Err(ApiStatus::method_not_allowed()),
            ("GET" | "HEAD", true) => Ok(Self::Get),
            ("GET" | "HEAD", false) => Ok(Self::List),
            ("POST", _) => Ok(Self::Create),
            ("PUT", true) => Ok(Self::Update),
            ("PATCH", true) => Ok(Self::Patch),
            ("DELETE", true) => Ok(Self::Delete),
            ("DELETE", false) => Ok(Self::DeleteCollection),
            _ => Err(ApiStatus::method_not_allowed()),
        }
    }
}
