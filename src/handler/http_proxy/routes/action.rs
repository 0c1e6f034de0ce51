//! What becomes of a request that a route takes: it is passed on, answered here, or sent elsewhere.
//!
//! Compiled by `routes`, with the changes that the route makes to fields.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;

use super::Names;
use super::changes::{Changes, Of};
use super::redirect::Redirect;
use crate::config::{RouteConfig, RouteRespondConfig};
use crate::upstream::Upstream;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(in super::super) enum Action {
    /// It is passed on.
    PassOn(Arc<Upstream>),
    /// It is answered here.
    Respond(StatusCode, Bytes),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

impl Action {
    /// The upstream that the request is passed on to, if it is.
    pub(in super::super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        match self {
            Self::PassOn(upstream) => Some(upstream),
            Self::Respond(..) | Self::Redirect(_) => None,
        }
    }
}

/// Reads a route's one action.
pub(super) fn compile(route: &RouteConfig, names: &Names<'_>, report: &mut dyn FnMut(&str, String)) -> Option<Action> {
    match (&route.upstream, &route.respond, &route.redirect) {
        (Some(name), None, None) => {
            (names.upstream)(name).map_err(|why| report(".upstream", why)).map(Action::PassOn).ok()
        }
        (None, Some(answer), None) => respond(answer, report),
        (None, None, Some(redirect)) => {
            Redirect::compile(redirect, &mut |key, why| report(&format!(".redirect{key}"), why)).map(Action::Redirect)
        }
        (None, None, None) => {
            report("", "it leads nowhere; add `upstream`, `respond` or `redirect`".into());
            None
        }
        _ => {
            report("", "it has more than one of `upstream`, `respond` and `redirect`; leave one of them".into());
            None
        }
    }
}

fn respond(config: &RouteRespondConfig, report: &mut dyn FnMut(&str, String)) -> Option<Action> {
    match StatusCode::from_u16(config.status) {
        Ok(status) if (200..600).contains(&config.status) => {
            let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            if bodiless && !config.body.is_empty() {
                report(".respond.body", format!("a response with status {status} has no body; leave it out"));
            }
            Some(Action::Respond(status, Bytes::from(config.body.clone())))
        }
        _ => {
            report(".respond.status", format!("{} is not a final status; take one of 200 to 599", config.status));
            None
        }
    }
}

/// Reads what a route changes about fields, of the request and of the answer; each `None` where it changes nothing.
pub(super) fn changes(
    route: &RouteConfig,
    action: Option<&Action>,
    report: &mut dyn FnMut(&str, String),
) -> (Option<Arc<Changes>>, Option<Arc<Changes>>) {
    let request = Changes::compile(&route.request_headers, Of::Request, &mut |key, why| {
        report(&format!(".request_headers{key}"), why);
    });
    if request.is_some() && !matches!(action, None | Some(Action::PassOn(_))) {
        report(".request_headers", "nothing is passed on; leave them out, or write `response_headers`".into());
    }
    let response = Changes::compile(&route.response_headers, Of::Response, &mut |key, why| {
        report(&format!(".response_headers{key}"), why);
    });
    (request, response)
}
