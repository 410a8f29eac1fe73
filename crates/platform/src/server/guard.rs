//! Who may address a port that asks for no credentials: Host and Origin.
//!
//! A server on loopback is reached by every page that a browser on the machine shows: by a form, by a script, or under a
//! name of the attacker's that resolves to loopback (DNS rebinding). One rule for every listening port of the embedded
//! backend:
//!
//! | header | is accepted if it is |
//! |---|---|
//! | `Host` (`:authority`) | loopback, the host that is listened on, or a name that was allowed; on all addresses also any address and the machine's own name |
//! | `Origin`, on every method | the request's own host and port, or loopback |
//! | `Sec-Fetch-Site` without `Origin` | anything but `cross-site`, unless the user follows a link |
//!
//! Answers tell browsers of no origin but the one that asked and was accepted: `Access-Control-Allow-Origin: *` of a service
//! becomes that origin, and goes when there is none. Clients that are no browsers send none of these headers but Host.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::Authority};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The names under which a port may be addressed. Clones share them.
#[derive(Clone, Debug)]
pub struct AllowedHosts(Arc<Names>);

#[derive(Clone, Debug, Default)]
struct Names {
    /// Lower case, without port, brackets and final dot.
    names: Vec<String>,
    /// Whether all addresses are listened on: any address may be the way here, and no name resolves to another
    /// address than it says.
    any_address: bool,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It names no host, or several.
    #[error("the request names no host")]
    NoHost,
    /// It was sent to a name that is not served here.
    #[error("host {0:?} is not served here; --host and --allow-host say which are")]
    Host(String),
    /// A page of another site sent it.
    #[error("origin {0:?} may not call here")]
    Origin(String),
    /// A page of another site embeds it.
    #[error("pages of other sites may not use what is served here")]
    CrossSite,
}

impl AllowedHosts {
    /// Loopback alone.
    pub fn loopback() -> Self {
        Self(Arc::default())
    }

    /// Loopback and `host`, the name or address that is listened on. `0.0.0.0` and `::` are all addresses and the name of
    /// this machine.
    pub fn listening_on(host: &str) -> Self {
        let host = normal(host);
        let all = host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_unspecified());
        let own = rustix::system::uname();
        let name = if all {
            own.nodename().to_string_lossy().to_lowercase()
        } else {
            host
        };
        Self(Arc::new(Names {
            names: vec![name],
            any_address: all,
        }))
    }

    /// These and `names`, each a host without port.
    #[must_use]
    pub fn and(self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut all = Arc::unwrap_or_clone(self.0);
        all.names
            .extend(names.into_iter().map(|name| normal(name.as_ref())));
        Self(Arc::new(all))
    }

    /// Puts the guard in front of all that `router` serves.
    pub fn guard(&self, router: Router) -> Router {
        router.layer(axum::middleware::from_fn_with_state(self.clone(), layer))
    }

    /// Judges a request by its head.
    ///
    /// # Errors
    /// Why it must not be served; the text is for who sent it.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let host = authority(uri, headers).ok_or(Refused::NoHost)?;
        if !self.allows(host.host()) {
            return Err(Refused::Host(host.to_string()));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if let Some(origin) = origins.next() {
            let text = String::from_utf8_lossy(origin.as_bytes());
            return match origins.next() {
                None if is_own(&text, &host) => Ok(()),
                _ => Err(Refused::Origin(text.into_owned())),
            };
        }
        let says =
            |name: HeaderName, text: &str| headers.get(name).is_some_and(|value| value == text);
        let follows_a_link =
            says(SEC_FETCH_MODE, "navigate") && matches!(*method, Method::GET | Method::HEAD);
        if says(SEC_FETCH_SITE, "cross-site") && !follows_a_link {
            return Err(Refused::CrossSite);
        }
        Ok(())
    }

    fn allows(&self, host: &str) -> bool {
        let host = normal(host);
        let address = host.parse::<IpAddr>();
        is_loopback(&host)
            || (self.0.any_address && address.is_ok())
            || self.0.names.contains(&host)
    }
}

/// A host in the form in which hosts are compared.
fn normal(host: &str) -> String {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.strip_suffix('.').unwrap_or(bare).to_lowercase()
}

/// `host` is [`normal`]. Resolvers lead `localhost` and what is below it nowhere else (RFC 6761).
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What the request was sent to: the URI's authority (HTTP/2, or a request in absolute form), else the one Host.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?;
    if hosts.next().is_some() {
        return None;
    }
    Authority::try_from(host.as_bytes()).ok()
}

/// Whether a page of this origin is one that `host` served itself, or one of this machine.
fn is_own(origin: &str, host: &Authority) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (origin.scheme(), origin.authority()) else {
        return false;
    };
    let default = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        // Pages of extensions and files are of nobody's.
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    let name = normal(authority.host());
    is_loopback(&name) || (name == normal(host.host()) && port(authority) == port(host))
}

