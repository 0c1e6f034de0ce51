//! The PROXY protocol, in from trusted peers and out to upstreams.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::support::client::{ask, connect, connect_from, exchange, parse, read_to_end};
use crate::support::upstream::Upstream;
use crate::support::{Gateway, PATIENCE, http_proxy, tcp_proxy, with_front};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.2 5555 443\r\n";
const TRUSTED: &str = "accept_proxy_protocol = [\"127.0.0.1\"]";
const REJECTED: &str = "portcullis_connections_rejected_total{endpoint=\"front\",reason=\"proxy_header\"}";

/// A version 2 header (section 2.2 of the protocol) of a command and family, with what follows the fixed part.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, rest].concat()
}

/// 192.0.2.7:5555 to 198.51.100.2:443.
const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 2, 0x15, 0xB3, 0x01, 0xBB];

/// An upstream that sends everything of each connection, up to its end, to the test.
fn recording() -> (Upstream, Receiver<Vec<u8>>) {
    let (sender, receiver) = sync_channel(10);
    (Upstream::start(move |mut stream| sender.send(read_to_end(&mut stream).0).unwrap()), receiver)
}

/// What an upstream behind `proxy_protocol = VERSION` gets of a client that says `hello`, and the session's addresses.
fn sent(version: &str) -> (Vec<u8>, SocketAddr, SocketAddr) {
    let (upstream, received) = recording();
    let config = tcp_proxy(&[upstream.address], &format!("proxy_protocol = \"{version}\""));
    let gateway = Gateway::start(&config);
    let mut client = connect(gateway.address("front"));
    client.write_all(b"hello").unwrap();
    let addresses = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    drop(client);
    (received.recv_timeout(PATIENCE).unwrap(), addresses.0, addresses.1)
}

