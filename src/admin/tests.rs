//! The admin port as a client meets it, through a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::fixture::{FIT_FILE, HOSTILE_FILE, WAIVED, running_with, snapshot};
use crate::admin::routes::ROUTES;
use crate::admin::state::{Lifecycle, Snapshot, State};
use crate::admin::{Limits, bind, start_within};
use crate::drain::Drain;
use crate::identity::{Group, TlsVersion};
use crate::metrics::evidence::Feature;
use crate::metrics::{
    BUCKETS, Counter, EndpointCounters, Histogram, Kind, METRICS, Method, ServerCounters, UpstreamCounters,
};
use crate::metrics::{HandshakeFailure, Rejection, handshake_key, request_key};
use crate::plan::EndpointState;

struct Port {
    address: SocketAddr,
    state: Arc<State>,
    stop: Drain,
    thread: Option<JoinHandle<()>>,
}

struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

impl Port {
    fn open(running: Snapshot) -> Self {
        Self::open_within(Limits::default(), running)
    }

    fn open_within(limits: Limits, running: Snapshot) -> Self {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (address, state, stop) = (listener.local_addr().unwrap(), State::new(running), Drain::new());
        state.set_lifecycle(Lifecycle::Serving);
        let thread = Some(start_within(limits, listener, state.clone(), stop.clone()).unwrap());
        Self { address, state, stop, thread }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn get(&self, path: &str) -> Got {
        self.ask("GET", path, "")
    }

    fn ask(&self, method: &str, path: &str, fields: &str) -> Got {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"))
    }

    fn send(&self, request: &str) -> Got {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?} got {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got { status, head: head.to_ascii_lowercase(), body: body.into() }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.begin();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn every_route_answers_get_and_head_alike_and_nothing_else() {
    let port = Port::open(snapshot());
    for route in ROUTES {
        let path = route.path.replace("endpoints/{name}", "endpoints/internet").replace("{name}", "app");
        let (get, head) = (port.get(&path), port.ask("HEAD", &path, ""));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert!(get.field("content-type").unwrap().starts_with(route.content), "{path}");
        assert_eq!(get.field("cache-control"), Some("no-store"), "{path}");
        assert_eq!(get.field("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(get.field("content-security-policy").unwrap().starts_with("default-src 'none'"), "{path}");
        assert!(head.body.is_empty() && head.field("content-length").is_some(), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let other = port.ask(method, &path, "");
            assert_eq!((other.status, other.field("allow")), (405, Some("get, head")), "{method} {path}");
        }
    }
}

#[test]
fn an_unknown_path_is_told_the_known_ones() {
    let port = Port::open(snapshot());
    let got = port.get("/nothing?x=/stats");
    assert_eq!(got.status, 404);
    assert_eq!(got.json()["paths"].as_array().unwrap().len(), ROUTES.len());
    let got = port.get("/endpoints/intranet");
    assert_eq!(got.status, 404);
    assert_eq!(got.json()["endpoints"], serde_json::json!(["internal", "internet", "spare"]));
}

#[test]
fn readiness_says_which_required_endpoint_is_refused_and_why() {
    let port = Port::open(snapshot());
    assert_eq!(port.get("/readyz").status, 200, "an endpoint that is not required does not matter");
    port.state.replace(running_with(|plan| {
        let internet = Arc::get_mut(&mut plan.endpoints[1]).unwrap();
        internet.state = EndpointState::Refused(vec!["certs/site.pem: expired".into()]);
    }));
    let got = port.get("/readyz");
    assert_eq!(got.status, 503);
    let refused = &got.json()["refused"];
    assert_eq!(refused.as_array().unwrap().len(), 1);
    assert_eq!(
        (&refused[0]["endpoint"], &refused[0]["reasons"][0]),
        (&"internet".into(), &"certs/site.pem: expired".into())
    );
    assert_eq!(port.get("/healthz").status, 200);
}

#[test]
fn a_gateway_that_starts_or_drains_is_not_ready_and_its_endpoints_are_not_up() {
    let port = Port::open(snapshot());
    for lifecycle in [Lifecycle::Starting, Lifecycle::Draining] {
        port.state.set_lifecycle(lifecycle);
        let got = port.get("/readyz");
        assert_eq!((got.status, got.json()["lifecycle"].as_str()), (503, Some(lifecycle.as_str())));
        assert!(port.get("/metrics").body.contains("\nportcullis_endpoint_up{endpoint=\"internet\"} 0\n"));
    }
}

#[test]
fn a_foreign_host_or_origin_is_refused() {
    let port = Port::open(snapshot());
    let status = |host: &str, fields: &str| {
        port.send(&format!("GET /stats HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n")).status
    };
    for host in ["localhost", "127.0.0.1:9090", "[::1]:9090", "LOCALHOST:1"] {
        assert_eq!(status(&format!("Host: {host}\r\n"), ""), 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:9090"] {
        assert_eq!(status(&format!("Host: {host}\r\n"), ""), 421, "{host}");
    }
    assert_eq!(status("", ""), 400);
    assert_eq!(status("Host: localhost\r\nHost: evil.example\r\n", ""), 400);
    assert_eq!(status("Host: localhost\r\n", "Origin: http://evil.example\r\n"), 403);
    assert_eq!(status("Host: localhost\r\n", "Sec-Fetch-Site: cross-site\r\n"), 403);
    assert_eq!(status("Host: localhost:9090\r\n", "Origin: http://localhost:9090\r\n"), 200);
    let absolute = port.send("GET http://evil.example/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(absolute.status, 421);
}

#[test]
fn with_a_token_configured_nothing_is_answered_without_it() {
    let port = Port::open(running_with(|plan| plan.admin.as_mut().unwrap().token = Some("s3cret".into())));
    for path in ["/", "/healthz", "/metrics", "/nothing"] {
        let got = port.get(path);
        assert_eq!(got.status, 401, "{path}");
        assert!(got.field("www-authenticate").unwrap().starts_with("bearer"), "{path}");
        assert!(!got.body.contains("s3cret"));
    }
    assert_eq!(port.ask("GET", "/metrics", "Authorization: Bearer s3cret\r\n").status, 200);
    assert_eq!(port.ask("GET", "/metrics", "Authorization: Bearer s3cres\r\n").status, 401);
    port.state.replace(running_with(|plan| plan.admin = None));
    assert_eq!(port.get("/metrics").status, 503, "without an admin table nobody is let in");
}

#[test]
fn the_views_show_chains_findings_and_the_fallback() {
    let port = Port::open(snapshot());
    let audit = port.get("/audit").json();
    let chain = &audit["chains"][0];
    assert_eq!((&chain["file"], &chain["verdict"]), (&HOSTILE_FILE.into(), &"deny".into()));
    let keys: Vec<_> = chain.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["certificates", "endpoint", "file", "findings", "key", "verdict"]);
    let keys: Vec<_> = chain["findings"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["file", "fix", "level", "position", "rule", "seen", "sha256", "subject", "waived_until", "why"]);
    assert_eq!(chain["certificates"][0]["not_after"], "9999-12-31T23:59:59Z");
    assert_eq!((&chain["findings"][0]["rule"], &audit["profile"]), (&"sig-md5".into(), &Value::Null));
    let fallback = &audit["fallbacks"][0];
    assert_eq!((&fallback["endpoint"], &fallback["by"]), (&"internet".into(), &FIT_FILE.into()));

    let certificates = port.get("/certificates").json();
    let of = |n: usize| &certificates["certificates"][n];
    assert_eq!((&of(0)["served"], &of(1)["served"]), (&false.into(), &true.into()));
    assert!(of(1)["leaf"]["days_left"].as_i64().unwrap() > 10_000);

    let endpoint = port.get("/endpoints/internet").json();
    assert_eq!(endpoint["fallback_active"], true);
    assert_eq!(endpoint["served"], serde_json::json!([FIT_FILE, FIT_FILE]));
    assert_eq!(endpoint["chains"].as_array().unwrap().len(), 3);
    assert_eq!(port.get("/endpoints").json()["endpoints"][2]["state"], "refused");
}

#[test]
fn the_running_configuration_is_shown_without_its_secrets() {
    let port = Port::open(snapshot());
    let got = port.get("/config");
    assert!(!got.body.contains("hunter2"));
    assert_eq!(got.json()["endpoints"]["internet"]["settings"]["banner"], "hello");
    assert_eq!(port.get("/version").json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_dashboard_shows_everything_and_lets_no_text_become_markup() {
    let port = Port::open(snapshot());
    port.state.reload_failed("gateway.toml:1:1: <script>".into());
    let got = port.get("/");
    for text in ["internet", "internal", "spare", "refused", "up, on a fallback", "app:3001", "sig-md5", "/audit"] {
        assert!(got.body.contains(text), "{text}");
    }
    for markup in ["<site>", "<b>.pem", "<script", "src=", "http://", "https://"] {
        assert!(!got.body.contains(markup), "{markup}");
    }
}

#[test]
fn stats_add_the_endpoints_up() {
    let port = Port::open(snapshot());
    let running = port.state.snapshot();
    for (plan, n) in running.plan.endpoints.iter().zip([1, 10, 0]) {
        let here = plan.context.metrics.here();
        here.accepted.add(n);
        here.requests.count(request_key(Method::Get, 404));
        plan.context.metrics.reject(Rejection::Address);
    }
    let stats = port.get("/stats").json();
    assert_eq!(stats["total"]["connections"]["accepted"], 11);
    assert_eq!(stats["total"]["requests"]["by_status"]["4xx"], 3);
    assert_eq!(stats["endpoints"]["internet"]["connections"]["rejected"]["address"], 1);
    assert_eq!(stats["endpoints"]["internet"]["connections"]["rejected"]["panic"], 0);
    assert_eq!(stats["upstreams"]["app"].as_object().unwrap().len(), 2);
    assert_eq!(stats["lifecycle"], "serving");
}

#[test]
fn the_exported_metrics_are_exactly_those_of_the_table() {
    let port = Port::open(snapshot());
    for accept in ["", "Accept: application/openmetrics-text\r\n"] {
        let text = port.ask("GET", "/metrics", accept).body;
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let exported: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
        let table: BTreeSet<String> = METRICS
            .iter()
            .map(|metric| {
                let name = metric.full_name().into_owned();
                let short = metric.kind == Kind::Counter && !accept.is_empty();
                if short { name.trim_end_matches("_total").into() } else { name }
            })
            .collect();
        assert_eq!(exported.len(), table.len(), "a family is begun twice");
        assert_eq!(exported.into_iter().map(String::from).collect::<BTreeSet<_>>(), table);
    }
}

#[test]
fn a_series_is_exported_once() {
    let port = Port::open(snapshot());
    let text = port.get("/metrics").body;
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "{line}");
    }
}

/// Taking the structures apart without `..` makes a new counter an error here, until it is exported.
#[test]
fn every_counter_is_exported() {
    let port = Port::open(snapshot());
    let running = port.state.snapshot();
    let endpoint = running.plan.endpoints[1].context.metrics.here();
    let EndpointCounters {
        accepted,
        active,
        rejected,
        handshakes,
        handshake_failures,
        handshake_seconds,
        unknown_server_names,
        evidence,
        ticket_key_rotations,
        requests,
        request_seconds,
        requests_refused,
        failures: failed,
        http2_closed,
        received_bytes,
        sent_bytes,
    } = endpoint;
    let upstream = &running.plan.upstreams[0];
    let server = Arc::clone(&upstream.members().list[1].server.metrics);
    let ServerCounters {
        requests: exchanges,
        responses,
        connects,
        active: open,
        failures,
        last_failure: _, // a view's, not a metric's
        in_work,
        ejections,
        checks_passed,
        checks_failed,
        lookups_passed,
        lookups_failed,
        connect_seconds,
        response_seconds,
    } = server.here();
    let UpstreamCounters { retries, queued, queue_seconds, busy } = upstream.metrics.here();

    let singles = [
        accepted,
        active,
        unknown_server_names,
        ticket_key_rotations,
        received_bytes,
        sent_bytes,
        exchanges,
        connects,
        open,
    ];
    let features = Feature::all().map(|feature| &evidence.of(feature).handshakes);
    let groups = rejected
        .iter()
        .chain(handshake_failures)
        .chain(requests_refused)
        .chain(http2_closed)
        .chain(failures)
        .chain(failed);
    let groups = groups
        .chain([in_work, ejections, checks_passed, checks_failed, lookups_passed, lookups_failed, queued, busy])
        .chain(retries);
    let counters: Vec<&Counter> = singles.into_iter().chain(groups).chain(features).collect();
    for (n, counter) in counters.iter().enumerate() {
        counter.add(7001 + n as u64);
    }
    let histograms: [&Histogram; 5] =
        [handshake_seconds, request_seconds, response_seconds, connect_seconds, queue_seconds];
    for (n, histogram) in histograms.iter().enumerate() {
        histogram.buckets[BUCKETS.len()].add(8001 + n as u64);
    }
    (0..9001).for_each(|_| handshakes.count(handshake_key(TlsVersion::V13, Group::X25519MlKem768, true)));
    (0..9002).for_each(|_| requests.count(request_key(Method::Get, 200)));
    (0..9003).for_each(|_| responses.count(502));

    let text = port.get("/metrics").body;
    let values: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.1)).collect();
    let expected = (7001..7001 + counters.len() as u64).chain(8001..8006).chain(9001..9004);
    for value in expected {
        assert!(values.contains(value.to_string().as_str()), "{value} is not exported:\n{text}");
    }
    let handshake = "portcullis_tls_handshakes_total{endpoint=\"internet\",version=\"1.3\",group=\"X25519MLKEM768\",\
                     resumed=\"true\"} 9001";
    assert!(text.contains(handshake), "{text}");
}

#[test]
fn alerts_find_a_zero_before_the_first_failure_and_no_waived_finding() {
    let port = Port::open(snapshot());
    port.state.reload_failed("no".into());
    let text = port.get("/metrics").body;
    let reason = HandshakeFailure::Version.as_str();
    for line in [
        format!("portcullis_tls_handshake_failures_total{{endpoint=\"internet\",reason=\"{reason}\"}} 0"),
        "portcullis_connections_rejected_total{endpoint=\"internal\",reason=\"gateway_full\"} 0".into(),
        "portcullis_endpoint_up{endpoint=\"spare\"} 0".into(),
        "portcullis_endpoint_info{endpoint=\"internet\",class=\"public\",tls=\"true\"} 1".into(),
        "portcullis_certificate_fallback_active{endpoint=\"internet\"} 1".into(),
        "portcullis_certificate_not_after_timestamp_seconds{endpoint=\"internet\",certificate=\"certs/site.pem\"} \
         253402300799"
            .into(),
        "portcullis_certificate_audit_findings{endpoint=\"internet\",certificate=\"certs/\\\"quoted\\\"\\\\<b>.pem\",\
         rule=\"sig-md5\",severity=\"deny\"} 1"
            .into(),
        "portcullis_crl_next_update_timestamp_seconds{endpoint=\"internet\",crl=\"certs/clients.crl\"} 0".into(),
        "portcullis_config_last_reload_successful 0".into(),
        "portcullis_config_reloads_total{result=\"failure\"} 1".into(),
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
    let waived = |file: &str| format!("certificate=\"{file}\",rule=\"{WAIVED}\"");
    assert!(text.contains(&waived(FIT_FILE)) && !text.contains(&waived("certs/\\\"quoted\\\"\\\\<b>.pem")));
    assert!(!text.contains("tls_handshake_failures_total{endpoint=\"internal\""), "a plain endpoint has no handshakes");
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let port = Port::open(snapshot());
    let mut socket = port.connect();
    for _ in 0..3 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
}

#[test]
fn a_head_that_does_not_come_frees_its_place_in_time() {
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let port = Port::open_within(limits, snapshot());
    let began = Instant::now();
    let stalled: Vec<TcpStream> = (0..limits.connections)
        .map(|_| {
            let mut socket = port.connect();
            socket.write_all(b"GET /stats HT").unwrap();
            socket
        })
        .collect();
    assert_eq!(port.get("/healthz").status, 200, "one more waits until a place is free");
    assert!(began.elapsed() < limits.request, "{:?}", began.elapsed());
    drop(stalled);
}

#[test]
fn a_client_that_takes_no_answer_is_cut_off_in_time() {
    let limits = Limits { request: Duration::from_millis(100), ..Limits::default() };
    let port = Port::open_within(limits, snapshot());
    let mut socket = port.connect();
    socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // Asks and asks until the answers fill every buffer, and then for as long as it is let.
    let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let error = loop {
        if let Err(error) = socket.write_all(&requests) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert_eq!(port.get("/healthz").status, 200);
}

#[test]
fn what_is_not_http_or_too_large_is_refused_and_ends() {
    let port = Port::open(snapshot());
    assert_eq!(port.send("\x16\x03\x01 what\r\n\r\n").status, 400);
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut socket = port.connect();
    // The port may answer and close before it has read everything.
    let _ = socket.write_all(large.as_bytes());
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(port.get("/healthz").status, 200);
}
