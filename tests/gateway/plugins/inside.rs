//! The same suite over the trait: guests in Rust, inside a program that uses the library.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use portcullis::config::Config;
use portcullis::gateway::Gateway;
use portcullis::handler::plugin::Plugin;
use portcullis::plugin::framing::Framing;
use portcullis::plugin::{
    Adapter, Answer, Fault, Guest, Handle, Host, Input, LayerPlan, Peer, Place, Run, Terms, Trouble, User, Why,
};

use super::{door, suite};
use crate::support::tls::{certificates, endpoint_with};

/// What a guest does.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Echo,
    /// Messages whose ends the guest tells by itself.
    Messages,
    Chat,
}

/// Somebody in the room, and the host of his connection.
type Member = (Arc<Host>, Handle);

struct Inside {
    kind: Kind,
    room: Arc<Mutex<Vec<Member>>>,
}

struct InsideGuest {
    kind: Kind,
    room: Arc<Mutex<Vec<Member>>>,
    host: Arc<Host>,
}

impl Adapter for Inside {
    fn name(&self) -> &'static str {
        "inside"
    }

    fn digest(&self) -> &'static str {
        "inside"
    }

    fn start(&self, _: &Arc<Place>, host: &Arc<Host>) -> Result<Arc<dyn Guest>, Fault> {
        Ok(Arc::new(InsideGuest { kind: self.kind, room: Arc::clone(&self.room), host: Arc::clone(host) }))
    }
}

impl InsideGuest {
    fn say(&self, line: String, except: Option<Handle>) {
        let bytes = Bytes::from(line);
        for (host, member) in self.room.lock().unwrap().iter() {
            if !(Arc::ptr_eq(host, &self.host) && Some(*member) == except) {
                host.write(*member, std::slice::from_ref(&bytes));
            }
        }
    }

    fn answer(&self, connection: Handle, bytes: Bytes, length: usize) -> Result<usize, Trouble> {
        match self.host.write(connection, &[bytes]) {
            Answer::Full => Ok(0),
            Answer::Ok | Answer::Pause => Ok(length),
            _ => Err(Trouble::Connection),
        }
    }
}

impl Guest for InsideGuest {
    fn version(&self) -> String {
        "1.0".into()
    }

    fn framing(&self) -> Framing {
        match self.kind {
            Kind::Echo => Framing::None,
            Kind::Messages => Framing::Own,
            Kind::Chat => Framing::Delimiter(b"\n".to_vec()),
        }
    }

    fn max_message(&self) -> u32 {
        4096 * u32::from(self.kind == Kind::Messages)
    }

    fn never_blocks(&self) -> bool {
        true
    }

    fn open(&self, connection: Handle, peer: &Peer) -> Result<User, Trouble> {
        if self.kind == Kind::Chat {
            let endpoint = &self.host.place().endpoint;
            let kind = if peer.0.tls.is_some() { "TLS" } else { "plain" };
            let hello = format!("* you are in, by {} ({}, {kind})\n", endpoint.name, endpoint.class);
            // First the member, then the greeting: who has heard it hears all that is said from then on.
            self.room.lock().unwrap().push((Arc::clone(&self.host), connection));
            self.host.write(connection, &[hello.into()]);
        }
        Ok(0)
    }

    fn data(&self, connection: Handle, _: User, input: &Input) -> Result<usize, Trouble> {
        let length = input.bytes.len();
        match self.kind {
            Kind::Echo => self.answer(connection, input.bytes.clone(), length),
            Kind::Messages => self.answer(connection, input.bytes.to_ascii_uppercase().into(), length),
            Kind::Chat if length > 0 => {
                let (name, text) = (&self.host.place().endpoint.name, String::from_utf8_lossy(&input.bytes));
                self.say(format!("<{name}> {text}"), Some(connection));
                Ok(length)
            }
            Kind::Chat => Ok(0),
        }
    }

    fn writable(&self, _: Handle, _: User) -> Result<(), Trouble> {
        Ok(())
    }

    fn timer(&self, _: Handle, _: User, _: u32) -> Result<(), Trouble> {
        Ok(())
    }

    fn close(&self, connection: Handle, _: User, _: Why) -> Result<(), Trouble> {
        let own = |(host, member): &(Arc<Host>, Handle)| Arc::ptr_eq(host, &self.host) && *member == connection;
        self.room.lock().unwrap().retain(|member| !own(member));
        if self.kind == Kind::Chat {
            self.say(format!("* somebody left by {}\n", self.host.place().endpoint.name), None);
        }
        Ok(())
    }

    fn minimum_size(&self, _: Handle, _: User) -> Result<usize, Trouble> {
        Ok(2)
    }

    fn message_size(&self, _: Handle, _: User, bytes: &[u8]) -> Result<usize, Trouble> {
        Ok(2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn cleanup(&self) {}
}

/// Runs a test on a gateway in this process, with both doors, on the pool and inline.
fn with(kind: Kind, test: impl Fn(std::net::SocketAddr, std::net::SocketAddr)) {
    for run in [Run::Pool(2), Run::Inline] {
        let world = endpoint_with("world", "public", "site", &certificates(&["localhost"]), "");
        let more = "[admin]\nlisten = \"off\"\n[log]\naccess = false\n[gateway]\nworkers = 2\n";
        let config: Config = format!("{}{world}{more}", door("internal", "site", "")).parse().unwrap();
        let adapter = Arc::new(Inside { kind, room: Arc::default() });
        let plugin = Plugin::of("site", vec![LayerPlan { adapter, run }], Terms::default());
        let running = Gateway::builder(config).handler("site", plugin).start().unwrap_or_else(|e| panic!("{e}"));
        let address = |name: &str| running.addresses(name).next().unwrap();
        test(address("internal"), address("world"));
        running.stop();
    }
}

#[test]
fn a_guest_in_rust_echoes() {
    with(Kind::Echo, |internal, _| suite::echoes(internal));
}

#[test]
fn a_guest_that_tells_where_messages_end_gets_whole_ones() {
    with(Kind::Messages, |internal, _| suite::answers_messages(internal));
}

#[test]
fn a_guest_in_rust_chats_by_both_doors() {
    with(Kind::Chat, suite::chats);
}
