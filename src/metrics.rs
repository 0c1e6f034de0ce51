//! Counting without locks: every worker counts in slots of its own, and the admin port sums them at a scrape.
//!
//! Owns each metric's name (the [`METRICS`] table, in `metrics/table.rs`), the closed sets of label values, and the
//! counters that the data path touches. `connection`, `handler` and `upstream` count; `admin` reads.

pub mod evidence;
mod per_worker;
pub mod process;
pub mod routes;
pub mod table;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::identity::{Group, TlsVersion};
use crate::labels::labels;

pub use per_worker::{EndpointMetrics, PerWorker, ServerMetrics, UpstreamMetrics};
pub use table::{Kind, METRICS, Metric};

/// A counter with one writer: the thread whose slot it lives in. Anyone may read.
///
/// One writer means that a plain load and store suffice; no locked instruction is issued.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away; for gauges that one slot raises and another may lower, so a slot alone may wrap
    /// and only the (wrapping) sum over the slots means something.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters for a small set of keys that is not known beforehand, such as the pairs of method and status that occur.
///
/// Keys are never taken out. When the slots are full the rest counts under `u32::MAX`, so memory is bounded whatever
/// an upstream answers. One writer, any readers.
#[derive(Debug)]
pub struct Tally<const N: usize> {
    slots: [(AtomicU32, Counter); N], // key + 1, so that 0 means free
    rest: Counter,
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| Default::default()), rest: Counter::default() }
    }
}

impl<const N: usize> Tally<N> {
    /// Adds one under `key` (below `u32::MAX`).
    pub fn count(&self, key: u32) {
        for (slot, counter) in &self.slots {
            match slot.load(Relaxed) {
                0 => slot.store(key + 1, Relaxed),
                taken if taken == key + 1 => {}
                _ => continue,
            }
            return counter.add(1);
        }
        self.rest.add(1);
    }

    /// Every key seen, with its count; `u32::MAX` stands for what found no slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.slots
            .iter()
            .filter_map(|(key, counter)| Some((key.load(Relaxed).checked_sub(1)?, counter.get())))
            .chain(Some((u32::MAX, self.rest.get())).filter(|(_, n)| *n > 0))
    }
}

/// Upper bounds of the duration histograms' buckets, in seconds; one more bucket holds what is longer.
pub const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A histogram of durations over [`BUCKETS`].
#[derive(Debug, Default)]
pub struct Histogram {
    /// Observations by bucket, not cumulative; the last holds what is above every bound.
    pub buckets: [Counter; BUCKETS.len() + 1],
    /// The sum of all observations, in nanoseconds.
    pub sum_nanos: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.count(Observation::of(duration));
    }

    /// Counts what was measured once and is counted in several places.
    pub fn count(&self, Observation { bucket, nanos }: Observation) {
        self.buckets[bucket].add(1);
        self.sum_nanos.add(nanos);
    }
}

/// A duration, with its place among [`BUCKETS`].
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    bucket: usize,
    nanos: u64,
}

impl Observation {
    /// Finds its place.
    #[must_use]
    pub fn of(duration: Duration) -> Self {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        Self { bucket, nanos: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) }
    }
}

/// The sum of one counter's slots. It wraps as they do: see [`Counter::sub`].
pub fn sum<'a>(slots: impl Iterator<Item = &'a Counter>) -> u64 {
    slots.map(Counter::get).fold(0, u64::wrapping_add)
}

/// A gauge's level, from the wrapping sum of its slots.
///
/// The slots are not read at one instant, so what ends on one worker may be seen before it began on another: less than
/// nothing is nothing.
#[must_use]
pub fn level(sum: u64) -> u64 {
    u64::try_from(sum.cast_signed()).unwrap_or(0)
}

/// Brings the counts of several [`Tally`] slots together by key.
pub fn merged(counts: impl Iterator<Item = (u32, u64)>) -> BTreeMap<u32, u64> {
    counts.fold(BTreeMap::new(), |mut all, (key, n)| {
        *all.entry(key).or_default() += n;
        all
    })
}

