//! The stop signal, and the wait for what is in flight.
//!
//! Each worker owns one [`Drain`] and hands a clone to every connection. Nothing here is shared between
//! workers, so telling one connection to end wakes no other core.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// A worker's stop signal, shared by its listeners and connections.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stop: CancellationToken,
    in_flight: TaskTracker,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that follows this one and can also be given on its own (one endpoint's, say).
    /// What is in flight counts for both.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), in_flight: self.in_flight.clone() }
    }

    /// Asks everything that watches to finish what it does and take nothing new.
    pub fn begin(&self) {
        self.stop.cancel();
    }

    /// Whether [`begin`](Self::begin) was called.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves once the drain begins.
    pub fn begun(&self) -> WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// Counts something as in flight until the token is dropped.
    ///
    /// Take it before `accept` hands the socket on, or a drain can miss the connection.
    pub fn track(&self) -> TaskTrackerToken {
        self.in_flight.token()
    }

    /// How much is in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Waits until nothing is in flight, for `deadline` at most; true if everything ended by itself.
    pub async fn finished(&self, deadline: Duration) -> bool {
        self.in_flight.close();
        tokio::time::timeout(deadline, self.in_flight.wait()).await.is_ok()
    }
}
