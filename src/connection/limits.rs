//! How many connections are held, and by whom.
//!
//! Owns the caps. `listener` takes a [`Slot`] before a connection is served; dropping it gives the place back, also
//! when the connection's task panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::metrics::{EndpointMetrics, Rejection};

/// A cap on connections, shared by all workers.
#[derive(Debug)]
pub struct Limit {
    max: AtomicUsize,
    held: AtomicUsize,
}

impl Limit {
    /// A cap of `max`.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: AtomicUsize::new(max), held: AtomicUsize::new(0) })
    }

    /// Changes the cap. Where more are held by then, all of them may stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn take(&self) -> bool {
        // One atomic operation per connection, not per request; the count never exceeds the cap.
        let max = self.max.load(Relaxed);
        self.held.fetch_update(Relaxed, Relaxed, |held| (held < max).then_some(held + 1)).is_ok()
    }

    fn give_back(&self) {
        self.held.fetch_sub(1, Relaxed);
    }
}

/// A connection's place under the gateway's cap and its endpoint's.
#[derive(Debug)]
pub struct Slot {
    gateway: Arc<Limit>,
    endpoint: Arc<Limit>,
    metrics: Arc<EndpointMetrics>,
}

impl Slot {
    /// Takes a place under both caps and counts the connection as active.
    ///
    /// # Errors
    /// Which cap is full.
    pub fn take(
        gateway: &Arc<Limit>,
        endpoint: &Arc<Limit>,
        metrics: &Arc<EndpointMetrics>,
    ) -> Result<Self, Rejection> {
        if !gateway.take() {
            return Err(Rejection::GatewayFull);
        }
        if !endpoint.take() {
            gateway.give_back();
            return Err(Rejection::EndpointFull);
        }
        metrics.here().active.add(1);
        Ok(Self { gateway: Arc::clone(gateway), endpoint: Arc::clone(endpoint), metrics: Arc::clone(metrics) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.here().active.sub(1);
        self.endpoint.give_back();
        self.gateway.give_back();
        if std::thread::panicking() {
            self.metrics.reject(Rejection::Panic);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_cap_that_is_lowered_turns_away_until_enough_have_left() {
        let (gateway, endpoint, metrics) = (Limit::new(9), Limit::new(2), Arc::default());
        let held = [(); 2].map(|()| Slot::take(&gateway, &endpoint, &metrics).unwrap());
        endpoint.set_max(1);
        assert!(Slot::take(&gateway, &endpoint, &metrics).is_err());
        drop(held);
        assert!(Slot::take(&gateway, &endpoint, &metrics).is_ok());
    }

    #[test]
    fn a_full_endpoint_leaves_the_gateways_place_free() {
        let (gateway, endpoint, metrics) = (Limit::new(2), Limit::new(1), Arc::default());
        let first = Slot::take(&gateway, &endpoint, &metrics).unwrap();
        assert_eq!(Slot::take(&gateway, &endpoint, &metrics).unwrap_err(), Rejection::EndpointFull);
        assert_eq!(gateway.held(), 1);
        drop(first);
        assert_eq!((gateway.held(), endpoint.held(), metrics.sum(|c| c.active.get())), (0, 0, 0));
    }
}
