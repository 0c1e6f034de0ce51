//! Which TLS connections an endpoint passes on unterminated, by the name and the protocols that the client asks for.
//!
//! Made by `endpoints`; asked by `connection` for each ClientHello. The first rule that matches wins; what no rule takes
//! goes on as if there were none.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Inputs, Named};
use crate::config::{PassthroughConfig, Problems, nearest};
use crate::handler::{Instance, Settings, Started};
use crate::identity::Endpoint;
use crate::server_names::without_final_dot;
use crate::tls::client_hello::Hello;

/// One rule.
#[derive(Clone)]
pub struct PassRule {
    /// Each a name, or "*." and a name for any one label before it; empty means any, and none.
    names: Vec<String>,
    /// Empty means any.
    alpn: Vec<String>,
    /// What gets the bytes as they come; `None` refuses the client.
    to: Option<Arc<Started>>,
}

impl PassRule {
    /// What gets the client's bytes; `None` refuses the client.
    #[must_use]
    pub fn to(&self) -> Option<&Arc<dyn Instance>> {
        self.to.as_ref().map(|started| started.instance())
    }

    fn matches(&self, hello: &Hello) -> bool {
        let name = hello.server_name.as_deref().map(without_final_dot);
        let named =
            self.names.is_empty() || name.is_some_and(|name| self.names.iter().any(|pattern| is(pattern, name)));
        let offers = |wanted: &String| hello.alpn.iter().any(|offered| offered == wanted.as_bytes());
        named && (self.alpn.is_empty() || self.alpn.iter().any(offers))
    }

    /// Whether it matches all that `other` does.
    fn covers(&self, other: &Self) -> bool {
        let names = self.names.is_empty()
            || (!other.names.is_empty()
                && other.names.iter().all(|name| self.names.iter().any(|mine| mine == name || is(mine, name))));
        let alpn =
            self.alpn.is_empty() || (!other.alpn.is_empty() && other.alpn.iter().all(|name| self.alpn.contains(name)));
        names && alpn
    }
}

/// Whether a name is one of a pattern's.
fn is(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => name.find('.').is_some_and(|dot| dot > 0 && &name[dot..] == suffix),
        None => pattern == name,
    }
}

/// The first rule that a client's hello matches.
#[must_use]
pub fn choose<'a>(rules: &'a [PassRule], hello: &Hello) -> Option<&'a PassRule> {
    rules.iter().find(|rule| rule.matches(hello))
}

/// Compiles an endpoint's rules.
pub(super) fn plan(
    configs: &[PassthroughConfig],
    endpoint: &Arc<Endpoint>,
    inputs: &Inputs<'_>,
    handlers: &BTreeMap<String, Option<Named>>,
    problems: &mut Problems,
) -> Vec<PassRule> {
    let mut rules: Vec<PassRule> = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let index = index.to_string();
        let path = |rest: &[&'static str]| -> Vec<String> {
            let start = ["endpoints", endpoint.name.as_str(), "passthrough", &index];
            start.iter().chain(rest).map(ToString::to_string).collect()
        };
        let mut report = |rest: &[&'static str], message: String, remedy: &str| {
            let path = path(rest);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            problems.push(&path, message, Some(remedy.into()));
        };
        for name in &config.server_names {
            if !is_pattern(name) {
                report(
                    &["server_names"],
                    format!("{name:?} is not a name"),
                    "write \"db.example.com\" or \"*.example.com\"",
                );
            }
        }
        let to = match &config.handler {
            None => None,
            Some(name) => match instance(name, endpoint, handlers, inputs) {
                Ok(started) => started,
                Err((message, remedy)) => {
                    report(&["handler"], message, &remedy);
                    None
                }
            },
        };
        let names = config.server_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let rule = PassRule { names, alpn: config.alpn.clone(), to };
        if let Some(earlier) = rules.iter().position(|earlier| earlier.covers(&rule)) {
            let message = format!("it is never reached: rule {earlier} (counted from 0) matches all that it does");
            report(&[], message, "put it before that one");
        }
        rules.push(rule);
    }
    rules
}

fn is_pattern(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    name.split('.').all(label)
}

/// An instance of a handler for bytes as they come; none where the handler itself is wrong, which is said elsewhere.
fn instance(
    name: &str,
    endpoint: &Arc<Endpoint>,
    handlers: &BTreeMap<String, Option<Named>>,
    inputs: &Inputs<'_>,
) -> Result<Option<Arc<Started>>, (String, String)> {
    let known = inputs.config.handlers.keys().map(String::as_str);
    let Some(found) = handlers.get(name) else {
        let remedy =
            nearest(name, known).map_or(format!("add a [handlers.{name}] table"), |n| format!("did you mean {n:?}?"));
        return Err((format!("no handler is called {name:?}"), remedy));
    };
    let Some((handler, kind)) = found else { return Ok(None) };
    if !handler.protocols().is_empty() {
        let message = format!("{name:?} is of type {kind}, which cannot read what is encrypted for someone else");
        return Err((message, "name a handler of type tcp-proxy".into()));
    }
    match handler.start(endpoint, &Settings::new()) {
        Ok(instance) => Ok(Some(Arc::new(Started::new(instance)))),
        Err(error) => Err((error.message, "give the endpoint's own handler the settings".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(names: &[&str], alpn: &[&str]) -> PassRule {
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        PassRule { names: list(names), alpn: list(alpn), to: None }
    }

    fn chosen(rules: &[PassRule], name: Option<&str>, alpn: &[&str]) -> Option<usize> {
        let hello = Hello {
            server_name: name.map(Into::into),
            alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
        };
        let found = choose(rules, &hello)?;
        rules.iter().position(|rule| std::ptr::eq(rule, found))
    }

    #[test]
    fn the_first_rule_for_name_and_protocol_wins() {
        let rules = [rule(&["db.example.com"], &["postgresql"]), rule(&["*.example.com"], &[]), rule(&[], &["mqtt"])];
        for (name, alpn, expected) in [
            (Some("db.example.com"), &["h2", "postgresql"][..], Some(0)),
            (Some("db.example.com"), &[], Some(1)),
            (Some("db.example.com."), &["postgresql"], Some(0)),
            (Some("a.b.example.com"), &[], None),
            (Some("example.com"), &["mqtt"], Some(2)),
            (None, &["mqtt"], Some(2)),
            (None, &[], None),
        ] {
            assert_eq!(chosen(&rules, name, alpn), expected, "{name:?} {alpn:?}");
        }
    }

    #[test]
    fn a_rule_covers_another_by_its_names_and_protocols() {
        assert!(rule(&[], &[]).covers(&rule(&["a"], &["h2"])));
        assert!(rule(&["*.a"], &[]).covers(&rule(&["b.a", "*.a"], &["h2"])));
        assert!(!rule(&["b.a"], &[]).covers(&rule(&["*.a"], &[])));
        assert!(!rule(&["a"], &["h2"]).covers(&rule(&["a"], &[])));
        assert!(!rule(&["a"], &[]).covers(&rule(&[], &[])));
    }
}
