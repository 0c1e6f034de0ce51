//! Start-up: which version both sides keep to, and whether the plugin's table holds what that version demands.
//!
//! Called by `call` for each instance, and by `inspect`. The rules are those of WSAStartup and WSPStartup: each side has a
//! range, the host asks with its highest, the plugin answers with the lower of that and its own highest.

#![allow(unsafe_code, reason = "calls the plugin's start-up and cleanup")]

use std::ffi::CStr;

use portcullis_plugin_abi as abi;
use portcullis_plugin_abi::{Function, pc_endpoint, pc_host, pc_plugin, pc_startup, pc_startup_fn};

use crate::plugin::guest::{Fault, FaultKind};

/// The versions that a side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lowest.
    pub lowest: u32,
    /// The highest.
    pub highest: u32,
}

impl Range {
    /// What this gateway speaks.
    pub const OURS: Self = Self { lowest: abi::VERSION, highest: abi::VERSION };
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    /// What start-up answered: the version, the instance, the framing.
    pub out: pc_startup,
    /// The plugin's functions; those that the version does not have are NULL.
    pub table: pc_plugin,
}

/// Room for a plugin that was compiled against a longer table and does not look at the size: it writes into the slack.
#[repr(C)]
struct Room {
    table: pc_plugin,
    slack: [usize; 64],
}

/// A version as people write it.
#[must_use]
pub fn version_text(version: u32) -> String {
    format!("{}.{}", version >> 16, version & 0xffff)
}

/// Starts an instance. On success, one cleanup is owed; on failure, none is, any more.
///
/// # Errors
/// Why there is no instance.
///
/// # Safety
/// `startup` keeps the contract, and `endpoint` and `host` are valid until the instance has been cleaned up.
pub(super) unsafe fn negotiate(
    startup: pc_startup_fn,
    range: Range,
    endpoint: &pc_endpoint,
    host: &pc_host,
) -> Result<Agreed, Fault> {
    // SAFETY: all of these are integers, pointers and optional functions, for which zero is a value.
    let (mut out, mut room): (pc_startup, Room) = unsafe { std::mem::zeroed() };
    out.size = size_of::<pc_startup>();
    room.table.size = size_of::<pc_plugin>();
    // SAFETY: the caller vouches for the function; the records are as large as they say.
    let code = unsafe { startup(range.highest, &raw mut out, endpoint, host, (&raw mut room).cast()) };
    if code != abi::PC_OK {
        return Err(refused(code, range, &out));
    }
    let table = within(room.table, pc_plugin::FUNCTIONS);
    let fail = |kind, message: String| {
        // SAFETY: start-up answered PC_OK, so one cleanup is owed, and this is it.
        table.cleanup.inspect(|cleanup| unsafe { cleanup(out.instance) });
        Err(Fault::new(kind, message))
    };
    let text = version_text;
    if out.version < range.lowest {
        let (highest, lowest) = (text(out.version), text(range.lowest));
        let message =
            format!("speaks version {highest} at most, and this gateway {lowest} at least; use a newer plugin");
        return fail(FaultKind::Version, message);
    }
    if out.version > range.highest || out.high_version < out.version {
        let (version, high, asked) = (text(out.version), text(out.high_version), text(range.highest));
        let message = format!("answered version {version} (its highest: {high}) where {asked} was asked for");
        return fail(FaultKind::Version, message);
    }
    match missing(pc_plugin::FUNCTIONS, &table, room.table.size, out.version) {
        Some(what) => fail(FaultKind::Fault, what),
        None => Ok(Agreed { out, table }),
    }
}

/// Why start-up answered something else than PC_OK.
fn refused(code: i32, range: Range, out: &pc_startup) -> Fault {
    let said = said(out);
    let or = |text: &str| if said.is_empty() { text.to_owned() } else { said.clone() };
    match code {
        abi::PC_NOT_READY => Fault::new(FaultKind::NotReady, or("is not ready yet")),
        abi::PC_VERSION => {
            let asked = version_text(range.highest);
            let more = if said.is_empty() { String::new() } else { format!(": {said}") };
            let message = format!("does not speak version {asked} or any lower one; use an older plugin{more}");
            Fault::new(FaultKind::Version, message)
        }
        abi::PC_IN_PROGRESS => Fault::new(FaultKind::InProgress, or("start-up was entered from within start-up")),
        abi::PC_LIMIT => Fault::new(FaultKind::Limit, or("has no room for another instance")),
        abi::PC_BAD_CONFIG => Fault::new(FaultKind::BadConfig, or("does not accept the endpoint's settings")),
        abi::PC_FAULT => Fault::new(FaultKind::Fault, or("failed to start")),
        other => Fault::new(FaultKind::Fault, format!("start-up answered {other}, which means nothing: {said}")),
    }
}

/// The error text, if there is one; on one line.
fn said(out: &pc_startup) -> String {
    // A text without its NUL is not trusted to be one.
    let bytes = out.error.map(|c| c as u8);
    let text = CStr::from_bytes_until_nul(&bytes).map(CStr::to_string_lossy).unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The table without what lies behind its own end.
fn within(mut table: pc_plugin, functions: &[Function]) -> pc_plugin {
    let size = table.size;
    for function in functions.iter().filter(|function| end(function) > size) {
        // SAFETY: the offset is that of an optional function in this very table, and zero is its NULL.
        unsafe { (&raw mut table).byte_add(function.offset).cast::<usize>().write(0) };
    }
    table
}

/// What a version demands and the table does not have.
fn missing(functions: &[Function], table: &pc_plugin, size: usize, version: u32) -> Option<String> {
    let mut required = functions.iter().filter(|function| function.required && function.since <= version);
    required.find_map(|function| {
        let (name, version) = (function.name, version_text(version));
        if end(function) > size {
            Some(format!("its table of {size} bytes is too small for version {version}: there is no {name}"))
        } else if !present(table, function) {
            Some(format!("its table has NULL for {name}, which version {version} demands"))
        } else {
            None
        }
    })
}

/// Whether the plugin offers a function.
pub(super) fn offers(agreed: &Agreed, function: &Function) -> bool {
    present(&agreed.table, function)
}

fn present(table: &pc_plugin, function: &Function) -> bool {
    // SAFETY: the offset is that of an optional function in this very table, as wide as a pointer.
    unsafe { (&raw const *table).byte_add(function.offset).cast::<usize>().read() != 0 }
}

fn end(function: &Function) -> usize {
    function.offset + size_of::<usize>()
}
