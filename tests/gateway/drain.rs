//! Stopping: what is in flight may end, nothing new begins, and the exit status says that all is well.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::support::client::{ask, connect, read_head, read_response, read_to_end};
use crate::support::h2::{Client, DATA, GOAWAY, HEADERS};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, PATIENCE, http_proxy, tcp_proxy};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An upstream that answers in two parts: `first` at once, `second` when the test says so.
fn in_two_parts(first: &'static str, second: &'static str) -> (Upstream, Receiver<()>, SyncSender<()>) {
    let (asked, is_asked) = sync_channel(1);
    let (go, may_go) = sync_channel(1);
    let may_go = std::sync::Mutex::new(may_go);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        stream.write_all(first.as_bytes()).unwrap();
        let _ = asked.send(()); // not every test waits for it
        if may_go.lock().unwrap().recv_timeout(PATIENCE).is_ok() {
            let _ = stream.write_all(second.as_bytes());
        }
    });
    (upstream, is_asked, go)
}

/// Sends SIGTERM and waits until the gateway says that it drains.
fn begin_drain(gateway: &mut Gateway) {
    gateway.signal("TERM");
    gateway.wait_for_log("SIGTERM: draining");
}

/// Knocks until nobody opens. A knock that is still heard is an idle HTTP connection, which ends at once.
fn wait_until_closed(gateway: &Gateway) {
    let since = Instant::now();
    while TcpStream::connect(gateway.address("front")).is_ok() {
        assert!(since.elapsed() < PATIENCE, "the port stays open");
        std::thread::yield_now();
    }
}

#[test]
fn a_response_that_streams_is_completed_before_the_gateway_ends() {
    let (upstream, _, go) = in_two_parts("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", "time");
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 200);
    begin_drain(&mut gateway);
    wait_until_closed(&gateway);
    go.send(()).unwrap();
    let mut body = [0; 8];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"halftime");
    assert_eq!(read_to_end(&mut stream).0, b"");
    assert_eq!(gateway.wait(), 0);
    assert!(gateway.wait_for_access(" 200 ").contains("out=8"), "the last lines are written too");
}

#[test]
fn a_response_that_begins_while_draining_says_that_the_connection_closes() {
    let (upstream, asked, go) = in_two_parts("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    begin_drain(&mut gateway);
    wait_until_closed(&gateway);
    go.send(()).unwrap();
    let answer = read_response(&mut stream);
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn idle_connections_are_closed_soon_and_both_signals_drain() {
    let (upstream, _) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
        let mut fresh = connect(gateway.address("front"));
        let mut kept = connect(gateway.address("front"));
        assert_eq!(ask(&mut kept, GET).status, 200);
        gateway.signal(signal);
        assert_eq!(read_to_end(&mut kept).0, b"");
        assert_eq!(read_to_end(&mut fresh).0, b"");
        assert_eq!(gateway.wait(), 0, "{signal}");
        gateway.wait_for_log("stopped");
    }
}

#[test]
fn what_does_not_end_by_the_deadline_is_cut_and_the_status_is_still_0() {
    let (upstream, _, _go) = in_two_parts("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", "");
    let more = "[gateway]\ndrain_timeout = \"300ms\"";
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], more));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 200);
    let since = Instant::now();
    gateway.signal("TERM");
    let (body, _) = read_to_end(&mut stream);
    assert!(since.elapsed() >= Duration::from_millis(300));
    assert_eq!(body, b"half", "short of its length, so the client knows");
    gateway.wait_for_log("drain deadline reached; cutting 1 connections");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn a_second_signal_ends_the_gateway_at_once() {
    let (upstream, _, _go) = in_two_parts("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", "");
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], "[gateway]\ndrain_timeout = \"10m\""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 200);
    begin_drain(&mut gateway);
    let mut half = [0; 4];
    stream.read_exact(&mut half).unwrap();
    // Two signals at the same moment may be one wish, so a moment passes, by way of a read that nothing answers.
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(stream.read(&mut half).unwrap_err().kind(), ErrorKind::WouldBlock);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 1);
    gateway.wait_for_log("SIGTERM again: stopping at once");
}

#[test]
fn an_http_2_client_is_told_to_go_and_its_streams_are_completed() {
    let (upstream, _, go) = in_two_parts("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", "time");
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = Client::connect(gateway.address("front"));
    client.get(1, "/");
    client.next_of(&[HEADERS]);
    let mut body = client.next_of(&[DATA]).payload;
    gateway.signal("TERM");
    assert_eq!(client.next_of(&[GOAWAY]).error_code(), 0);
    go.send(()).unwrap();
    loop {
        let frame = client.next_of(&[DATA]);
        body.extend(&frame.payload);
        if frame.ends_stream() {
            break;
        }
    }
    assert_eq!(body, b"halftime");
    while client.next().is_some() {}
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn a_tcp_session_goes_on_while_draining_until_it_ends() {
    let (sender, connections) = sync_channel(1);
    let upstream = Upstream::start(move |stream| sender.send(stream).unwrap());
    let mut gateway = Gateway::start(&tcp_proxy(&[upstream.address], ""));
    let mut client = connect(gateway.address("front"));
    let mut server = connections.recv_timeout(PATIENCE).unwrap();
    begin_drain(&mut gateway);
    client.write_all(b"still here").unwrap();
    let mut said = [0; 10];
    server.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"still here");
    drop((client, server));
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn a_switched_connection_goes_on_while_draining_until_it_ends() {
    let (sender, connections) = sync_channel(1);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n").unwrap();
        sender.send(stream).unwrap();
    });
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = connect(gateway.address("front"));
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut client).status, 101);
    let mut server = connections.recv_timeout(PATIENCE).unwrap();
    begin_drain(&mut gateway);
    wait_until_closed(&gateway);
    server.write_all(b"still here").unwrap();
    let mut said = [0; 10];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"still here");
    drop((client, server));
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn readiness_fails_while_draining() {
    let (upstream, _, go) = in_two_parts("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", "time");
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    assert_eq!(gateway.get("/readyz").status, 200);
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 200);
    begin_drain(&mut gateway);
    wait_until_closed(&gateway);
    assert_eq!(gateway.get("/readyz").status, 503);
    assert_eq!(gateway.get("/healthz").status, 200);
    go.send(()).unwrap();
    assert_eq!(read_to_end(&mut stream).0, b"halftime");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn a_signal_that_comes_as_soon_as_the_gateway_serves_drains_it_too() {
    let (upstream, _) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for _ in 0..20 {
        let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
        gateway.signal("TERM");
        assert_eq!(gateway.wait(), 0);
    }
}

#[test]
fn a_hangup_while_draining_reloads_nothing_and_cuts_nothing() {
    let (upstream, asked, go) = in_two_parts("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    begin_drain(&mut gateway);
    gateway.signal("HUP");
    gateway.wait_for_log("SIGHUP: draining, so nothing is reloaded");
    let refused = gateway.command(&["reload"]);
    assert!(crate::support::stderr(&refused).contains("the gateway is draining"));
    go.send(()).unwrap();
    assert_eq!(read_response(&mut stream).status, 200);
    assert_eq!(gateway.wait(), 0);
}
