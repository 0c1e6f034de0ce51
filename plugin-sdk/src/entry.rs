//! What the gateway calls: start-up, and each function of the plugin's table, from C to a [`Plugin`].
//!
//! No panic leaves this file: over `extern "C"` it would end the gateway.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use portcullis_plugin_abi as abi;
use portcullis_plugin_abi::{
    pc_connection, pc_endpoint, pc_framing, pc_host, pc_input, pc_peer, pc_plugin, pc_startup,
};

use crate::{Endpoint, Framing, Handle, Host, Input, Level, Peer, Plugin, StartError, Why};

/// One instance, as the gateway holds it.
struct Instance<P> {
    plugin: P,
    host: Host,
    least: usize,
}

thread_local! {
    static STARTING: Cell<bool> = const { Cell::new(false) };
}

/// Start-up of `P`. For [`export!`](crate::export), which makes the symbol.
///
/// # Safety
/// The contract of `portcullis_plugin_startup`.
pub unsafe fn startup<P: Plugin>(
    requested: u32,
    out: *mut pc_startup,
    endpoint: *const pc_endpoint,
    host: *const pc_host,
    table: *mut pc_plugin,
) -> i32 {
    // SAFETY: the contract: all four are valid.
    let (out, endpoint, table) = unsafe {
        match (out.as_mut(), endpoint.as_ref(), table.as_mut()) {
            (Some(out), Some(endpoint), Some(table)) => (out, endpoint, table),
            _ => return abi::PC_INVALID,
        }
    };
    if requested < P::LOWEST_VERSION {
        return abi::PC_VERSION;
    }
    // The gateway's table first: without all of it there is nothing to work with.
    // SAFETY: the contract: valid until cleanup, which calls `end`.
    let Some(host) = (unsafe { Host::new(host) }) else {
        return refuse(out, abi::PC_FAULT, "the gateway's table is too small, or has a NULL");
    };
    if STARTING.replace(true) {
        return refuse(out, abi::PC_IN_PROGRESS, "start-up was entered from within start-up");
    }
    // SAFETY: the contract: the record and its texts are valid.
    let endpoint = unsafe { Endpoint::of(endpoint) };
    let started = catch_unwind(AssertUnwindSafe(|| {
        let plugin = P::start(&endpoint, host.clone())?;
        let framing = plugin.framing();
        Ok((plugin, framing))
    }));
    STARTING.set(false);
    let (code, text) = match started {
        Ok(Ok((plugin, framing))) => {
            (out.high_version, out.version) = (abi::VERSION, requested.min(abi::VERSION));
            out.flags = if P::NEVER_BLOCKS { abi::PC_NEVER_BLOCKS } else { 0 };
            let least = describe(framing, &mut out.framing);
            out.instance = Box::into_raw(Box::new(Instance { plugin, host, least })).cast();
            *table = functions::<P>();
            return abi::PC_OK;
        }
        Ok(Err(StartError::NotReady(text))) => (abi::PC_NOT_READY, text),
        Ok(Err(StartError::Limit(text))) => (abi::PC_LIMIT, text),
        Ok(Err(StartError::Fault(text))) => (abi::PC_FAULT, text),
        Ok(Err(StartError::BadConfig(text))) => (abi::PC_BAD_CONFIG, text),
        Err(panic) => (abi::PC_FAULT, format!("start-up panicked: {}", words(&*panic))),
    };
    // What `start` handed to threads of its own must not reach the gateway any more.
    host.end();
    refuse(out, code, &text)
}

/// Leaves an error text, cut to what fits.
fn refuse(out: &mut pc_startup, code: i32, text: &str) -> i32 {
    let room = out.error.len() - 1;
    let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    for (to, from) in out.error.iter_mut().zip(text.as_bytes()[..end].iter().chain([&0])) {
        *to = *from as c_char;
    }
    code
}

/// Writes framing as C has it; how many bytes `message_size` needs.
fn describe(framing: Framing, to: &mut pc_framing) -> usize {
    match framing {
        Framing::None => {}
        Framing::Length { size, little_endian, counts_itself, most } => {
            (to.kind, to.length_size, to.max_message) = (abi::PC_FRAMING_LENGTH, size, most);
            to.length_flags |= if little_endian { abi::PC_LENGTH_LITTLE_ENDIAN } else { 0 };
            to.length_flags |= if counts_itself { abi::PC_LENGTH_COUNTS_ITSELF } else { 0 };
        }
        Framing::Delimiter { bytes, most } => {
            (to.kind, to.delimiter_size, to.max_message) = (abi::PC_FRAMING_DELIMITER, bytes.len() as u32, most);
            to.delimiter.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        }
        Framing::Own { least, most } => {
            (to.kind, to.max_message) = (abi::PC_FRAMING_OWN, most);
            return least;
        }
    }
    0
}

fn functions<P: Plugin>() -> pc_plugin {
    pc_plugin {
        size: size_of::<pc_plugin>(),
        cleanup: Some(cleanup::<P>),
        open: Some(open::<P>),
        data: Some(data::<P>),
        close: Some(close::<P>),
        writable: Some(writable::<P>),
        timer: Some(timer::<P>),
        minimum_size: Some(minimum_size::<P>),
        message_size: Some(message_size::<P>),
    }
}

/// The instance behind the gateway's pointer.
///
/// # Safety
/// `instance` came from `startup::<P>`, and cleanup was not called.
unsafe fn instance<'a, P>(instance: *mut c_void) -> &'a Instance<P> {
    // SAFETY: as the caller vouches.
    unsafe { &*instance.cast::<Instance<P>>() }
}

