//! Every wait of an HTTP connection has its deadline. Each test makes one deadline short and waits for what it brings.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use crate::support::client::{ask, connect, parse, read_head, read_to_end};
use crate::support::h2::{Client, GOAWAY, HEADERS, RST_STREAM};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, PATIENCE, http_proxy};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const SHORT: Duration = Duration::from_millis(200);

/// A gateway with one of the endpoint's deadlines made short.
fn with_short(deadline: &str, upstream: &Upstream) -> Gateway {
    let more = format!("[endpoints.front.timeouts]\n{deadline} = \"200ms\"");
    Gateway::start(&http_proxy(&[upstream.address], &more))
}

/// What comes until the connection ends, which must not be sooner than the deadline.
fn ended(stream: &mut TcpStream, since: Instant) -> String {
    let (bytes, _) = read_to_end(stream);
    // The gateway's clock may have begun a moment before ours.
    assert!(since.elapsed() + SHORT / 10 >= SHORT, "ended after {:?}", since.elapsed());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_head_that_does_not_end_in_time_is_answered_408() {
    let (upstream, heads) = Upstream::answering(OK);
    let gateway = with_short("header", &upstream);
    for beginning in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\nGET", "PRI * HT"] {
        let since = Instant::now();
        let mut stream = connect(gateway.address("front"));
        stream.write_all(beginning.as_bytes()).unwrap();
        let text = ended(&mut stream, since);
        // What could still become HTTP/2 has no protocol to be answered in.
        assert!(text.starts_with("HTTP/1.1 408 ") || beginning.starts_with("PRI"), "{beginning:?}: {text}");
    }
    assert_eq!(heads.try_iter().count(), 0);
}

#[test]
fn a_second_request_has_the_same_deadline_as_the_first() {
    let (upstream, _) = Upstream::answering(OK);
    let gateway = with_short("header", &upstream);
    let mut stream = connect(gateway.address("front"));
    ask(&mut stream, GET);
    let since = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nHos").unwrap();
    assert_eq!(parse(&ended(&mut stream, since)).status, 408);
}

