//! More than the servers may have in work: who waits, for how long, and who is turned away.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use super::{GET, of_app, of_server};
use crate::support::client::{ask, connect, read_response};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, PATIENCE, http_proxy, with_app};

/// An upstream that answers when it is told to, one request at a time; it tells of each that came.
fn told() -> (Upstream, Receiver<()>, SyncSender<()>) {
    let (came, comes) = sync_channel(100);
    let (go, may_go) = sync_channel::<()>(100);
    let may_go = Mutex::new(may_go);
    let upstream = Upstream::start(move |mut stream| {
        while read_request(&mut stream).is_some() {
            came.send(()).unwrap();
            may_go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    (upstream, comes, go)
}

fn sent(gateway: &Gateway) -> TcpStream {
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    stream
}

#[test]
fn one_is_in_work_one_waits_and_a_third_is_told_to_come_back_later() {
    let (upstream, comes, go) = told();
    let keys = format!("max_connections = 1\nqueue = {{ length = 1, timeout = \"{}s\" }}", PATIENCE.as_secs());
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), &keys));
    let mut first = sent(&gateway);
    comes.recv_timeout(PATIENCE).unwrap();
    gateway.wait_for_metric(&of_server("requests_active", upstream.address), 1.0);
    let mut second = sent(&gateway);
    gateway.wait_for_metric(&of_app("queue_length"), 1.0);
    let third = ask(&mut connect(gateway.address("front")), GET);
    assert_eq!((third.status, third.field("retry-after")), (503, Some("1")));
    assert!(third.field("proxy-status").unwrap().contains("error=connection_limit_reached"), "{third:?}");
    assert!(comes.try_recv().is_err(), "the server has one, and no more");
    for stream in [&mut first, &mut second] {
        go.send(()).unwrap();
        assert_eq!(read_response(stream).status, 200);
    }
    gateway.wait_for_metric(&of_app("queue_length"), 0.0);
    gateway.wait_for_metric(&of_app("queued_total"), 1.0);
    gateway.wait_for_metric(&of_app("busy_total"), 1.0);
    gateway.wait_for_metric(&of_server("requests_active", upstream.address), 0.0);
}

#[test]
fn a_wait_in_the_queue_ends_and_without_a_queue_there_is_none() {
    for queue in ["", "queue = { length = 5, timeout = \"100ms\" }"] {
        let (upstream, comes, go) = told();
        let keys = format!("max_connections = 1\n{queue}");
        let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), &keys));
        let mut first = sent(&gateway);
        comes.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 503);
        go.send(()).unwrap();
        assert_eq!(read_response(&mut first).status, 200);
    }
}

#[test]
fn a_client_that_leaves_the_queue_makes_room_in_it() {
    let (upstream, comes, go) = told();
    let keys = format!("max_connections = 1\nqueue = {{ length = 1, timeout = \"{}s\" }}", PATIENCE.as_secs());
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), &keys));
    let mut first = sent(&gateway);
    comes.recv_timeout(PATIENCE).unwrap();
    let gone = sent(&gateway);
    gateway.wait_for_metric(&of_app("queue_length"), 1.0);
    crate::support::client::reset(gone);
    gateway.wait_for_metric(&of_app("queue_length"), 0.0);
    let mut second = sent(&gateway);
    for stream in [&mut first, &mut second] {
        go.send(()).unwrap();
        assert_eq!(read_response(stream).status, 200);
    }
}

#[test]
fn no_server_ever_has_more_in_work_than_it_may_over_all_workers() {
    const LIMIT: usize = 3;
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, record) = (Arc::clone(&working), Arc::clone(&most));
    let upstream = Upstream::start(move |mut stream| {
        while read_request(&mut stream).is_some() {
            record.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            (0..20).for_each(|_| std::thread::yield_now());
            now.fetch_sub(1, SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let keys = format!("max_connections = {LIMIT}\nqueue = {{ length = 100, timeout = \"{}s\" }}", PATIENCE.as_secs());
    let config = with_app(&http_proxy(&[upstream.address], "[gateway]\nworkers = 2"), &keys);
    let gateway = Gateway::start(&config);
    let address = gateway.address("front");
    let clients = (0..16).map(|_| {
        std::thread::spawn(move || {
            let mut stream = connect(address);
            (0..25).for_each(|_| assert_eq!(ask(&mut stream, GET).status, 200));
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    assert!(most.load(SeqCst) <= LIMIT, "{} at once", most.load(SeqCst));
}
