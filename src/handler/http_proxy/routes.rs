//! Routes: which upstream, or which answer, a request's host, path, method and fields lead to. The first match wins.
//!
//! Compiled once from the configuration by `http_proxy`; an endpoint's service keeps those that are for its endpoint. A
//! route's path is a prefix by whole segments, and a slash at its end is of no account: `/v1` and `/v1/` both match
//! `/v1`, `/v1/` and `/v1/x`, neither matches `/v10`.

mod action;
mod changes;
mod host;
mod name;
mod redirect;

use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};

pub(super) use self::action::Action;
pub(super) use self::changes::Changes;
pub(super) use self::name::DEFAULT;
pub(super) use self::redirect::Asked;

use self::host::HostPattern;
use super::path;
use crate::config::RouteConfig;
use crate::identity::{Class, Endpoint};
use crate::metrics::routes::{RouteId, Routes};
use crate::upstream::LookUp;

/// A route, ready to be matched.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// What it is called; its own within the handler.
    pub(super) name: Arc<str>,
    /// Its place among the endpoint's, once it is an endpoint's.
    pub(super) id: Option<RouteId>,
    host: HostPattern,
    /// A normal path without the slash at its end, so that the root is empty.
    prefix: String,
    /// The prefix with its escapes taken back: what a lenient reader compares with.
    plain: String,
    /// Empty means all.
    methods: Vec<Method>,
    /// Fields that must be there, with this value or, without one, with any.
    fields: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Without either it is for all endpoints.
    endpoints: Vec<String>,
    class: Option<Class>,
    pub(super) action: Action,
    /// What the upstream is sent in the prefix's place; without a slash at its end.
    replace: Option<String>,
    pub(super) request: Option<Arc<Changes>>,
    pub(super) response: Option<Arc<Changes>>,
}

/// What is known of a request when its route is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// Without a port.
    pub(super) host: &'a str,
    /// In normal form.
    pub(super) path: &'a str,
    pub(super) method: &'a Method,
    pub(super) fields: &'a HeaderMap,
}

/// An endpoint of the configuration, as a route may name it.
#[derive(Clone, Copy, Debug)]
pub struct Front<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whom it faces.
    pub class: Class,
    /// Whether this handler serves it.
    pub is_ours: bool,
}

/// What a configuration's names stand for.
pub(super) struct Names<'a> {
    pub(super) upstream: LookUp<'a>,
    pub(super) fronts: &'a [Front<'a>],
}

/// The errors of a handler's table: where in it (`routes.0.path`), and what is wrong with what to do.
pub(super) type Errors = Vec<(String, String)>;

/// Compiles routes, and reports everything that is wrong with them.
pub(super) fn compile(routes: &[RouteConfig], names: &Names<'_>, errors: &mut Errors) -> Vec<Route> {
    let mut compiled: Vec<(usize, Route)> = Vec::with_capacity(routes.len());
    if routes.len() >= Routes::MOST {
        errors.push((
            "routes".into(),
            format!("there are more than {}; let several handlers share them", Routes::MOST - 1),
        ));
    }
    let called = name::names(routes, errors);
    for ((i, route), called) in routes.iter().enumerate().zip(called) {
        let mut report = |key: &str, message: String| errors.push((format!("routes.{i}{key}"), message));
        let Some(route) = compile_one(route, called, names, &mut report) else { continue };
        if let Some(why) = never_reached(&route, &compiled, names.fronts) {
            report("", why);
        }
        compiled.push((i, route));
    }
    compiled.into_iter().map(|(_, route)| route).collect()
}