#[test]
fn a_head_that_trickles_in_gets_no_more_time() {
    let (upstream, _) = Upstream::answering(OK);
    let gateway = with_short("header", &upstream);
    let mut stream = connect(gateway.address("front"));
    stream.write_all(b"GET / HTTP/1.1\r\nX-A: ").unwrap();
    // A byte with every look for the answer.
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let since = Instant::now();
    let mut first = [0];
    loop {
        assert!(since.elapsed() < PATIENCE, "the trickle keeps the connection");
        let _ = stream.write_all(b"a");
        match stream.read(&mut first) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    assert!(since.elapsed() < SHORT * 10, "{:?}", since.elapsed());
}

#[test]
fn a_connection_without_a_request_ends_silently_at_the_idle_deadline() {
    let (upstream, _) = Upstream::answering(OK);
    let gateway = with_short("idle", &upstream);
    let since = Instant::now();
    let mut fresh = connect(gateway.address("front"));
    assert_eq!(ended(&mut fresh, since), "");

    let mut kept = connect(gateway.address("front"));
    ask(&mut kept, GET);
    let since = Instant::now();
    assert_eq!(ended(&mut kept, since), "");
}

#[test]
fn a_deadline_that_is_far_off_when_it_is_set_is_kept_all_the_same() {
    const IDLE: Duration = Duration::from_millis(2300);
    let (upstream, _) = Upstream::answering(OK);
    let more = "[endpoints.front.timeouts]\nidle = \"2300ms\"";
    let gateway = Gateway::start(&http_proxy(&[upstream.address], more));
    let mut fresh = connect(gateway.address("front"));
    let mut kept = connect(gateway.address("front"));
    ask(&mut kept, GET);
    let since = Instant::now();
    for stream in [&mut fresh, &mut kept] {
        assert_eq!(read_to_end(stream).0, b"");
        let took = since.elapsed();
        assert!(took > IDLE - SHORT && took < 2 * IDLE, "ended after {took:?}");
    }
}

#[test]
fn an_answer_that_takes_longer_than_the_idle_deadline_is_waited_for() {
    let upstream = Upstream::start(|mut stream| {
        read_request(&mut stream);
        // Waits by way of a read that nothing answers.
        stream.set_read_timeout(Some(3 * SHORT)).unwrap();
        let _ = stream.read(&mut [0]);
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let gateway = with_short("idle", &upstream);
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 200);
}

#[test]
fn a_connection_that_rests_for_seconds_serves_on() {
    let (upstream, _) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    for request in [GET, &GET.replace("GET", "PUT")] {
        assert_eq!(ask(&mut stream, request).status, 200);
        // Long enough for the gateway to put the connection's buffers away.
        stream.set_read_timeout(Some(Duration::from_millis(2300))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    assert_eq!(ask(&mut stream, GET).status, 200);
}

#[test]
fn a_request_body_that_stands_still_ends_the_connection_and_the_upstreams_request() {
    for framing in ["Content-Length: 100\r\n\r\nsome", "Transfer-Encoding: chunked\r\n\r\n64\r\nsome"] {
        let (told, got) = sync_channel(1);
        let upstream = Upstream::start(move |mut stream| told.send(read_to_end(&mut stream).0).unwrap());
        let gateway = with_short("body", &upstream);
        let since = Instant::now();
        let mut stream = connect(gateway.address("front"));
        write!(stream, "POST / HTTP/1.1\r\nHost: a\r\n{framing}").unwrap();
        assert_eq!(parse(&ended(&mut stream, since)).status, 408);
        let got = String::from_utf8(got.recv_timeout(PATIENCE).unwrap()).unwrap();
        assert!(!got.ends_with("0\r\n\r\n"), "{got}");
    }
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut_off_and_the_upstream_with_it() {
    let (told, stopped) = sync_channel(1);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[0; 65536]).is_ok() {}
        told.send(()).unwrap();
    });
    let gateway = with_short("body", &upstream);
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    stopped.recv_timeout(PATIENCE).expect("the gateway leaves the upstream");
    assert!(!read_to_end(&mut stream).0.ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_slow_upstream_has_its_deadlines_too() {
    let stalling = |text: &'static str| {
        Upstream::start(move |mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(text.as_bytes());
            let _ = read_to_end(&mut stream);
        })
    };
    let start = |upstream: &Upstream, deadline: &str| {
        let more = format!("[upstreams.app.timeouts]\n{deadline} = \"200ms\"");
        Gateway::start(&http_proxy(&[upstream.address], &more))
    };
    let upstream = stalling("");
    let gateway = start(&upstream, "response");
    let since = Instant::now();
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 504);
    assert!(since.elapsed() >= SHORT);

    let upstream = stalling("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let gateway = start(&upstream, "body");
    let since = Instant::now();
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 200);
    assert_eq!(ended(&mut stream, since), "half");
}

#[test]
fn a_kept_connection_to_the_upstream_is_closed_at_its_idle_deadline() {
    let (told, ended) = sync_channel(1);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        stream.write_all(OK.as_bytes()).unwrap();
        told.send(read_to_end(&mut stream).0).unwrap();
    });
    let more = "[upstreams.app.timeouts]\nidle = \"200ms\"";
    let gateway = Gateway::start(&http_proxy(&[upstream.address], more));
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 200);
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), b"");
}

#[test]
fn an_http_2_connection_without_a_stream_gets_a_goodbye_at_the_idle_deadline() {
    let (upstream, _) = Upstream::answering(OK);
    let gateway = with_short("idle", &upstream);
    let since = Instant::now();
    let mut client = Client::connect(gateway.address("front"));
    let goodbye = client.next_of(&[GOAWAY]);
    assert_eq!(goodbye.error_code(), 0);
    assert!(since.elapsed() >= SHORT);
    while client.next().is_some() {}
}

#[test]
fn an_http_2_body_that_stands_still_is_refused_and_other_streams_go_on() {
    let upstream = Upstream::start(|mut stream| {
        while let Some(head) = read_request(&mut stream) {
            if head.starts_with("POST") {
                continue;
            }
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    let gateway = with_short("body", &upstream);
    let mut client = Client::connect(gateway.address("front"));
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("content-length", "9")];
    client.request(1, 0, &head);
    let frame = client.next_of(&[HEADERS, RST_STREAM]);
    assert!(frame.stream == 1 && (frame.kind == RST_STREAM || frame.status() >= 400), "{frame:?}");
    client.get(3, "/");
    loop {
        let frame = client.next_of(&[HEADERS]);
        if frame.stream == 3 {
            assert_eq!(frame.status(), 200);
            return;
        }
    }
}