labels! {
    /// Why a connection was turned away before, or instead of, being served.
    Rejection {
        /// The gateway holds as many connections as it may.
        GatewayFull = "gateway_full",
        /// The endpoint holds as many connections as it may.
        EndpointFull = "endpoint_full",
        /// The client's address is not allowed, or is denied.
        Address = "address",
        /// The client holds as many connections as it may.
        ClientConnections = "client_connections",
        /// The client connects more often than it may.
        ClientConnectionRate = "client_connection_rate",
        /// The client begins TLS handshakes more often than it may.
        ClientHandshakeRate = "client_handshake_rate",
        /// The name or protocol that the client asks for is one that the endpoint refuses.
        ServerName = "server_name",
        /// The PROXY header was missing, malformed or late.
        ProxyHeader = "proxy_header",
        /// `accept` failed because descriptors or memory ran out.
        Resources = "resources",
        /// The handler takes none now: its plugin is not ready, was given up, or has too much to do.
        Handler = "handler",
        /// The connection's task panicked.
        Panic = "panic",
    }
}

labels! {
    /// Why a TLS handshake failed.
    HandshakeFailure {
        /// Plain HTTP arrived at a TLS endpoint.
        PlainHttp = "plain_http",
        /// What arrived is not TLS.
        NotTls = "not_tls",
        /// The handshake took longer than it may.
        Timeout = "timeout",
        /// The client went away.
        ClientClosed = "client_closed",
        /// No protocol version in common.
        Version = "version",
        /// No cipher suite, group or signature scheme in common.
        NoCommonAlgorithm = "no_common_algorithm",
        /// No application protocol in common.
        Alpn = "alpn",
        /// There is no certificate yet; ACME will bring the first.
        NoCertificate = "no_certificate",
        /// The client refused our certificate (its alert says so).
        ClientRefusedCertificate = "client_refused_certificate",
        /// The client sent no certificate where one is required.
        ClientCertificateMissing = "client_certificate_missing",
        /// The client's certificate does not verify.
        ClientCertificateInvalid = "client_certificate_invalid",
        /// The client's certificate is revoked.
        ClientCertificateRevoked = "client_certificate_revoked",
        /// The client's certificate verifies but is not on the allow-list.
        ClientCertificateNotAllowed = "client_certificate_not_allowed",
        /// The client sent another alert.
        ClientAlert = "client_alert",
        /// Anything else that breaks the protocol.
        Protocol = "protocol",
    }
}

labels! {
    /// A request's method, as a label: the registered ones, and `other`.
    Method {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// CONNECT.
        Connect = "CONNECT",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// PATCH.
        Patch = "PATCH",
        /// Any other: a client's word never becomes a label.
        Other = "other",
    }
}

impl From<&hyper::Method> for Method {
    fn from(method: &hyper::Method) -> Self {
        Self::ALL.iter().copied().find(|m| m.as_str() == method.as_str()).unwrap_or(Self::Other)
    }
}

labels! {
    /// Why the gateway refused a request that it could read enough of to refuse.
    RequestRefusal {
        /// The request line or a field breaks the grammar, or could be read in two ways.
        Malformed = "malformed",
        /// The message's length could be read in two ways (RFC 9112, section 6.3).
        Framing = "framing",
        /// The head is larger, or has more fields, than allowed.
        HeadTooLarge = "head_too_large",
        /// The target is longer than allowed.
        TargetTooLong = "target_too_long",
        /// The head did not arrive in time.
        HeadTimeout = "head_timeout",
        /// The body did not arrive in time.
        BodyTimeout = "body_timeout",
        /// `Host` is missing, repeated or malformed.
        Host = "host",
        /// A transfer coding other than `chunked`.
        TransferCoding = "transfer_coding",
        /// An HTTP version that the gateway does not speak.
        Version = "version",
        /// A chunk breaks the grammar.
        Chunk = "chunk",
        /// A method that the gateway does not implement.
        Method = "method",
        /// The body arrived more slowly than it must.
        BodyTooSlow = "body_too_slow",
        /// The body is larger than allowed.
        BodyTooLarge = "body_too_large",
        /// The client makes more requests than it may.
        ClientRequestRate = "client_request_rate",
        /// The host needs other client authentication than the connection had.
        Misdirected = "misdirected",
    }
}

