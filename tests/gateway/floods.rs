//! Hostile clients: what they do costs a bounded amount, is counted, and leaves other clients alone.
//!
//! Each test runs a flood against a gateway with one worker, so that whatever stalls it stalls everyone, while a bystander
//! asks again and again on that same worker.

mod crowds;
mod http1;
mod http2;
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::client::{ask, connect};
use crate::support::upstream::Upstream;
use crate::support::{Gateway, http_proxy, with_front};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const MIB: u64 = 1 << 20;
/// A bystander's answer takes no longer. An unoptimised build on a busy machine is slow; an unfair one is far slower.
const PROMPT: Duration = Duration::from_secs(2);

/// A gateway with one worker before these servers. `keys` are the endpoint's, `more` is added.
fn gateway(servers: &[SocketAddr], keys: &str, more: &str) -> Gateway {
    Gateway::start(&with_front(&http_proxy(servers, &format!("[gateway]\nworkers = 1\n{more}")), keys))
}

/// An upstream that answers what the bystander asks; whoever sends it something by POST waits for ever.
fn upstream() -> Upstream {
    Upstream::start(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST") {
                return drop(stream.read_to_end(&mut Vec::new()));
            }
            let _ = stream.write_all(OK.as_bytes());
        }
    })
}

/// An upstream that answers what the bystander asks; whoever sends it something by POST gets an answer without end.
fn endless_upstream() -> Upstream {
    Upstream::start(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(&[b'x'; 65536]).is_ok() {}
                return;
            }
            let _ = stream.write_all(OK.as_bytes());
        }
    })
}

/// The next request's head, without its body.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Runs a flood while a bystander asks; it must be answered promptly all the while, and so must a new client afterwards.
/// What the flood returns; and how far the gateway's memory grew, in bytes.
fn withstood<T: Send>(gateway: &Gateway, flood: impl FnOnce(SocketAddr) -> T + Send) -> (T, u64) {
    let front = gateway.address("front");
    let mut bystander = connect(front);
    assert_eq!(ask(&mut bystander, GET).status, 200);
    let before = resident(gateway);
    let mut worst = Duration::ZERO;
    let result = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(front));
        while !flood.is_finished() {
            let asked = Instant::now();
            assert_eq!(ask(&mut bystander, GET).status, 200);
            worst = worst.max(asked.elapsed());
        }
        flood.join().unwrap()
    });
    assert!(worst < PROMPT, "the bystander waited {worst:?}");
    assert_eq!(ask(&mut connect(front), GET).status, 200);
    let grown = resident(gateway).saturating_sub(before);
    eprintln!("bystander waited {worst:?} at most; memory grew by {} KiB", grown / 1024);
    (result, grown)
}

/// The memory that a gateway holds, in bytes.
fn resident(gateway: &Gateway) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", gateway.pid())).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
