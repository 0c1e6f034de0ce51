//! The spans of an exchange: one for the request, and one below it for each server that was tried.
//!
//! Called by `exchange` when it is over, where its trace is recorded. Attributes have the names of OpenTelemetry's conventions for
//! HTTP where these have one, and begin with `portcullis.` where not. Queries, which may hold secrets, are left out.

use tokio::time::Instant;

use crate::handler::spans::of_connection;
use crate::identity::ConnectionInfo;
use crate::metrics::RequestFailure;
use crate::metrics::routes::RouteMetrics;
use crate::trace::{Active, Attempt, Attribute, Calendar, Kind, Span, Tracer};
use crate::trail::Trail;

/// What is told of an exchange that is over.
pub(super) struct Ended<'a> {
    pub(super) info: &'a ConnectionInfo,
    pub(super) active: &'a Active,
    /// Method, host and path, as the access log has them.
    pub(super) words: (&'a str, &'a str, &'a str),
    pub(super) version: &'static str,
    pub(super) status: u16,
    pub(super) route: Option<&'a RouteMetrics>,
    pub(super) trail: &'a Trail,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// The word for what went wrong.
    pub(super) error: Option<&'static str>,
}

/// Hands over the spans.
pub(super) fn record(tracer: &Tracer, ended: &Ended<'_>) {
    let calendar = Calendar::of(ended.ended);
    for (number, attempt) in ended.trail.attempts.iter().enumerate() {
        tracer.record(client_span(ended, attempt, number as u64, &calendar));
    }
    tracer.record(server_span(ended, &calendar));
}

fn server_span(ended: &Ended<'_>, calendar: &Calendar) -> Span {
    let (method, host, path) = ended.words;
    let name = match ended.route {
        Some(route) => format!("{method} {}", route.name),
        None => method.to_owned(),
    };
    let mut attributes = of_connection(ended.info);
    let request: [Attribute; 8] = [
        ("http.request.method", method.to_owned().into()),
        ("http.response.status_code", u64::from(ended.status).into()),
        ("url.scheme", ended.info.scheme().into()),
        ("url.path", path.to_owned().into()),
        ("server.address", host.to_owned().into()),
        ("network.protocol.version", ended.version.into()),
        ("http.request.body.size", ended.received.into()),
        ("http.response.body.size", ended.sent.into()),
    ];
    attributes.extend(request);
    if let Some(route) = ended.route {
        attributes.push(("http.route", route.name.clone().into()));
        attributes.extend(route.upstream.clone().map(|upstream| ("portcullis.upstream", upstream.into())));
    }
    let trail = ended.trail;
    let first = trail.answered.map(|answered| answered.saturating_duration_since(ended.begun));
    let phases = [
        ("portcullis.queue.seconds", Some(trail.queued).filter(|queued| !queued.is_zero())),
        ("portcullis.connect.seconds", Some(trail.connect).filter(|connect| !connect.is_zero())),
        ("portcullis.first_byte.seconds", first),
    ];
    attributes.extend(phases.into_iter().filter_map(|(name, took)| Some((name, took?.into()))));
    attributes.extend(ended.error.map(|error| ("error.type", error.into())));
    Span {
        trace: ended.active.trace,
        id: ended.active.span,
        parent: ended.active.parent,
        kind: Kind::Server,
        name,
        begun: calendar.nanos(ended.begun),
        ended: calendar.nanos(ended.ended),
        // The client's faults are not the server's (conventions for HTTP, "Status").
        failed: ended.status >= 500 || (ended.error.is_some() && !(400..500).contains(&ended.status)),
        attributes,
    }
}

fn client_span(ended: &Ended<'_>, attempt: &Attempt, number: u64, calendar: &Calendar) -> Span {
    let (method, ..) = ended.words;
    let mut attributes: Vec<Attribute> = vec![("http.request.method", method.to_owned().into())];
    // "HOST:PORT", as the configuration writes it.
    if let Some((host, port)) = attempt.server.rsplit_once(':') {
        attributes.push(("server.address", host.trim_matches(['[', ']']).to_owned().into()));
        attributes.extend(port.parse().ok().map(|port: u64| ("server.port", port.into())));
    }
    let upstream = ended.route.and_then(|route| route.upstream.clone());
    attributes.extend(upstream.map(|upstream| ("portcullis.upstream", upstream.into())));
    attributes.extend(attempt.status.map(|status| ("http.response.status_code", u64::from(status).into())));
    if number > 0 {
        attributes.push(("http.request.resend_count", number.into()));
    }
    // What breaks off behind the answer's head is the answered one's.
    let broke_off = ended.error.filter(|error| *error == RequestFailure::HttpResponseIncomplete.as_str());
    let error = attempt.error.or(broke_off.filter(|_| attempt.ended.is_none()));
    attributes.extend(error.map(|error| ("error.type", error.into())));
    Span {
        trace: ended.active.trace,
        id: attempt.span,
        parent: Some(ended.active.span),
        kind: Kind::Client,
        name: method.to_owned(),
        begun: calendar.nanos(attempt.begun),
        ended: calendar.nanos(attempt.ended.unwrap_or(ended.ended)),
        failed: error.is_some() || attempt.status.is_some_and(|status| status >= 400),
        attributes,
    }
}
