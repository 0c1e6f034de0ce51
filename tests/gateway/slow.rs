//! Clients that send or take a little at a time, for ever: they are cut off by rate, and those that merely wait are not.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::support::client::{connect, read_head, read_response, read_to_end};
use crate::support::h2::{Client, DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::support::tls;
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, PATIENCE, http_proxy, with_front};

/// More than these clients move in a second, so that nobody has to wait for longer.
const FAST: &str = "limits = { min_rate = \"1MiB\", min_rate_grace = \"1s\" }";
const LARGE: usize = 64 * 1024 * 1024;

/// Answers `/large` with more than fits on the way, and everything else in two parts, the second when the test says so.
fn upstream() -> (Upstream, SyncSender<()>) {
    let (go, gone) = sync_channel(10);
    let gone = Mutex::new(gone);
    let upstream = Upstream::start(move |mut stream| {
        while let Some(head) = read_request(&mut stream) {
            if head.starts_with("GET /large ") {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
                let _ = stream.write_all(&vec![b'x'; LARGE]);
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
            if gone.lock().unwrap().recv_timeout(PATIENCE).is_err() || stream.write_all(b"half").is_err() {
                return;
            }
        }
    });
    (upstream, go)
}

fn failures(reason: &str) -> String {
    format!("portcullis_failures_total{{endpoint=\"front\",reason=\"{reason}\"}}")
}

fn refusals(reason: &str) -> String {
    format!("portcullis_http_requests_refused_total{{endpoint=\"front\",reason=\"{reason}\"}}")
}

#[test]
fn a_reader_that_is_too_slow_is_cut_off_and_one_that_waits_for_more_is_not() {
    let (upstream, go) = upstream();
    let gateway = Gateway::start(&with_front(&http_proxy(&[upstream.address], ""), FAST));
    let mut waiting = connect(gateway.address("front"));
    waiting.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut half = [0; 4];
    read_head(&mut waiting);
    waiting.read_exact(&mut half).unwrap();

    let mut slow = connect(gateway.address("front"));
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.wait_for_metric(&failures("client_too_slow"), 1.0);
    let came = read_to_end(&mut slow).0.len();
    assert!(came < LARGE, "{came} bytes came");

    go.send(()).unwrap();
    waiting.read_exact(&mut half).unwrap();
    assert_eq!(&half, b"half", "nothing waited for this client meanwhile");
}

#[test]
fn a_reader_over_tls_that_is_too_slow_is_cut_off() {
    let (upstream, _go) = upstream();
    let tls = format!(
        "{}[handlers.site]\ntype = \"http-proxy\"\nupstream = \"app\"\n[upstreams.app]\nservers = [\"{}\"]\n",
        tls::endpoint_with("front", "public", "site", &tls::certificates(&["localhost"]), ""),
        upstream.address
    );
    let gateway = Gateway::start(&with_front(&tls, FAST));
    let mut slow = tls::rustls(gateway.address("front"));
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    gateway.wait_for_metric(&failures("client_too_slow"), 1.0);
}

#[test]
fn a_stream_whose_window_is_opened_byte_by_byte_is_cut_off_and_the_connection_goes_on() {
    let (upstream, go) = upstream();
    let gateway = Gateway::start(&with_front(&http_proxy(&[upstream.address], ""), FAST));
    let mut client = Client::connect(gateway.address("front"));
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 16]); // INITIAL_WINDOW_SIZE
    client.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()); // the connection's, so that only the stream's is small
    client.get(1, "/large");
    loop {
        match client.next_of(&[DATA, HEADERS, RST_STREAM]) {
            frame if frame.kind == RST_STREAM => break,
            frame if frame.kind == DATA => client.send(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
            _ => {}
        }
    }
    gateway.wait_for_metric(&failures("client_too_slow"), 1.0);
    go.send(()).unwrap();
    client.get(3, "/slow");
    assert_eq!(client.next_of(&[HEADERS]).stream, 3);
    let mut body = Vec::new();
    while body.len() < 8 {
        body.extend(client.next_of(&[DATA]).payload);
    }
    assert_eq!(body, b"halfhalf");
}

#[test]
fn an_announced_body_that_trickles_is_refused_and_a_stream_without_a_length_is_not() {
    let upstream = Upstream::start(|mut stream| {
        let mut sent = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            sent.extend(&buffer[..n]);
            if sent.ends_with(b"0\r\n\r\n") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let gateway = Gateway::start(&with_front(&http_proxy(&[upstream.address], ""), FAST));
    let front = gateway.address("front");
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let mut grpc = Client::connect(front);
    grpc.request(1, 0, &head);
    grpc.send(DATA, 0, 1, b"a message");

    let mut slow = connect(front);
    slow.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab").unwrap();
    let answer = read_response(&mut slow);
    assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
    assert!(answer.body.contains("too slowly"), "{}", answer.body);
    let mut slow = Client::connect(front);
    slow.request(1, 0, &[&head[..], &[("content-length", "9")]].concat());
    slow.send(DATA, 0, 1, b"ab");
    assert_eq!(slow.next_of(&[HEADERS]).status(), 408);
    assert!(String::from_utf8_lossy(&slow.next_of(&[DATA]).payload).contains("too slowly"));
    gateway.wait_for_metric(&refusals("body_too_slow"), 2.0);

    grpc.send(DATA, 1, 1, b"");
    assert_eq!(grpc.next_of(&[HEADERS]).status(), 200);
}

#[test]
fn a_body_that_stops_coming_is_answered_408_in_either_version() {
    let upstream = Upstream::start(|mut stream| drop(read_to_end(&mut stream)));
    let limit = "timeouts = { body = \"200ms\" }";
    let gateway = Gateway::start(&with_front(&http_proxy(&[upstream.address], ""), limit));
    let front = gateway.address("front");
    let mut stalled = connect(front);
    stalled.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab").unwrap();
    let answer = read_response(&mut stalled);
    assert_eq!(answer.status, 408);

    let mut stalled = Client::connect(front);
    stalled.request(1, 0, &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")]);
    stalled.send(DATA, 0, 1, b"ab");
    assert_eq!(stalled.next_of(&[HEADERS]).status(), 408);
    assert_eq!(String::from_utf8_lossy(&stalled.next_of(&[DATA]).payload), answer.body);
    gateway.wait_for_metric(&refusals("body_timeout"), 2.0);
}
