//! Routes: which upstream, or which answer, a request's host and path lead to. The first match wins.
//!
//! Compiled once from the configuration by `http_proxy`; an endpoint's service keeps those that are for its endpoint. A
//! route's path is a prefix by whole segments, and a slash at its end is of no account: `/v1` and `/v1/` both match
//! `/v1`, `/v1/` and `/v1/x`, neither matches `/v10`.

use std::net::Ipv6Addr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;

use super::path;
use crate::config::RouteConfig;
use crate::upstream::{LookUp, Upstream};

/// A route, ready to be matched.
#[derive(Clone, Debug)]
pub(super) struct Route {
    host: HostPattern,
    /// A normal path without the slash at its end, so that the root is empty.
    prefix: String,
    /// The prefix with its escapes taken back: what a lenient reader compares with.
    plain: String,
    /// Empty means all.
    endpoints: Vec<String>,
    action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Any,
    Exactly(String),
    /// However it is spelled.
    Address(Ipv6Addr),
    /// One label, and then this, which begins with its dot.
    AnyLabel(String),
}

/// What a request's host and path lead to.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// The request is passed on.
    PassOn(Arc<Upstream>),
    /// The request is answered here.
    Respond(StatusCode, Bytes),
}

/// What a configuration's names stand for.
pub(super) struct Names<'a> {
    pub(super) upstream: LookUp<'a>,
    pub(super) endpoint: &'a dyn Fn(&str) -> bool,
}

/// The errors of a handler's table: where in it (`routes.0.path`), and what is wrong with what to do.
pub(super) type Errors = Vec<(String, String)>;

/// Compiles routes, and reports everything that is wrong with them.
pub(super) fn compile(routes: &[RouteConfig], names: &Names<'_>, errors: &mut Errors) -> Vec<Route> {
    let mut compiled: Vec<(usize, Route)> = Vec::with_capacity(routes.len());
    for (i, route) in routes.iter().enumerate() {
        let mut report = |key: &str, message: String| errors.push((format!("routes.{i}{key}"), message));
        let Some(route) = compile_one(route, names, &mut report) else { continue };
        if let Some((earlier, _)) = compiled.iter().find(|(_, earlier)| earlier.covers(&route)) {
            report(
                "",
                format!(
                    "it is never reached: route {earlier} (counted from 0) matches all that it does; put it before that one"
                ),
            );
        }
        compiled.push((i, route));
    }
    compiled.into_iter().map(|(_, route)| route).collect()
}

/// The first of `routes` that matches `host` (without a port) and `path` (in normal form); `None` where none does.
///
/// # Errors
/// A lenient reader of the path would be led elsewhere, so an upstream might see what the routes keep from it.
pub(super) fn choose<'a>(routes: &'a [Route], host: &str, path: &str) -> Result<Option<&'a Action>, &'static str> {
    if routes.is_empty() {
        return Ok(None);
    }
    let chosen = routes.iter().position(|route| route.matches(host, &route.prefix, path));
    for read in path::lenient(path) {
        if routes.iter().position(|route| route.matches(host, &route.plain, &read)) != chosen {
            return Err("the path could be read in two ways");
        }
    }
    Ok(chosen.map(|i| &routes[i].action))
}

impl Route {
    /// Whether the route is for an endpoint.
    pub(super) fn is_for(&self, endpoint: &str) -> bool {
        self.endpoints.is_empty() || self.endpoints.iter().any(|name| name == endpoint)
    }

    /// Whether it matches a path by one of its prefixes.
    fn matches(&self, host: &str, prefix: &str, path: &str) -> bool {
        is_under(path, prefix) && self.host.matches(host)
    }

    /// Whether it matches everything that `other` does.
    fn covers(&self, other: &Self) -> bool {
        let endpoints = self.endpoints.is_empty()
            || (!other.endpoints.is_empty() && other.endpoints.iter().all(|name| self.endpoints.contains(name)));
        endpoints && is_under(&other.prefix, &self.prefix) && self.host.covers(&other.host)
    }
}

/// The address in brackets.
fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Whether `prefix` is made of the first segments of `path`.
fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Any => true,
            Self::Exactly(name) => host.eq_ignore_ascii_case(name),
            Self::Address(address) => ipv6(host) == Some(*address),
            Self::AnyLabel(suffix) => host
                .find('.')
                .is_some_and(|dot| dot > 0 && host.get(dot..).is_some_and(|rest| rest.eq_ignore_ascii_case(suffix))),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (pattern, Self::Exactly(name)) => pattern.matches(name),
            (pattern, other) => pattern == other,
        }
    }

    fn compile(host: &str) -> Result<Self, String> {
        let host = host.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if let Some(address) = ipv6(&host) {
            return Ok(Self::Address(address));
        }
        let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !name.split('.').all(label) {
            return Err(format!("{host:?} is not a host: write a name, or \"*.\" and a name, without a port"));
        }
        Ok(match host.strip_prefix('*') {
            Some(suffix) => Self::AnyLabel(suffix.to_owned()),
            None => Self::Exactly(host),
        })
    }
}

