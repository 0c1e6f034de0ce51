//! Sessions that are not HTTP: one span each, which tells how it went and ended.

use std::io::{Read, Write};

use serde_json::Value;

use crate::support::client::{connect, knock, read_to_end, reset};
use crate::support::collector::{Collector, attribute};
use crate::support::peers::free_address;
use crate::support::tls::{certificates, endpoint, endpoint_with, rustls};
use crate::support::upstream::Upstream;
use crate::support::{Gateway, tcp_proxy};

const ANSWER: &[u8] = b"all that I say";

/// Reads a little, says its answer, and closes.
fn terse() -> Upstream {
    Upstream::start(|mut stream| {
        let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(ANSWER));
    })
}

/// The one span that comes next.
fn span(collector: &Collector) -> Value {
    collector.spans(1).1.remove(0)
}

/// Some attributes of a span.
fn told(span: &Value, keys: &[&str]) -> Vec<Value> {
    keys.iter().map(|key| attribute(span, key)).collect()
}

#[test]
fn a_session_is_a_span_with_its_endpoint_upstream_server_and_bytes() {
    let (upstream, collector) = (terse(), Collector::answering(&[]));
    let mut gateway = Gateway::start(&tcp_proxy(&[upstream.address], &collector.tracing("")));
    let mut client = connect(gateway.address("front"));
    client.write_all(b"question").unwrap();
    assert_eq!(read_to_end(&mut client).0, ANSWER);
    drop(client);
    let span = span(&collector);
    let trace = span["traceId"].as_str().unwrap();
    assert!(gateway.wait_for_access(" upstream=app ").contains(&format!(" trace={trace}")), "{span:#}");
    assert_eq!(
        (&span["name"], &span["kind"], &span["parentSpanId"], &span["status"]),
        (&"session app".into(), &2.into(), &Value::Null, &serde_json::json!({}))
    );
    let (server, sent) = (upstream.address.to_string(), ANSWER.len().to_string());
    for (key, value) in [
        ("portcullis.endpoint", "front"),
        ("portcullis.upstream", "app"),
        ("portcullis.server", &server),
        ("portcullis.tries", "1"),
        ("portcullis.received.bytes", "8"),
        ("portcullis.sent.bytes", &sent),
        ("network.transport", "tcp"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(&span, key), value, "{key}: {span:#}");
    }
    assert!(attribute(&span, "portcullis.connect.seconds").as_f64().unwrap() > 0.0, "{span:#}");
    assert_eq!(
        told(&span, &["error.type", "tls.cipher", "tls.client.server_name"]),
        [const { Value::Null }; 3],
        "{span:#}"
    );
    let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("endTimeUnixNano") > time("startTimeUnixNano"), "{span:#}");
}

#[test]
fn a_span_tells_what_tls_settled_or_of_tls_that_is_passed_on_the_name_alone() {
    let (upstream, collector) = (terse(), Collector::answering(&[]));
    let ended = endpoint_with("ended", "public", "site", &certificates(&["localhost"]), "");
    let rule = "[[endpoints.passed.passthrough]]\nserver_names = [\"localhost\"]\nhandler = \"site\"\n";
    let passed = endpoint("passed", &["www"], "").replace("\"show\"", "\"site\"");
    let more = format!("{ended}{passed}{rule}{}", collector.tracing(""));
    let gateway = Gateway::start(&tcp_proxy(&[upstream.address], &more));

    let mut client = rustls(gateway.address("ended"));
    client.write_all(b"question").unwrap();
    assert_eq!(read_to_end(&mut client).0, ANSWER);
    drop(client);
    let span_of_ended = span(&collector);
    let keys = ["portcullis.endpoint", "tls.protocol.version", "tls.curve", "tls.client.server_name"];
    assert_eq!(told(&span_of_ended, &keys), ["ended", "1.3", "X25519MLKEM768", "localhost"], "{span_of_ended:#}");
    assert_eq!(told(&span_of_ended, &["tls.resumed", "portcullis.received.bytes"]), [false.into(), Value::from("8")]);

    let (mut client, mut hello) = (rustls(gateway.address("passed")), Vec::new());
    client.conn.write_tls(&mut hello).unwrap();
    client.sock.write_all(&hello).unwrap();
    assert_eq!(read_to_end(&mut client.sock).0, ANSWER);
    drop(client);
    let span_of_passed = span(&collector);
    let expected = ["passed".into(), Value::Null, Value::Null, "localhost".into()];
    assert_eq!(told(&span_of_passed, &keys), expected, "{span_of_passed:#}");
    assert_eq!(attribute(&span_of_passed, "portcullis.received.bytes"), hello.len().to_string());
}

#[test]
fn a_session_that_ends_badly_says_why_and_is_a_failure_where_the_client_is_not_to_blame() {
    let (dead, collector) = (free_address(), Collector::answering(&[]));
    let echo = "[endpoints.back]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"echo\"\n\
                [handlers.echo]\ntype = \"echo\"\n";
    let gateway = Gateway::start(&tcp_proxy(&[dead], &format!("{echo}{}", collector.tracing(""))));
    knock(gateway.address("front"));
    let refused = span(&collector);
    let keys = ["error.type", "portcullis.server"];
    assert_eq!(told(&refused, &keys), ["connection_refused", &dead.to_string()], "{refused:#}");
    assert_eq!(refused["status"]["code"], 2);
    assert!(attribute(&refused, "portcullis.detail").as_str().unwrap().contains(&dead.to_string()), "{refused:#}");

    let mut client = connect(gateway.address("back"));
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    reset(client);
    let left = span(&collector);
    assert_eq!((&left["name"], &left["status"]["code"]), (&"session".into(), &Value::Null), "{left:#}");
    assert_eq!(
        told(&left, &["error.type", "portcullis.sent.bytes", "portcullis.upstream"])[..2],
        ["client_closed", "5"]
    );
}

#[test]
fn of_sessions_as_of_requests_a_share_is_recorded() {
    let (upstream, collector) = (terse(), Collector::answering(&[]));
    let mut gateway = Gateway::start(&tcp_proxy(&[upstream.address], &collector.tracing("sampling = \"0%\"")));
    let mut client = connect(gateway.address("front"));
    client.write_all(b"question").unwrap();
    read_to_end(&mut client);
    drop(client);
    assert!(!gateway.wait_for_access(" upstream=app ").contains("trace="));
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    collector.sees_nothing();
}
