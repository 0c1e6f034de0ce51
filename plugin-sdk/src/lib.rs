//! Write plugins for Portcullis in safe Rust.
//!
//! A plugin is a library of `crate-type = ["cdylib"]` with a type that implements [`Plugin`], and one line that exports it:
//!
//! ```
//! use portcullis_plugin::{Close, Endpoint, Handle, Host, Input, Peer, Plugin, StartError};
//!
//! struct Echo(Host);
//!
//! impl Plugin for Echo {
//!     type Connection = ();
//!
//!     fn start(_: &Endpoint, host: Host) -> Result<Self, StartError> {
//!         Ok(Self(host))
//!     }
//!
//!     fn open(&self, _: Handle, _: &Peer<'_>) -> Result<(), Close> {
//!         Ok(())
//!     }
//!
//!     fn data(&self, connection: Handle, _: &mut (), input: &Input<'_>) -> Result<usize, Close> {
//!         input.consumed_if(self.0.write(connection, &[input.bytes()]))
//!     }
//! }
//!
//! portcullis_plugin::export!(Echo);
//! ```
//!
//! The gateway makes one value of the type for every endpoint that names the plugin, and drops it when the endpoint is closed.
//! A panic ends the connection that it concerns and is logged; `panic = "abort"` would end the gateway.
//! `docs/plugins.md` in the gateway's repository is the guide; `examples/plugins/rust` holds plugins to start from.

mod endpoint;
mod entry;
mod host;

pub use endpoint::{Endpoint, Input, Peer};
pub use entry::startup;
pub use host::{Buffer, Handle, Host, Level, NotSent, Sent};
/// The tables of functions, for what this crate does not wrap.
pub use portcullis_plugin_abi as abi;

/// A plugin: one value for each endpoint. Dropping it is its cleanup.
///
/// One connection's calls come one after the other, in order; those of different connections come side by side, on several
/// threads.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// What is remembered about a connection.
    type Connection: Send + 'static;

    /// Whether no call ever blocks, so that the operator may choose `run = "inline"`.
    const NEVER_BLOCKS: bool = false;

    /// The lowest version of the gateway's interface that this plugin can do with.
    const LOWEST_VERSION: u32 = abi::version(1, 0);

    /// Begins to serve an endpoint.
    ///
    /// # Errors
    /// Why it cannot, or not yet.
    fn start(endpoint: &Endpoint, host: Host) -> Result<Self, StartError>;

    /// How the client's bytes become messages.
    fn framing(&self) -> Framing {
        Framing::None
    }

    /// A connection came.
    ///
    /// # Errors
    /// It is not wanted, and is closed.
    fn open(&self, connection: Handle, peer: &Peer<'_>) -> Result<Self::Connection, Close>;

    /// Input came: a whole message, where there is framing. Answers how much was consumed: of a message all or nothing, and
    /// then it comes again after [`writable`](Self::writable); else any number, and the rest comes again with more.
    ///
    /// # Errors
    /// The connection is closed.
    fn data(&self, connection: Handle, state: &mut Self::Connection, input: &Input<'_>) -> Result<usize, Close>;

    /// The connection's queue was long or full, and is short again.
    fn writable(&self, connection: Handle, state: &mut Self::Connection) {
        let _ = (connection, state);
    }

    /// A timer that [`Host::set_timer`] set has run out.
    fn timer(&self, connection: Handle, state: &mut Self::Connection, id: u32) {
        let _ = (connection, state, id);
    }

    /// The connection is over, and its handle stale.
    fn close(&self, connection: Handle, state: Self::Connection, why: Why) {
        let _ = (connection, state, why);
    }

    /// For [`Framing::Own`]: how large the message is that begins with `bytes`; `None` where that cannot be told yet.
    ///
    /// # Errors
    /// The bytes make no sense, and the connection is closed.
    fn message_size(&self, state: &mut Self::Connection, bytes: &[u8]) -> Result<Option<usize>, Close> {
        let _ = (state, bytes);
        Err(Close)
    }
}

/// How a client's bytes become messages. A message is handed over whole, its length or delimiter included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// They do not.
    None,
    /// Each message begins with its length.
    Length {
        /// How many bytes the length has: 1, 2, 4 or 8.
        size: u32,
        /// Whether the least significant byte comes first.
        little_endian: bool,
        /// Whether the length counts its own bytes.
        counts_itself: bool,
        /// The largest message, in bytes; 0: what the gateway allows.
        most: u32,
    },
    /// Each message ends with these bytes, 1 to 8 of them.
    Delimiter {
        /// The bytes.
        bytes: &'static [u8],
        /// The largest message, in bytes; 0: what the gateway allows.
        most: u32,
    },
    /// [`Plugin::message_size`] tells, once there are this many bytes.
    Own {
        /// How many bytes it needs to see.
        least: usize,
        /// The largest message, in bytes; 0: what the gateway allows.
        most: u32,
    },
}

/// The connection should be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close;

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client ended, in order.
    Client,
    /// The plugin asked for it, or a call failed.
    Plugin,
    /// Nothing came or went for too long.
    Idle,
    /// The gateway drains, or another instance has taken over.
    Drain,
    /// The connection broke.
    Broken,
    /// The client broke the framing.
    Framing,
    /// The instance was given up.
    Quarantine,
    /// A reason that this version of the crate does not know.
    Other,
}

/// Why an instance does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Not yet: the gateway tries again, and the endpoint is not ready until then.
    NotReady(String),
    /// There are as many instances as there may be.
    Limit(String),
    /// Something went wrong.
    Fault(String),
    /// The endpoint's settings are wrong.
    BadConfig(String),
}

/// Exports a [`Plugin`] as the one symbol that the gateway looks for.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        /// The symbol that the gateway looks for.
        ///
        /// # Safety
        /// Called by the gateway, by the contract of `portcullis_plugin_startup`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn portcullis_plugin_startup(
            requested: u32,
            out: *mut $crate::abi::pc_startup,
            endpoint: *const $crate::abi::pc_endpoint,
            host: *const $crate::abi::pc_host,
            table: *mut $crate::abi::pc_plugin,
        ) -> i32 {
            // SAFETY: the caller keeps the contract.
            unsafe { $crate::startup::<$plugin>(requested, out, endpoint, host, table) }
        }
    };
}
