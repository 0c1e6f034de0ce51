//! Upstreams that refuse, hang or break off: what the client gets says so, and is never taken for the whole.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use crate::support::client::{End, ask, connect, exchange, parse, read_to_end, reset};
use crate::support::peers::free_address;
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, PATIENCE, http_proxy};

const SHORT: &str =
    "[upstreams.app.timeouts]\nconnect = \"300ms\"\nresponse = \"300ms\"\nbody = \"300ms\"\nidle = \"60s\"";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An upstream that reads a request, says `text` and closes.
fn saying(text: &'static str) -> Upstream {
    Upstream::start(move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(text.as_bytes());
    })
}

/// An upstream that reads a request, says `text` and waits for the gateway to go.
fn stalling_after(text: &'static str) -> Upstream {
    Upstream::start(move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(text.as_bytes());
        let _ = read_to_end(&mut stream);
    })
}

/// What one GET by way of a gateway with short deadlines is answered, to the end of the connection.
fn answered(upstream: &Upstream) -> String {
    let gateway = Gateway::start(&http_proxy(&[upstream.address], SHORT));
    exchange(gateway.address("front"), GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
}

#[test]
fn every_failure_before_the_answer_has_its_status_and_its_name_in_proxy_status() {
    const BOTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!";
    const NAMED: &str = "HTTP/1.1 200 OK\r\n: empty\r\nContent-Length: 0\r\n\r\n";
    let cases = [
        ("dies at once", saying(""), 502, "connection_terminated"),
        ("dies within its head", saying("HTTP/1.1 200 OK\r\nContent-"), 502, "http_response_incomplete"),
        ("speaks something else", saying("SSH-2.0-OpenSSH_9.2\r\n\r\n"), 502, "http_protocol_error"),
        ("has two lengths", saying(TWO), 502, "http_protocol_error"),
        ("has both framings", saying(BOTH), 502, "http_protocol_error"),
        ("has an empty field name", saying(NAMED), 502, "http_protocol_error"),
        ("hangs", stalling_after(""), 504, "http_response_timeout"),
        ("hangs within its head", stalling_after("HTTP/1.1 200 OK\r\n"), 504, "http_response_timeout"),
        ("switches unasked", saying("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), 502, "http_upgrade_failed"),
    ];
    for (what, upstream, status, name) in cases {
        let answer = parse(&answered(&upstream));
        let expected = format!("portcullis; error={name}; next-hop=\"{}\"", upstream.address);
        assert_eq!(answer.status, status, "an upstream that {what}: {answer:?}");
        assert_eq!(answer.field("proxy-status"), Some(expected.as_str()), "an upstream that {what}");
    }
}

#[test]
fn a_server_that_refuses_is_502_and_one_that_never_answers_the_call_504() {
    let gateway = Gateway::start(&http_proxy(&[free_address()], SHORT));
    let refused = ask(&mut connect(gateway.address("front")), GET);
    assert_eq!(refused.status, 502);
    assert!(refused.field("proxy-status").unwrap().contains("error=connection_refused"), "{refused:?}");

    // The queue of this listener holds one; the kernel drops whoever calls when it is full.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    deaf.listen(0).unwrap();
    let address = deaf.local_addr().unwrap().as_socket().unwrap();
    let _full = TcpStream::connect(address).unwrap();
    let gateway = Gateway::start(&http_proxy(&[address], SHORT));
    let timed_out = ask(&mut connect(gateway.address("front")), GET);
    assert_eq!(timed_out.status, 504);
    assert!(timed_out.field("proxy-status").unwrap().contains("error=connection_timeout"), "{timed_out:?}");
}

#[test]
fn where_one_server_cannot_be_reached_the_next_is_tried() {
    let (alive, _) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::start(&http_proxy(&[free_address(), alive.address], ""));
    let mut stream = connect(gateway.address("front"));
    for _ in 0..10 {
        let answer = ask(&mut stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
}

#[test]
fn a_request_that_a_server_may_have_acted_on_is_not_sent_to_the_next() {
    let dying = saying("");
    let (alive, heads) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let config = http_proxy(&[dying.address, alive.address], "[gateway]\nworkers = 1");
    let gateway = Gateway::start(&config);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(ask(&mut connect(gateway.address("front")), post).status, 502);
    assert_eq!(heads.try_iter().count(), 0);
}

// Where the upstream breaks off at once, the client may not even get the head: that too is less than the whole.

#[test]
fn a_body_with_a_length_that_breaks_off_or_stalls_stays_short() {
    const BEGUN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
    for upstream in [saying(BEGUN), stalling_after(BEGUN)] {
        let text = answered(&upstream);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(text.is_empty() || head.to_lowercase().contains("content-length: 100"), "{text}");
        assert!("only this".starts_with(body), "{text}");
    }
}

#[test]
fn a_chunked_body_that_breaks_off_or_stalls_gets_no_last_chunk() {
    const BEGUN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n";
    const WITHIN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\nonly this";
    for upstream in [saying(BEGUN), saying(WITHIN), stalling_after(BEGUN), stalling_after(WITHIN)] {
        let text = answered(&upstream);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(text.is_empty() || head.to_lowercase().contains("transfer-encoding: chunked"), "{text}");
        assert!(!body.contains("0\r\n"), "{text}");
    }
}

#[test]
fn what_came_of_a_body_before_it_stalled_has_reached_the_client() {
    let answer = parse(&answered(&stalling_after("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")));
    assert_eq!((answer.status, answer.body.as_str()), (200, "only this"));
}

#[test]
fn a_body_that_ends_with_the_upstreams_connection_is_passed_on_whole() {
    let answer = parse(&answered(&saying("HTTP/1.1 200 OK\r\n\r\nto the end")));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    assert!(answer.body.contains("to the end") && answer.body.ends_with("0\r\n\r\n"), "{answer:?}");
}

#[test]
fn a_client_that_leaves_within_its_body_makes_the_upstreams_request_incomplete() {
    let (told, ended) = sync_channel(10);
    let upstream = Upstream::start(move |mut stream| told.send(read_to_end(&mut stream).0).unwrap());
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    for framing in ["Content-Length: 100\r\n\r\nsome", "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"] {
        let mut stream = connect(gateway.address("front"));
        write!(stream, "POST / HTTP/1.1\r\nHost: a\r\n{framing}").unwrap();
        drop(stream);
        let got = ended.recv_timeout(PATIENCE).unwrap();
        let got = String::from_utf8_lossy(&got);
        let body = got.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(body.len() < 100 && !body.contains("0\r\n\r\n"), "{got}");
    }
}

#[test]
fn a_client_that_resets_makes_the_gateway_leave_the_upstream() {
    let (told, ended) = sync_channel(1);
    let (arrived, asked) = sync_channel(1);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        arrived.send(()).unwrap();
        told.send(read_to_end(&mut stream)).unwrap();
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    reset(stream);
    ended.recv_timeout(PATIENCE).expect("the gateway closes its connection to the upstream");
}

#[test]
fn a_client_that_has_said_all_it_has_to_say_still_gets_its_answer() {
    let (arrived, asked) = sync_channel(1);
    let (go, may_go) = sync_channel(1);
    let may_go = Mutex::new(may_go);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        arrived.send(()).unwrap();
        may_go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    go.send(()).unwrap();
    let (bytes, end) = read_to_end(&mut stream);
    assert!(bytes.ends_with(b"\r\n\r\nok") && end == End::Closed, "{}", String::from_utf8_lossy(&bytes));
}
