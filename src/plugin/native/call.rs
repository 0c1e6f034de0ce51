//! A started native instance: each event of [`Guest`] as a call of the plugin's table.
//!
//! Made by `native` for each start-up; owns the instance, the tables of both sides, and the texts that they point to.

#![allow(unsafe_code, reason = "calls the plugin's functions")]

use std::ffi::{CString, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use portcullis_plugin_abi as abi;
use portcullis_plugin_abi::{pc_connection, pc_endpoint, pc_framing, pc_input, pc_peer};

use super::library::Library;
use super::negotiate::{Agreed, Range, negotiate, offers, version_text};
use super::table::{Buffer, HostTable};
use crate::plugin::framing::Framing;
use crate::plugin::guest::{Fault, FaultKind, Guest, Input, Peer, Place, Trouble, User, Why};
use crate::plugin::host::{Handle, Host};

/// A started instance.
pub(super) struct NativeGuest {
    agreed: Agreed,
    framing: Framing,
    /// What the plugin points into; given up for good where the instance was never cleaned up.
    lent: Option<Lent>,
    cleaned: AtomicBool,
    /// The code is never unloaded; this says whose it is.
    _library: Arc<Library>,
}

/// What a plugin may point into until cleanup has returned.
struct Lent {
    _host: Box<HostTable>,
    _endpoint: Box<pc_endpoint>,
    _texts: [CString; 4],
}

// SAFETY: the contract: the plugin's functions may be called from any thread, those of different connections side by side;
// the rest is only read.
unsafe impl Send for NativeGuest {}
// SAFETY: as above.
unsafe impl Sync for NativeGuest {}

impl NativeGuest {
    /// Starts an instance.
    pub(super) fn start(library: &Arc<Library>, range: Range, place: &Place, host: &Arc<Host>) -> Result<Self, Fault> {
        let host = HostTable::new(Arc::clone(host));
        let texts = [place.endpoint.name.as_str(), place.endpoint.class.as_str(), &place.handler, &place.settings];
        let texts = texts.map(text);
        let endpoint = Box::new(pc_endpoint {
            size: size_of::<pc_endpoint>(),
            name: texts[0].as_ptr(),
            endpoint_class: texts[1].as_ptr(),
            handler: texts[2].as_ptr(),
            settings: texts[3].as_ptr(),
            tls: place.endpoint.tls.into(),
            layer: place.layer,
            layers: place.layers,
            max_message: place.max_message,
            max_queue: place.max_queue,
        });
        // SAFETY: the library is a plugin, by its symbol; what is lent lives until cleanup.
        let agreed = unsafe { negotiate(library.startup(), range, &endpoint, &host.table) }?;
        let mut guest = Self {
            framing: Framing::None,
            agreed,
            lent: Some(Lent { _host: host, _endpoint: endpoint, _texts: texts }),
            cleaned: AtomicBool::new(false),
            _library: Arc::clone(library),
        };
        match framing(&guest.agreed.out.framing, guest.agreed.table.message_size.is_some(), place.max_message) {
            Ok(framing) => guest.framing = framing,
            Err(why) => {
                guest.cleanup();
                return Err(Fault::new(FaultKind::Fault, format!("its framing is wrong: {why}")));
            }
        }
        Ok(guest)
    }

    /// The functions that the plugin offers, and those that it leaves out.
    pub(super) fn functions(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let names = abi::pc_plugin::FUNCTIONS.iter().partition::<Vec<&abi::Function>, _>(|it| offers(&self.agreed, it));
        let only = |functions: Vec<&abi::Function>| functions.into_iter().map(|function| function.name).collect();
        (only(names.0), only(names.1))
    }

    /// The plugin's highest version.
    pub(super) fn highest(&self) -> String {
        version_text(self.agreed.out.high_version)
    }

    fn instance(&self) -> *mut c_void {
        self.agreed.out.instance
    }
}

/// Only where cleanup was called may what the plugin points into go: it may have threads of its own.
impl Drop for NativeGuest {
    fn drop(&mut self) {
        if !self.cleaned.load(Relaxed) {
            std::mem::forget(self.lent.take());
        }
    }
}

impl Guest for NativeGuest {
    fn version(&self) -> String {
        version_text(self.agreed.out.version)
    }

    fn framing(&self) -> Framing {
        self.framing.clone()
    }

    fn max_message(&self) -> u32 {
        self.agreed.out.framing.max_message
    }

    fn never_blocks(&self) -> bool {
        self.agreed.out.flags & abi::PC_NEVER_BLOCKS != 0
    }

    fn open(&self, connection: Handle, peer: &Peer) -> Result<User, Trouble> {
        let open = self.agreed.table.open.ok_or(Trouble::Connection)?;
        let texts = PeerTexts::of(peer);
        let peer = texts.record();
        let mut user = null_mut();
        // SAFETY: the contract of `open`; all that is pointed to lives during the call.
        let code = unsafe { open(self.instance(), pc_connection(connection.0), &raw const peer, &raw mut user) };
        if code == abi::PC_OK { Ok(user.expose_provenance()) } else { Err(Trouble::Connection) }
    }

    fn data(&self, connection: Handle, user: User, input: &Input) -> Result<usize, Trouble> {
        let data = self.agreed.table.data.ok_or(Trouble::Connection)?;
        let mut buffer = Buffer::lent(input.bytes.clone());
        let last = if input.last { abi::PC_INPUT_LAST } else { 0 };
        let above = if input.from_above { abi::PC_INPUT_FROM_ABOVE } else { 0 };
        let record = pc_input {
            size: size_of::<pc_input>(),
            bytes: buffer.bytes().as_ptr(),
            length: buffer.bytes().len(),
            buffer: (&raw mut buffer).cast(),
            flags: last | above,
        };
        // SAFETY: the contract of `data`; all that is pointed to lives during the call.
        let consumed = unsafe { data(self.instance(), pc_connection(connection.0), pointer(user), &raw const record) };
        usize::try_from(consumed).map_err(|_| Trouble::Connection)
    }

    fn writable(&self, connection: Handle, user: User) -> Result<(), Trouble> {
        if let Some(writable) = self.agreed.table.writable {
            // SAFETY: the contract of `writable`.
            unsafe { writable(self.instance(), pc_connection(connection.0), pointer(user)) };
        }
        Ok(())
    }

    fn timer(&self, connection: Handle, user: User, id: u32) -> Result<(), Trouble> {
        if let Some(timer) = self.agreed.table.timer {
            // SAFETY: the contract of `timer`.
            unsafe { timer(self.instance(), pc_connection(connection.0), pointer(user), id) };
        }
        Ok(())
    }

    fn close(&self, connection: Handle, user: User, why: Why) -> Result<(), Trouble> {
        let why = match why {
            Why::Client => abi::PC_CLOSED_BY_CLIENT,
            Why::Plugin => abi::PC_CLOSED_BY_PLUGIN,
            Why::Idle => abi::PC_CLOSED_IDLE,
            Why::Drain => abi::PC_CLOSED_DRAIN,
            Why::Broken => abi::PC_CLOSED_BROKEN,
            Why::Framing => abi::PC_CLOSED_FRAMING,
            Why::Quarantine => abi::PC_CLOSED_QUARANTINE,
        };
        if let Some(close) = self.agreed.table.close {
            // SAFETY: the contract of `close`; it is the last call about this connection.
            unsafe { close(self.instance(), pc_connection(connection.0), pointer(user), why) };
        }
        Ok(())
    }

    fn minimum_size(&self, connection: Handle, user: User) -> Result<usize, Trouble> {
        let Some(minimum_size) = self.agreed.table.minimum_size else { return Ok(1) };
        // SAFETY: the contract of `minimum_size`.
        Ok(unsafe { minimum_size(self.instance(), pc_connection(connection.0), pointer(user)) })
    }

    fn message_size(&self, connection: Handle, user: User, bytes: &[u8]) -> Result<usize, Trouble> {
        let message_size = self.agreed.table.message_size.ok_or(Trouble::Connection)?;
        let (instance, connection, user) = (self.instance(), pc_connection(connection.0), pointer(user));
        // SAFETY: the contract of `message_size`; the bytes live during the call.
        let size = unsafe { message_size(instance, connection, user, bytes.as_ptr(), bytes.len()) };
        usize::try_from(size).map_err(|_| Trouble::Connection)
    }

    fn cleanup(&self) {
        if let Some(cleanup) = self.agreed.table.cleanup
            && !self.cleaned.swap(true, Relaxed)
        {
            // SAFETY: the contract of `cleanup`; called once, after every other call has returned.
            unsafe { cleanup(self.instance()) };
        }
    }
}

/// A plugin's own word, as the pointer that it was.
fn pointer(user: User) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(user)
}

