//! Who may talk to a listening port: programs, and pages of this machine; no page from elsewhere.
//!
//! An embedded backend listens without authentication, or with keys that its documentation prints. A page on any site
//! could reach it from a browser on this machine: by a name of its own that resolves to loopback (DNS rebinding), by a
//! form, or by a script. What such a request cannot hide is what the browser says in `Host` and `Origin`
//! (Fetch standard, `Origin header`): each port therefore refuses hosts that are not its own and origins that are
//! neither this machine's nor the host itself. The same rules hold on every port.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures::future::{BoxFuture, Either, Ready, ready};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

/// A request that a page from elsewhere may have sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// `Host` names another machine.
    #[error("host {0:?} is not served here; start with --host to listen on it")]
    Host(String),
    /// `Origin` is a page of another machine.
    #[error("origin {0:?} may not call this server: only pages of this machine may")]
    Origin(String),
    /// A browser sent it on behalf of another site (`Sec-Fetch-Site`), and not because its user followed a link.
    #[error("a page of another site may link here, and neither write nor embed what is here")]
    CrossSite,
}

/// Which hosts a server answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// Loopback, and the host that it listens on.
    Own(String),
    /// It listens on all addresses: whatever nobody can make a browser resolve to this machine without owning its network.
    Private { machine: String },
}

/// The rules of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Arc<Hosts>);

impl AllowedHosts {
    /// Loopback and `host`, the address or name that was asked to listen on. All addresses (`0.0.0.0`, `::`) allow
    /// literal addresses, names of one label, names under `.local`, `.internal` and `.home.arpa`, and the machine's own
    /// name: no stranger's domain can be among those.
    #[must_use]
    pub fn new(host: &str) -> Self {
        let host = bare(host);
        let any = host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_unspecified());
        let hosts = if any {
            let machine = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .to_lowercase();
            Hosts::Private { machine }
        } else {
            Hosts::Own(host)
        };
        Self(Arc::new(hosts))
    }

    /// `authority` is `host[:port]`, as `Host` and `Origin` have it.
    fn allow(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else {
            return false;
        };
        if is_loopback(&host) {
            return true;
        }
        match &*self.0 {
            Hosts::Own(own) => *own == host,
            Hosts::Private { machine } => {
                const PRIVATE: [&str; 3] = [".local", ".internal", ".home.arpa"];
                host.parse::<IpAddr>().is_ok()
                    || !host.contains('.')
                    || host == *machine
                    || PRIVATE.iter().any(|suffix| host.ends_with(suffix))
            }
        }
    }

    /// Checks a request; the origin that may read the answer, if a page of this machine asks.
    ///
    /// # Errors
    /// A page from elsewhere may have sent it.
    pub fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Foreign> {
        // HTTP/2 has the host in the URI. Without any, it is HTTP/1.0 and no browser.
        let named = uri
            .authority()
            .map(|authority| authority.as_str().to_owned());
        let hosts: Vec<String> = named
            .into_iter()
            .chain(headers.get_all(header::HOST).iter().map(lossy))
            .collect();
        if let Some(foreign) = hosts.iter().find(|host| !self.allow(host)) {
            return Err(Foreign::Host(foreign.clone()));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            let says =
                |name: &str, text: &str| headers.get(name).is_some_and(|value| value == text);
            let follows_link =
                says("sec-fetch-mode", "navigate") && matches!(*method, Method::GET | Method::HEAD);
            return if says("sec-fetch-site", "cross-site") && !follows_link {
                Err(Foreign::CrossSite)
            } else {
                Ok(None)
            };
        };
        let text = lossy(origin);
        if origins.next().is_none() && is_near(&text, &hosts) {
            Ok(Some(origin.clone()))
        } else {
            Err(Foreign::Origin(text))
        }
    }
}

