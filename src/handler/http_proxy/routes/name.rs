//! What routes are called in logs, metrics and traces: what their tables say, or else what they match.
//!
//! Called by `routes`. Names are the configuration's and no two routes of a handler share one, so that a reload that moves
//! routes about counts each on.

use std::sync::Arc;

use super::Errors;
use crate::config::RouteConfig;
use crate::identity::EndpointName;

/// What requests are counted under that no route takes and that the handler's own upstream gets.
pub(in super::super) const DEFAULT: &str = "default";

/// The name of every route, in their order. Faults are reported, and cost a route its name alone.
pub(super) fn names(routes: &[RouteConfig], errors: &mut Errors) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::with_capacity(routes.len());
    let mut report = |i: usize, why: String| errors.push((format!("routes.{i}.name"), why));
    let mut taken = std::collections::HashSet::<Arc<str>>::from([DEFAULT.into()]);
    for (i, route) in routes.iter().enumerate() {
        let name: Arc<str> = match route.name.as_deref() {
            Some(written) => {
                if let Err(why) = EndpointName::new(written) {
                    report(i, why);
                } else if taken.contains(written) {
                    report(i, format!("{written:?} is taken; give each route a name of its own"));
                }
                written.into()
            }
            None => unused(&matched(route), &taken),
        };
        taken.insert(Arc::clone(&name));
        names.push(name);
    }
    names
}

/// What a route matches: `GET api.example.com/v1/`.
fn matched(route: &RouteConfig) -> String {
    let methods = route.methods.join("|");
    let space = if methods.is_empty() { "" } else { " " };
    format!("{methods}{space}{}{}", route.host.as_deref().unwrap_or_default(), route.path.as_deref().unwrap_or("/"))
}

/// The name, with a number where it is taken.
fn unused(name: &str, taken: &std::collections::HashSet<Arc<str>>) -> Arc<str> {
    let numbered = (2..).map(|n| format!("{name}#{n}"));
    // There are more numbers than routes.
    std::iter::once(name.to_owned())
        .chain(numbered)
        .find(|name| !taken.contains(name.as_str()))
        .unwrap_or_default()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: Option<&str>, host: Option<&str>, path: Option<&str>, methods: &[&str]) -> RouteConfig {
        let own = |text: &str| text.to_owned();
        RouteConfig {
            name: name.map(own),
            host: host.map(own),
            path: path.map(own),
            methods: methods.iter().copied().map(own).collect(),
            ..RouteConfig::default()
        }
    }

    #[test]
    fn a_route_is_called_what_its_table_says_or_else_what_it_matches_and_no_two_are_called_the_same() {
        let mut errors = Vec::new();
        let routes = [
            route(Some("login"), None, Some("/login"), &[]),
            route(None, Some("api.example.com"), Some("/v1/"), &["GET", "HEAD"]),
            route(None, None, Some("/v1/"), &[]),
            route(None, None, Some("/v1/"), &[]),
            route(None, None, None, &[]),
            route(Some("login"), None, None, &[]),
            route(Some("default"), None, None, &[]),
            route(Some("a b"), None, None, &[]),
        ];
        let names = names(&routes, &mut errors);
        let expected = ["login", "GET|HEAD api.example.com/v1/", "/v1/", "/v1/#2", "/", "login", "default", "a b"];
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
        let places: Vec<&str> = errors.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["routes.5.name", "routes.6.name", "routes.7.name"]);
    }
}