#[test]
fn an_upstream_is_told_the_client_in_version_1() {
    let (bytes, client, front) = sent("v1");
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", client.port(), front.port());
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn an_upstream_is_told_the_client_and_the_endpoint_in_version_2() {
    let (bytes, client, front) = sent("v2");
    let (fixed, rest) = bytes.split_at(16);
    assert_eq!(&fixed[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
    let (body, after) = rest.split_at(usize::from(u16::from_be_bytes([fixed[14], fixed[15]])));
    assert_eq!(after, b"hello");
    let (addresses, mut tlvs) = body.split_at(12);
    let ports = [client.port().to_be_bytes(), front.port().to_be_bytes()].concat();
    assert_eq!(addresses, [&[127, 0, 0, 1, 127, 0, 0, 1][..], &ports].concat());
    let mut found = Vec::new();
    while let [kind, high, low, rest @ ..] = tlvs {
        let (value, more) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        found.push((*kind, value));
        tlvs = more;
    }
    assert_eq!(found, [(0xE0, &b"front"[..])], "a plain connection has no TLS to tell of");
}

/// A gateway that believes 127.0.0.1, and the heads that its upstream gets.
fn believing(more: &str) -> (Gateway, Receiver<String>, Upstream) {
    let (upstream, heads) = Upstream::answering(OK);
    (Gateway::start(&with_front(&http_proxy(&[upstream.address], ""), &format!("{TRUSTED}\n{more}"))), heads, upstream)
}

#[test]
fn a_trusted_peers_header_says_who_the_client_is() {
    let (mut gateway, heads, _upstream) = believing("");
    let v6 = [&[0x20, 1, 0x0D, 0xB8][..], &[0; 11], &[1], &[0; 15], &[1], &[0x15, 0xB3, 1, 0xBB]].concat();
    let with_tlvs = [&ADDRESSES[..], &[0x04, 0, 3, 0, 0, 0, 0xE0, 0, 1, b'x']].concat();
    let cases = [
        (V1.as_bytes().to_vec(), "for=192.0.2.7;"),
        (b"PROXY TCP6 2001:db8::1 ::1 5555 443\r\n".to_vec(), "for=\"[2001:db8::1]\";"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "for=127.0.0.1;"),
        (v2(1, 0x11, &ADDRESSES), "for=192.0.2.7;"),
        (v2(1, 0x11, &with_tlvs), "for=192.0.2.7;"),
        (v2(1, 0x21, &v6), "for=\"[2001:db8::1]\";"),
        (v2(0, 0, &[]), "for=127.0.0.1;"),
    ];
    for (header, expected) in cases {
        let mut stream = connect(gateway.address("front"));
        assert_eq!(ask(&mut stream, [&header, GET.as_bytes()].concat()).status, 200, "{header:?}");
        let head = heads.recv().unwrap();
        assert!(head.contains(expected), "{header:?}: {head}");
    }
    assert!(gateway.wait_for_access(" front 192.0.2.7:5555 ").contains(" 200 "));
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let (gateway, heads, _upstream) = believing("");
    for header in [V1.as_bytes().to_vec(), v2(1, 0x11, &ADDRESSES)] {
        let mut stream = connect(gateway.address("front"));
        stream.set_nodelay(true).unwrap();
        for byte in &header {
            stream.write_all(std::slice::from_ref(byte)).unwrap();
        }
        assert_eq!(ask(&mut stream, GET).status, 200);
        assert!(heads.recv().unwrap().contains("for=192.0.2.7;"));
    }
}

#[test]
fn a_trusted_peer_without_a_correct_header_is_turned_away_counted_and_logged() {
    let (mut gateway, heads, _upstream) = believing("");
    let oversized = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    let cases = [
        GET.as_bytes().to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.2 5555 443\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.2 5555 65536\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 ::1 5555 443\r\n".to_vec(),
        b"proxy TCP4 192.0.2.7 198.51.100.2 5555 443\r\n".to_vec(),
        oversized,
        v2(2, 0x11, &ADDRESSES),
        v2(1, 0x55, &ADDRESSES),
        v2(1, 0x11, &ADDRESSES[..11]),
        v2(1, 0x11, &[&ADDRESSES[..], &[4, 0, 9, 0]].concat()),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c".to_vec(),
    ];
    let count = cases.len();
    for header in cases {
        assert_eq!(exchange(gateway.address("front"), [&header, GET.as_bytes()].concat()), "", "{header:?}");
    }
    assert_eq!(heads.try_iter().count(), 0);
    let line = gateway.wait_for_log("connection turned away");
    assert!(line.contains("reason=proxy_header") && line.contains("endpoint=front"), "{line}");
    gateway.wait_for_metric(REJECTED, count as f64);
}

#[test]
fn a_header_that_does_not_come_in_time_ends_the_connection() {
    let (upstream, _) = Upstream::answering(OK);
    let config = http_proxy(&[upstream.address], "[endpoints.front.timeouts]\nhandshake = \"200ms\"");
    let gateway = Gateway::start(&with_front(&config, TRUSTED));
    for beginning in ["", "PROXY TCP4 192.0"] {
        let mut stream = connect(gateway.address("front"));
        stream.write_all(beginning.as_bytes()).unwrap();
        assert_eq!(read_to_end(&mut stream).0, b"");
    }
    gateway.wait_for_metric(REJECTED, 2.0);
}

#[test]
fn a_header_from_anybody_else_is_just_a_bad_request() {
    let (gateway, heads, _upstream) = believing("");
    let mut stranger = connect_from([127, 0, 0, 2], gateway.address("front"));
    stranger.write_all([V1, GET].concat().as_bytes()).unwrap();
    let mut text = String::new();
    stranger.read_to_string(&mut text).unwrap();
    assert_eq!(parse(&text).status, 400);
    assert_eq!(heads.try_iter().count(), 0);

    let mut stranger = connect_from([127, 0, 0, 2], gateway.address("front"));
    assert_eq!(ask(&mut stranger, GET).status, 200, "who is not trusted needs no header");
}

#[test]
fn the_lists_judge_the_client_that_a_header_names() {
    let (gateway, _heads, _upstream) = believing("allow = [\"192.0.2.0/24\"]\ndeny = [\"192.0.2.66\"]");
    let get = |header: &str| {
        exchange(gateway.address("front"), format!("{header}{}", GET.replace("Host", "Connection: close\r\nHost")))
    };
    assert_eq!(parse(&get(V1)).status, 200);
    assert_eq!(get(&V1.replace("192.0.2.7", "192.0.2.66")), "");
    assert_eq!(get(&V1.replace("192.0.2.7", "203.0.113.1")), "");
    gateway.wait_for_metric("portcullis_connections_rejected_total{endpoint=\"front\",reason=\"address\"}", 2.0);
}

#[test]
fn a_claim_that_came_in_goes_out_again() {
    let (upstream, received) = recording();
    let config = tcp_proxy(&[upstream.address], "proxy_protocol = \"v1\"");
    let gateway = Gateway::start(&with_front(&config, TRUSTED));
    let mut client: TcpStream = connect(gateway.address("front"));
    client.write_all(format!("{V1}hello").as_bytes()).unwrap();
    drop(client);
    assert_eq!(String::from_utf8(received.recv_timeout(PATIENCE).unwrap()).unwrap(), format!("{V1}hello"));
}