fn compile_one(route: &RouteConfig, names: &Names<'_>, report: &mut dyn FnMut(&str, String)) -> Option<Route> {
    let host = match route.host.as_deref().map(HostPattern::compile) {
        None => Some(HostPattern::Any),
        Some(Ok(host)) => Some(host),
        Some(Err(message)) => {
            report(".host", message);
            None
        }
    };
    let prefix = match prefix(route.path.as_deref().unwrap_or("/")) {
        Ok(prefix) => Some(prefix),
        Err(message) => {
            report(".path", message);
            None
        }
    };
    for (i, name) in route.endpoints.iter().enumerate() {
        if !(names.endpoint)(name) {
            report(&format!(".endpoints.{i}"), format!("there is no endpoint {name:?}"));
        }
    }
    let action = action(route, names, report);
    let prefix = prefix?;
    let plain = path::plain(&prefix);
    Some(Route { host: host?, prefix, plain, endpoints: route.endpoints.clone(), action: action? })
}

fn prefix(written: &str) -> Result<String, String> {
    if let Some(bad) = written.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#')) {
        return Err(format!("{written:?} is not a path: it holds {bad:?}"));
    }
    let normal = path::normal(written).map_err(|why| format!("{written:?} is not a path: {why}"))?;
    if path::is_ambiguous(&normal) {
        return Err(format!(
            "{written:?} could be read in two ways: leave out `;`, `//` and escapes of what can stand as it is"
        ));
    }
    Ok(normal.strip_suffix('/').unwrap_or(&normal).to_owned())
}

