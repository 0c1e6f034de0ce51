//! A chat room: what one client says in a line, all others hear, by whichever endpoint they came in.
//!
//! Every endpoint has an instance of its own; the room is one, for the whole process. A line goes to each instance's members
//! by that instance's own host.
//!
//! `cargo build --release -p portcullis-chat` makes `target/release/libportcullis_chat.so`.

use std::sync::{Arc, Mutex, PoisonError};

use portcullis_plugin::{Close, Endpoint, Framing, Handle, Host, Input, Peer, Plugin, StartError, Why};

/// One endpoint's members.
struct Door {
    host: Host,
    members: Mutex<Vec<Handle>>,
}

/// Every door.
static ROOM: Mutex<Vec<Arc<Door>>> = Mutex::new(Vec::new());

struct Chat {
    endpoint: Endpoint,
    door: Arc<Door>,
}

impl Plugin for Chat {
    type Connection = ();

    fn start(endpoint: &Endpoint, host: Host) -> Result<Self, StartError> {
        let door = Arc::new(Door { host, members: Mutex::default() });
        lock(&ROOM).push(Arc::clone(&door));
        Ok(Self { endpoint: endpoint.clone(), door })
    }

    fn framing(&self) -> Framing {
        Framing::Delimiter { bytes: b"\n", most: 512 }
    }

    fn open(&self, connection: Handle, peer: &Peer<'_>) -> Result<(), Close> {
        let Endpoint { name, class, .. } = &self.endpoint;
        let kind = if peer.tls_version.is_some() { "TLS" } else { "plain" };
        lock(&self.door.members).push(connection);
        let hello = format!("* you are in, by {name} ({class}, {kind})\n");
        self.door.host.write(connection, &[hello.as_bytes()]).map(drop).map_err(|_| Close)
    }

    fn data(&self, connection: Handle, _: &mut (), input: &Input<'_>) -> Result<usize, Close> {
        if !input.bytes().is_empty() {
            let line = [b"<", self.endpoint.name.as_bytes(), b"> ", input.bytes()].concat();
            say(&line, Some((&self.door, connection)));
        }
        Ok(input.bytes().len())
    }

    fn close(&self, connection: Handle, (): (), _: Why) {
        lock(&self.door.members).retain(|member| *member != connection);
        say(format!("* somebody left by {}\n", self.endpoint.name).as_bytes(), None);
    }
}

/// The endpoint is closed: its door goes.
impl Drop for Chat {
    fn drop(&mut self) {
        lock(&ROOM).retain(|door| !Arc::ptr_eq(door, &self.door));
    }
}

/// Says a line to everybody but one. Each door shares one buffer between its members.
fn say(line: &[u8], except: Option<(&Arc<Door>, Handle)>) {
    for door in lock(&ROOM).iter() {
        let others = |member: &Handle| except.is_none_or(|(at, one)| !Arc::ptr_eq(at, door) || one != *member);
        let members: Vec<Handle> = lock(&door.members).iter().copied().filter(others).collect();
        // Where the gateway's memory for a door is used up, its clients do not read.
        if let Some(buffer) = door.host.copy(line) {
            door.host.broadcast(&members, &buffer);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

portcullis_plugin::export!(Chat);
