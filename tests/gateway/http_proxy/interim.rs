//! Interim responses (RFC 9110, section 15.2): they reach the client before the answer is there, and only where it may
//! have them.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use hyper::Response;

use crate::support::client::{connect, parse, read_head, read_response, read_to_close};
use crate::support::h2::{Client, DATA, HEADERS};
use crate::support::h2_upstream::{Http2Upstream, say};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, PATIENCE, http_proxy, with_app};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
    Content-Length: 7\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An upstream that sends these heads, and its answer once the test says so.
fn holding_back(early: impl Into<String>) -> (Upstream, SyncSender<()>) {
    let (go, gone) = sync_channel(10);
    let (early, gone) = (early.into(), Mutex::new(gone));
    let upstream = Upstream::start(move |mut stream| {
        while read_request(&mut stream).is_some() {
            stream.write_all(early.as_bytes()).unwrap();
            if gone.lock().unwrap().recv_timeout(PATIENCE).is_err() || stream.write_all(OK.as_bytes()).is_err() {
                return;
            }
        }
    });
    (upstream, go)
}

#[test]
fn early_hints_come_while_the_answer_is_still_awaited_and_the_connection_goes_on() {
    let (upstream, go) = holding_back(HINTS);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = connect(gateway.address("front"));
    for _ in 0..2 {
        client.write_all(GET.as_bytes()).unwrap();
        let early = read_head(&mut client);
        assert_eq!((early.status, early.field("link")), (103, Some("</a.css>; rel=preload")));
        assert_eq!(early.field("via"), Some("1.1 portcullis"));
        for name in ["connection", "x-hop", "content-length", "date"] {
            assert_eq!(early.field(name), None, "{}", early.head);
        }
        go.send(()).unwrap();
        assert_eq!(read_response(&mut client).body, "ok");
    }
}

#[test]
fn interim_responses_over_http_2_from_the_upstream_are_passed_on_too() {
    let (go, gone) = tokio::sync::mpsc::channel(1);
    let gone = std::sync::Arc::new(tokio::sync::Mutex::new(gone));
    let upstream = Http2Upstream::start(10, move |(_, mut answer): (_, h2::server::SendResponse<Bytes>)| {
        let gone = gone.clone();
        async move {
            for status in [100, 102, 103] {
                let head = Response::builder().status(status).header("link", "</a.css>").body(()).unwrap();
                answer.send_informational(head).unwrap();
            }
            gone.lock().await.recv().await;
            say(answer, "ok");
        }
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), "protocol = \"h2\""));
    let mut client = connect(gateway.address("front"));
    client.write_all(GET.as_bytes()).unwrap();
    for status in [102, 103] {
        let early = read_head(&mut client);
        assert_eq!((early.status, early.field("link")), (status, Some("</a.css>")));
    }
    go.try_send(()).unwrap();
    assert_eq!(read_response(&mut client).body, "ok");
}

#[test]
fn a_client_of_http_2_gets_its_hints_while_the_answer_is_still_awaited() {
    let (upstream, go) = holding_back(HINTS);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = Client::connect(gateway.address("front"));
    client.get(1, "/");
    let early = client.next_of(&[HEADERS]);
    assert_eq!((early.status(), early.ends_stream()), (103, false));
    go.send(()).unwrap();
    assert_eq!(client.next_of(&[HEADERS]).status(), 200);
    assert_eq!(client.next_of(&[DATA]).payload, b"ok");
}

#[test]
fn a_client_of_http_1_0_gets_no_interim_response() {
    let (upstream, go) = holding_back(HINTS);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    go.send(()).unwrap();
    let mut client = connect(gateway.address("front"));
    client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let answer = parse(&read_to_close(&mut client));
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
}

#[test]
fn a_client_is_told_to_go_on_once_and_by_the_gateway_alone() {
    let (upstream, go) = holding_back("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = connect(gateway.address("front"));
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut client).status, 100);
    client.write_all(b"hi").unwrap();
    assert_eq!(read_head(&mut client).status, 102);
    go.send(()).unwrap();
    assert_eq!(read_response(&mut client).body, "ok");
    go.send(()).unwrap();
    client.write_all(GET.as_bytes()).unwrap();
    assert_eq!(read_head(&mut client).status, 102, "nobody asked for a 100");
    assert_eq!(read_response(&mut client).body, "ok");
}

#[test]
fn more_interim_responses_than_anyone_sends_in_good_faith_are_the_upstreams_fault() {
    let large = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(40_000));
    for early in ["HTTP/1.1 102 Processing\r\n\r\n".repeat(17), large.repeat(2)] {
        let (upstream, _go) = holding_back(early);
        let gateway = Gateway::start(&http_proxy(&[upstream.address], "[gateway]\nworkers = 1"));
        let mut client = connect(gateway.address("front"));
        client.write_all(GET.as_bytes()).unwrap();
        let last = std::iter::repeat_with(|| read_head(&mut client)).take(18).find(|head| head.status >= 200).unwrap();
        assert_eq!(last.status, 502);
    }
}