/// A connection's state.
///
/// # Safety
/// `user` came from `open::<P>`, `close` was not called, and no other call about the connection is under way.
unsafe fn state<'a, P: Plugin>(user: *mut c_void) -> &'a mut P::Connection {
    // SAFETY: as the caller vouches.
    unsafe { &mut *user.cast::<P::Connection>() }
}

/// Calls the plugin; a panic is logged and answered in its place.
fn caught<P, T>(instance: &Instance<P>, what: &str, panicked: T, call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        instance.host.log(Level::Error, &format!("{what} panicked: {}", words(&*panic)));
        panicked
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something that is no text")
}

unsafe extern "C" fn cleanup<P: Plugin>(pointer: *mut c_void) {
    // SAFETY: the contract: the last call, once.
    let Instance { plugin, host, .. } = *unsafe { Box::from_raw(pointer.cast::<Instance<P>>()) };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(plugin))) {
        host.log(Level::Error, &format!("cleanup panicked: {}", words(&*panic)));
    }
    host.end();
}

unsafe extern "C" fn open<P: Plugin>(
    pointer: *mut c_void,
    connection: pc_connection,
    peer: *const pc_peer,
    user: *mut *mut c_void,
) -> i32 {
    // SAFETY: the contract of `open`.
    let (instance, peer) = unsafe { (instance::<P>(pointer), Peer::of(&*peer)) };
    let opened = caught(instance, "open", None, || instance.plugin.open(Handle(connection), &peer).ok());
    match opened {
        Some(state) => {
            // SAFETY: the contract: there is room for the pointer.
            unsafe { user.write(Box::into_raw(Box::new(state)).cast()) };
            abi::PC_OK
        }
        None => abi::PC_FAULT,
    }
}

unsafe extern "C" fn data<P: Plugin>(
    pointer: *mut c_void,
    connection: pc_connection,
    user: *mut c_void,
    input: *const pc_input,
) -> i64 {
    // SAFETY: the contract of `data`.
    let (instance, state, input) = unsafe { (instance::<P>(pointer), state::<P>(user), &*input) };
    let input = Input::new(input, &instance.host);
    let call = || instance.plugin.data(Handle(connection), state, &input).ok();
    let consumed = caught(instance, "data", None, call);
    consumed.and_then(|consumed| i64::try_from(consumed).ok()).unwrap_or(abi::PC_FAULT.into())
}

unsafe extern "C" fn close<P: Plugin>(pointer: *mut c_void, connection: pc_connection, user: *mut c_void, why: u32) {
    // SAFETY: the contract of `close`: the last call about this connection, once.
    let (instance, state) = unsafe { (instance::<P>(pointer), *Box::from_raw(user.cast::<P::Connection>())) };
    let why = match why {
        abi::PC_CLOSED_BY_CLIENT => Why::Client,
        abi::PC_CLOSED_BY_PLUGIN => Why::Plugin,
        abi::PC_CLOSED_IDLE => Why::Idle,
        abi::PC_CLOSED_DRAIN => Why::Drain,
        abi::PC_CLOSED_BROKEN => Why::Broken,
        abi::PC_CLOSED_FRAMING => Why::Framing,
        abi::PC_CLOSED_QUARANTINE => Why::Quarantine,
        _ => Why::Other,
    };
    caught(instance, "close", (), || instance.plugin.close(Handle(connection), state, why));
}

unsafe extern "C" fn writable<P: Plugin>(pointer: *mut c_void, connection: pc_connection, user: *mut c_void) {
    // SAFETY: the contract of `writable`.
    let (instance, state) = unsafe { (instance::<P>(pointer), state::<P>(user)) };
    let call = || {
        instance.plugin.writable(Handle(connection), state);
        true
    };
    if !caught(instance, "writable", false, call) {
        instance.host.abort(Handle(connection));
    }
}

unsafe extern "C" fn timer<P: Plugin>(pointer: *mut c_void, connection: pc_connection, user: *mut c_void, id: u32) {
    // SAFETY: the contract of `timer`.
    let (instance, state) = unsafe { (instance::<P>(pointer), state::<P>(user)) };
    let call = || {
        instance.plugin.timer(Handle(connection), state, id);
        true
    };
    if !caught(instance, "timer", false, call) {
        instance.host.abort(Handle(connection));
    }
}

unsafe extern "C" fn minimum_size<P: Plugin>(pointer: *mut c_void, _: pc_connection, _: *mut c_void) -> usize {
    // SAFETY: the contract of `minimum_size`.
    unsafe { instance::<P>(pointer) }.least
}

unsafe extern "C" fn message_size<P: Plugin>(
    pointer: *mut c_void,
    _: pc_connection,
    user: *mut c_void,
    bytes: *const u8,
    length: usize,
) -> i64 {
    // SAFETY: the contract of `message_size`: so many bytes are there, and at least one.
    let (instance, state, bytes) =
        unsafe { (instance::<P>(pointer), state::<P>(user), std::slice::from_raw_parts(bytes, length)) };
    match caught(instance, "message_size", None, || instance.plugin.message_size(state, bytes).ok()) {
        Some(Some(size)) => i64::try_from(size).unwrap_or(abi::PC_FAULT.into()),
        Some(None) => 0,
        None => abi::PC_FAULT.into(),
    }
}
