//! What a line of the access log says.
//!
//! Filled in by handlers; written out by `text` and `json`.

use std::time::Duration;

use tokio::time::Instant;

use super::Facts;
use crate::identity::ConnectionInfo;
use crate::trace::TraceId;
use crate::trail::Trail;

/// What a line says.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The connection, with its endpoint.
    pub info: &'a ConnectionInfo,
    /// What every line of the connection says of it.
    pub facts: &'a Facts,
    /// The request, where the line is about one; else it is about the whole session.
    pub request: Option<RequestEntry<'a>>,
    /// When it began.
    pub begun: Instant,
    /// When it was over.
    pub ended: Instant,
    /// How long the connection's TLS handshake took: in one line of each connection, the first.
    pub handshake: Option<Duration>,
    /// Body bytes (or, for a session, stream bytes) from the client.
    pub received: u64,
    /// Body bytes (or, for a session, stream bytes) to the client.
    pub sent: u64,
    /// The upstream's name, if one was asked.
    pub upstream: Option<&'a str>,
    /// How it went there.
    pub trail: &'a Trail,
    /// The trace that it belongs to.
    pub trace: Option<TraceId>,
    /// Why it ended other than well: a word of a closed set.
    pub error: Option<&'a str>,
    /// What there is to say of that besides.
    pub detail: Option<&'a str>,
}

/// What a request's line says besides.
#[derive(Debug)]
pub struct RequestEntry<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// `Host` or `:authority`.
    pub host: &'a str,
    /// The request's path, without the query, which may hold secrets.
    pub path: &'a str,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: &'a str,
    /// The response's status.
    pub status: u16,
    /// The route that took it.
    pub route: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// The line of a session that is over now.
    #[must_use]
    pub fn session(info: &'a ConnectionInfo, facts: &'a Facts, begun: Instant, trail: &'a Trail) -> Self {
        Self {
            info,
            facts,
            request: None,
            begun,
            ended: Instant::now(),
            handshake: info.tls.as_ref().map(|tls| tls.handshake),
            received: 0,
            sent: 0,
            upstream: None,
            trail,
            trace: None,
            error: None,
            detail: None,
        }
    }

    /// The phases that took place, by name, each with how long it took; the last is the whole.
    pub(super) fn phases(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let some = |duration: Duration| Some(duration).filter(|duration| !duration.is_zero());
        let first = self.trail.answered.map(|answered| answered.saturating_duration_since(self.begun));
        let phases = [
            ("handshake", self.handshake),
            ("queue", some(self.trail.queued)),
            ("connect", some(self.trail.connect)),
            ("first_byte", first),
        ];
        phases.into_iter().filter_map(|(name, duration)| Some((name, duration?)))
    }

    /// The whole.
    pub(super) fn duration(&self) -> Duration {
        self.ended.saturating_duration_since(self.begun)
    }
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
