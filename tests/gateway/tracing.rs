//! Traces: whose `traceparent` is gone on with, what upstreams are told, and what a collector gets by OTLP.

mod https;
mod reload;
mod sessions;

use std::sync::mpsc::Receiver;
use std::time::Instant;

use serde_json::Value;

use crate::support::client::{ask, connect, curl};
use crate::support::collector::{Collector, attribute};
use crate::support::h2_upstream::{Http2Upstream, say};
use crate::support::peers::free_address;
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, PATIENCE, http_proxy, run, stderr, with_app};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request that is part of somebody's trace.
fn request(sampled: &str) -> String {
    format!(
        "GET /v1/x?secret=1 HTTP/1.1\r\nHost: a.example\r\ntraceparent: 00-{TRACE}-{PARENT}-{sampled}\r\ntracestate: a=1\r\n\r\n"
    )
}

/// The value of a field of the next request that an upstream got, however often it is there.
fn told(heads: &Receiver<String>, name: &str) -> Vec<String> {
    let head = heads.recv_timeout(PATIENCE).unwrap();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
}

#[test]
fn without_the_table_a_traceparent_is_a_field_like_any_other() {
    let (upstream, heads) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    for come in ["00-x", &format!("00-{TRACE}-{PARENT}-01")] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {come}\r\n\r\n");
        assert_eq!(ask(&mut connect(gateway.address("front")), text).status, 200);
        assert_eq!(told(&heads, "traceparent"), [come]);
    }
    assert_eq!(gateway.metric("portcullis_trace_spans_total{result=\"dropped\"}"), None);
}

#[test]
fn a_request_is_a_span_of_its_clients_trace_with_one_below_it_for_each_server_that_was_tried() {
    let (alive, heads) = Upstream::answering(OK);
    let (dead, collector) = (free_address(), Collector::answering(&[]));
    let routes =
        "[gateway]\nworkers = 1\n[[handlers.site.routes]]\nname = \"api\"\npath = \"/v1/\"\nupstream = \"app\"";
    let tracing = collector.tracing("service = \"edge\"\notlp_headers = { X-Team = \"blue\" }");
    let mut gateway = Gateway::start(&http_proxy(&[dead, alive.address], &format!("{routes}\n{tracing}")));
    let mut client = connect(gateway.address("front"));
    // Each server has its turn, so that one of two requests meets the dead one first.
    let mut parents = Vec::new();
    for _ in 0..2 {
        assert_eq!(ask(&mut client, request("01")).status, 200);
        let head = heads.recv_timeout(PATIENCE).unwrap();
        assert!(head.contains("tracestate: a=1\r\n") && head.matches("traceparent: ").count() == 1, "{head}");
        let parent = head.split(&format!("traceparent: 00-{TRACE}-")).nth(1).unwrap();
        parents.push(parent[..16].to_owned());
        assert!(gateway.wait_for_access("/v1/x").contains(&format!(" trace={TRACE}")));
    }
    let (resource, spans) = collector.spans(5);
    assert_eq!(
        (attribute(&resource, "service.name"), attribute(&resource, "host.name").is_string()),
        ("edge".into(), true)
    );
    let (servers, clients): (Vec<Value>, _) = spans.into_iter().partition(|span| span["kind"] == 2);
    for server in &servers {
        assert_eq!(
            (&server["traceId"], &server["parentSpanId"], &server["name"]),
            (&TRACE.into(), &PARENT.into(), &"GET api".into())
        );
        for (key, value) in [
            ("portcullis.endpoint", "front"),
            ("portcullis.upstream", "app"),
            ("http.route", "api"),
            ("url.path", "/v1/x"),
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("network.protocol.version", "1.1"),
        ] {
            assert_eq!(attribute(server, key), value, "{key}: {server:#}");
        }
        assert!(attribute(server, "portcullis.first_byte.seconds").as_f64().unwrap() > 0.0, "{server:#}");
        let time = |name: &str| server[name].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("endTimeUnixNano") > time("startTimeUnixNano"), "{server:#}");
    }
    let below = |server: &Value| {
        clients.iter().filter(|span| span["parentSpanId"] == server["spanId"]).cloned().collect::<Vec<_>>()
    };
    let mut tries: Vec<Vec<Value>> = servers.iter().map(below).collect();
    tries.sort_by_key(Vec::len);
    assert_eq!(tries.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    let (failed, retried) = (&tries[1][0], &tries[1][1]);
    assert_eq!(
        (attribute(failed, "error.type"), failed["status"]["code"].as_u64()),
        ("connection_refused".into(), Some(2))
    );
    assert_eq!(attribute(failed, "server.port"), dead.port().to_string());
    assert_eq!(
        (attribute(retried, "http.request.resend_count"), attribute(retried, "http.response.status_code")),
        ("1".into(), "200".into())
    );
    // What the server was told is the span of the attempt that reached it.
    let mut answered: Vec<_> = [&tries[0][0], retried].map(|span| span["spanId"].as_str().unwrap().to_owned()).into();
    answered.sort();
    parents.sort();
    assert_eq!(answered, parents);
    gateway.wait_for_metric("portcullis_trace_spans_total{result=\"exported\"}", 5.0);
    assert!(!gateway.get("/config").body.contains("blue"), "what the collector wants is a secret");
}

