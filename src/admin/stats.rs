//! The numbers of `/stats` and the dashboard: what the metrics count, brought together for people and scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::admin::rates::{Rate, Rates};
use crate::admin::state::{Snapshot, State};
use crate::identity::EndpointName;
use crate::metrics::process::Process;
use crate::metrics::{Counter, EndpointCounters, EndpointMetrics, HandshakeFailure, Rejection, RequestRefusal};
use crate::metrics::{ServerMetrics, UpstreamFailure, handshake_of, level, merged, request_of};

/// The body of `/stats`.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    pub(crate) lifecycle: &'static str,
    pub(crate) uptime_seconds: f64,
    /// The sum over all endpoints.
    pub(crate) total: EndpointStats,
    pub(crate) endpoints: BTreeMap<EndpointName, EndpointStats>,
    /// By upstream, then by server.
    pub(crate) upstreams: BTreeMap<String, BTreeMap<String, ServerStats>>,
    pub(crate) access_log_dropped: u64,
    pub(crate) process: Process,
}

/// One endpoint's numbers, or their sum.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct EndpointStats {
    pub(crate) connections: ConnectionStats,
    pub(crate) tls: TlsStats,
    pub(crate) requests: RequestStats,
    pub(crate) bytes: ByteStats,
    pub(crate) per_second: Rate,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ConnectionStats {
    pub(crate) active: u64,
    pub(crate) accepted: u64,
    /// By reason.
    pub(crate) rejected: Counts,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct TlsStats {
    pub(crate) handshakes: u64,
    pub(crate) resumed: u64,
    /// By reason.
    pub(crate) failures: Counts,
    pub(crate) unknown_server_names: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RequestStats {
    pub(crate) total: u64,
    /// By class of status, such as `2xx`.
    pub(crate) by_status: Counts,
    /// By reason.
    pub(crate) refused: Counts,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ByteStats {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// One upstream server's numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ServerStats {
    pub(crate) connections_active: u64,
    pub(crate) connects: u64,
    pub(crate) requests: u64,
    /// By class of status.
    pub(crate) responses: Counts,
    /// By reason.
    pub(crate) failures: Counts,
}

/// Counts by a word of a closed set.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

impl Stats {
    /// The numbers of this moment.
    pub(crate) fn gather(state: &State, running: &Snapshot, rates: &Rates, process: Process) -> Self {
        let rates = rates.by_endpoint();
        let mut endpoints = BTreeMap::new();
        let mut total = EndpointStats::default();
        for plan in &running.plan.endpoints {
            let name = &plan.endpoint.name;
            let stats = EndpointStats::of(&plan.context.metrics, rates.get(name).copied().unwrap_or_default());
            total += &stats;
            endpoints.insert(name.clone(), stats);
        }
        let mut upstreams = BTreeMap::<_, BTreeMap<_, ServerStats>>::new();
        for upstream in &running.plan.upstreams {
            let servers = upstreams.entry(upstream.name.to_string()).or_default();
            for server in upstream.members().servers() {
                // The addresses of a name are counted together.
                servers.entry(server.name.to_string()).or_insert_with(|| ServerStats::of(&server.metrics));
            }
        }
        Self {
            lifecycle: state.lifecycle().as_str(),
            uptime_seconds: state.uptime().as_secs_f64(),
            total,
            endpoints,
            upstreams,
            access_log_dropped: running.access_log_dropped(),
            process,
        }
    }
}

impl EndpointStats {
    fn of(metrics: &EndpointMetrics, per_second: Rate) -> Self {
        let read = |read: fn(&EndpointCounters) -> &Counter| metrics.total(read);
        let reasons =
            |read: fn(&EndpointCounters) -> &[Counter], index: usize| metrics.total(|slot| &read(slot)[index]);
        let rejected = Rejection::ALL.iter().map(|r| (r.as_str(), reasons(|c| &c.rejected, *r as usize)));
        let failures = HandshakeFailure::ALL.iter();
        let failures = failures.map(|r| (r.as_str(), reasons(|c| &c.handshake_failures, *r as usize)));
        let refused = RequestRefusal::ALL.iter();
        let refused = refused.map(|r| (r.as_str(), reasons(|c| &c.requests_refused, *r as usize)));
        let handshakes = merged(metrics.slots().flat_map(|slot| slot.handshakes.iter()));
        let resumed = handshakes.iter().filter(|(key, _)| handshake_of(**key).is_some_and(|(_, _, resumed)| resumed));
        let requests = merged(metrics.slots().flat_map(|slot| slot.requests.iter()));
        let by_status = requests.iter().map(|(key, n)| (request_of(*key).map(|(_, status)| status), *n));
        Self {
            connections: ConnectionStats {
                active: level(read(|c| &c.active)),
                accepted: read(|c| &c.accepted),
                rejected: rejected.collect(),
            },
            tls: TlsStats {
                handshakes: handshakes.values().sum(),
                resumed: resumed.map(|(_, n)| n).sum(),
                failures: failures.collect(),
                unknown_server_names: read(|c| &c.unknown_server_names),
            },
            requests: RequestStats {
                total: requests.values().sum(),
                by_status: by_class(by_status),
                refused: refused.collect(),
            },
            bytes: ByteStats { received: read(|c| &c.received_bytes), sent: read(|c| &c.sent_bytes) },
            per_second,
        }
    }
}

impl ServerStats {
    pub(crate) fn of(metrics: &ServerMetrics) -> Self {
        let failures = UpstreamFailure::ALL.iter();
        let failures = failures.map(|r| (r.as_str(), metrics.total(|c| &c.failures[*r as usize])));
        let responses = merged(metrics.slots().flat_map(|slot| slot.responses.iter())).into_iter();
        Self {
            connections_active: level(metrics.total(|c| &c.active)),
            connects: metrics.total(|c| &c.connects),
            requests: metrics.total(|c| &c.requests),
            responses: by_class(responses.map(|(code, n)| (u16::try_from(code).ok(), n))),
            failures: failures.collect(),
        }
    }
}

/// Counts by class of status; every class is there, and `other` where something is in none.
fn by_class(counts: impl Iterator<Item = (Option<u16>, u64)>) -> Counts {
    const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let mut classes: Counts = CLASSES.iter().map(|class| (*class, 0)).collect();
    for (status, n) in counts {
        let index = status.and_then(|status| usize::from(status / 100).checked_sub(1));
        let class = index.and_then(|index| CLASSES.get(index)).copied().unwrap_or("other");
        *classes.entry(class).or_default() += n;
    }
    classes
}

fn add(sum: &mut Counts, counts: &Counts) {
    for (word, n) in counts {
        *sum.entry(word).or_default() += n;
    }
}

impl std::ops::AddAssign<&Self> for EndpointStats {
    fn add_assign(&mut self, other: &Self) {
        self.connections.active += other.connections.active;
        self.connections.accepted += other.connections.accepted;
        add(&mut self.connections.rejected, &other.connections.rejected);
        self.tls.handshakes += other.tls.handshakes;
        self.tls.resumed += other.tls.resumed;
        add(&mut self.tls.failures, &other.tls.failures);
        self.tls.unknown_server_names += other.tls.unknown_server_names;
        self.requests.total += other.requests.total;
        add(&mut self.requests.by_status, &other.requests.by_status);
        add(&mut self.requests.refused, &other.requests.refused);
        self.bytes.received += other.bytes.received;
        self.bytes.sent += other.bytes.sent;
        self.per_second += other.per_second;
    }
}