labels! {
    /// Why a request or a session, once taken, ended other than well. What RFC 9209 (section 2.3) has a word for is called by
    /// that, in `Proxy-Status` too.
    RequestFailure {
        /// The upstream's server refused the connection.
        ConnectionRefused = "connection_refused",
        /// It could not be connected to in time.
        ConnectionTimeout = "connection_timeout",
        /// No route leads to it.
        DestinationIpUnroutable = "destination_ip_unroutable",
        /// Its certificate does not verify.
        TlsCertificateError = "tls_certificate_error",
        /// It refused the TLS handshake by an alert.
        TlsAlertReceived = "tls_alert_received",
        /// The TLS handshake with it failed otherwise.
        TlsProtocolError = "tls_protocol_error",
        /// Every server has as much in work as it may, or this machine cannot open another connection.
        ConnectionLimitReached = "connection_limit_reached",
        /// The server closed the connection before it answered, or within a session.
        ConnectionTerminated = "connection_terminated",
        /// It takes nothing of the request.
        ConnectionWriteTimeout = "connection_write_timeout",
        /// It did not answer in time.
        HttpResponseTimeout = "http_response_timeout",
        /// Its answer broke off.
        HttpResponseIncomplete = "http_response_incomplete",
        /// The head of its answer is too large.
        HttpResponseHeaderSectionSize = "http_response_header_section_size",
        /// Its answer breaks the protocol.
        HttpProtocolError = "http_protocol_error",
        /// It switched protocols in another way than was asked.
        HttpUpgradeFailed = "http_upgrade_failed",
        /// The request cannot be passed on, or broke off.
        HttpRequestError = "http_request_error",
        /// The server's answer counts as a failure.
        ProxyInternalResponse = "proxy_internal_response",
        /// The request has come this way before.
        ProxyLoopDetected = "proxy_loop_detected",
        /// What was to answer failed in the gateway itself.
        ProxyInternalError = "proxy_internal_error",
        /// The client took the answer more slowly than it must, or not at all.
        ClientTooSlow = "client_too_slow",
        /// The client left before it had all of the answer, or broke a session off.
        ClientClosed = "client_closed",
        /// The client broke the framing of a plugin's messages.
        FramingError = "framing_error",
        /// No byte came within a session's `idle` deadline.
        IdleTimeout = "idle_timeout",
    }
}

labels! {
    /// Why an HTTP/2 connection was ended for what its client sent.
    Http2Closing {
        /// A header block or a frame was begun and did not end in time.
        HeaderTimeout = "header_timeout",
        /// Too many frames that ask for nothing: PING, SETTINGS, PRIORITY, empty DATA.
        FrameFlood = "frame_flood",
        /// Too many resets, stream errors, CONTINUATION or small DATA frames, or far too large a head.
        Excess = "excess",
        /// Anything else that breaks the protocol.
        Protocol = "protocol",
    }
}

/// A worker's counters for one endpoint.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// `portcullis_connections_accepted_total`
    pub accepted: Counter,
    /// `portcullis_connections_active`
    pub active: Counter,
    /// `portcullis_connections_rejected_total`, by [`Rejection`].
    pub rejected: [Counter; Rejection::ALL.len()],
    /// `portcullis_tls_handshakes_total`, by [`handshake_key`].
    pub handshakes: Tally<32>,
    /// `portcullis_tls_handshake_failures_total`, by [`HandshakeFailure`].
    pub handshake_failures: [Counter; HandshakeFailure::ALL.len()],
    /// `portcullis_tls_handshake_duration_seconds`
    pub handshake_seconds: Histogram,
    /// `portcullis_tls_unknown_server_names_total`: the first chain was served for want of a better one.
    pub unknown_server_names: Counter,
    /// What clients use: `portcullis_tls_features_total` and its like.
    pub evidence: evidence::Evidence,
    /// `portcullis_tls_ticket_key_rotations_total`
    pub ticket_key_rotations: Counter,
    /// `portcullis_http_requests_total`, by [`request_key`].
    pub requests: Tally<64>,
    /// `portcullis_http_request_duration_seconds`
    pub request_seconds: Histogram,
    /// `portcullis_http_requests_refused_total`, by [`RequestRefusal`].
    pub requests_refused: [Counter; RequestRefusal::ALL.len()],
    /// `portcullis_failures_total`, by [`RequestFailure`].
    pub failures: [Counter; RequestFailure::ALL.len()],
    /// `portcullis_http2_connections_closed_total`, by [`Http2Closing`].
    pub http2_closed: [Counter; Http2Closing::ALL.len()],
    /// `portcullis_received_bytes_total`: what clients sent, as it came over the wire.
    pub received_bytes: Counter,
    /// `portcullis_sent_bytes_total`: what clients were sent, as it went over the wire.
    pub sent_bytes: Counter,
}