#[test]
fn http_2_has_traces_on_both_sides() {
    let upstream = Http2Upstream::start(10, |(request, answer)| async move {
        let told = request.headers().get("traceparent").map(|value| value.to_str().unwrap().to_owned());
        say(answer, &told.unwrap_or_default());
    });
    let collector = Collector::answering(&[]);
    let config = with_app(&http_proxy(&[upstream.address], &collector.tracing("")), "protocol = \"h2\"");
    let gateway = Gateway::start(&config);
    let url = format!("http://{}/", gateway.address("front"));
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let seen = curl(&["--http2-prior-knowledge", "-H", &parent, &url]);
    let (_, spans) = collector.spans(2);
    let client = spans.iter().find(|span| span["kind"] == 3).unwrap();
    assert!(seen.contains(&format!("00-{TRACE}-{}-01", client["spanId"].as_str().unwrap())), "{seen}\n{client:#}");
    assert_eq!(attribute(spans.iter().find(|span| span["kind"] == 2).unwrap(), "network.protocol.version"), "2");
}

#[test]
fn a_strangers_trace_is_not_gone_on_with_and_a_client_decides_for_its_own() {
    let (upstream, heads) = Upstream::answering(OK);
    let collector = Collector::answering(&[]);
    let public = "[endpoints.back]\nlisten = \"127.0.0.1:0\"\nclass = \"public\"\nhandler = \"site\"";
    let tracing = collector.tracing("sampling = \"0%\"");
    let gateway = Gateway::start(&http_proxy(&[upstream.address], &format!("{public}\n{tracing}")));
    ask(&mut connect(gateway.address("back")), request("01"));
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(!head.contains(TRACE) && !head.contains("tracestate") && head.contains("traceparent: 00-"), "{head}");
    // A trace that its client does not record is not recorded here; it is passed on all the same.
    ask(&mut connect(gateway.address("front")), request("00"));
    let parent = told(&heads, "traceparent");
    assert!(
        parent[0].starts_with(&format!("00-{TRACE}-")) && parent[0].ends_with("-00") && !parent[0].contains(PARENT),
        "{parent:?}"
    );
    ask(&mut connect(gateway.address("front")), request("01"));
    assert_eq!(collector.spans(2).1[0]["traceId"], TRACE, "only the one that its client records");
}

#[test]
fn what_is_recorded_before_the_end_is_sent_before_it() {
    let (upstream, _heads) = Upstream::answering(OK);
    let collector = Collector::answering(&[]);
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], &collector.tracing("")));
    assert_eq!(ask(&mut connect(gateway.address("front")), request("01")).status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    assert_eq!(collector.spans(2).1.len(), 2);
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let (upstream, _heads) = Upstream::answering(OK);
    let collector = Collector::answering(&[503, 200, 400]);
    let mut gateway =
        Gateway::start(&http_proxy(&[upstream.address], &collector.tracing("otlp_headers = { X-Key = \"k\" }")));
    ask(&mut connect(gateway.address("front")), request("01"));
    let [(head, first), (_, second)] = [collector.request(), collector.request()];
    assert_eq!(first, second);
    for part in ["post /v1/traces http/1.1\r\n", "x-key: k\r\n", "content-type: application/json\r\n"] {
        assert!(head.contains(part), "{head}");
    }
    gateway.wait_for_metric("portcullis_trace_spans_total{result=\"exported\"}", 2.0);
    ask(&mut connect(gateway.address("front")), request("01"));
    gateway.wait_for_metric("portcullis_trace_spans_total{result=\"failed\"}", 2.0);
    assert!(gateway.wait_for_log("spans are lost").contains("it answers 400"));
    ask(&mut connect(gateway.address("front")), request("01"));
    gateway.wait_for_log("the collector takes spans again");
    gateway.wait_for_metric("portcullis_trace_spans_total{result=\"exported\"}", 4.0);
}

#[test]
fn a_collector_that_is_gone_costs_no_request_and_does_not_hold_up_the_end() {
    let (upstream, _heads) = Upstream::answering(OK);
    let tracing = format!("[tracing]\notlp = \"http://{}/v1/traces\"", free_address());
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], &tracing));
    let mut client = connect(gateway.address("front"));
    for _ in 0..50 {
        assert_eq!(ask(&mut client, request("01")).status, 200);
    }
    gateway.wait_for_some("portcullis_trace_spans_total{result=\"failed\"}");
    assert!(gateway.wait_for_log("spans are lost").contains("Connection refused"));
    assert_eq!(ask(&mut client, request("01")).status, 200);
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn what_is_wrong_with_the_table_is_said_with_its_place() {
    let folder = Folder::new();
    let table = "[tracing]\notlp = \"ftp://a/\"\nsampling = \"half\"\nservice = \"\"\nca = \"none.pem\"\notlp_headers = { \"a b\" = \"x\" }\n";
    let path = folder.write("gateway.toml", format!("{}{table}", http_proxy(&[free_address()], "")));
    let output = run(&["check", "--config", path.to_str().unwrap()]);
    let said = stderr(&output);
    for part in [
        "tracing.otlp: \"ftp://a/\" is no http or https URL",
        "tracing.sampling: \"half\" is not a share",
        "tracing.service",
        "none.pem",
        "tracing.otlp_headers",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(output.status.code(), Some(1));
}
