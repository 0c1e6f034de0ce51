//! A DNS server (RFC 1035) that answers whatever a test says, over UDP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Answers every question for IPv4 addresses with the same ones, and every other one with none.
pub struct Dns {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

/// What it answers; `None` fails.
type Answer = Option<Vec<Ipv4Addr>>;

impl Dns {
    /// With a TTL of so many seconds.
    pub fn start(ttl: u32, addresses: &[[u8; 4]]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(None));
        let asked = Arc::new(AtomicUsize::new(0));
        let dns = Self { address, answer: Arc::clone(&answer), asked: Arc::clone(&asked) };
        dns.answer(Some(addresses));
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                asked.fetch_add(1, SeqCst);
                let reply = reply(&query[..length], answer.lock().unwrap().as_deref(), ttl);
                let _ = socket.send_to(&reply, client);
            }
        });
        dns
    }

    /// Answers with other addresses from now on, or fails.
    pub fn answer(&self, addresses: Option<&[[u8; 4]]>) {
        *self.answer.lock().unwrap() = addresses.map(|all| all.iter().map(|a| Ipv4Addr::from(*a)).collect());
    }

    /// How many questions came so far.
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

fn reply(query: &[u8], addresses: Option<&[Ipv4Addr]>, ttl: u32) -> Vec<u8> {
    const A: [u8; 2] = [0, 1];
    // The question: labels up to the empty one, then type and class.
    let labels = query[12..].iter().position(|b| *b == 0).unwrap() + 1;
    let question = &query[12..12 + labels + 4];
    let wanted = &question[labels..labels + 2] == A.as_slice();
    let found = addresses.filter(|_| wanted).unwrap_or_default();
    let failure = if addresses.is_none() { 2 } else { 0 }; // SERVFAIL
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | failure, 0, 1, 0, u8::try_from(found.len()).unwrap(), 0, 0, 0, 0]);
    reply.extend(question);
    for address in found {
        reply.extend([0xC0, 12, 0, 1, 0, 1]); // the name of the question; A, IN
        reply.extend(ttl.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    reply
}
