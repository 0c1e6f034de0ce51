//! Every metric's name, kind, labels and meaning, in one table.
//!
//! To add a metric: count it, add a row here, and export it in `admin/scrape.rs`; a test there fails until the two
//! agree, and `docs/metrics.md` is made from these rows.

use std::borrow::Cow;

/// What kind of metric one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises; starts again at 0 with the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts durations by upper bound.
    Histogram,
}

impl Kind {
    /// The kind as both exposition formats spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric family, as a row of [`METRICS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name without the prefix; see [`full_name`](Self::full_name).
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it says, in one plain sentence: nothing that either exposition format would have to escape.
    pub help: &'static str,
    /// The names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
}

impl Metric {
    /// The name that is exported: with the prefix `portcullis_`, but for the `process_` metrics, whose bare names
    /// are the same for every program and are what ready-made dashboards and alerts look for.
    #[must_use]
    pub fn full_name(&self) -> Cow<'static, str> {
        if self.name.starts_with("process_") {
            Cow::Borrowed(self.name)
        } else {
            Cow::Owned(format!("portcullis_{}", self.name))
        }
    }
}

/// Declares the rows as constants, and the table of them all.
macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Metric =
                Metric { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )+

        /// Every metric, in the order in which they are exported.
        pub const METRICS: &[Metric] = &[$($id),+];
    };
}