/// Why no request comes to a route behind `earlier` ones, by any endpoint that it is for; `None` where one may.
fn never_reached(route: &Route, earlier: &[(usize, Route)], fronts: &[Front<'_>]) -> Option<String> {
    // A handler that nobody uses yet is judged as if everybody did.
    let unused = !fronts.iter().any(|front| front.is_ours);
    let mut fronts = fronts.iter().filter(|front| unused || front.is_ours).peekable();
    fronts.peek()?;
    let mut fronts = fronts.filter(|front| route.is_for(front.name, front.class)).peekable();
    if fronts.peek().is_none() {
        return Some("it is never reached: this handler serves no endpoint that the route is for".into());
    }
    let mut before = None;
    for front in fronts {
        let covers = |(_, one): &&(usize, Route)| one.is_for(front.name, front.class) && one.covers(route);
        before = Some(earlier.iter().find(covers)?.0);
    }
    before.map(|earlier| {
        format!(
            "it is never reached: route {earlier} (counted from 0) matches all that it does; put it before that one"
        )
    })
}

/// The first of `routes` that a request matches; `None` where none does. `facts` is asked only if there are routes.
///
/// # Errors
/// A lenient reader of the path would be led elsewhere, so an upstream might see what the routes keep from it.
pub(super) fn choose<'a, 'f>(
    routes: &'a [Route],
    facts: impl FnOnce() -> Facts<'f>,
) -> Result<Option<&'a Route>, &'static str> {
    if routes.is_empty() {
        return Ok(None);
    }
    let facts = facts();
    let chosen = routes.iter().position(|route| route.matches(&route.prefix, facts));
    for read in path::lenient(facts.path) {
        let facts = Facts { path: &read, ..facts };
        if routes.iter().position(|route| route.matches(&route.plain, facts)) != chosen {
            return Err("the path could be read in two ways");
        }
    }
    Ok(chosen.map(|i| &routes[i]))
}

impl Route {
    /// Whether the route is for this endpoint.
    pub(super) fn serves(&self, endpoint: &Endpoint) -> bool {
        self.is_for(endpoint.name.as_str(), endpoint.class)
    }

    fn is_for(&self, endpoint: &str, class: Class) -> bool {
        let all = self.endpoints.is_empty() && self.class.is_none();
        all || self.class == Some(class) || self.endpoints.iter().any(|name| name == endpoint)
    }

    /// The part of a path that it matches which is behind its prefix.
    pub(super) fn rest<'a>(&self, path: &'a str) -> &'a str {
        path.get(self.prefix.len()..).unwrap_or_default()
    }

    /// How long the prefix is, and what the upstream is sent in its place.
    pub(super) fn replacement(&self) -> Option<(usize, &str)> {
        Some((self.prefix.len(), self.replace.as_deref()?))
    }

    /// Whether it matches a request by one of its prefixes.
    fn matches(&self, prefix: &str, facts: Facts<'_>) -> bool {
        is_under(facts.path, prefix)
            && self.host.matches(facts.host)
            && (self.methods.is_empty() || self.methods.contains(facts.method))
            && self.fields.iter().all(|(name, wanted)| match wanted {
                None => facts.fields.contains_key(name),
                Some(wanted) => facts.fields.get_all(name).iter().any(|value| value == wanted),
            })
    }

    /// Whether it matches everything that `other` does at an endpoint that both are for.
    fn covers(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method)));
        let fields = self.fields.iter().all(|(name, wanted)| {
            let implies = |(known, value): &(HeaderName, _)| known == name && (wanted.is_none() || value == wanted);
            other.fields.iter().any(implies)
        });
        methods && fields && is_under(&other.prefix, &self.prefix) && self.host.covers(&other.host)
    }
}

/// Whether `prefix` is made of the first segments of `path`.
fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn compile_one(
    route: &RouteConfig,
    name: Arc<str>,
    names: &Names<'_>,
    report: &mut dyn FnMut(&str, String),
) -> Option<Route> {
    let host = taken(route.host.as_deref().map_or(Ok(HostPattern::Any), HostPattern::compile), ".host", report);
    let prefix = taken(prefix(route.path.as_deref().unwrap_or("/")), ".path", report);
    let methods = route.methods.iter().enumerate();
    let methods = methods.filter_map(|(i, word)| taken(method(word), &format!(".methods.{i}"), report)).collect();
    let fields = route.headers.iter();
    let fields = fields.filter_map(|(name, value)| taken(field(name, value), &format!(".headers.{name}"), report));
    let fields = fields.collect();
    for (i, name) in route.endpoints.iter().enumerate() {
        if !names.fronts.iter().any(|front| front.name == name) {
            report(&format!(".endpoints.{i}"), format!("there is no endpoint {name:?}"));
        }
    }
    let action = action::compile(route, names, report);
    let replace = route.replace_path.as_deref().and_then(|path| taken(self::prefix(path), ".replace_path", report));
    if replace.is_some() && !matches!(action, None | Some(Action::PassOn(_))) {
        report(".replace_path", "nothing is passed on; leave it out".into());
    }
    let (request, response) = action::changes(route, action.as_ref(), report);
    let prefix = prefix?;
    let plain = path::plain(&prefix);
    let (endpoints, class) = (route.endpoints.clone(), route.class.map(Class::from));
    let (host, action) = (host?, action?);
    let id = None;
    Some(Route { name, id, host, prefix, plain, methods, fields, endpoints, class, action, replace, request, response })
}

/// Reports an error with its place.
fn taken<T>(read: Result<T, String>, place: &str, report: &mut dyn FnMut(&str, String)) -> Option<T> {
    read.map_err(|why| report(place, why)).ok()
}

fn method(word: &str) -> Result<Method, String> {
    let is_token = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    match Method::from_bytes(word.as_bytes()) {
        Ok(Method::CONNECT) => Err("CONNECT is not served; leave it out".into()),
        Ok(method) if is_token => Ok(method),
        _ => Err(format!("{word:?} is not a method; write \"GET\" or \"POST\", in capitals")),
    }
}

