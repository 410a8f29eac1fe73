//! Cross-origin requests (spec 01 §1.3).

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::config::SecurityConfig;

const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH"];
const SIMPLE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
const SIMPLE_HEADERS: [&str; 4] = ["accept", "accept-language", "content-language", "origin"];

/// Which origins may call, with which headers.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<String>,
    headers: Vec<String>,
}

impl Cors {
    /// From `server.security`; none when it is off.
    pub(crate) fn of_config(config: &SecurityConfig) -> Option<Self> {
        if !config.allow_cors {
            return None;
        }
        let headers = config
            .allowed_headers
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .chain(["content-type".to_owned()])
            .collect();
        Some(Self {
            origins: config.allowed_origins.clone(),
            headers,
        })
    }

    fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.origins
            .iter()
            .any(|allowed| allowed == "*" || allowed == text)
            .then_some(origin)
    }

    /// Answers every OPTIONS request.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        if method != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(Body::empty());
        if self.allowed(headers).is_none() {
            return Some(response);
        }
        let Some(asked) = text(headers, header::ACCESS_CONTROL_REQUEST_METHOD) else {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return Some(response);
        };
        if !METHODS.contains(&asked) {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return Some(response);
        }
        let mut granted = Vec::new();
        let wanted = text(headers, header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
        for name in wanted
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let lower = name.to_ascii_lowercase();
            if SIMPLE_HEADERS.contains(&lower.as_str()) {
                continue;
            }
            if !self.headers.contains(&lower) {
                *response.status_mut() = StatusCode::FORBIDDEN;
                return Some(response);
            }
            granted.push(canonical(&lower));
        }
        let answer = response.headers_mut();
        answer.extend(self.response_headers(headers));
        if !granted.is_empty()
            && let Ok(value) = HeaderValue::from_str(&granted.join(","))
        {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, value);
        }
        if !SIMPLE_METHODS.contains(&asked)
            && let Ok(value) = HeaderValue::from_str(asked)
        {
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, value);
        }
        Some(response)
    }

    /// Headers of the answer to a request from an allowed origin.
    pub(crate) fn response_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        let Some(origin) = self.allowed(headers) else {
            return answer;
        };
        answer.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        if self.origins.len() > 1 {
            answer.insert(header::VARY, HeaderValue::from_static("Origin"));
        }
        let any = self.origins.iter().any(|allowed| allowed == "*");
        let value = if any {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        answer
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let parts: Vec<String> = name
        .split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
                .unwrap_or_default()
        })
        .collect();
    parts.join("-")
}
