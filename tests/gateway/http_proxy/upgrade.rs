//! Upgrades, as to WebSocket: only the upstream's 101 switches, and no byte of the client's passes before it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::sync_channel;

use crate::support::client::{End, connect, read_head, read_response, read_to_end, reset};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, http_proxy};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An upstream that switches, greets, and sends back what it gets.
fn echoing() -> Upstream {
    Upstream::start(|mut stream| {
        let head = read_request(&mut stream).unwrap().to_lowercase();
        assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        // The greeting comes with the head, so it is read ahead by whoever reads the head.
        stream.write_all(format!("{SWITCHED}welcome").as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_websocket_is_passed_through_and_each_sides_end_reaches_the_other() {
    let upstream = echoing();
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    let head = read_head(&mut stream);
    assert_eq!((head.status, head.field("upgrade")), (101, Some("websocket")));
    assert_eq!(head.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let mut greeting = [0; 7];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"welcome");
    for message in [&b"\x81\x05hello"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 10_000]] {
        stream.write_all(message).unwrap();
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).unwrap();
        assert!(echo == message);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream).0, b"");
}

#[test]
fn what_a_client_sends_ahead_arrives_once_the_upstream_switched() {
    let upstream = echoing();
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(format!("{HANDSHAKE}early").as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 101);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream).0, b"welcomeearly");
}

#[test]
fn a_reset_on_one_side_of_a_switched_connection_is_a_reset_on_the_other() {
    let (switched, connections) = sync_channel(1);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream).unwrap();
        stream.write_all(format!("{SWITCHED}welcome").as_bytes()).unwrap();
        switched.send(stream).unwrap();
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let session = || {
        let mut client = connect(gateway.address("front"));
        client.write_all(HANDSHAKE.as_bytes()).unwrap();
        assert_eq!(read_head(&mut client).status, 101);
        client.read_exact(&mut [0; 7]).unwrap();
        (client, connections.recv().unwrap())
    };
    let (mut client, server) = session();
    reset(server);
    assert_eq!(read_to_end(&mut client), (Vec::new(), End::Reset));
    let (client, mut server) = session();
    reset(client);
    assert_eq!(read_to_end(&mut server), (Vec::new(), End::Reset));
}

#[test]
fn what_follows_a_declined_upgrade_is_a_request_of_its_own() {
    let (upstream, heads) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream
        .write_all(format!("{HANDSHAKE}GET /next HTTP/1.1\r\nHost: a\r\nForwarded: for=6.6.6.6\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream).status, 200);
    assert_eq!(read_response(&mut stream).status, 200);
    let (first, second) = (heads.recv().unwrap(), heads.recv().unwrap());
    assert!(first.starts_with("GET /chat ") && second.starts_with("GET /next "), "{first}{second}");
    assert!(second.to_lowercase().contains("forwarded: for=127.0.0.1") && !second.contains("6.6.6.6"), "{second}");
    assert_eq!(upstream.connections(), 2, "a connection that declined an upgrade is not used again");
}

#[test]
fn a_switch_to_something_that_was_not_offered_is_a_502() {
    for (offered, said) in [
        ("websocket", "Upgrade: other\r\n"),
        ("websocket", ""),
        ("websocket, ", ""),
        ("websocket, ", "Upgrade: \r\n"),
        ("", ""),
        ("websocket, other", "Upgrade: websocket, other\r\n"),
        ("websocket, other", "Upgrade: websocket\r\nUpgrade: other\r\n"),
    ] {
        let (upstream, _) = Upstream::answering(&SWITCHED.replace("Upgrade: websocket\r\n", said));
        let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
        let mut stream = connect(gateway.address("front"));
        let request = HANDSHAKE.replace("Upgrade: websocket", &format!("Upgrade: {offered}"));
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_response(&mut stream);
        assert_eq!(answer.status, 502, "{offered:?} {said:?}");
        assert!(answer.field("proxy-status").unwrap().contains("error=http_upgrade_failed"), "{answer:?}");
    }
}

#[test]
fn an_upgrade_to_http_2_is_not_passed_on() {
    let (upstream, heads) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).status, 200);
    assert!(!heads.recv().unwrap().to_lowercase().contains("h2c"));
}
