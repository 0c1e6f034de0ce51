//! What the admin port can be asked: one table, from which requests are answered, the dashboard lists its links, and
//! `docs/admin.md` is made.
//!
//! To add a view: write its function in `views` and add a row here.

use hyper::{Method, StatusCode, header};
use serde_json::json;

use crate::admin::Admin;
use crate::admin::answer::{Answer, HTML, JSON};
use crate::admin::state::Snapshot;
use crate::admin::{acme, dashboard, plugins, upstreams, views};

/// One path and what it answers.
pub(crate) struct Route {
    /// The path; `{name}` stands for one segment.
    pub(crate) path: &'static str,
    /// What kind of content it answers with.
    pub(crate) content: &'static str,
    /// What it says.
    pub(crate) about: &'static str,
    answer: fn(&Asked<'_>) -> Answer,
}

/// A request that was let through, for one route.
pub(crate) struct Asked<'a> {
    pub(crate) admin: &'a Admin,
    /// What runs; the same for the whole answer, even if a reload comes in between.
    pub(crate) running: &'a Snapshot,
    /// The segment that `{name}` stands for; empty where the path has none.
    pub(crate) name: &'a str,
    /// The `Accept` field; empty where there is none.
    pub(crate) accept: &'a str,
}

/// Every path of the admin port.
#[rustfmt::skip] // a table: one row each
pub(crate) const ROUTES: &[Route] = &[
    Route { path: "/", content: HTML, about: "the dashboard: a page for people", answer: dashboard::page },
    Route { path: "/healthz", content: JSON, about: "200 while the process is alive", answer: views::healthz },
    Route { path: "/readyz", content: JSON, about: "200 while every required endpoint takes connections, else 503 and why", answer: views::readyz },
    Route { path: "/metrics", content: "text/plain", about: "metrics as Prometheus text, or OpenMetrics where asked for", answer: views::metrics },
    Route { path: "/stats", content: JSON, about: "counters and rates, per endpoint, per upstream server and in total", answer: views::stats },
    Route { path: "/endpoints", content: JSON, about: "every endpoint: what it is and how it is", answer: views::endpoints },
    Route { path: "/endpoints/{name}", content: JSON, about: "one endpoint with its chains, findings and numbers", answer: views::endpoint },
    Route { path: "/upstreams", content: JSON, about: "every upstream: how many of its servers may be taken, what they have in work, who waits", answer: upstreams::all },
    Route { path: "/upstreams/{name}", content: JSON, about: "one upstream with its servers: each address, how it is, checks, lookups, failures", answer: upstreams::one },
    Route { path: "/certificates", content: JSON, about: "every chain: where it is served, when it ends, what it covers", answer: views::certificates },
    Route { path: "/acme", content: JSON, about: "every certificate that ACME manages: how it fares, what comes next, what failed", answer: acme::view },
    Route { path: "/audit", content: JSON, about: "every chain with every finding of the audit, and the fallbacks", answer: views::audit },
    Route { path: "/plugins", content: JSON, about: "every plugin by endpoint and layer: how it is, its version, what it did and what was refused", answer: plugins::view },
    Route { path: "/config", content: JSON, about: "the running configuration, secrets redacted", answer: views::config },
    Route { path: "/version", content: JSON, about: "what this build is", answer: views::version },
];

/// Answers a request that was let through.
pub(crate) fn answer(admin: &Admin, running: &Snapshot, method: &Method, path: &str, accept: &str) -> Answer {
    let Some((route, name)) = ROUTES.iter().find_map(|route| Some((route, matches(route.path, path)?))) else {
        let paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
        return Answer::json(StatusCode::NOT_FOUND, &json!({ "error": "no such path", "paths": paths }));
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let error = "the admin port is read only; reload and drain through the control socket";
        return Answer::refuse(StatusCode::METHOD_NOT_ALLOWED, error).with(header::ALLOW, "GET, HEAD");
    }
    (route.answer)(&Asked { admin, running, name, accept })
}

/// Whether `path` fits, and the segment that `{name}` stands for.
///
/// Names are made of characters that need no percent-encoding, so none is decoded.
fn matches<'a>(route: &str, path: &'a str) -> Option<&'a str> {
    match route.strip_suffix("{name}") {
        Some(prefix) => path.strip_prefix(prefix).filter(|name| !name.is_empty() && !name.contains('/')),
        None => (route == path).then_some(""),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fmt::Write as _;

    use super::{ROUTES, matches};

    #[test]
    fn a_path_fits_whole_or_not_at_all() {
        assert_eq!(matches("/stats", "/stats"), Some(""));
        assert_eq!(matches("/endpoints/{name}", "/endpoints/a.b-c_1"), Some("a.b-c_1"));
        for path in ["/stats/", "/stat", "//stats", "/STATS"] {
            assert_eq!(matches("/stats", path), None, "{path}");
        }
        for path in ["/endpoints/", "/endpoints", "/endpoints/a/b"] {
            assert_eq!(matches("/endpoints/{name}", path), None, "{path}");
        }
    }

    #[test]
    fn the_admin_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/admin.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == document(), "docs/admin.md is stale; run `UPDATE=1 cargo test --lib admin_document`");
    }

    fn document() -> String {
        let mut md = String::from(
            "<!-- Made from the table in src/admin/routes.rs by a test; change it there. -->\n# The admin port\n\n\
             Read only: GET and HEAD, over HTTP/1.1, on `admin.listen`. Any other method is answered 405, any other \
             path 404 with the\npaths that there are.\n\n| path | content | what it says |\n|---|---|---|\n",
        );
        for route in ROUTES {
            writeln!(md, "| `{}` | `{}` | {} |", route.path, route.content, route.about).unwrap();
        }
        md.push_str(include_str!("admin.md"));
        md
    }
}