async fn layer(State(allowed): State<AllowedHosts>, request: Request, next: Next) -> Response {
    if let Err(refused) = allowed.check(request.method(), request.uri(), request.headers()) {
        tracing::debug!(%refused, "a request was refused");
        return if super::is_grpc(&request) {
            tonic::Status::permission_denied(refused.to_string()).into_http()
        } else {
            (StatusCode::FORBIDDEN, format!("{refused}\n")).into_response()
        };
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if headers
        .remove(header::ACCESS_CONTROL_ALLOW_ORIGIN)
        .is_some()
    {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::any};
    use tower::ServiceExt as _;

    use super::*;

    fn outcome(allowed: &AllowedHosts, host: &str, more: &[(&str, &str)]) -> &'static str {
        let method = more
            .iter()
            .find(|(name, _)| *name == "method")
            .map_or("GET", |(_, method)| method);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        for (name, value) in more.iter().filter(|(name, _)| *name != "method") {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match allowed.check(&method, &Uri::from_static("/"), &headers) {
            Ok(()) => "served",
            Err(Refused::NoHost) => "no host",
            Err(Refused::Host(_)) => "host",
            Err(Refused::Origin(_)) => "origin",
            Err(Refused::CrossSite) => "cross-site",
        }
    }

    #[test]
    fn hosts_are_loopback_or_what_is_listened_on() {
        let loopback = AllowedHosts::listening_on("127.0.0.1");
        let named = AllowedHosts::listening_on("box.example").and(["Flyte.Example."]);
        let all = AllowedHosts::listening_on("0.0.0.0");
        for (allowed, host, expected) in [
            (&loopback, "localhost:30080", "served"),
            (&loopback, "LOCALHOST.:30080", "served"),
            (&loopback, "a.localhost", "served"),
            (&loopback, "127.0.0.1:30080", "served"),
            (&loopback, "127.8.9.1", "served"),
            (&loopback, "[::1]:30080", "served"),
            (&loopback, "[::ffff:127.0.0.1]:30080", "served"),
            (&loopback, "evil.example:30080", "host"),
            (&loopback, "localhost.evil.example", "host"),
            (&loopback, "localhost@evil.example", "host"),
            (&loopback, "0.0.0.0:30080", "host"),
            (&loopback, "10.0.0.5", "host"),
            (&loopback, "local host", "no host"),
            (&named, "box.example:30080", "served"),
            (&named, "flyte.example", "served"),
            (&named, "evil.example", "host"),
            (&named, "10.0.0.5", "host"),
            (&all, "10.0.0.5:30080", "served"),
            (&all, "[fe80::1]:30080", "served"),
            (&all, "evil.example:30080", "host"),
        ] {
            assert_eq!(outcome(allowed, host, &[]), expected, "{host}");
        }
        let own = rustix::system::uname();
        let own = own.nodename().to_string_lossy().into_owned();
        assert_eq!(outcome(&all, &own, &[]), "served");
    }

    #[test]
    fn origins_are_the_requests_own_or_loopback_whatever_the_method() {
        let all = AllowedHosts::listening_on("0.0.0.0");
        for (host, origin, expected) in [
            ("localhost:30080", "http://localhost:30080", "served"),
            ("localhost:30080", "http://127.0.0.1:3000", "served"),
            ("10.0.0.5:30080", "http://10.0.0.5:30080", "served"),
            ("10.0.0.5", "http://10.0.0.5:80", "served"),
            ("10.0.0.5:443", "https://10.0.0.5", "served"),
            ("10.0.0.5:30080", "http://10.0.0.5:9999", "origin"),
            ("10.0.0.5:30080", "http://10.0.0.6:30080", "origin"),
            ("localhost:30080", "http://evil.example", "origin"),
            ("localhost:30080", "http://localhost.evil.example", "origin"),
            ("localhost:30080", "http://evil.example:localhost", "origin"),
            ("localhost:30080", "null", "origin"),
            ("localhost:30080", "", "origin"),
            ("localhost:30080", "file://localhost", "origin"),
            ("localhost:30080", "chrome-extension://localhost", "origin"),
        ] {
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"] {
                let found = outcome(&all, host, &[("method", method), ("origin", origin)]);
                assert_eq!(found, expected, "{method} {host} from {origin:?}");
            }
        }
    }

    #[test]
    fn two_answers_to_one_question_are_none() {
        let allowed = AllowedHosts::loopback();
        let hosts = [("host", "localhost")];
        assert_eq!(outcome(&allowed, "localhost", &hosts), "no host");
        let origins = [
            ("origin", "http://localhost"),
            ("origin", "http://evil.example"),
        ];
        assert_eq!(outcome(&allowed, "localhost", &origins), "origin");
    }

    #[test]
    fn other_sites_may_link_here_and_not_embed() {
        let allowed = AllowedHosts::loopback();
        for (more, expected) in [
            (
                vec![
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
                "served",
            ),
            (
                vec![
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
                "cross-site",
            ),
            (
                vec![
                    ("method", "POST"),
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
                "cross-site",
            ),
            (
                vec![
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-mode", "cors"),
                ],
                "served",
            ),
            (
                vec![("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
                "served",
            ),
        ] {
            assert_eq!(outcome(&allowed, "localhost", &more), expected, "{more:?}");
        }
    }

    #[tokio::test]
    async fn answers_name_the_origin_that_asked_and_no_other() {
        let open = || async { [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")] };
        let router = AllowedHosts::loopback().guard(Router::new().route("/", any(open)));
        let send = async |origin: Option<&str>| {
            let mut request = Request::get("/").header("host", "localhost:30080");
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let request = request.body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap()
        };
        let granted = |response: &Response| {
            let headers = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            headers.map(|value| value.to_str().unwrap().to_owned())
        };
        let local = send(Some("http://localhost:3000")).await;
        assert_eq!(granted(&local).as_deref(), Some("http://localhost:3000"));
        assert_eq!(local.headers()[header::VARY], "Origin");
        assert_eq!(granted(&send(None).await), None);
        let foreign = send(Some("http://evil.example")).await;
        assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
        assert_eq!(granted(&foreign), None);
    }
}
