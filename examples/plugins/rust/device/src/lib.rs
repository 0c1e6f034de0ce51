//! A device server: a line protocol that tells its internal door from its internet door.
//!
//! - `GET`: `VALUE n`.
//! - `SET n`: `OK`, by an internal endpoint; by a public one, `DENIED`.
//! - `WATCH ms`: `VALUE n`, again and again, every so many milliseconds.
//! - `WHO`: the endpoint, its class, and what its settings say.
//! - `QUIT`: `BYE`, and the connection is closed.
//!
//! One device stands behind all endpoints. Which door a client came in by is told by the instance: each endpoint has its own.
//!
//! `cargo build --release -p portcullis-device` makes `target/release/libportcullis_device.so`.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use portcullis_plugin::{Close, Endpoint, Framing, Handle, Host, Input, NotSent, Peer, Plugin, Sent, StartError};

static VALUE: AtomicI32 = AtomicI32::new(0);
const TICK: u32 = 0;

struct Door {
    endpoint: Endpoint,
    host: Host,
}

/// What a connection remembers.
#[derive(Default)]
struct Client {
    every: Duration,
}

impl Plugin for Door {
    type Connection = Client;
    const NEVER_BLOCKS: bool = true;

    fn start(endpoint: &Endpoint, host: Host) -> Result<Self, StartError> {
        Ok(Self { endpoint: endpoint.clone(), host })
    }

    fn framing(&self) -> Framing {
        Framing::Delimiter { bytes: b"\n", most: 256 }
    }

    fn open(&self, _: Handle, _: &Peer<'_>) -> Result<Client, Close> {
        Ok(Client::default())
    }

    fn data(&self, connection: Handle, client: &mut Client, input: &Input<'_>) -> Result<usize, Close> {
        let line = std::str::from_utf8(input.bytes()).map_err(|_| Close)?.trim_end();
        let mut words = line.split(' ');
        let sent = match (words.next(), words.next()) {
            (Some(""), None) => Ok(Sent::Ok),
            (Some("GET"), None) => self.say_value(connection),
            (Some("SET"), Some(number)) => self.set(connection, number),
            (Some("WATCH"), Some(number)) => {
                client.every = Duration::from_millis(number.parse().map_err(|_| Close)?).max(Duration::from_millis(1));
                self.host.set_timer(connection, TICK, client.every);
                Ok(Sent::Ok)
            }
            (Some("WHO"), None) => {
                let Endpoint { name, class, settings, .. } = &self.endpoint;
                self.say(connection, &format!("{name} {class} {settings}\n"))
            }
            (Some("QUIT"), None) => {
                let sent = self.say(connection, "BYE\n");
                self.host.close(connection);
                sent
            }
            _ => self.say(connection, "WHAT\n"),
        };
        input.consumed_if(sent)
    }

    fn timer(&self, connection: Handle, client: &mut Client, id: u32) {
        // One value is lost where the client does not read.
        let _ = self.say_value(connection);
        self.host.set_timer(connection, id, client.every);
    }
}

impl Door {
    fn set(&self, connection: Handle, number: &str) -> Result<Sent, NotSent> {
        if self.endpoint.class != "internal" {
            return self.say(connection, "DENIED\n");
        }
        match number.parse() {
            Ok(number) => {
                VALUE.store(number, Relaxed);
                self.say(connection, "OK\n")
            }
            Err(_) => self.say(connection, "WHAT\n"),
        }
    }

    fn say_value(&self, connection: Handle) -> Result<Sent, NotSent> {
        self.say(connection, &format!("VALUE {}\n", VALUE.load(Relaxed)))
    }

    fn say(&self, connection: Handle, text: &str) -> Result<Sent, NotSent> {
        self.host.write(connection, &[text.as_bytes()])
    }
}

portcullis_plugin::export!(Door);