/// What a plugin says about framing, checked.
fn framing(said: &pc_framing, asks: bool, most: u32) -> Result<Framing, String> {
    if said.max_message > most {
        return Err(format!("messages of {} bytes, where max_message is {most}", said.max_message));
    }
    match said.kind {
        abi::PC_FRAMING_NONE => Ok(Framing::None),
        abi::PC_FRAMING_LENGTH if matches!(said.length_size, 1 | 2 | 4 | 8) => Ok(Framing::Length {
            size: said.length_size as usize,
            little_endian: said.length_flags & abi::PC_LENGTH_LITTLE_ENDIAN != 0,
            counts_itself: said.length_flags & abi::PC_LENGTH_COUNTS_ITSELF != 0,
        }),
        abi::PC_FRAMING_LENGTH => Err(format!("a length of {} bytes", said.length_size)),
        abi::PC_FRAMING_DELIMITER => match said.delimiter.get(..said.delimiter_size as usize) {
            Some(delimiter) if !delimiter.is_empty() => Ok(Framing::Delimiter(delimiter.to_vec())),
            _ => Err(format!("a delimiter of {} bytes", said.delimiter_size)),
        },
        abi::PC_FRAMING_OWN if asks => Ok(Framing::Own),
        abi::PC_FRAMING_OWN => Err("its own, and NULL for message_size".into()),
        other => Err(format!("kind {other} is unknown")),
    }
}

