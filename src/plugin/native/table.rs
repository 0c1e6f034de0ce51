//! What a native plugin may call: each function of `pc_host`, from C to the safe [`Host`].
//!
//! Made by `call`, one for each instance. Any thread may be here at any time; nothing here waits or calls the plugin.

#![allow(unsafe_code, reason = "reads what C hands over")]
#![allow(clippy::not_unsafe_ptr_arg_deref, reason = "every function here is unsafe to call, by its type")]

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_plugin_abi as abi;
use portcullis_plugin_abi::{pc_buffer, pc_connection, pc_host, pc_piece};
use tracing::Level;

use crate::plugin::host::{Answer, Handle, Host};

/// How many pieces one write may have, and how many connections one broadcast.
const MOST_PIECES: usize = 1024;
const MOST_CONNECTIONS: usize = 1 << 20;

/// The table, with what stands behind it. A plugin sees the first member alone.
#[repr(C)]
pub(super) struct HostTable {
    pub(super) table: pc_host,
    host: Arc<Host>,
}

impl HostTable {
    pub(super) fn new(host: Arc<Host>) -> Box<Self> {
        let table = pc_host {
            size: size_of::<pc_host>(),
            write: Some(write),
            broadcast: Some(broadcast),
            forward: Some(forward),
            close: Some(close),
            set_timer: Some(set_timer),
            cancel_timer: Some(cancel_timer),
            copy: Some(copy),
            wrap: Some(wrap),
            retain: Some(retain),
            release: Some(release),
            bytes: Some(bytes),
            log: Some(log),
        };
        Box::new(Self { table, host })
    }
}

/// A handle of a buffer, as a plugin holds it.
pub(super) struct Buffer {
    bytes: Bytes,
    /// Lent for one call: releasing it does nothing.
    lent: bool,
}

impl Buffer {
    /// A buffer that lives as long as a call.
    pub(super) fn lent(bytes: Bytes) -> Self {
        Self { bytes, lent: true }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn into_handle(bytes: Bytes) -> *mut pc_buffer {
        Box::into_raw(Box::new(Self { bytes, lent: false })).cast()
    }
}

/// The host behind a table; `None` for NULL.
///
/// # Safety
/// `host` is NULL, or the table that the instance was given and whose cleanup has not returned.
unsafe fn host<'a>(host: *const pc_host) -> Option<&'a Arc<Host>> {
    // SAFETY: the table is the first member of a HostTable, which lives until after cleanup.
    unsafe { host.cast::<HostTable>().as_ref() }.map(|table| &table.host)
}

/// The buffer behind a handle; `None` for NULL.
///
/// # Safety
/// `buffer` is NULL, or a handle that was not released, or lent for this call.
unsafe fn buffer<'a>(buffer: *const pc_buffer) -> Option<&'a Buffer> {
    // SAFETY: every handle points to a Buffer.
    unsafe { buffer.cast::<Buffer>().as_ref() }
}

/// A run of bytes from C; `None` for a NULL that claims to hold any.
///
/// # Safety
/// `bytes` is NULL or points to `length` bytes that do not change during the call.
unsafe fn slice<'a>(bytes: *const u8, length: usize) -> Option<&'a [u8]> {
    if length == 0 {
        return Some(&[]);
    }
    if bytes.is_null() || length > isize::MAX as usize {
        return None;
    }
    // SAFETY: not NULL, and the caller vouches for the length.
    Some(unsafe { std::slice::from_raw_parts(bytes, length) })
}

fn code(answer: Answer) -> i32 {
    match answer {
        Answer::Ok => abi::PC_OK,
        Answer::Pause => abi::PC_PAUSE,
        Answer::Full => abi::PC_FULL,
        Answer::Gone => abi::PC_GONE,
        Answer::Limit => abi::PC_LIMIT,
        Answer::Invalid => abi::PC_INVALID,
    }
}

unsafe extern "C" fn write(table: *const pc_host, to: pc_connection, pieces: *const pc_piece, count: usize) -> i32 {
    // SAFETY: the contract of `write`, which is that of `queue`.
    unsafe { queue(table, pieces, count, |host, pieces| host.write(Handle(to.0), pieces)) }
}

unsafe extern "C" fn forward(table: *const pc_host, to: pc_connection, pieces: *const pc_piece, count: usize) -> i32 {
    // SAFETY: the contract of `forward`, which is that of `queue`.
    unsafe { queue(table, pieces, count, |host, pieces| host.forward(Handle(to.0), pieces)) }
}

/// # Safety
/// As [`host`] and [`gather`].
unsafe fn queue(
    table: *const pc_host,
    pieces: *const pc_piece,
    count: usize,
    queue: impl FnOnce(&Host, &[Bytes]) -> Answer,
) -> i32 {
    // SAFETY: as the caller vouches.
    let gathered =
        unsafe { host(table).ok_or(Answer::Invalid).and_then(|host| Ok((host, gather(host, pieces, count)?))) };
    code(match gathered {
        Ok((host, Gathered::One(piece))) => queue(host, std::slice::from_ref(&piece)),
        Ok((host, Gathered::Several(pieces))) => queue(host, &pieces),
        Err(answer) => answer,
    })
}

/// Pieces as they are queued: those without a buffer as one copy.
enum Gathered {
    One(Bytes),
    Several(Vec<Bytes>),
}

/// # Safety
/// `pieces` is NULL or points to `count` pieces whose bytes are there; their buffers are valid.
unsafe fn gather(host: &Host, pieces: *const pc_piece, count: usize) -> Result<Gathered, Answer> {
    if count > MOST_PIECES || (pieces.is_null() && count > 0) {
        return Err(Answer::Invalid);
    }
    // SAFETY: not NULL, and the caller vouches for the count.
    let pieces = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(pieces, count) } };
    let total = pieces.iter().try_fold(0_usize, |sum, piece| sum.checked_add(piece.length));
    // Before anything is copied: what cannot be queued is not.
    if total.is_none_or(|total| total > host.place().max_queue as usize) {
        return Err(Answer::Limit);
    }
    if pieces.iter().any(|piece| !piece.buffer.is_null()) {
        // SAFETY: the caller vouches for each.
        let shared = pieces.iter().map(|piece| unsafe { share(piece) }).collect::<Option<Vec<Bytes>>>();
        return shared.map(Gathered::Several).ok_or(Answer::Invalid);
    }
    let mut whole = Vec::with_capacity(total.unwrap_or(0));
    for piece in pieces {
        // SAFETY: the caller vouches for each.
        whole.extend_from_slice(unsafe { slice(piece.bytes, piece.length) }.ok_or(Answer::Invalid)?);
    }
    Ok(Gathered::One(whole.into()))
}

