//! Rates per second over the last ten seconds, from samples that the admin thread takes once a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::admin::state::Snapshot;
use crate::identity::EndpointName;
use crate::metrics::EndpointMetrics;

/// How many seconds a rate looks back.
const WINDOW: usize = 10;

/// The samples of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<VecDeque<Sample>>);

#[derive(Debug)]
struct Sample {
    at: Instant,
    counts: BTreeMap<EndpointName, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: u64,
    requests: u64,
    received: u64,
    sent: u64,
}

/// How much happens per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rate {
    /// Connections accepted.
    pub(crate) connections: f64,
    /// HTTP requests answered.
    pub(crate) requests: f64,
    /// Bytes from clients.
    pub(crate) received_bytes: f64,
    /// Bytes to clients.
    pub(crate) sent_bytes: f64,
}

impl Rates {
    /// Takes a sample, as of `now`; called once a second.
    pub(crate) fn sample(&self, running: &Snapshot, now: Instant) {
        let counts = running.plan.endpoints.iter();
        let counts = counts.map(|plan| (plan.endpoint.name.clone(), Counts::of(&plan.context.metrics))).collect();
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(Sample { at: now, counts });
        while samples.len() > WINDOW + 1 {
            samples.pop_front();
        }
    }

    /// The rates of every endpoint between the oldest and the newest sample.
    pub(crate) fn by_endpoint(&self) -> BTreeMap<EndpointName, Rate> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = samples.back() else { return BTreeMap::new() };
        let rate = |(name, new): (&EndpointName, &Counts)| {
            // An endpoint that a reload brought is younger than the window.
            let oldest = samples.iter().find_map(|sample| Some((sample.at, sample.counts.get(name)?)));
            let (since, old) = oldest.unwrap_or((newest.at, new));
            (name.clone(), new.per_second(old, (newest.at - since).as_secs_f64()))
        };
        newest.counts.iter().map(rate).collect()
    }
}

impl Counts {
    fn of(metrics: &EndpointMetrics) -> Self {
        Self {
            connections: metrics.sum(|c| c.accepted.get()),
            requests: metrics.sum(|c| c.requests.iter().map(|(_, n)| n).sum()),
            received: metrics.sum(|c| c.received_bytes.get()),
            sent: metrics.sum(|c| c.sent_bytes.get()),
        }
    }

    fn per_second(&self, old: &Self, seconds: f64) -> Rate {
        // A count that fell is of an endpoint that was closed and opened again: it starts over.
        let rate = |new: u64, old: u64| if seconds > 0.0 { new.saturating_sub(old) as f64 / seconds } else { 0.0 };
        Rate {
            connections: rate(self.connections, old.connections),
            requests: rate(self.requests, old.requests),
            received_bytes: rate(self.received, old.received),
            sent_bytes: rate(self.sent, old.sent),
        }
    }
}

impl std::ops::AddAssign for Rate {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Rates;
    use crate::admin::fixture;

    #[test]
    fn a_rate_covers_the_last_ten_seconds_only() {
        let running = fixture::snapshot();
        let counters = running.plan.endpoints[0].context.metrics.here();
        let (rates, begun) = (Rates::default(), Instant::now());
        for second in 0..=20 {
            rates.sample(&running, begun + Duration::from_secs(second));
            counters.accepted.add(if second < 10 { 1000 } else { 3 });
        }
        let by_endpoint = rates.by_endpoint();
        assert_eq!(by_endpoint[&running.plan.endpoints[0].endpoint.name].connections, 3.0);
    }

    #[test]
    fn one_sample_makes_no_rate() {
        let (running, rates) = (fixture::snapshot(), Rates::default());
        rates.sample(&running, Instant::now());
        assert!(rates.by_endpoint().values().all(|rate| rate.connections == 0.0));
    }
}
