//! Floods before, within and behind the TLS handshake.

use std::io::Write;
use std::net::TcpStream;

use super::{MIB, resident};
use crate::support::Gateway;
use crate::support::client::{connect, read_to_close, read_to_end};
use crate::support::tls::{endpoint, failures, rustls, show};

const ACTIVE: &str = "portcullis_connections_active{endpoint=\"front\"}";

fn gateway(timeouts: &str) -> Gateway {
    let front = endpoint("front", &["localhost"], "");
    Gateway::start(&format!("{}{front}[endpoints.front.timeouts]\n{timeouts}\n", show()))
}

/// A new client is served.
fn assert_serves(gateway: &Gateway) {
    let mut client = rustls(gateway.address("front"));
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_to_close(&mut client).starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn many_handshakes_that_stand_still_cost_little_and_end_at_their_deadline() {
    const CROWD: usize = 200;
    let gateway = gateway("handshake = \"1s\"");
    assert_serves(&gateway);
    let before = resident(&gateway);
    // A record that claims 16 KiB of ClientHello.
    let beginning = [0x16, 3, 1, 0x40, 0, 1, 0, 0x3F, 0xFC, 3, 3];
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| connect(gateway.address("front"))).collect();
    for byte in beginning {
        crowd.iter_mut().for_each(|stream| stream.write_all(&[byte]).unwrap());
    }
    assert_serves(&gateway);
    let held = resident(&gateway).saturating_sub(before);
    eprintln!("{} KiB held for each handshake", held / 1024 / CROWD as u64);
    assert!(held < CROWD as u64 * 64 * 1024, "{} bytes for each", held / CROWD as u64);
    crowd.iter_mut().for_each(|stream| drop(read_to_end(stream)));
    gateway.wait_for_metric(&failures("front", "timeout"), CROWD as f64);
    gateway.wait_for_metric(ACTIVE, 0.0);
}

#[test]
fn garbage_costs_nothing() {
    let gateway = gateway("handshake = \"1s\"");
    assert_serves(&gateway);
    let before = resident(&gateway);
    for _ in 0..500 {
        let mut stream = connect(gateway.address("front"));
        let _ = stream.write_all(&[0xA5; 4096]);
        read_to_end(&mut stream);
    }
    gateway.wait_for_metric(&failures("front", "not_tls"), 500.0);
    assert_serves(&gateway);
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 4 * MIB, "memory grew by {grown}");
}

#[test]
fn a_client_that_is_silent_after_its_handshake_ends_at_the_idle_deadline() {
    const CROWD: usize = 20;
    let gateway = gateway("idle = \"500ms\"");
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut client = rustls(gateway.address("front"));
            while client.conn.is_handshaking() {
                client.conn.complete_io(&mut client.sock).unwrap();
            }
            client
        })
        .collect();
    assert_serves(&gateway);
    for mut client in crowd {
        assert_eq!(read_to_close(&mut client), "");
    }
    gateway.wait_for_metric(ACTIVE, 0.0);
}

#[test]
fn a_record_that_does_not_end_is_a_head_that_does_not_end() {
    let gateway = gateway("idle = \"500ms\"");
    let mut client = rustls(gateway.address("front"));
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock).unwrap();
    }
    // The head of a record of 16 KiB, and a few bytes of it.
    client.sock.write_all(&[0x17, 3, 3, 0x40, 0, 1, 2, 3]).unwrap();
    read_to_end(&mut client.sock);
    gateway.wait_for_metric(ACTIVE, 0.0);
    assert_serves(&gateway);
}
