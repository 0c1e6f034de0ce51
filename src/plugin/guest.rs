//! The seam: what a kind of plugin implements, and what it is told.
//!
//! `native` implements it for shared libraries, `wasm` for components; `keeper` starts guests and `session` calls them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::framing::Framing;
use super::host::{Handle, Host};
use crate::identity::{ConnectionInfo, Endpoint};
use crate::labels::labels;

/// What a plugin keeps about a connection: its own word, a pointer or an index, that comes back in every event.
pub type User = usize;

/// A kind of plugin with one plugin of it: a library that is loaded, a module that is compiled.
pub trait Adapter: Send + Sync {
    /// What the plugin is called in logs and metrics: its file's name.
    fn name(&self) -> &str;

    /// A digest of its code; equal digests are the same code.
    fn digest(&self) -> &str;

    /// What its instances are made from: the code, and whatever bounds them besides [`Place`]. Where it differs, a reload
    /// starts another instance.
    fn identity(&self) -> String {
        self.digest().to_owned()
    }

    /// Starts an instance for `place`, which may ask things of `host` from now on.
    ///
    /// May block for a while; called on a thread of the instance's own, which calls [`Guest::cleanup`] later.
    ///
    /// # Errors
    /// Why there is no instance; there is nothing to clean up then.
    fn start(&self, place: &Arc<Place>, host: &Arc<Host>) -> Result<Arc<dyn Guest>, Fault>;
}

/// A started instance of a plugin.
///
/// One connection's events come one after the other, in order; those of different connections come side by side, on
/// several threads, unless the pool has one.
pub trait Guest: Send + Sync {
    /// The version that both sides keep to, such as "1.0".
    fn version(&self) -> String;

    /// How the client's bytes become messages.
    fn framing(&self) -> Framing;

    /// The largest message that it wants, in bytes; 0: what the gateway allows.
    fn max_message(&self) -> u32 {
        0
    }

    /// Whether no event ever blocks, so that it may run on a worker.
    fn never_blocks(&self) -> bool;

    /// A connection came. What it answers comes back in every event about it.
    ///
    /// # Errors
    /// The connection is not wanted, or trouble; no other event follows.
    fn open(&self, connection: Handle, peer: &Peer) -> Result<User, Trouble>;

    /// Input came. Answers how many bytes were consumed: all of a message or none; without framing, any number.
    ///
    /// # Errors
    /// Trouble; the connection is closed.
    fn data(&self, connection: Handle, user: User, input: &Input) -> Result<usize, Trouble>;

    /// The connection's queue was long or full, and is short again.
    ///
    /// # Errors
    /// Trouble; the connection is closed.
    fn writable(&self, connection: Handle, user: User) -> Result<(), Trouble>;

    /// A timer ran out.
    ///
    /// # Errors
    /// Trouble; the connection is closed.
    fn timer(&self, connection: Handle, user: User, id: u32) -> Result<(), Trouble>;

    /// The connection is over, and its handle stale. Once for each `open` that succeeded, after its last event.
    ///
    /// # Errors
    /// The instance cannot go on.
    fn close(&self, connection: Handle, user: User, why: Why) -> Result<(), Trouble>;

    /// How many bytes [`message_size`](Self::message_size) needs to see; asked only where framing is the plugin's own.
    ///
    /// # Errors
    /// Trouble; the connection is closed.
    fn minimum_size(&self, connection: Handle, user: User) -> Result<usize, Trouble>;

    /// How large the message is that begins with `bytes`; 0 where that cannot be told yet.
    ///
    /// # Errors
    /// The bytes make no sense; the connection is closed.
    fn message_size(&self, connection: Handle, user: User, bytes: &[u8]) -> Result<usize, Trouble>;

    /// Called once, after the last event of the last connection, on the thread that started the instance.
    fn cleanup(&self);
}

/// Which endpoint an instance serves, and where in its chain it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The handler's name.
    pub handler: String,
    /// The endpoint's `settings` table, as a JSON object.
    pub settings: String,
    /// 0 is next to the client.
    pub layer: u32,
    /// How many layers the chain has.
    pub layers: u32,
    /// The largest message that framing lets through, in bytes.
    pub max_message: u32,
    /// How much a connection's queue holds, in bytes.
    pub max_queue: u32,
    /// How much the instance's queues and buffers hold together, in bytes.
    pub max_buffered: usize,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<ConnectionInfo>);

/// What came. The bytes may be kept by cloning them.
#[derive(Clone, Debug)]
pub struct Input {
    /// The bytes: one message, where there is framing.
    pub bytes: Bytes,
    /// Whether the sender has ended, so that nothing comes after this.
    pub last: bool,
    /// Whether the layer above wrote it, on its way to the client.
    pub from_above: bool,
}

labels! {
    /// Why a connection ended.
    Why {
        /// The client ended, in order.
        Client = "client",
        /// The plugin asked for it, or an event failed.
        Plugin = "plugin",
        /// Nothing came or went for too long.
        Idle = "idle",
        /// The gateway drains, or another instance has taken over.
        Drain = "drain",
        /// The connection broke.
        Broken = "broken",
        /// The client broke the framing.
        Framing = "framing",
        /// The instance was given up.
        Quarantine = "quarantine",
    }
}

/// What an event says went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This connection is not wanted, or cannot go on.
    Connection,
    /// The instance cannot go on, such as after a trap: it is given up and started again. What happened.
    Instance(String),
}

/// Why there is no instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault.
    pub kind: FaultKind,
    /// What is wrong and what to do.
    pub message: String,
}

/// What kind of fault kept an instance from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Not yet: it is tried again.
    NotReady,
    /// No version in common.
    Version,
    /// Start-up was entered from within start-up.
    InProgress,
    /// More than there may be.
    Limit,
    /// Something went wrong inside.
    Fault,
    /// The endpoint's settings are wrong.
    BadConfig,
}

impl Fault {
    /// A fault with its text.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
