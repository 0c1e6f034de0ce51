//! Upstreams that do exactly what a test says, byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use super::PATIENCE;

/// A server whose every connection is handled by a closure, on a thread of its own.
pub struct Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub fn start(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), handle)
    }

    /// As [`start`](Self::start), at an address.
    pub fn start_at(address: SocketAddr, handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, handle) = (Arc::clone(&connections), Arc::new(handle));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || handle(stream));
            }
        });
        Self { address, connections }
    }

    /// Answers every request on a connection with the same bytes; bodies must come with a Content-Length.
    /// Every request's head is sent to the receiver.
    pub fn answering(response: &str) -> (Self, Receiver<String>) {
        let (heads, receiver) = sync_channel(1000);
        let response = response.to_owned();
        let upstream = Self::start(move |mut stream| {
            while let Some(head) = read_request(&mut stream) {
                let _ = heads.send(head);
                if stream.write_all(response.as_bytes()).is_err() {
                    return;
                }
            }
        });
        (upstream, receiver)
    }

    /// Answers every request with 200 and this text.
    pub fn saying(text: &str) -> Self {
        Self::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())).0
    }

    /// Reads a request, and closes the connection without an answer.
    pub fn dying() -> Self {
        Self::start(|mut stream| drop(read_request(&mut stream)))
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads one request, its body with a Content-Length too; its head, or `None` at the end of the connection.
pub fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}
