//! A collector of traces: an HTTP server that takes OTLP requests, parses their JSON, and answers as a test says.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

use super::upstream::Upstream;
use super::{PATIENCE, tls};

pub struct Collector {
    pub address: SocketAddr,
    /// The URL without its path.
    origin: String,
    upstream: Upstream,
    requests: Receiver<(String, Value)>,
}

impl Collector {
    /// Answers the first requests with these statuses, and the rest with 200.
    pub fn answering(statuses: &[u16]) -> Self {
        let (sender, requests) = sync_channel(1000);
        let statuses = Mutex::new(statuses.to_vec());
        let upstream = Upstream::start(move |stream| answer(stream, &statuses, &sender));
        Self { address: upstream.address, origin: format!("http://{}", upstream.address), upstream, requests }
    }

    /// As `localhost`, by TLS with a chain of `certs/`; answers everything with 200.
    pub fn with_tls(chain: &str) -> Self {
        let (sender, requests) = sync_channel(1000);
        let config = tls::server(chain);
        let upstream = Upstream::start(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(StreamOwned::new(connection, stream), &Mutex::default(), &sender);
        });
        let origin = format!("https://localhost:{}", upstream.address.port());
        Self { address: upstream.address, origin, upstream, requests }
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.upstream.connections()
    }

    /// The `[tracing]` table that sends spans here; `more` is added.
    pub fn tracing(&self, more: &str) -> String {
        format!("[tracing]\notlp = \"{}/v1/traces\"\n{more}\n", self.origin)
    }

    /// The next request: its head, and its body.
    pub fn request(&self) -> (String, Value) {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    /// Nothing has come that was not asked for. For when the gateway has ended.
    pub fn sees_nothing(&self) {
        assert!(self.requests.try_recv().is_err());
    }

    /// This many spans, in the order in which they ended, with the resource that they came with.
    #[track_caller]
    pub fn spans(&self, number: usize) -> (Value, Vec<Value>) {
        let (start, mut all) = (Instant::now(), Vec::new());
        loop {
            let (_, body) = self.request();
            let of = &body["resourceSpans"][0];
            all.extend(of["scopeSpans"][0]["spans"].as_array().unwrap().clone());
            assert!(all.len() <= number && start.elapsed() < PATIENCE, "{number} were to come: {all:#?}");
            if all.len() == number {
                return (of["resource"].clone(), all);
            }
        }
    }
}

/// The value of an attribute, whatever its type; `Null` where it is not there.
pub fn attribute(of: &Value, key: &str) -> Value {
    let all = of["attributes"].as_array().unwrap();
    let found = all.iter().find(|attribute| attribute["key"] == key);
    found.map_or(Value::Null, |attribute| attribute["value"].as_object().unwrap().values().next().unwrap().clone())
}

/// Answers the requests of one connection, and hands them to the test.
fn answer(mut stream: impl Read + Write, statuses: &Mutex<Vec<u16>>, requests: &SyncSender<(String, Value)>) {
    while let Some((head, body)) = read(&mut stream) {
        let status =
            Some(&mut *statuses.lock().unwrap()).filter(|left| !left.is_empty()).map_or(200, |left| left.remove(0));
        let _ = requests.send((head, serde_json::from_slice(&body).unwrap()));
        let text = format!("HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}");
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1)?.split('\r').next()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}
