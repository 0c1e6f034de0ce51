//! What is counted of each route of an endpoint's handler. Routes are the configuration's, so their number is bounded.
//!
//! Made by a handler for each of its endpoints; written where a request ends (`handler/http/exchange`); read by `admin`. The
//! counters belong to a route's name: a reload takes them over.

use std::sync::Arc;

use super::{Counter, Histogram, Observation, PerWorker};

/// A place in [`Routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteId(u16);

/// The routes of one endpoint.
#[derive(Debug, Default)]
pub struct Routes(Vec<RouteMetrics>);

/// One route's name, where it leads, and its counters.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    /// Its name: its label.
    pub name: Arc<str>,
    /// The upstream that it leads to, if it leads to one.
    pub upstream: Option<Arc<str>>,
    /// Its counters.
    pub counters: Arc<PerWorker<RouteCounters>>,
}

/// A worker's counters for one route.
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// `portcullis_http_route_requests_total`, by [`CLASSES`].
    pub requests: [Counter; CLASSES.len()],
    /// `portcullis_http_route_request_duration_seconds`
    pub seconds: Histogram,
}

/// Classes of status.
pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

impl Routes {
    /// The most that a handler may have.
    pub const MOST: usize = u16::MAX as usize;

    /// These routes, each with its name and its upstream's; `before` has the counters of those of the same name.
    pub fn new(routes: impl Iterator<Item = (Arc<str>, Option<Arc<str>>)>, before: Option<&Self>) -> Self {
        let known = |name: &str| before?.iter().find(|route| *route.name == *name);
        let made = routes.map(|(name, upstream)| {
            let counters = known(&name).map(|known| Arc::clone(&known.counters)).unwrap_or_default();
            RouteMetrics { name, upstream, counters }
        });
        Self(made.collect())
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &RouteMetrics> {
        self.0.iter()
    }

    /// The one at a place counted from 0, which is below [`MOST`](Self::MOST).
    #[must_use]
    pub fn id(&self, place: usize) -> RouteId {
        RouteId(u16::try_from(place).unwrap_or(u16::MAX))
    }

    /// A route by its place; `None` if there is none.
    #[must_use]
    pub fn get(&self, id: RouteId) -> Option<&RouteMetrics> {
        self.0.get(usize::from(id.0))
    }
}

impl RouteMetrics {
    /// Counts a request that it took.
    pub fn count(&self, status: u16, duration: Observation) {
        let counters = self.counters.here();
        let class = usize::from(status / 100).wrapping_sub(1).min(CLASSES.len() - 1);
        counters.requests[class].add(1);
        counters.seconds.count(duration);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn routes(names: &[&str], before: Option<&Routes>) -> Routes {
        Routes::new(names.iter().map(|name| (Arc::from(*name), None)), before)
    }

    fn counts(route: &RouteMetrics) -> Vec<u64> {
        (0..CLASSES.len()).map(|class| route.counters.total(|slot| &slot.requests[class])).collect()
    }

    #[test]
    fn requests_are_counted_by_class_and_a_routes_name_keeps_its_counts() {
        let before = routes(&["/a", "/b"], None);
        for status in [101, 200, 204, 599, 600, 0] {
            before.0[1].count(status, Observation::of(Duration::from_millis(1)));
        }
        let after = routes(&["/b", "/c"], Some(&before));
        assert_eq!(counts(&after.0[0]), [1, 2, 0, 0, 1, 2]);
        assert_eq!(counts(&after.0[1]), [0; 6]);
        assert_eq!(after.get(after.id(0)).map(|route| &*route.name), Some("/b"));
        assert!(after.get(after.id(2)).is_none());
    }
}