/// One piece: shared where a buffer holds it, else copied.
///
/// # Safety
/// The piece's bytes are there, and its buffer is valid or NULL.
unsafe fn share(piece: &pc_piece) -> Option<Bytes> {
    // SAFETY: as the caller vouches.
    let Some(buffer) = (unsafe { buffer(piece.buffer) }) else {
        // SAFETY: as the caller vouches.
        return unsafe { slice(piece.bytes, piece.length) }.map(Bytes::copy_from_slice);
    };
    let from = (piece.bytes as usize).checked_sub(buffer.bytes.as_ptr() as usize)?;
    let end = from.checked_add(piece.length).filter(|end| *end <= buffer.bytes.len())?;
    Some(buffer.bytes.slice(from..end))
}

unsafe extern "C" fn broadcast(
    table: *const pc_host,
    connections: *const pc_connection,
    count: usize,
    what: *mut pc_buffer,
    results: *mut i32,
) -> i64 {
    // SAFETY: the contract of `broadcast`.
    let (host, buffer) = unsafe { (host(table), buffer(what)) };
    let (Some(host), Some(buffer)) = (host, buffer) else { return abi::PC_INVALID.into() };
    if count > MOST_CONNECTIONS || (connections.is_null() && count > 0) {
        return abi::PC_INVALID.into();
    }
    // SAFETY: not NULL, and the contract vouches for the count.
    let handles = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(connections, count) } };
    let took = host.broadcast(handles.iter().map(|handle| Handle(handle.0)), &buffer.bytes, |index, answer| {
        if !results.is_null() {
            // SAFETY: there is room for an answer to each connection.
            unsafe { results.add(index).write(code(answer)) };
        }
    });
    i64::try_from(took).unwrap_or(i64::MAX)
}

