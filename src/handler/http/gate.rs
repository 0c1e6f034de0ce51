//! What the pieces that serve one client connection tell each other.
//!
//! Owns the connection's identity and how many exchanges are open. Made by `serve`; written by `exchange`, which runs in
//! the connection's tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::fault::Fault;
use crate::access_log::Facts;
use crate::handler::Context;
use crate::identity::ConnectionInfo;
use crate::metrics::routes::Routes;
use crate::metrics::{HandshakeFailure, Http2Closing, Rejection, RequestRefusal};

/// The sampler's reasons: those of connections and handshakes stand before.
const REFUSALS: usize = Rejection::ALL.len() + HandshakeFailure::ALL.len();
const CLOSINGS: usize = REFUSALS + RequestRefusal::ALL.len();

/// One connection, as its pieces share it.
///
/// The atomics are for `Send` alone: one thread at a time runs them, so relaxed order is enough.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) context: Arc<Context>,
    /// What its service tells of requests refers to these.
    pub(super) routes: Option<Arc<Routes>>,
    /// What the access log says of it in every line.
    pub(super) facts: Facts,
    /// How long its handshake took was told.
    handshake_told: AtomicBool,
    opened: Instant,
    /// Exchanges that are not over yet.
    open: AtomicU32,
    /// When the last exchange was over, in milliseconds after `opened`.
    last_end: AtomicU64,
}

impl Gate {
    pub(super) fn new(info: Arc<ConnectionInfo>, context: Arc<Context>, routes: Option<Arc<Routes>>) -> Self {
        Self {
            info,
            context,
            routes,
            facts: Facts::default(),
            handshake_told: AtomicBool::new(false),
            opened: Instant::now(),
            open: AtomicU32::new(0),
            last_end: AtomicU64::new(0),
        }
    }

    /// How long the handshake took; told once.
    pub(super) fn handshake(&self) -> Option<Duration> {
        let tls = self.info.tls.as_ref()?;
        (!self.handshake_told.swap(true, Relaxed)).then_some(tls.handshake)
    }

    /// Counts an exchange as open.
    pub(super) fn enter(&self) {
        self.open.store(self.open.load(Relaxed) + 1, Relaxed); // cheaper than to add at once
    }

    /// Counts an exchange as over.
    pub(super) fn leave(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.opened).as_millis();
        self.last_end.store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
        self.open.store(self.open.load(Relaxed) - 1, Relaxed);
    }

    /// Whether no exchange is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// Since when no exchange is open, if none is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then(|| self.opened + Duration::from_millis(self.last_end.load(Relaxed)))
    }

    /// Counts a request that is refused, and logs a sample.
    pub(super) fn count_refusal(&self, fault: &Fault) {
        self.context.metrics.here().requests_refused[fault.reason as usize].add(1);
        if let Some(left_out) = self.sampled(REFUSALS + fault.reason as usize) {
            let (endpoint, client) = (&self.info.endpoint.name, &self.info.client.0);
            info!(%endpoint, %client, reason = %fault.reason, left_out, "request refused: {}", fault.detail);
        }
    }

    /// Counts an HTTP/2 connection that is ended for what its client sent, and logs a sample.
    pub(super) fn count_closing(&self, why: Http2Closing) {
        self.context.metrics.here().http2_closed[why as usize].add(1);
        if let Some(left_out) = self.sampled(CLOSINGS + why as usize) {
            let (endpoint, client) = (&self.info.endpoint.name, &self.info.client.0);
            info!(%endpoint, %client, reason = %why, left_out, "HTTP/2 connection ended for what its client sent");
        }
    }

    fn sampled(&self, reason: usize) -> Option<u64> {
        self.context.noise.admit(reason, std::time::Instant::now())
    }
}