/// A text for C. A NUL within it, which no name has, would end it early.
fn text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// The texts of a `pc_peer`.
struct PeerTexts {
    client: CString,
    local: CString,
    version: Option<CString>,
    cipher: Option<CString>,
    server_name: Option<CString>,
    alpn: Option<CString>,
    certificate: Option<CString>,
}

impl PeerTexts {
    fn of(peer: &Peer) -> Self {
        let (info, tls) = (&peer.0, peer.0.tls.as_ref());
        let certificate = tls.and_then(|tls| tls.client_certificate.as_ref());
        Self {
            client: text(&info.client.0.to_string()),
            local: text(&info.local.0.to_string()),
            version: tls.map(|tls| text(tls.version.as_str())),
            cipher: tls.map(|tls| text(tls.cipher)),
            server_name: tls.and_then(|tls| tls.server_name.as_deref()).map(text),
            alpn: tls.and_then(|tls| tls.alpn.as_ref()).map(|alpn| text(alpn.as_str())),
            certificate: certificate.and_then(|it| it.common_name.as_deref()).map(text),
        }
    }

    fn record(&self) -> pc_peer {
        fn or_null(text: &Option<CString>) -> *const c_char {
            text.as_ref().map_or(null(), |text| text.as_ptr())
        }
        pc_peer {
            size: size_of::<pc_peer>(),
            client: self.client.as_ptr(),
            local: self.local.as_ptr(),
            tls_version: or_null(&self.version),
            tls_cipher: or_null(&self.cipher),
            server_name: or_null(&self.server_name),
            alpn: or_null(&self.alpn),
            certificate_name: or_null(&self.certificate),
        }
    }
}