unsafe extern "C" fn close(table: *const pc_host, connection: pc_connection, how: u32) -> i32 {
    // SAFETY: the contract of `close`.
    match unsafe { host(table) } {
        Some(host) if how <= abi::PC_CLOSE_ABORT => code(host.close(Handle(connection.0), how == abi::PC_CLOSE_ABORT)),
        _ => abi::PC_INVALID,
    }
}

unsafe extern "C" fn set_timer(table: *const pc_host, connection: pc_connection, id: u32, milliseconds: u64) -> i32 {
    // SAFETY: the contract of `set_timer`.
    let Some(host) = (unsafe { host(table) }) else { return abi::PC_INVALID };
    code(host.set_timer(Handle(connection.0), id, Some(Duration::from_millis(milliseconds))))
}

unsafe extern "C" fn cancel_timer(table: *const pc_host, connection: pc_connection, id: u32) -> i32 {
    // SAFETY: the contract of `cancel_timer`.
    let Some(host) = (unsafe { host(table) }) else { return abi::PC_INVALID };
    code(host.set_timer(Handle(connection.0), id, None))
}

unsafe extern "C" fn copy(table: *const pc_host, bytes: *const u8, length: usize) -> *mut pc_buffer {
    // SAFETY: the contract of `copy`.
    let (host, bytes) = unsafe { (host(table), slice(bytes, length)) };
    let copied = host.zip(bytes).and_then(|(host, bytes)| host.copy(bytes));
    copied.map_or(std::ptr::null_mut(), Buffer::into_handle)
}

unsafe extern "C" fn wrap(
    _: *const pc_host,
    bytes: *const u8,
    length: usize,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
    context: *mut c_void,
) -> *mut pc_buffer {
    // SAFETY: the contract of `wrap`: the bytes stay, unchanged, until `free` is called.
    match unsafe { slice::<'static>(bytes, length) } {
        Some(bytes) => Buffer::into_handle(Bytes::from_owner(Wrapped { bytes, free, context })),
        None => std::ptr::null_mut(),
    }
}

/// Memory of the plugin's own, until nobody needs it.
struct Wrapped {
    bytes: &'static [u8],
    free: Option<unsafe extern "C" fn(*mut c_void)>,
    context: *mut c_void,
}

// SAFETY: the contract says that `free` is called on any thread, and the context is only handed back to it.
unsafe impl Send for Wrapped {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Wrapped {}

impl AsRef<[u8]> for Wrapped {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the contract of `wrap`; dropped once, so called once.
            unsafe { free(self.context) };
        }
    }
}

unsafe extern "C" fn retain(_: *const pc_host, what: *const pc_buffer) -> *mut pc_buffer {
    // SAFETY: the contract of `retain`.
    let found = unsafe { buffer(what) };
    found.map_or(std::ptr::null_mut(), |buffer| Buffer::into_handle(buffer.bytes.clone()))
}

unsafe extern "C" fn release(_: *const pc_host, what: *mut pc_buffer) {
    // SAFETY: the contract of `release`.
    if unsafe { buffer(what) }.is_some_and(|buffer| !buffer.lent) {
        // SAFETY: a handle that is not lent was made by `into_handle`, and is given back once.
        drop(unsafe { Box::from_raw(what.cast::<Buffer>()) });
    }
}

unsafe extern "C" fn bytes(_: *const pc_host, what: *const pc_buffer, length: *mut usize) -> *const u8 {
    // SAFETY: the contract of `bytes`.
    let (found, length) = unsafe { (buffer(what), length.as_mut()) };
    let (pointer, size) = found.map_or((std::ptr::null(), 0), |buffer| (buffer.bytes.as_ptr(), buffer.bytes.len()));
    if let Some(length) = length {
        *length = size;
    }
    pointer
}

unsafe extern "C" fn log(table: *const pc_host, level: u32, text: *const c_char) {
    // SAFETY: the contract of `log`.
    let Some(host) = (unsafe { host(table) }) else { return };
    if text.is_null() {
        return;
    }
    // SAFETY: not NULL, and the contract says that it ends with a NUL.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let level = match level {
        abi::PC_LOG_ERROR => Level::ERROR,
        abi::PC_LOG_WARN => Level::WARN,
        abi::PC_LOG_INFO => Level::INFO,
        _ => Level::DEBUG,
    };
    host.log(level, &text);
}