/// Whether a page of this origin is one of this machine, or one that a host of the request served itself.
fn is_near(origin: &str, hosts: &[String]) -> bool {
    let (default_port, page) = match origin.split_once("://") {
        Some(("http", page)) => (80, page),
        Some(("https", page)) => (443, page),
        // Pages of extensions and files are of nobody's.
        _ => return false,
    };
    let place = |authority: &str| {
        let host = host_of(authority)?;
        let port = authority.parse::<Authority>().ok()?.port_u16();
        Some((host, port.unwrap_or(default_port)))
    };
    let Some(page) = place(page) else {
        return false;
    };
    is_loopback(&page.0) || hosts.iter().any(|host| place(host).as_ref() == Some(&page))
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The host of `host[:port]`, without brackets and the root's dot; none for what is no authority, or names a user.
fn host_of(authority: &str) -> Option<String> {
    let parsed: Authority = authority.parse().ok()?;
    (!authority.contains('@')).then(|| bare(parsed.host()))
}

fn bare(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_lowercase()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What pages of this machine may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagesRead {
    /// Nothing: no page has a use for it.
    Nothing,
    /// All answers; the guard grants it and answers preflight requests.
    Everything,
    /// What the service behind grants. A grant to everybody becomes one to the page that asks.
    AsGranted,
}

/// Puts a service behind the rules.
#[derive(Clone, Debug)]
pub struct Guard {
    hosts: AllowedHosts,
    pages: PagesRead,
    refuse: fn(&Foreign) -> Response<Body>,
}

impl Guard {
    /// Answers refused requests with `refuse`.
    #[must_use]
    pub fn new(
        hosts: AllowedHosts,
        pages: PagesRead,
        refuse: fn(&Foreign) -> Response<Body>,
    ) -> Self {
        Self {
            hosts,
            pages,
            refuse,
        }
    }

    /// A guard that refuses in plain text.
    #[must_use]
    pub fn plain(hosts: AllowedHosts, pages: PagesRead) -> Self {
        Self::new(hosts, pages, |foreign| {
            let mut answer = Response::new(Body::from(format!("{foreign}\n")));
            *answer.status_mut() = StatusCode::FORBIDDEN;
            answer
        })
    }
}

impl<S> tower::Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, service: S) -> Guarded<S> {
        Guarded {
            guard: self.clone(),
            service,
        }
    }
}

/// A service behind a [`Guard`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    guard: Guard,
    service: S,
}

impl<S, B> tower::Service<Request<B>> for Guarded<S>
where
    S: tower::Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<
        Ready<Result<Response<Body>, S::Error>>,
        BoxFuture<'static, Result<Response<Body>, S::Error>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let pages = self.guard.pages;
        let origin =
            match self
                .guard
                .hosts
                .check(request.method(), request.uri(), request.headers())
            {
                Ok(origin) => origin,
                Err(foreign) => {
                    tracing::debug!(%foreign, "a request was refused");
                    let response = if super::is_grpc(request.headers()) {
                        tonic::Status::permission_denied(foreign.to_string()).into_http()
                    } else {
                        (self.guard.refuse)(&foreign)
                    };
                    return Either::Left(ready(Ok(response)));
                }
            };
        if pages == PagesRead::Everything
            && request.method() == Method::OPTIONS
            && let Some(origin) = &origin
        {
            return Either::Left(ready(Ok(preflight(origin, request.headers()))));
        }
        let answer = self.service.call(request);
        Either::Right(Box::pin(async move {
            let mut answer = answer.await?;
            grant(pages, origin.as_ref(), answer.headers_mut());
            Ok(answer)
        }))
    }
}

/// Says which page may read the answer.
fn grant(pages: PagesRead, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    let granted = match pages {
        PagesRead::Nothing => false,
        PagesRead::Everything => true,
        PagesRead::AsGranted => answer.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN),
    };
    answer.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if let (true, Some(origin)) = (granted, origin) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        if pages == PagesRead::Everything {
            answer.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("*"),
            );
        }
    }
}