/// The key of a handshake in [`EndpointCounters::handshakes`].
#[must_use]
pub fn handshake_key(version: TlsVersion, group: Group, resumed: bool) -> u32 {
    (version as u32) << 16 | (group as u32) << 8 | u32::from(resumed)
}

/// What [`handshake_key`] was made from; `None` for the rest that found no slot.
#[must_use]
pub fn handshake_of(key: u32) -> Option<(TlsVersion, Group, bool)> {
    let version = *TlsVersion::ALL.get((key >> 16) as usize)?;
    let group = *Group::ALL.get((key >> 8 & 0xff) as usize)?;
    Some((version, group, key & 0xff != 0))
}

/// The key of a request in [`EndpointCounters::requests`].
#[must_use]
pub fn request_key(method: Method, status: u16) -> u32 {
    (method as u32) << 16 | u32::from(status)
}

/// What [`request_key`] was made from; `None` for the rest that found no slot.
#[must_use]
pub fn request_of(key: u32) -> Option<(Method, u16)> {
    Some((*Method::ALL.get((key >> 16) as usize)?, key as u16))
}

labels! {
    /// Why a certificate could not be had by ACME.
    AcmeFailure {
        /// The authority cannot be reached, or has a fault of its own.
        Unreachable = "unreachable",
        /// The authority takes no more for now.
        RateLimited = "rate_limited",
        /// The authority makes us no account, or no longer knows it.
        Account = "account",
        /// The authority could not verify that a name is ours.
        Challenge = "challenge",
        /// The authority refused the order for another reason.
        Refused = "refused",
        /// It was not done in time.
        Timeout = "timeout",
        /// The audit denies the chain that was issued.
        Audit = "audit",
        /// The storage cannot be read or written.
        Storage = "storage",
        /// The chain is stored, but the gateway's configuration could not be planned with it.
        Reload = "reload",
    }
}

labels! {
    /// Why an exchange with an upstream server failed.
    UpstreamFailure {
        /// The connection was refused or could not be routed.
        Connect = "connect",
        /// No connection within the `connect` deadline.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake failed, or the server's certificate does not verify.
        Tls = "tls",
        /// The server closed or reset the connection before it answered.
        Closed = "closed",
        /// No response within the `response` deadline.
        ResponseTimeout = "response_timeout",
        /// What came back is not HTTP, or breaks its rules.
        Protocol = "protocol",
        /// The response broke off within its body.
        Truncated = "truncated",
        /// The body stood still for longer than the `body` deadline.
        BodyTimeout = "body_timeout",
    }
}

/// When a worker last saw an exchange with a server fail, and why. One writer, any readers.
#[derive(Debug, Default)]
pub struct LastFailure(AtomicU64); // seconds of Unix time, and in the lowest byte the reason, counted from 1

impl LastFailure {
    /// Notes one that happens now.
    pub fn note(&self, reason: UpstreamFailure) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.store(since.as_secs() << 8 | (reason as u64 + 1), Relaxed);
    }

    /// When, in seconds of Unix time, and why; `None` where none was seen.
    #[must_use]
    pub fn get(&self) -> Option<(u64, UpstreamFailure)> {
        let packed = self.0.load(Relaxed);
        let reason = usize::try_from(packed & 0xff).ok()?.checked_sub(1)?;
        Some((packed >> 8, *UpstreamFailure::ALL.get(reason)?))
    }
}

