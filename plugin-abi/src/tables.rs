//! The two tables of functions, and the type of the one symbol.

use core::ffi::{c_char, c_void};

use crate::records::{pc_buffer, pc_connection, pc_endpoint, pc_input, pc_peer, pc_piece, pc_startup};
use crate::shape::tables;

/// The version that brought what stands beside it.
pub(crate) const V1_0: u32 = crate::version(1, 0);

tables! {
    /// What the plugin offers. The gateway fills in how much room there is (`size`); the plugin fills in its functions and
    /// the size of what it filled in, never more than the room. The table belongs to the instance.
    ///
    /// One connection's callbacks come one after the other, in order; those of different connections come side by side,
    /// unless the pool has one thread. `cleanup` overlaps no other call.
    pc_plugin {
        /// The endpoint is closed, or start-up could not be completed. Once for each start-up that answered PC_OK, and
        /// nothing comes after it: threads that call the gateway must have ended when it returns.
        V1_0 required fn cleanup(instance: *mut c_void);
        /// A connection came. What is put into `user` comes back in every call about it. PC_OK, or anything else to close it.
        V1_0 required fn open(instance: *mut c_void, connection: pc_connection, peer: *const pc_peer, user: *mut *mut c_void) -> i32;
        /// Input came. Answers how much was consumed: where there is no framing, what is left comes again with more; a
        /// message is consumed whole, or not at all (0) and then comes again after `writable`. Below 0 closes the connection.
        V1_0 required fn data(instance: *mut c_void, connection: pc_connection, user: *mut c_void, input: *const pc_input) -> i64;
        /// The connection is over, and its handle stale. Once for each `open` that answered PC_OK, after its last callback;
        /// why is one of PC_CLOSED_.
        V1_0 required fn close(instance: *mut c_void, connection: pc_connection, user: *mut c_void, why: u32);
        /// The queue was long or full, and is short again.
        V1_0 optional fn writable(instance: *mut c_void, connection: pc_connection, user: *mut c_void);
        /// A timer that `set_timer` set has run out.
        V1_0 optional fn timer(instance: *mut c_void, connection: pc_connection, user: *mut c_void, id: u32);
        /// PC_FRAMING_OWN: how many bytes `message_size` needs to see at least.
        V1_0 optional fn minimum_size(instance: *mut c_void, connection: pc_connection, user: *mut c_void) -> usize;
        /// PC_FRAMING_OWN: how large the message is that begins here, of which this much has come; 0 if that cannot be told
        /// yet. Below 0 closes the connection.
        V1_0 optional fn message_size(instance: *mut c_void, connection: pc_connection, user: *mut c_void, bytes: *const u8, length: usize) -> i64;
    }

    /// What the gateway offers. Valid until `cleanup` returns. Any thread may call, at any time, with the table that its
    /// instance was given; no function waits, and none calls the plugin back.
    pc_host {
        /// Queues bytes for the client (from a layer above another: for the layer below). All pieces or none:
        /// PC_OK, PC_PAUSE, PC_FULL, PC_GONE, PC_LIMIT (more than a queue can ever hold) or PC_INVALID.
        V1_0 required fn write(host: *const pc_host, connection: pc_connection, pieces: *const pc_piece, count: usize) -> i32;
        /// Queues the whole buffer for each connection, without copying it. Answers for each go to `results`, unless that is
        /// NULL. Answers how many took it, or PC_INVALID.
        V1_0 required fn broadcast(host: *const pc_host, connections: *const pc_connection, count: usize, buffer: *mut pc_buffer, results: *mut i32) -> i64;
        /// Queues bytes for the layer above, which gets them as input. Answers as `write`; PC_INVALID in the last layer.
        V1_0 required fn forward(host: *const pc_host, connection: pc_connection, pieces: *const pc_piece, count: usize) -> i32;
        /// Closes the connection; how is one of PC_CLOSE_. `close` of the plugin follows. PC_OK, PC_GONE or PC_INVALID.
        V1_0 required fn close(host: *const pc_host, connection: pc_connection, how: u32) -> i32;
        /// Calls `timer` once, after this time. There are 8 timers to a connection, 0 to 7; setting one that is set moves it.
        /// PC_OK, PC_GONE or PC_LIMIT (no such timer).
        V1_0 required fn set_timer(host: *const pc_host, connection: pc_connection, id: u32, milliseconds: u64) -> i32;
        /// Forgets a timer. It may have run out already, and `timer` be on its way. PC_OK, PC_GONE or PC_LIMIT.
        V1_0 required fn cancel_timer(host: *const pc_host, connection: pc_connection, id: u32) -> i32;
        /// A new buffer with a copy of these bytes, which the plugin must release; NULL where the gateway's memory for this
        /// instance is used up.
        V1_0 required fn copy(host: *const pc_host, bytes: *const u8, length: usize) -> *mut pc_buffer;
        /// A new buffer around the plugin's own bytes, which the plugin must release. `free` is called once, with `context`,
        /// when nobody needs them any more: on any thread, and perhaps before `release` of another buffer returns. It must
        /// not call the gateway.
        V1_0 required fn wrap(host: *const pc_host, bytes: *const u8, length: usize, free: Option<unsafe extern "C" fn(*mut c_void)>, context: *mut c_void) -> *mut pc_buffer;
        /// Another handle of the same bytes, which the plugin must release; of a borrowed buffer, this is how to keep it.
        V1_0 required fn retain(host: *const pc_host, buffer: *const pc_buffer) -> *mut pc_buffer;
        /// Gives a handle back. The bytes stay while anybody needs them.
        V1_0 required fn release(host: *const pc_host, buffer: *mut pc_buffer);
        /// Where a buffer's bytes are, and how many.
        V1_0 required fn bytes(host: *const pc_host, buffer: *const pc_buffer, length: *mut usize) -> *const u8;
        /// Writes a line to the gateway's log, with the endpoint's name. The level is one of PC_LOG_; the text ends with a NUL.
        V1_0 required fn log(host: *const pc_host, level: u32, text: *const c_char);
    }
}

/// The type of the one symbol, [`STARTUP`](crate::STARTUP).
///
/// `requested` is the gateway's highest version. Below the plugin's lowest, the answer is `PC_VERSION`. Else `high_version` is
/// the plugin's highest, and `version` the lower of the two; the answer is `PC_OK`, and a `cleanup` will follow.
pub type pc_startup_fn = unsafe extern "C" fn(
    requested: u32,
    out: *mut pc_startup,
    endpoint: *const pc_endpoint,
    host: *const pc_host,
    table: *mut pc_plugin,
) -> i32;