/// A page of this machine asks what it may do: all that it can sign, and read.
fn preflight(origin: &HeaderValue, asked: &HeaderMap) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    grant(PagesRead::Everything, Some(origin), headers);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE"),
    );
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(
        listens: &str,
        method: &Method,
        host: &str,
        origin: Option<&str>,
    ) -> Result<bool, Foreign> {
        let mut headers = HeaderMap::new();
        if !host.is_empty() {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        AllowedHosts::new(listens)
            .check(method, &Uri::from_static("/"), &headers)
            .map(|origin| origin.is_some())
    }

    #[test]
    fn on_loopback_only_this_machine_is_named() {
        for (host, allowed) in [
            ("localhost:30080", true),
            ("LOCALHOST.", true),
            ("my-bucket.localhost:30002", true),
            ("127.0.0.1:30080", true),
            ("127.8.8.8", true),
            ("[::1]:30080", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("", true),
            ("evil.example:30080", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("localhost@evil.example", false),
            ("localhost:80@evil.example", false),
            ("0.0.0.0:30080", false),
            ("192.168.0.7", false),
            ("in-process", false),
            ("local host", false),
        ] {
            let found = verdict("127.0.0.1", &Method::GET, host, None);
            assert_eq!(found.is_ok(), allowed, "{host:?}: {found:?}");
        }
    }

    #[test]
    fn only_pages_of_this_machine_may_call_whatever_the_method() {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            for (host, origin, expected) in [
                ("localhost:1", None, Some(false)),
                ("localhost:1", Some("http://localhost:3000"), Some(true)),
                ("localhost:1", Some("https://127.0.0.1"), Some(true)),
                ("localhost:1", Some("http://evil.example"), None),
                ("localhost:1", Some("http://localhost.evil.example"), None),
                ("localhost:1", Some("null"), None),
                ("localhost:1", Some("file://localhost"), None),
                ("localhost:1", Some("chrome-extension://localhost"), None),
                ("localhost:1", Some(""), None),
                ("localhost:1", Some("http://localhost@evil.example"), None),
            ] {
                let found = verdict("127.0.0.1", &method, host, origin);
                assert_eq!(
                    found.clone().ok(),
                    expected,
                    "{method} {origin:?}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn on_all_addresses_a_page_may_call_the_host_that_it_came_from_but_no_domain_is_taken_for_this_machine()
     {
        for (host, origin, allowed) in [
            ("192.168.0.7:30080", None, true),
            ("[fe80::1]:30080", None, true),
            ("flyte:30080", None, true),
            ("flyte.default.svc.cluster.local:30080", None, true),
            ("host.docker.internal:30080", None, true),
            ("evil.example:30080", None, false),
            (
                "evil.example:30080",
                Some("http://evil.example:30080"),
                false,
            ),
            ("192.168.0.7:30080", Some("http://192.168.0.7:30080"), true),
            ("192.168.0.7:30080", Some("http://192.168.0.8"), false),
            ("192.168.0.7:30080", Some("http://192.168.0.7:9999"), false),
            ("192.168.0.7", Some("http://192.168.0.7:80"), true),
            ("192.168.0.7:443", Some("https://192.168.0.7"), true),
            ("192.168.0.7:30080", Some("http://evil.example"), false),
            ("192.168.0.7:30080", Some("http://localhost:3000"), true),
        ] {
            for listens in ["0.0.0.0", "::", "[::]"] {
                let found = verdict(listens, &Method::POST, host, origin);
                assert_eq!(found.is_ok(), allowed, "{host} {origin:?}: {found:?}");
            }
        }
        assert!(verdict("box.example", &Method::GET, "box.example:1", None).is_ok());
        assert!(verdict("box.example", &Method::GET, "box.other:1", None).is_err());
    }

    #[test]
    fn a_form_of_another_site_is_known_without_its_origin() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        headers.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
        let hosts = AllowedHosts::new("127.0.0.1");
        let uri = Uri::from_static("/");
        assert_eq!(
            hosts.check(&Method::POST, &uri, &headers),
            Err(Foreign::CrossSite)
        );
        assert_eq!(
            hosts.check(&Method::GET, &uri, &headers),
            Err(Foreign::CrossSite)
        );
        // A link to a page with a log.
        headers.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
        assert_eq!(hosts.check(&Method::GET, &uri, &headers), Ok(None));
        assert_eq!(
            hosts.check(&Method::POST, &uri, &headers),
            Err(Foreign::CrossSite)
        );
    }

    #[test]
    fn two_answers_to_one_question_are_none() {
        let uri = Uri::from_static("/");
        let hosts = AllowedHosts::new("127.0.0.1");
        for name in [header::HOST, header::ORIGIN] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost"));
            for value in ["http://localhost", "http://evil.example"] {
                let value =
                    value.trim_start_matches(if name == header::HOST { "http://" } else { "" });
                headers.append(&name, HeaderValue::from_static(value));
            }
            assert!(hosts.check(&Method::GET, &uri, &headers).is_err(), "{name}");
        }
    }

    #[test]
    fn a_grant_to_everybody_becomes_one_to_the_page_that_asks() {
        let origin = HeaderValue::from_static("http://localhost:3000");
        let star = || {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
            headers
        };
        for (pages, before, asks, expected) in [
            (PagesRead::AsGranted, star(), Some(&origin), Some(&origin)),
            (PagesRead::AsGranted, star(), None, None),
            (PagesRead::AsGranted, HeaderMap::new(), Some(&origin), None),
            (
                PagesRead::Everything,
                HeaderMap::new(),
                Some(&origin),
                Some(&origin),
            ),
            (PagesRead::Nothing, star(), Some(&origin), None),
        ] {
            let mut headers = before;
            grant(pages, asks, &mut headers);
            let found = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(found, expected, "{pages:?} {asks:?}");
        }
    }
}
