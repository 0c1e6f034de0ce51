//! One set of counters for each worker, and their sum: no worker writes where another does.
//!
//! Everything that is counted on the data path is counted in a [`PerWorker`]: of endpoints, upstreams, servers, plugins.

use thread_local::ThreadLocal;

use super::{Counter, EndpointCounters, Rejection, ServerCounters, UpstreamCounters, UpstreamFailure};

/// A `T` for each thread that has asked for its own. Only that thread writes there; anyone may read.
#[derive(Debug)]
pub struct PerWorker<T: Send>(ThreadLocal<T>);

/// An endpoint's counters.
pub type EndpointMetrics = PerWorker<EndpointCounters>;
/// The counters of one server of an upstream.
pub type ServerMetrics = PerWorker<ServerCounters>;
/// The counters of one upstream as a whole.
pub type UpstreamMetrics = PerWorker<UpstreamCounters>;

impl<T: Send> Default for PerWorker<T> {
    fn default() -> Self {
        Self(ThreadLocal::new())
    }
}

impl<T: Send + Default> PerWorker<T> {
    /// This worker's own.
    pub fn here(&self) -> &T {
        self.0.get_or_default()
    }
}

impl<T: Send + Sync> PerWorker<T> {
    /// Every worker's.
    pub fn slots(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// The sum over all workers of whatever `read` picks. It wraps as the counters do: see [`Counter::sub`].
    pub fn sum(&self, read: impl Fn(&T) -> u64) -> u64 {
        self.slots().map(read).fold(0, u64::wrapping_add)
    }

    /// The sum over all workers of one counter.
    pub fn total(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.sum(|slot| counter(slot).get())
    }
}

impl EndpointMetrics {
    /// Counts a connection that was turned away.
    pub fn reject(&self, reason: Rejection) {
        self.here().rejected[reason as usize].add(1);
    }
}

impl ServerMetrics {
    /// Counts a failed exchange.
    pub fn fail(&self, reason: UpstreamFailure) {
        let counters = self.here();
        counters.failures[reason as usize].add(1);
        counters.last_failure.note(reason);
    }
}
