//! The `tcp-proxy` handler: bytes both ways, ends that are passed on as what they are.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::support::client::{End, connect, read_to_end, reset};
use crate::support::peers::free_address;
use crate::support::upstream::Upstream;
use crate::support::{Gateway, PATIENCE, tcp_proxy};

/// An upstream that hands its first connection to the test.
fn handing_over() -> (Upstream, Receiver<TcpStream>) {
    let (sender, receiver) = sync_channel(10);
    (Upstream::start(move |stream| sender.send(stream).unwrap()), receiver)
}

/// A session: the client's end and the upstream's.
fn session(gateway: &Gateway, upstream: &Receiver<TcpStream>) -> (TcpStream, TcpStream) {
    let client = connect(gateway.address("front"));
    (client, upstream.recv_timeout(PATIENCE).unwrap())
}

#[test]
fn the_clients_end_reaches_the_upstream_while_the_answer_still_comes() {
    let (upstream, connections) = handing_over();
    let gateway = Gateway::start(&tcp_proxy(&[upstream.address], ""));
    let (mut client, mut server) = session(&gateway, &connections);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut server), (b"question".to_vec(), End::Closed));
    server.write_all(b"answer").unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client), (b"answer".to_vec(), End::Closed));
}

#[test]
fn the_upstreams_end_reaches_the_client_while_it_still_sends() {
    let (upstream, connections) = handing_over();
    let gateway = Gateway::start(&tcp_proxy(&[upstream.address], ""));
    let (mut client, mut server) = session(&gateway, &connections);
    server.write_all(b"all that I say").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), (b"all that I say".to_vec(), End::Closed));
    client.write_all(b"thanks").unwrap();
    drop(client);
    assert_eq!(read_to_end(&mut server), (b"thanks".to_vec(), End::Closed));
}

#[test]
fn a_reset_on_one_side_is_a_reset_on_the_other() {
    let (upstream, connections) = handing_over();
    let gateway = Gateway::start(&tcp_proxy(&[upstream.address], ""));
    let (mut client, mut server) = session(&gateway, &connections);
    server.write_all(b"half").unwrap();
    let mut half = [0; 4];
    client.read_exact(&mut half).unwrap();
    reset(server);
    assert_eq!(read_to_end(&mut client), (Vec::new(), End::Reset));

    let (mut client, mut server) = session(&gateway, &connections);
    client.write_all(b"half").unwrap();
    server.read_exact(&mut half).unwrap();
    reset(client);
    assert_eq!(read_to_end(&mut server), (Vec::new(), End::Reset));
}

#[test]
fn a_servers_reset_is_its_failure_unless_the_client_had_ended_before() {
    let (upstream, connections) = handing_over();
    let mut gateway = Gateway::start(&tcp_proxy(&[upstream.address], ""));
    for (ends, failed) in [(false, true), (true, false)] {
        let (mut client, mut server) = session(&gateway, &connections);
        client.write_all(b"last word").unwrap();
        server.read_exact(&mut [0; 9]).unwrap();
        if ends {
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut server), (Vec::new(), End::Closed));
        }
        reset(server);
        assert_eq!(read_to_end(&mut client), (Vec::new(), End::Reset));
        let line = gateway.wait_for_access("session");
        assert_eq!(line.contains("connection_terminated"), failed, "{line}");
    }
}

#[test]
fn a_client_whose_upstream_cannot_be_reached_is_reset() {
    let gateway = Gateway::start(&tcp_proxy(&[free_address()], ""));
    // A connect with a deadline could be told of the reset in the place of its success.
    let mut client = TcpStream::connect(gateway.address("front")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_to_end(&mut client), (Vec::new(), End::Reset));
}

#[test]
fn where_one_server_cannot_be_reached_the_next_is_tried() {
    let (upstream, connections) = handing_over();
    let gateway = Gateway::start(&tcp_proxy(&[free_address(), upstream.address], ""));
    for _ in 0..4 {
        let (mut client, server) = session(&gateway, &connections);
        drop(server);
        assert_eq!(read_to_end(&mut client).0, b"");
    }
}

#[test]
fn a_session_without_a_byte_for_the_idle_deadline_is_reset_on_both_sides() {
    let (upstream, connections) = handing_over();
    let gateway = Gateway::start(&tcp_proxy(&[upstream.address], "[endpoints.front.timeouts]\nidle = \"200ms\""));
    let (mut client, mut server) = session(&gateway, &connections);
    client.write_all(b"hi").unwrap();
    assert_eq!(read_to_end(&mut client), (Vec::new(), End::Reset));
    assert_eq!(read_to_end(&mut server), (b"hi".to_vec(), End::Reset));
}

#[test]
fn megabytes_pass_both_ways_at_once_unchanged() {
    let (upstream, connections) = handing_over();
    let gateway = Gateway::start(&tcp_proxy(&[upstream.address], ""));
    let (client, server) = session(&gateway, &connections);
    let length = 16 * 1024 * 1024_usize;
    let pattern = |seed: usize| (0..length).map(|i: usize| (i.wrapping_mul(seed) >> 7) as u8).collect::<Vec<_>>();
    let (up, down) = (pattern(2_654_435_761), pattern(40_503_777));
    let send = |mut stream: TcpStream, bytes: Vec<u8>| {
        std::thread::spawn(move || {
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    let senders = [send(client.try_clone().unwrap(), up.clone()), send(server.try_clone().unwrap(), down.clone())];
    let mut server_end = server;
    let upward = std::thread::spawn(move || read_to_end(&mut server_end).0);
    let mut client_end = client;
    assert!(read_to_end(&mut client_end).0 == down);
    assert!(upward.join().unwrap() == up);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn each_session_has_its_line_in_the_access_log() {
    let (upstream, connections) = handing_over();
    let mut gateway = Gateway::start(&tcp_proxy(&[upstream.address], ""));
    let (mut client, mut server) = session(&gateway, &connections);
    client.write_all(b"four").unwrap();
    server.write_all(b"seven77").unwrap();
    drop(server);
    read_to_end(&mut client);
    drop(client);
    let line = gateway.wait_for_access("session");
    assert!(line.contains(" front 127.0.0.1:") && line.contains(" out=7 "), "{line}");
    assert!(line.contains(&format!("upstream=app server={}", upstream.address)), "{line}");
}