fn field(name: &str, value: &str) -> Result<(HeaderName, Option<HeaderValue>), String> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{name:?} is not a field name; it is made of letters, digits and hyphens"))?;
    if value == "*" {
        return Ok((name, None));
    }
    let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("{value:?} has a control character"))?;
    Ok((name, Some(value)))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::config::{ClassConfig, RouteRespondConfig};
    use crate::upstream::{Server, Upstream, UpstreamPolicy, UpstreamTimeouts};

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
            fronts: &[
                Front { name: "e", class: Class::Public, is_ours: true },
                Front { name: "internet", class: Class::Public, is_ours: true },
                Front { name: "internal", class: Class::Internal, is_ours: true },
                Front { name: "elsewhere", class: Class::Internal, is_ours: false },
            ],
        }
    }

    fn route(host: &str, path: &str, endpoints: &[&str], upstream: &str) -> RouteConfig {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RouteConfig {
            host: some(host),
            path: some(path),
            endpoints: endpoints.iter().map(|name| (*name).to_owned()).collect(),
            upstream: some(upstream),
            ..RouteConfig::default()
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
        let fields = HeaderMap::new();
        name_of(choose(routes, || Facts { host, path, method: &Method::GET, fields: &fields }))
    }

    fn name_of(chosen: Result<Option<&Route>, &str>) -> String {
        match chosen.map(|route| route.map(|route| &route.action)) {
            Ok(Some(Action::PassOn(upstream))) => upstream.name.to_string(),
            Ok(Some(Action::Respond(status, _))) => status.as_str().to_owned(),
            Ok(Some(Action::Redirect(redirect))) => redirect.status.as_str().to_owned(),
            Ok(None) => "none".to_owned(),
            Err(_) => "ambiguous".to_owned(),
        }
    }

    fn words(list: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_route_may_ask_for_a_method_and_for_fields() {
        let writes = RouteConfig { methods: vec!["PUT".into(), "DELETE".into()], ..respond("/a", 403) };
        let any = RouteConfig { headers: words(&[("X-Debug", "*")]), ..route("", "", &[], "debug") };
        let one = RouteConfig { headers: words(&[("x-tenant", "blue")]), ..route("", "", &[], "blue") };
        let routes = compiled(&[writes, any, one, route("", "", &[], "app")]);
        for (method, field, expected) in [
            (Method::PUT, None, "403"),
            (Method::GET, None, "app"),
            (Method::GET, Some(("x-debug", "")), "debug"),
            (Method::GET, Some(("x-tenant", "blue")), "blue"),
            (Method::GET, Some(("x-tenant", "Blue")), "app"),
        ] {
            let mut fields = HeaderMap::new();
            fields.append("x-tenant", HeaderValue::from_static("other"));
            if let Some((name, value)) = field {
                fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let facts = Facts { host: "h", path: "/a/b", method: &method, fields: &fields };
            assert_eq!(name_of(choose(&routes, || facts)), expected, "{method} {field:?}");
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
        let of_class = RouteConfig { class: Some(ClassConfig::Internal), ..route("", "/c", &["e"], "app") };
        let routes = compiled(&[route("", "/a", &["internet"], "app"), route("", "/b", &[], "app"), of_class]);
        let is_for = |i: usize| {
            [("internet", Class::Public), ("internal", Class::Internal), ("e", Class::Public)]
                .map(|(name, class)| routes[i].is_for(name, class))
        };
        assert_eq!([is_for(0), is_for(1), is_for(2)], [[true, false, false], [true; 3], [false, true, true]]);
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

        let get = |path| RouteConfig { methods: vec!["GET".into()], ..route("", path, &[], "app") };
        let tenant = |value| RouteConfig { headers: words(&[("X-Tenant", value)]), ..route("", "/a", &[], "app") };
        assert!(unreachable(route("", "/a", &[], "app"), get("/a")));
        assert!(unreachable(get("/a"), get("/a/b")));
        assert!(!unreachable(get("/a"), route("", "/a", &[], "app")));
        assert!(unreachable(tenant("*"), tenant("blue")) && unreachable(tenant("blue"), tenant("blue")));
        assert!(!unreachable(tenant("blue"), tenant("*")) && !unreachable(tenant("blue"), tenant("red")));
    }

    #[test]
    fn a_route_is_never_reached_where_each_of_its_endpoints_has_an_earlier_one_or_it_has_none() {
        let faults = |routes: &[RouteConfig]| {
            let mut errors = Vec::new();
            compile(routes, &names(), &mut errors);
            errors.len()
        };
        let of = |class| RouteConfig { class: Some(class), ..route("", "/a", &[], "app") };
        let all = || route("", "/a", &[], "app");
        assert_eq!(faults(&[of(ClassConfig::Public), of(ClassConfig::Internal), all()]), 1);
        assert_eq!(faults(&[of(ClassConfig::Public), route("", "/a", &["internal"], "app"), all()]), 1);
        assert_eq!(faults(&[of(ClassConfig::Public), route("", "/a", &["internal", "e"], "app")]), 0);
        assert_eq!(faults(&[route("", "/a", &["elsewhere"], "app")]), 1, "another handler serves it");
    }
}
