//! What a plugin may ask of the gateway, from any thread.

use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use portcullis_plugin_abi as abi;
use portcullis_plugin_abi::{pc_buffer, pc_connection, pc_host, pc_piece};

/// A connection. A handle that outlives its connection is answered [`NotSent::Gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub(crate) pc_connection);

/// Bytes were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All is well.
    Ok,
    /// The queue is long now: `writable` comes, and no input before that.
    Pause,
}

/// Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The queue is full: `writable` comes.
    Full,
    /// The connection is no more.
    Gone,
    /// It is more than a queue can ever hold.
    Limit,
    /// There is no layer above.
    Invalid,
}

/// How grave a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something needs a person.
    Error,
    /// Something will need a person.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
}

/// The gateway, as one instance sees it. Clones are the same; after the instance's end, every call is answered as if all
/// connections were gone.
#[derive(Clone)]
pub struct Host(Arc<RwLock<Table>>);

/// The gateway's table, until cleanup.
struct Table(Option<&'static pc_host>);

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

impl Host {
    /// # Safety
    /// The table is valid until [`end`](Self::end) has returned.
    pub(crate) unsafe fn new(table: *const pc_host) -> Option<Self> {
        // SAFETY: as the caller vouches; nothing reads it after `end`.
        let table = unsafe { table.as_ref::<'static>() }?;
        let functions = [
            table.write.is_some(),
            table.broadcast.is_some(),
            table.forward.is_some(),
            table.close.is_some(),
            table.set_timer.is_some(),
            table.cancel_timer.is_some(),
            table.copy.is_some(),
            table.wrap.is_some(),
            table.retain.is_some(),
            table.release.is_some(),
            table.bytes.is_some(),
            table.log.is_some(),
        ];
        (table.size >= size_of::<pc_host>() && functions == [true; 12])
            .then(|| Self(Arc::new(RwLock::new(Table(Some(table))))))
    }

    /// Waits for calls that are under way; there are none after this.
    pub(crate) fn end(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).0 = None;
    }

    fn with<T>(&self, gone: T, call: impl FnOnce(&pc_host) -> Option<T>) -> T {
        // Held during the call, so that cleanup waits for it.
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match table.0.and_then(call) {
            Some(answer) => answer,
            None => gone,
        }
    }

    /// Queues pieces for the client, or for the layer below: all or none. They are copied.
    ///
    /// # Errors
    /// Nothing was taken, and why.
    pub fn write(&self, connection: Handle, pieces: &[&[u8]]) -> Result<Sent, NotSent> {
        let pieces: Vec<pc_piece> = pieces.iter().map(|bytes| piece(bytes, std::ptr::null_mut())).collect();
        self.send(|table| table.write, connection, &pieces)
    }

    /// Queues buffers for the client, or for the layer below: all or none. They are shared, not copied.
    ///
    /// # Errors
    /// Nothing was taken, and why.
    pub fn write_buffers(&self, connection: Handle, buffers: &[&Buffer]) -> Result<Sent, NotSent> {
        let pieces: Vec<pc_piece> = buffers.iter().map(|buffer| piece(buffer.bytes(), buffer.handle)).collect();
        self.send(|table| table.write, connection, &pieces)
    }

    /// Queues pieces for the layer above: all or none. They are copied.
    ///
    /// # Errors
    /// Nothing was taken, and why.
    pub fn forward(&self, connection: Handle, pieces: &[&[u8]]) -> Result<Sent, NotSent> {
        let pieces: Vec<pc_piece> = pieces.iter().map(|bytes| piece(bytes, std::ptr::null_mut())).collect();
        self.send(|table| table.forward, connection, &pieces)
    }

    fn send(
        &self,
        function: fn(&pc_host) -> Option<SendFunction>,
        connection: Handle,
        pieces: &[pc_piece],
    ) -> Result<Sent, NotSent> {
        let code = self.with(abi::PC_GONE, |table| {
            // SAFETY: the contract of `write` and `forward`; the pieces are there during the call.
            function(table).map(|send| unsafe { send(table, connection.0, pieces.as_ptr(), pieces.len()) })
        });
        match code {
            abi::PC_OK => Ok(Sent::Ok),
            abi::PC_PAUSE => Ok(Sent::Pause),
            abi::PC_FULL => Err(NotSent::Full),
            abi::PC_GONE => Err(NotSent::Gone),
            abi::PC_LIMIT => Err(NotSent::Limit),
            _ => Err(NotSent::Invalid),
        }
    }

    /// Queues one buffer for every connection, without copying it; how many took it.
    pub fn broadcast(&self, connections: &[Handle], buffer: &Buffer) -> usize {
        let handles: Vec<pc_connection> = connections.iter().map(|handle| handle.0).collect();
        let took = self.with(0, |table| {
            let results = std::ptr::null_mut();
            // SAFETY: the contract of `broadcast`; handles and buffer are there during the call.
            table.broadcast.map(|call| unsafe { call(table, handles.as_ptr(), handles.len(), buffer.handle, results) })
        });
        usize::try_from(took).unwrap_or(0)
    }

    /// Closes a connection once everything queued has been sent. False where it is gone already.
    pub fn close(&self, connection: Handle) -> bool {
        self.end_connection(connection, abi::PC_CLOSE_FLUSH)
    }

    /// Closes a connection at once, by a reset. False where it is gone already.
    pub fn abort(&self, connection: Handle) -> bool {
        self.end_connection(connection, abi::PC_CLOSE_ABORT)
    }

    fn end_connection(&self, connection: Handle, how: u32) -> bool {
        // SAFETY: the contract of `close`.
        let close = |table: &pc_host| table.close.map(|close| unsafe { close(table, connection.0, how) });
        self.with(abi::PC_GONE, close) == abi::PC_OK
    }

    /// Has `timer` called once after this time. There are 8 timers to a connection, 0 to 7; setting one that is set moves it.
    /// False where there is no such timer or connection.
    pub fn set_timer(&self, connection: Handle, id: u32, after: Duration) -> bool {
        let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        // SAFETY: the contract of `set_timer`.
        let set = |table: &pc_host| table.set_timer.map(|set| unsafe { set(table, connection.0, id, milliseconds) });
        self.with(abi::PC_GONE, set) == abi::PC_OK
    }

    /// Forgets a timer; its call may be on its way already. False where there is no such timer or connection.
    pub fn cancel_timer(&self, connection: Handle, id: u32) -> bool {
        // SAFETY: the contract of `cancel_timer`.
        let cancel = |table: &pc_host| table.cancel_timer.map(|cancel| unsafe { cancel(table, connection.0, id) });
        self.with(abi::PC_GONE, cancel) == abi::PC_OK
    }

    /// A buffer with a copy of these bytes; `None` where the gateway's memory for this instance is used up.
    #[must_use]
    pub fn copy(&self, bytes: &[u8]) -> Option<Buffer> {
        // SAFETY: the contract of `copy`; the bytes are there during the call.
        let copy = |table: &pc_host| table.copy.map(|copy| unsafe { copy(table, bytes.as_ptr(), bytes.len()) });
        let handle = self.with(std::ptr::null_mut(), copy);
        (!handle.is_null()).then(|| Buffer { handle, host: self.clone() })
    }

    /// A buffer around these bytes, which are not copied.
    #[must_use]
    pub fn wrap(&self, bytes: Vec<u8>) -> Option<Buffer> {
        let owner = Box::new(bytes);
        let (bytes, length) = (owner.as_ptr(), owner.len());
        let context = Box::into_raw(owner);
        // SAFETY: the contract of `wrap`: the bytes stay where they are until `free_vec` is called with their owner.
        let wrap = |table: &pc_host| {
            table.wrap.map(|wrap| unsafe { wrap(table, bytes, length, Some(free_vec), context.cast()) })
        };
        let handle = self.with(std::ptr::null_mut(), wrap);
        if handle.is_null() {
            // SAFETY: the gateway did not take it, so it is still ours.
            drop(unsafe { Box::from_raw(context) });
            return None;
        }
        Some(Buffer { handle, host: self.clone() })
    }

    pub(crate) fn retain(&self, buffer: *mut pc_buffer) -> Buffer {
        // SAFETY: the contract of `retain`; the buffer is lent for the call that this is made in.
        let retain = |table: &pc_host| table.retain.map(|retain| unsafe { retain(table, buffer) });
        Buffer { handle: self.with(std::ptr::null_mut(), retain), host: self.clone() }
    }

    /// Writes a line to the gateway's log, with the endpoint's name.
    pub fn log(&self, level: Level, text: &str) {
        let level = match level {
            Level::Error => abi::PC_LOG_ERROR,
            Level::Warn => abi::PC_LOG_WARN,
            Level::Info => abi::PC_LOG_INFO,
            Level::Debug => abi::PC_LOG_DEBUG,
        };
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the contract of `log`; the text ends with a NUL.
        self.with((), |table| table.log.map(|log| unsafe { log(table, level, text.as_ptr()) }));
    }
}

type SendFunction = unsafe extern "C" fn(*const pc_host, pc_connection, *const pc_piece, usize) -> i32;

fn piece(bytes: &[u8], buffer: *mut pc_buffer) -> pc_piece {
    pc_piece { bytes: bytes.as_ptr(), length: bytes.len(), buffer }
}

/// # Safety
/// `context` came from `Host::wrap`, and this is called once.
unsafe extern "C" fn free_vec(context: *mut c_void) {
    // SAFETY: as the caller vouches.
    drop(unsafe { Box::from_raw(context.cast::<Vec<u8>>()) });
}

/// Reference-counted bytes that belong to the gateway.
pub struct Buffer {
    handle: *mut pc_buffer,
    host: Host,
}

// SAFETY: a handle may be used from any thread, and its bytes never change.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// The bytes. Empty after the instance's end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let mut length = 0;
        // SAFETY: the contract of `bytes`; the handle is ours until it is dropped.
        let bytes = |table: &pc_host| table.bytes.map(|bytes| unsafe { bytes(table, self.handle, &raw mut length) });
        let bytes = self.host.with(std::ptr::null(), bytes);
        if bytes.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the gateway says that so many bytes are there, for as long as the handle is.
        unsafe { std::slice::from_raw_parts(bytes, length) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        self.host.retain(self.handle)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the contract of `release`; each handle is given back once. After the instance's end it is left behind.
        self.host.with((), |table| table.release.map(|release| unsafe { release(table, self.handle) }));
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes().len())
    }
}
