//! One request and its answer, from the head's arrival until the answer's last byte was handed over.
//!
//! Owns what is measured of it: the counters, the duration, the access log's line. Made by `http1` and `answer`; ends
//! when it is dropped, which is when the answer has ended, whichever way.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{self, Poll};

use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::Told;
use super::body::Intake;
use super::fault::Fault;
use super::gate::Gate;
use super::spans::{self, Ended};
use crate::access_log::{Entry, RequestEntry};
use crate::handler::Context;
use crate::metrics::routes::RouteMetrics;
use crate::metrics::{self, Observation, RequestFailure, RequestRefusal, request_key};
use crate::trace::Active;

/// In the place of a status, where nobody was left to be answered. No standard has one; this is nginx's.
const CLIENT_LEFT: u16 = 499;

/// An exchange, counted and logged when it is dropped.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    gate: &'a Gate,
    begun: Instant,
    method: metrics::Method,
    version: Version,
    status: StatusCode,
    /// What the log's line needs of the request; cheap clones, and none where no log is kept.
    line: Option<Box<Line>>,
    received: u64,
    /// What is read of the request's body in HTTP/2.
    intake: Option<Arc<Intake>>,
    /// Its place in a trace.
    trace: Option<Box<Active>>,
    sent: u64,
    told: Told,
    /// What the engine refused it for.
    refused: Option<RequestRefusal>,
    /// The answer was handed over whole.
    whole: bool,
    /// When the answer ended, where that is known.
    ended: Option<Instant>,
}

#[derive(Debug)]
struct Line {
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
}

impl<'a> Exchange<'a> {
    /// Begins with a request.
    pub(super) fn begin<B>(gate: &'a Gate, request: &Request<B>) -> Self {
        let told = gate.context.access_log.is_on() || gate.context.tracer.records();
        let line = told.then(|| {
            let host = request.headers().get(HOST).cloned();
            Box::new(Line { method: request.method().clone(), uri: request.uri().clone(), host })
        });
        Self::new(gate, request.version(), metrics::Method::from(request.method()), line)
    }

    /// Takes the request's place in a trace, which its fields say from here on; whoever asks upstreams is told if it is recorded.
    pub(super) fn trace<B>(&mut self, request: &mut Request<B>) {
        self.trace = self.gate.context.tracer.begin(self.gate.info.endpoint.class, request.headers_mut());
        if let Some(active) = self.trace.as_ref().filter(|active| active.sampled) {
            request.extensions_mut().insert((**active).clone());
        }
    }

    /// Begins for a request whose head was refused, so that nothing is known of it.
    pub(super) fn refused(gate: &'a Gate, version: Version) -> Self {
        Self::new(gate, version, metrics::Method::Other, None)
    }

    #[inline]
    fn new(gate: &'a Gate, version: Version, method: metrics::Method, line: Option<Box<Line>>) -> Self {
        gate.enter();
        Self {
            gate,
            begun: Instant::now(),
            method,
            version,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            line,
            received: 0,
            intake: None,
            trace: None,
            sent: 0,
            told: Told::default(),
            refused: None,
            whole: false,
            ended: None,
        }
    }

    /// When the request's head had come.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// The endpoint's limits and deadlines.
    pub(super) fn context(&self) -> &Context {
        &self.gate.context
    }

    /// The answer's head is there.
    pub(super) fn answered(&mut self, status: StatusCode, told: Told) {
        (self.status, self.told) = (status, told);
    }

    /// The engine answers for what is wrong with the request.
    pub(super) fn refuse(&mut self, fault: &Fault) {
        (self.status, self.refused) = (fault.status, Some(fault.reason));
    }

    /// Learns what the service reads of the request's body from now on.
    pub(super) fn share(&mut self, intake: Option<Arc<Intake>>) {
        self.intake = intake;
    }

    /// Whether the client is to be told to send its body, as [`Intake::continues`] says.
    pub(super) fn continues(&self, cx: &mut task::Context<'_>) -> bool {
        self.intake.as_ref().is_some_and(|intake| intake.continues(cx))
    }

    /// What was wrong with that, if anything was.
    pub(super) fn body_fault(&self) -> Option<Fault> {
        self.intake.as_ref().and_then(|intake| intake.fault())
    }

    /// The client has left before there was an answer. That is no failure of the service's, nor counted as one.
    #[cold]
    pub(super) fn left(&mut self) {
        self.status = StatusCode::from_u16(CLIENT_LEFT).unwrap_or(self.status);
    }

    /// The service has read so much of the request's body.
    pub(super) fn received(&mut self, bytes: u64) {
        self.received = bytes;
    }