/// A worker's counters for one server of an upstream.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// `portcullis_upstream_requests_total`: exchanges begun (requests, or TCP sessions).
    pub requests: Counter,
    /// `portcullis_upstream_responses_total`, by status code.
    pub responses: Tally<32>,
    /// `portcullis_upstream_connects_total`: connections opened.
    pub connects: Counter,
    /// `portcullis_upstream_connections_active`: connections open, idle ones too.
    pub active: Counter,
    /// `portcullis_upstream_failures_total`, by [`UpstreamFailure`].
    pub failures: [Counter; UpstreamFailure::ALL.len()],
    /// The last of these, for the admin port's views.
    pub last_failure: LastFailure,
    /// `portcullis_upstream_requests_active`: exchanges and sessions in work.
    pub in_work: Counter,
    /// `portcullis_upstream_ejections_total`
    pub ejections: Counter,
    /// `portcullis_upstream_checks_total`, those that went well.
    pub checks_passed: Counter,
    /// `portcullis_upstream_checks_total`, those that did not.
    pub checks_failed: Counter,
    /// `portcullis_upstream_lookups_total`, those that found addresses.
    pub lookups_passed: Counter,
    /// `portcullis_upstream_lookups_total`, those that did not.
    pub lookups_failed: Counter,
    /// `portcullis_upstream_connect_duration_seconds`: from the first packet of a connection until it can be used.
    pub connect_seconds: Histogram,
    /// `portcullis_upstream_response_duration_seconds`: from the request's first byte to the response's head.
    pub response_seconds: Histogram,
}

labels! {
    /// Why a request was sent to another server, too.
    RetryReason {
        /// The first could not be reached.
        Connect = "connect",
        /// It says that it did nothing about the request (HTTP/2).
        Unprocessed = "unprocessed",
        /// It closed the connection before it answered.
        Closed = "closed",
        /// It did not answer within the `attempt` deadline.
        Timeout = "timeout",
        /// It answered with a status that counts as a failure.
        Status = "status",
    }
}

/// A worker's counters for one upstream as a whole.
#[derive(Debug, Default)]
pub struct UpstreamCounters {
    /// `portcullis_upstream_retries_total`, by [`RetryReason`].
    pub retries: [Counter; RetryReason::ALL.len()],
    /// `portcullis_upstream_queued_total`: requests and sessions that waited for room at a server.
    pub queued: Counter,
    /// `portcullis_upstream_queue_duration_seconds`
    pub queue_seconds: Histogram,
    /// `portcullis_upstream_busy_total`: those that were refused because there was none.
    pub busy: Counter,
}

#[cfg(test)]
mod tests {
    use super::{Counter, Group, Method, Tally, TlsVersion, level, sum};
    use super::{handshake_key, handshake_of, request_key, request_of};

    #[test]
    fn a_key_can_be_read_back() {
        for version in TlsVersion::ALL {
            for group in Group::ALL {
                for resumed in [false, true] {
                    let key = handshake_key(*version, *group, resumed);
                    assert_eq!(handshake_of(key), Some((*version, *group, resumed)));
                }
            }
        }
        for method in Method::ALL {
            assert_eq!(request_of(request_key(*method, 599)), Some((*method, 599)));
        }
        assert_eq!((handshake_of(u32::MAX), request_of(u32::MAX)), (None, None));
    }

    #[test]
    fn a_full_tally_counts_the_rest_together() {
        let tally = Tally::<2>::default();
        for key in [0, 7, 0, 8, 9] {
            tally.count(key);
        }
        assert_eq!(tally.iter().collect::<Vec<_>>(), [(0, 2), (7, 1), (u32::MAX, 2)]);
    }

    #[test]
    fn what_one_worker_began_may_end_on_another() {
        let (first, second) = (Counter::default(), Counter::default());
        first.add(3);
        second.sub(1);
        assert_eq!(level(sum([&first, &second].into_iter())), 2);
        assert_eq!(level(sum([&second].into_iter())), 0);
    }
}
