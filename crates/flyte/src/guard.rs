//! What a browser on another site may not do to an embedded backend.
//!
//! It listens on loopback without authentication, so a page on any site could reach it by a name that resolves to
//! loopback (DNS rebinding) or by a form. Requests whose Host is neither loopback nor configured are refused, and so
//! are writes whose Origin is.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

/// Hosts that requests may name besides loopback.
#[derive(Clone, Debug)]
pub(crate) struct AllowedHosts(Arc<Vec<String>>);

impl AllowedHosts {
    /// Loopback and `host`, the address that was asked to listen on.
    pub(crate) fn new(host: &str) -> Self {
        Self(Arc::new(vec![host.to_lowercase()]))
    }

    /// `authority` is `host[:port]`. Listening on all addresses allows all names.
    fn allows(&self, authority: &str) -> bool {
        if self.0.iter().any(|host| host == "0.0.0.0" || host == "::") {
            return true;
        }
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority
                .rsplit_once(':')
                .map_or(authority, |(host, _)| host),
        };
        let host = host.to_lowercase();
        let loopback = host == "localhost"
            || host.ends_with(".localhost")
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        loopback || host == "in-process" || self.0.contains(&host)
    }
}

/// Refuses foreign hosts, and foreign origins on writes.
pub(crate) async fn guard(
    State(allowed): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Response {
    match refusal(&allowed, request.method(), request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(text) => (StatusCode::FORBIDDEN, text).into_response(),
    }
}

fn refusal(
    allowed: &AllowedHosts,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let authority = uri
        .authority()
        .map(axum::http::uri::Authority::as_str)
        .or_else(|| text(header::HOST))?;
    if !allowed.allows(authority) {
        return Some(format!(
            "host {authority:?} is not served here; start with --host to listen on it\n"
        ));
    }
    let writes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let origin = text(header::ORIGIN).filter(|_| writes)?;
    let foreign = origin
        .split_once("://")
        .is_none_or(|(_, authority)| !allowed.allows(authority));
    foreign.then(|| format!("origin {origin:?} may not write here\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let allowed = AllowedHosts::new("127.0.0.1");
        for (method, host, origin, refused) in [
            (Method::GET, "localhost:30080", None, false),
            (Method::GET, "127.0.0.1:30080", None, false),
            (Method::GET, "[::1]:30080", None, false),
            (Method::GET, "evil.example:30080", None, true),
            (
                Method::POST,
                "localhost:30080",
                Some("http://localhost:30080"),
                false,
            ),
            (
                Method::POST,
                "localhost:30080",
                Some("http://evil.example"),
                true,
            ),
            (Method::POST, "localhost:30080", Some("null"), true),
            (
                Method::GET,
                "localhost:30080",
                Some("http://evil.example"),
                false,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let found = refusal(&allowed, &method, &Uri::from_static("/"), &headers);
            assert_eq!(found.is_some(), refused, "{method} {host} {origin:?}");
        }
    }
}