    /// So many bytes of the answer's body were handed over.
    pub(super) fn handed_over(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The answer was handed over whole.
    pub(super) fn completed(&mut self) {
        self.whole = true;
    }

    /// The answer ended without a wait since its head came from the upstream: that is when it ended.
    pub(super) fn ended_at_once(&mut self) {
        self.ended = self.told.trail.answered;
    }

    /// The answer could not be written; where the client takes it too slowly or not at all, that is why.
    pub(super) fn not_taken(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.told.error.get_or_insert(RequestFailure::ClientTooSlow);
        }
    }

    /// The service broke the answer's body off.
    pub(super) fn broke_off(&mut self) {
        self.told.error.get_or_insert(RequestFailure::HttpResponseIncomplete);
    }

    /// The client's request is at fault, whatever the service makes of it.
    pub(super) fn failed(&mut self, fault: &Fault) {
        self.refused = Some(fault.reason);
    }
}

/// Drives what sends an answer to its end, and says whether that took no wait.
pub(super) async fn driven<T>(mut poll: impl FnMut(&mut task::Context<'_>) -> Poll<T>) -> (T, bool) {
    let mut at_once = true;
    let sent = poll_fn(|cx| {
        let sent = poll(cx);
        at_once &= sent.is_ready();
        sent
    });
    (sent.await, at_once)
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(Instant::now);
        let took = Observation::of(now.saturating_duration_since(self.begun));
        let (status, counters) = (self.status.as_u16(), self.gate.context.metrics.here());
        counters.requests.count(request_key(self.method, status));
        counters.request_seconds.count(took);
        if let Some(route) = self.route() {
            route.count(status, took);
        }
        self.gate.leave(now);
        let refused = self.refused.or_else(|| self.body_fault().map(|fault| fault.reason));
        let failure = self.told.error.or((!self.whole).then_some(RequestFailure::ClientClosed));
        if let (None, Some(failure)) = (refused, failure) {
            counters.failures[failure as usize].add(1);
        }
        let error = || refused.map(RequestRefusal::as_str).or(failure.map(RequestFailure::as_str));
        if self.gate.context.access_log.is_on() {
            self.log(now, error());
        }
        if let Some(active) = self.trace.as_ref().filter(|active| active.sampled) {
            self.record(active, now, error());
        }
    }
}

impl Exchange<'_> {
    fn route(&self) -> Option<&RouteMetrics> {
        self.gate.routes.as_ref()?.get(self.told.route?)
    }

    // Neither is a part of what every request does.
    #[inline(never)]
    fn log(&self, now: Instant, error: Option<&'static str>) {
        let (method, host, path) = self.line.as_deref().map_or(("-", "-".into(), "-"), Line::words);
        let route = self.route();
        self.gate.context.access_log.write(&Entry {
            info: &self.gate.info,
            facts: &self.gate.facts,
            request: Some(RequestEntry {
                method,
                host: &host,
                path,
                version: match self.version {
                    Version::HTTP_2 => "HTTP/2",
                    Version::HTTP_10 => "HTTP/1.0",
                    _ => "HTTP/1.1",
                },
                status: self.status.as_u16(),
                route: route.map(|route| &*route.name),
            }),
            begun: self.begun,
            ended: now,
            handshake: self.gate.handshake(),
            received: self.body_received(),
            sent: self.sent,
            upstream: route.and_then(|route| route.upstream.as_deref()),
            trail: &self.told.trail,
            trace: self.trace.as_ref().map(|active| active.trace),
            error,
            detail: None,
        });
    }

    fn body_received(&self) -> u64 {
        self.intake.as_ref().map_or(self.received, |intake| intake.received())
    }

    #[inline(never)]
    fn record(&self, active: &Active, now: Instant, error: Option<&'static str>) {
        let (method, host, path) = self.line.as_deref().map_or(("-", "-".into(), "-"), Line::words);
        let ended = Ended {
            info: &self.gate.info,
            active,
            words: (method, &host, path),
            version: match self.version {
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            },
            status: self.status.as_u16(),
            route: self.route(),
            trail: &self.told.trail,
            begun: self.begun,
            ended: now,
            received: self.body_received(),
            sent: self.sent,
            error,
        };
        spans::record(&self.gate.context.tracer, &ended);
    }
}

impl Line {
    fn words(&self) -> (&str, Cow<'_, str>, &str) {
        let host = match (self.uri.authority(), &self.host) {
            (Some(authority), _) => authority.as_str().into(),
            (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()),
            (None, None) => "-".into(),
        };
        (self.method.as_str(), host, self.uri.path())
    }
}