fn action(route: &RouteConfig, names: &Names<'_>, report: &mut dyn FnMut(&str, String)) -> Option<Action> {
    match (&route.upstream, &route.respond) {
        (Some(name), None) => {
            let upstream = (names.upstream)(name).map_err(|why| report(".upstream", why));
            upstream.map(Action::PassOn).ok()
        }
        (None, Some(respond)) => match StatusCode::from_u16(respond.status) {
            Ok(status) if (200..600).contains(&respond.status) => {
                let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                if bodiless && !respond.body.is_empty() {
                    report(".respond.body", format!("a response with status {status} has no body; leave it out"));
                }
                Some(Action::Respond(status, Bytes::from(respond.body.clone())))
            }
            _ => {
                report(".respond.status", format!("{} is not a final status; take one of 200 to 599", respond.status));
                None
            }
        },
        (Some(_), Some(_)) => {
            report("", "it has both `upstream` and `respond`; leave one out".into());
            None
        }
        (None, None) => {
            report("", "it leads nowhere; add `upstream` or `respond`".into());
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::config::RouteRespondConfig;
    use crate::upstream::{Server, UpstreamPolicy, UpstreamTimeouts};

    fn names() -> Names<'static> {
        let server = || (Server::new("127.0.0.1:1", ([127, 0, 0, 1], 1).into()), 1);
        let upstream = move |name: &str| {
            let (timeouts, policy) = (UpstreamTimeouts::default(), UpstreamPolicy::default());
            Arc::new(Upstream::new(name, vec![server()], timeouts, policy))
        };
        Names {
            upstream: Box::leak(Box::new(move |name: &str| {
                let found = (name != "unknown").then(|| upstream(name));
                found.ok_or_else(|| "unknown".to_owned())
            })),
            endpoint: &|name| name != "unknown",
        }
    }

    fn route(host: &str, path: &str, endpoints: &[&str], upstream: &str) -> RouteConfig {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RouteConfig {
            host: some(host),
            path: some(path),
            endpoints: endpoints.iter().map(|name| (*name).to_owned()).collect(),
            upstream: some(upstream),
            respond: None,
        }
    }

    fn respond(path: &str, status: u16) -> RouteConfig {
        RouteConfig { respond: Some(RouteRespondConfig { status, body: String::new() }), ..route("", path, &[], "") }
    }

    fn compiled(routes: &[RouteConfig]) -> Vec<Route> {
        let mut errors = Vec::new();
        let routes = compile(routes, &names(), &mut errors);
        assert_eq!(errors, []);
        routes
    }

    fn chosen(routes: &[Route], host: &str, path: &str) -> String {
        match choose(routes, host, path) {
            Ok(Some(Action::PassOn(upstream))) => upstream.name.to_string(),
            Ok(Some(Action::Respond(status, _))) => status.as_str().to_owned(),
            Ok(None) => "none".to_owned(),
            Err(_) => "ambiguous".to_owned(),
        }
    }

    #[test]
    fn the_first_route_that_matches_host_and_path_by_whole_segments_wins() {
        let routes = compiled(&[
            respond("/private/", 403),
            route("api.example.com", "/v1", &[], "v1"),
            route("*.example.com", "", &[], "example"),
        ]);
        for (host, path, expected) in [
            ("other", "/private", "403"),
            ("other", "/private/x", "403"),
            ("other", "/privateer", "none"),
            ("API.example.com.", "/v1/", "v1"),
            ("api.example.com", "/v10", "example"),
            ("a.b.example.com", "/", "none"),
            ("example.com", "/", "none"),
            (".example.com", "/", "none"),
        ] {
            assert_eq!(chosen(&routes, host, path), expected, "{host}{path}");
        }
    }

    #[test]
    fn a_path_that_an_upstream_might_read_as_another_route_is_ambiguous() {
        let routes = compiled(&[respond("/private/", 403), route("", "", &[], "app")]);
        for path in ["//private/x", "/private%2Fx", "/private;x/y", "/a;b//c%2Fd"] {
            let expected = if path.contains("private") { "ambiguous" } else { "app" };
            assert_eq!(chosen(&routes, "h", path), expected, "{path}");
        }
    }

    #[test]
    fn no_spelling_of_a_guarded_path_gets_past_its_route() {
        let routes = compiled(&[
            respond("/v1/a:b", 403),
            respond("/c%20d", 403),
            respond("/é|", 403),
            respond("/e/f", 403),
            route("", "", &[], "app"),
        ]);
        for (path, expected) in [
            ("/v1/a:b", "403"),
            ("/v1/a%3ab/x", "ambiguous"),
            ("/%76%31/a:b", "403"),
            ("/c%20d", "403"),
            ("/%63%20%64/", "403"),
            ("/%c3%a9%7c", "403"),
            ("/é|", "403"),
            ("/e;x%2Fy/f", "ambiguous"),
            ("/e%3Bx%5Cy/f", "ambiguous"),
            ("/c%20e", "app"),
        ] {
            let normal = path::normal(path).unwrap();
            assert_eq!(chosen(&routes, "h", &normal), expected, "{path}");
        }
    }

    #[test]
    fn an_address_is_matched_however_it_is_spelled() {
        let routes = compiled(&[route("[2001:db8::1]", "", &[], "six")]);
        for (host, expected) in [("[2001:DB8:0::0001]", "six"), ("[2001:db8::1]", "six"), ("[2001:db8::2]", "none")] {
            assert_eq!(chosen(&routes, host, "/"), expected, "{host}");
        }
        assert!(HostPattern::compile("[2001:db8::1").is_err() && HostPattern::compile("[a]").is_err());
    }

    #[test]
    fn a_route_is_for_the_endpoints_it_names_or_for_all() {
        let routes = compiled(&[route("", "/a", &["internet"], "app"), route("", "/b", &[], "app")]);
        assert_eq!([routes[0].is_for("internet"), routes[0].is_for("internal")], [true, false]);
        assert!(routes[1].is_for("internal"));
    }

    #[test]
    fn every_error_is_reported_with_its_place() {
        let nowhere = route("", "/x", &[], "");
        let both = RouteConfig { upstream: Some("app".into()), ..respond("/y", 200) };
        let routes = [
            nowhere,
            both,
            route("a b", "no-slash", &["unknown"], "unknown"),
            respond("/z", 99),
            route("", "/q?x", &[], "app"),
        ];
        let mut errors = Vec::new();
        compile(&routes, &names(), &mut errors);
        let places: Vec<&str> = errors.iter().map(|(place, _)| place.as_str()).collect();
        let expected = [
            "routes.0",
            "routes.1",
            "routes.2.host",
            "routes.2.path",
            "routes.2.endpoints.0",
            "routes.2.upstream",
            "routes.3.respond.status",
            "routes.4.path",
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_route_behind_one_that_matches_all_it_does_is_an_error() {
        let unreachable = |first, second| {
            let mut errors = Vec::new();
            compile(&[first, second], &names(), &mut errors);
            !errors.is_empty()
        };
        assert!(unreachable(route("", "/a", &[], "app"), route("h", "/a/b", &["e"], "app")));
        assert!(unreachable(route("*.example.com", "", &[], "app"), route("a.example.com", "/x", &[], "app")));
        assert!(!unreachable(route("", "/a", &["e"], "app"), route("", "/a", &[], "app")));
        assert!(!unreachable(route("", "/a/b", &[], "app"), route("", "/a", &[], "app")));
        assert!(!unreachable(route("h", "/a", &[], "app"), route("", "/a", &[], "app")));
    }
}