metrics! {
    BUILD_INFO = Gauge "build_info" ["version", "target"] "Always 1; its labels say which build this is.";
    ENDPOINT_INFO = Gauge "endpoint_info" ["endpoint", "class", "tls"] "Always 1; its labels say what the endpoint is.";
    ENDPOINT_UP = Gauge "endpoint_up" ["endpoint"] "1 while the endpoint takes connections, 0 while it is refused, starting or draining.";

    CONNECTIONS_ACCEPTED = Counter "connections_accepted_total" ["endpoint"] "Connections accepted.";
    CONNECTIONS_ACTIVE = Gauge "connections_active" ["endpoint"] "Connections open now.";
    CONNECTIONS_REJECTED = Counter "connections_rejected_total" ["endpoint", "reason"] "Connections turned away before, or instead of, being served.";
    RECEIVED_BYTES = Counter "received_bytes_total" ["endpoint"] "Bytes that clients sent, as they came over the wire.";
    SENT_BYTES = Counter "sent_bytes_total" ["endpoint"] "Bytes that clients were sent, as they went over the wire.";

    TLS_HANDSHAKES = Counter "tls_handshakes_total" ["endpoint", "version", "group", "resumed"] "TLS handshakes completed; only combinations that occurred.";
    TLS_HANDSHAKE_FAILURES = Counter "tls_handshake_failures_total" ["endpoint", "reason"] "TLS handshakes failed.";
    TLS_HANDSHAKE_DURATION = Histogram "tls_handshake_duration_seconds" ["endpoint"] "Time from the first byte of a TLS handshake to its end.";
    TLS_UNKNOWN_SERVER_NAMES = Counter "tls_unknown_server_names_total" ["endpoint"] "Handshakes that were served the first chain because none covers the name asked for.";
    TLS_FEATURES = Counter "tls_features_total" ["endpoint", "feature", "value"] "TLS handshakes completed that used the feature; only what occurred.";
    TLS_FEATURE_CLIENTS = Gauge "tls_feature_clients" ["endpoint", "feature", "value"] "About how many client addresses (IPv6: networks of 64 bits) have used the feature since the start.";
    TLS_FEATURE_LAST_USED = Gauge "tls_feature_last_used_timestamp_seconds" ["endpoint", "feature", "value"] "When a handshake last used the feature, in Unix time.";
    TLS_TICKET_KEY_SINCE = Gauge "tls_ticket_key_timestamp_seconds" ["endpoint"] "Since when the key that seals session tickets is in use, in Unix time; of a key from a file, when the file was last changed.";
    TLS_TICKET_KEY_ROTATIONS = Counter "tls_ticket_key_rotations_total" ["endpoint"] "How often the endpoint made itself a new key for session tickets.";

    CERTIFICATE_NOT_AFTER = Gauge "certificate_not_after_timestamp_seconds" ["endpoint", "certificate"] "When the leaf of the chain in this file ends, in Unix time.";
    OCSP_NEXT_UPDATE = Gauge "ocsp_next_update_timestamp_seconds" ["endpoint", "certificate"] "When the status that is stapled to the chain in this file runs out, in Unix time.";
    CERTIFICATE_AUDIT_FINDINGS = Gauge "certificate_audit_findings" ["endpoint", "certificate", "rule", "severity"] "Findings of the audit that are not waived; only rules with findings.";
    CERTIFICATE_FALLBACK_ACTIVE = Gauge "certificate_fallback_active" ["endpoint"] "1 while a chain is served in the place of one that is unfit.";
    CRL_NEXT_UPDATE = Gauge "crl_next_update_timestamp_seconds" ["endpoint", "crl"] "When the revocation list in this file becomes stale, in Unix time.";

    ACME_LAST_SUCCESS = Gauge "acme_last_success_timestamp_seconds" ["authority", "certificate"] "When a certificate was last issued by ACME and taken, in Unix time; none before the first since the start.";
    ACME_LAST_FAILURE = Gauge "acme_last_failure_timestamp_seconds" ["authority", "certificate"] "When an attempt to have a certificate by ACME last failed, in Unix time; none before the first since the start.";
    ACME_RENEWAL = Gauge "acme_renewal_timestamp_seconds" ["authority", "certificate"] "When the stored certificate is to be renewed, in Unix time.";
    ACME_ISSUED = Counter "acme_certificates_issued_total" ["authority", "certificate"] "Certificates issued by ACME and taken.";
    ACME_FAILURES = Counter "acme_failures_total" ["authority", "certificate", "reason"] "Failed attempts to have a certificate by ACME.";

    HTTP_REQUESTS = Counter "http_requests_total" ["endpoint", "method", "code"] "HTTP requests by the status of their answer, 499 where the client left before there was one; only combinations that occurred.";
    HTTP_REQUEST_DURATION = Histogram "http_request_duration_seconds" ["endpoint"] "Time from a request's head to the end of its answer.";
    HTTP_ROUTE_REQUESTS = Counter "http_route_requests_total" ["endpoint", "route", "code"] "HTTP requests that the route took, by class of status.";
    HTTP_ROUTE_REQUEST_DURATION = Histogram "http_route_request_duration_seconds" ["endpoint", "route"] "Time from the head of a request that the route took to the end of its answer.";
    HTTP_REQUESTS_REFUSED = Counter "http_requests_refused_total" ["endpoint", "reason"] "HTTP requests that the gateway itself refused to take.";
    FAILURES = Counter "failures_total" ["endpoint", "reason"] "HTTP requests and sessions that ended other than well once they were taken.";
    HTTP2_CONNECTIONS_CLOSED = Counter "http2_connections_closed_total" ["endpoint", "reason"] "HTTP/2 connections ended for what their clients sent.";

    UPSTREAM_REQUESTS = Counter "upstream_requests_total" ["upstream", "server"] "Exchanges begun with the server: HTTP requests, or TCP sessions.";
    UPSTREAM_RESPONSES = Counter "upstream_responses_total" ["upstream", "server", "code"] "HTTP responses of the server; only codes that occurred.";
    UPSTREAM_CONNECTS = Counter "upstream_connects_total" ["upstream", "server"] "Connections opened to the server.";
    UPSTREAM_CONNECTIONS_ACTIVE = Gauge "upstream_connections_active" ["upstream", "server"] "Connections to the server open now, idle ones too.";
    UPSTREAM_REQUESTS_ACTIVE = Gauge "upstream_requests_active" ["upstream", "server"] "Exchanges and sessions that the server has in work now.";
    UPSTREAM_SERVER_HEALTHY = Gauge "upstream_server_healthy" ["upstream", "server"] "1 while the server, or an address of it, is neither ejected nor down by what checks say.";
    UPSTREAM_EJECTIONS = Counter "upstream_ejections_total" ["upstream", "server"] "Times that the server was taken out for failing.";
    UPSTREAM_CHECKS = Counter "upstream_checks_total" ["upstream", "server", "result"] "Active checks of the server.";
    UPSTREAM_LOOKUPS = Counter "upstream_lookups_total" ["upstream", "server", "result"] "Lookups of the server's name.";
    UPSTREAM_ADDRESSES = Gauge "upstream_addresses" ["upstream", "server"] "Addresses that the server has now.";
    UPSTREAM_CONNECT_DURATION = Histogram "upstream_connect_duration_seconds" ["upstream", "server"] "Time from the first packet of a connection to the server until it can be used.";
    UPSTREAM_RETRIES = Counter "upstream_retries_total" ["upstream", "reason"] "Requests and sessions that were tried at another server.";
    UPSTREAM_QUEUE_LENGTH = Gauge "upstream_queue_length" ["upstream"] "Requests and sessions that wait now for room at a server.";
    UPSTREAM_QUEUED = Counter "upstream_queued_total" ["upstream"] "Requests and sessions that had to wait for room at a server.";
    UPSTREAM_BUSY = Counter "upstream_busy_total" ["upstream"] "Requests and sessions refused because no server had room.";
    UPSTREAM_QUEUE_DURATION = Histogram "upstream_queue_duration_seconds" ["upstream"] "Time that requests and sessions waited for room at a server, in vain too.";
    UPSTREAM_FAILURES = Counter "upstream_failures_total" ["upstream", "server", "reason"] "Exchanges with the server that failed.";
    UPSTREAM_RESPONSE_DURATION = Histogram "upstream_response_duration_seconds" ["upstream", "server"] "Time from the first byte of a request to the head of the server's response.";

    PLUGIN_INFO = Gauge "plugin_info" ["endpoint", "layer", "plugin", "version"] "Always 1; its labels say which plugin serves the layer, and the version that was negotiated.";
    PLUGIN_UP = Gauge "plugin_up" ["endpoint"] "1 while the endpoint's plugins serve, 0 while one is not ready, quarantined or failed.";
    PLUGIN_CALLBACKS = Counter "plugin_callbacks_total" ["endpoint", "layer", "callback"] "Calls into the plugin.";
    PLUGIN_CALLBACK_SECONDS = Counter "plugin_callback_seconds_total" ["endpoint", "layer"] "Time spent in calls into the plugin.";
    PLUGIN_QUEUE = Gauge "plugin_queue" ["endpoint", "layer"] "Events that wait for a thread of the plugin's pool.";
    PLUGIN_BUFFERED = Gauge "plugin_buffered_bytes" ["endpoint", "layer"] "Bytes in the queues and buffers of the plugin's instance.";
    PLUGIN_MEMORY = Gauge "plugin_memory_bytes" ["endpoint", "layer"] "Memory of the component's instance; 0 for a native plugin, which shares the gateway's.";
    PLUGIN_REFUSALS = Counter "plugin_refusals_total" ["endpoint", "layer", "reason"] "What the host or the plugin refused: connections, writes, input, calls with a stale handle.";
    PLUGIN_RESTARTS = Counter "plugin_restarts_total" ["endpoint", "layer"] "Further tries to start the instance, after it was not ready or was given up.";

    CONFIG_LAST_RELOAD_SUCCESSFUL = Gauge "config_last_reload_successful" [] "1 if the last load of the configuration succeeded, 0 if it failed and the one before is still served.";
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP = Gauge "config_last_reload_success_timestamp_seconds" [] "When the configuration was last loaded with success, in Unix time.";
    CONFIG_RELOADS = Counter "config_reloads_total" ["result"] "Reloads of the configuration, not counting the start.";
    TRACE_SPANS = Counter "trace_spans_total" ["result"] "Spans of traces: taken by the collector, not taken by it, or dropped because too many waited to be sent.";
    ACCESS_LOG_DROPPED = Counter "access_log_dropped_total" [] "Lines of the access log dropped because standard output could not follow.";

    PROCESS_CPU_SECONDS = Counter "process_cpu_seconds_total" [] "CPU time spent, in user and system mode.";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" [] "Memory resident.";
    PROCESS_VIRTUAL_MEMORY = Gauge "process_virtual_memory_bytes" [] "Address space in use.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "File descriptors open.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" [] "How many file descriptors may be open.";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" [] "When the process started, in Unix time.";
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::{Kind, METRICS};
    use crate::identity::{Group, TlsVersion};
    use crate::metrics::evidence::Feature;
    use crate::metrics::routes::CLASSES;
    use crate::metrics::{
        AcmeFailure, HandshakeFailure, Http2Closing, Method, Rejection, RequestFailure, RequestRefusal, RetryReason,
        UpstreamFailure,
    };
    use crate::plugin::counters::{Callback, Refusal};

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} stands twice", metric.name);
            assert!(
                metric.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{}",
                metric.name
            );
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        }
    }

    #[test]
    fn helps_are_one_sentence_without_anything_to_escape() {
        for metric in METRICS {
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\\', '"', '\n']), "{}", metric.name);
        }
    }

    #[test]
    fn the_metrics_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == document(), "docs/metrics.md is stale; run `UPDATE=1 cargo test --lib metrics_document`");
    }

    fn document() -> String {
        let mut md = String::from(
            "<!-- Made from the table in src/metrics/table.rs by a test; change it there. -->\n# Metrics\n\n\
             `GET /metrics` on the admin port answers in the Prometheus text format, or in OpenMetrics where `Accept` \
             asks for it. Label\nvalues come from the configuration or from the closed sets below, never from a \
             client, so the number of series is bounded\nby the configuration.\n\n\
             | metric | kind | labels | meaning |\n|---|---|---|---|\n",
        );
        for m in METRICS {
            let labels: Vec<String> = m.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind) = (m.full_name(), m.kind.as_str());
            writeln!(md, "| `{name}` | {kind} | {} | {} |", labels.join(", "), m.help).unwrap();
        }
        md.push_str("\n## Label values\n\n| metric | label | values |\n|---|---|---|\n");
        let mut row = |metric: &str, label: &str, values: Vec<&str>| {
            writeln!(md, "| `{metric}` | `{label}` | {} |", values.join(", ")).unwrap();
        };
        row("connections_rejected_total", "reason", Rejection::ALL.iter().map(|v| v.as_str()).collect());
        row("tls_handshakes_total", "version", TlsVersion::ALL.iter().map(|v| v.as_str()).collect());
        row("tls_handshakes_total", "group", Group::ALL.iter().map(|v| v.as_str()).collect());
        row("tls_handshakes_total", "resumed", vec!["true", "false"]);
        row("tls_handshake_failures_total", "reason", HandshakeFailure::ALL.iter().map(|v| v.as_str()).collect());
        for kind in ["any", "version", "group", "signature", "resumption", "client_certificate"] {
            let of_kind = Feature::all().map(Feature::labels).filter(|(feature, _)| *feature == kind);
            row("tls_features_total", &format!("value` of feature `{kind}"), of_kind.map(|(_, value)| value).collect());
        }
        row("certificate_audit_findings", "severity", vec!["deny", "error", "warn", "info"]);
        row("http_requests_total", "method", Method::ALL.iter().map(|v| v.as_str()).collect());
        row("http_requests_refused_total", "reason", RequestRefusal::ALL.iter().map(|v| v.as_str()).collect());
        row("http_route_requests_total", "code", CLASSES.to_vec());
        row("failures_total", "reason", RequestFailure::ALL.iter().map(|v| v.as_str()).collect());
        row("http2_connections_closed_total", "reason", Http2Closing::ALL.iter().map(|v| v.as_str()).collect());
        row("upstream_failures_total", "reason", UpstreamFailure::ALL.iter().map(|v| v.as_str()).collect());
        row("upstream_checks_total", "result", vec!["passed", "failed"]);
        row("upstream_lookups_total", "result", vec!["passed", "failed"]);
        row("upstream_retries_total", "reason", RetryReason::ALL.iter().map(|v| v.as_str()).collect());
        row("acme_failures_total", "reason", AcmeFailure::ALL.iter().map(|v| v.as_str()).collect());
        row("plugin_callbacks_total", "callback", Callback::ALL.iter().map(|v| v.as_str()).collect());
        row("plugin_refusals_total", "reason", Refusal::ALL.iter().map(|v| v.as_str()).collect());
        row("trace_spans_total", "result", vec!["exported", "failed", "dropped"]);
        row("config_reloads_total", "result", vec!["success", "failure"]);
        md.push_str(
            "\nWhere more combinations occur than a worker has places for (32 handshakes, 64 pairs of method and \
             code, 32 codes of a\nserver), the rest is counted under `other`.\n",
        );
        md
    }
}
