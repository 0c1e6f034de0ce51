//! Handshakes that fail, and connections that are cut: each is counted by its reason and disturbs nobody else.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::sync_channel;

use crate::support::client::{connect, curl_command, exchange, parse, read_to_close};
use crate::support::tls::{
    RSA_ROOT, certificates, endpoint, endpoint_with, failures, rustls, s_client, s_client_sending, show,
};
use crate::support::upstream::Upstream;
use crate::support::{Gateway, cert};

fn start(more: &str) -> Gateway {
    Gateway::start(&format!("{}{}{more}", show(), endpoint("front", &["localhost"], "")))
}

/// The endpoint serves others as before.
fn assert_serves(gateway: &Gateway) {
    assert!(s_client(gateway.address("front"), &[]).answered());
}

#[test]
fn plain_http_on_a_tls_port_is_told_so_and_counted() {
    let gateway = start("");
    let address = gateway.address("front");
    for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = parse(&exchange(address, request));
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body, "This port speaks TLS; use https:// to reach it.\n");
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()));
        assert_eq!(answer.field("connection"), Some("close"));
    }
    gateway.wait_for_metric(&failures("front", "plain_http"), 2.0);
    assert_serves(&gateway);
}

#[test]
fn garbage_is_closed_without_an_answer_and_counted() {
    let gateway = start("");
    for garbage in [&b"\x00\x01\x02\x03\x04\x05\x06\x07"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff"] {
        let answer = exchange(gateway.address("front"), garbage);
        assert!(!answer.contains("200"), "{answer:?}");
    }
    gateway.wait_for_metric(&failures("front", "not_tls"), 3.0);
    assert_serves(&gateway);
}

#[test]
fn a_tls_record_that_holds_no_handshake_is_counted_as_breaking_the_protocol() {
    let gateway = start("");
    exchange(gateway.address("front"), b"\x16\x03\x01\x00\x05\xff\x00\x00\x01\x00");
    exchange(gateway.address("front"), b"\x16\x03\x01\xff\xff\x01\x00\x00\x01\x00");
    gateway.wait_for_metric(&failures("front", "protocol"), 2.0);
    assert_serves(&gateway);
}

#[test]
fn a_handshake_that_never_ends_is_closed_at_its_deadline_and_counted() {
    let gateway = start("[endpoints.front.timeouts]\nhandshake = \"300ms\"\n");
    // Nothing, and the beginning of a ClientHello.
    for bytes in [&b""[..], b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03"] {
        let mut stream = connect(gateway.address("front"));
        stream.write_all(bytes).unwrap();
        assert_eq!(read_to_close(&mut stream), "");
    }
    gateway.wait_for_metric(&failures("front", "timeout"), 2.0);
    gateway.wait_for_metric("portcullis_connections_active{endpoint=\"front\"}", 0.0);
}

#[test]
fn a_client_that_goes_away_in_the_handshake_is_counted() {
    let gateway = start("");
    let mut stream = connect(gateway.address("front"));
    stream.write_all(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03").unwrap();
    drop(stream);
    gateway.wait_for_metric(&failures("front", "client_closed"), 1.0);
}

#[test]
fn a_client_that_does_not_trust_the_chain_is_counted_as_refusing_it() {
    let gateway = start("");
    let url = format!("https://{}/", gateway.address("front"));
    for version in ["1.2", "1.3"] {
        let output = curl_command(&["--tls-max", version, "--cacert", &cert(RSA_ROOT), &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(60), "{}", String::from_utf8_lossy(&output.stderr));
    }
    gateway.wait_for_metric(&failures("front", "client_refused_certificate"), 2.0);
}

#[test]
fn renegotiation_of_tls_1_2_is_refused() {
    let gateway = start("");
    // A line that is "R" makes s_client renegotiate.
    let seen = s_client_sending(gateway.address("front"), &["-tls1_2"], "R\n");
    assert!(seen.text.contains("RENEGOTIATING"), "{}", seen.text);
    assert!(seen.text.contains("no renegotiation"), "{}", seen.text);
    assert_serves(&gateway);
}

#[test]
fn a_request_that_is_cut_without_close_notify_never_completes_upstream() {
    // The upstream says how the request that it was sent ended: with its last chunk, or without.
    let (ended, how) = sync_channel(2);
    let upstream = Upstream::start(move |mut stream| {
        let _ = ended.send(read_to_close(&mut stream));
    });
    let proxy = format!(
        "{}[handlers.site]\ntype = \"http-proxy\"\nupstream = \"app\"\n[upstreams.app]\nservers = [\"{}\"]\n",
        endpoint_with("front", "public", "site", &certificates(&["localhost"]), ""),
        upstream.address
    );
    let gateway = Gateway::start(&proxy);
    for (framing, body) in [("Transfer-Encoding: chunked", "4\r\nhalf\r\n"), ("Content-Length: 8", "half")] {
        let mut stream = rustls(gateway.address("front"));
        let request = format!("POST /{} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        stream.flush().unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let came = how.recv_timeout(crate::support::PATIENCE).unwrap();
        assert!(came.starts_with("POST /") && came.contains("half"), "{came:?}");
        assert!(!came.contains("\r\n0\r\n"), "a cut request was completed: {came:?}");
        assert!(!read_to_close(&mut stream).starts_with("HTTP/1.1 2"));
    }
}
