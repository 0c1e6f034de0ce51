//! What the pieces that serve one client connection tell each other.
//!
//! Owns the connection's shared state: how many exchanges are open, the fault that ended its reading, the outcome of an
//! upgrade. Made by `serve`; written by `guard` and `exchange`, which all run in the connection's tasks.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::fault::Fault;
use crate::handler::Context;
use crate::identity::ConnectionInfo;

/// One connection, as its pieces share it.
///
/// The atomics are for `Send` alone: one thread at a time runs them, so relaxed order is enough.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) context: Arc<Context>,
    opened: Instant,
    /// Exchanges that are not over yet.
    open: AtomicU32,
    /// When the last exchange was over, in milliseconds after `opened`.
    last_end: AtomicU64,
    fault: OnceLock<Fault>,
    switching: AtomicU8,
    parked: AtomicBool,
    /// Whether a stream is in a guard's hands, and the word that it no longer is.
    holding: AtomicBool,
    released: Notify,
}

/// A guard's hold on the connection's stream; dropped with it.
#[derive(Debug)]
pub(super) struct Holding(Arc<Gate>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.holding.store(false, Relaxed);
        self.0.released.notify_one();
    }
}

/// What became of a request for another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switching {
    /// Not answered yet.
    Unknown = 0,
    /// Answered with 101.
    Done = 1,
    /// Answered otherwise: HTTP goes on.
    Declined = 2,
}

impl Gate {
    pub(super) fn new(info: Arc<ConnectionInfo>, context: Arc<Context>) -> Self {
        Self {
            info,
            context,
            opened: Instant::now(),
            open: AtomicU32::new(0),
            last_end: AtomicU64::new(0),
            fault: OnceLock::new(),
            switching: AtomicU8::new(Switching::Unknown as u8),
            parked: AtomicBool::new(false),
            holding: AtomicBool::new(false),
            released: Notify::new(),
        }
    }

    /// Notes that a guard holds the stream.
    pub(super) fn hold(self: &Arc<Self>) -> Holding {
        self.holding.store(true, Relaxed);
        Holding(self.clone())
    }

    /// Waits until no guard holds the stream: after an upgrade, until the other protocol's session is over.
    pub(super) async fn released(&self) {
        while self.holding.load(Relaxed) {
            self.released.notified().await;
        }
    }

    /// Counts an exchange as open.
    pub(super) fn enter(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    /// Counts an exchange as over.
    pub(super) fn leave(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.opened).as_millis();
        self.last_end.store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
        self.open.fetch_sub(1, Relaxed);
    }

    /// Whether no exchange is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// Since when no exchange is open, if none is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then(|| self.opened + Duration::from_millis(self.last_end.load(Relaxed)))
    }

    /// Records what ended the reading of requests, and counts it; the first fault counts.
    pub(super) fn refuse(&self, fault: Fault) {
        if self.fault.set(fault).is_ok() {
            self.context.metrics.here().requests_refused[fault.reason as usize].add(1);
        }
    }

    /// What ended the reading of requests.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    pub(super) fn switching(&self) -> Switching {
        match self.switching.load(Relaxed) {
            1 => Switching::Done,
            2 => Switching::Declined,
            _ => Switching::Unknown,
        }
    }

    pub(super) fn set_switching(&self, to: Switching) {
        self.switching.store(to as u8, Relaxed);
    }

    /// Asks the connection's driver to take the idle connection apart.
    pub(super) fn park(&self) {
        self.parked.store(true, Relaxed);
    }

    /// Whether [`park`](Self::park) was called since the last time.
    pub(super) fn take_parked(&self) -> bool {
        self.parked.load(Relaxed) && self.parked.swap(false, Relaxed)
    }
}
