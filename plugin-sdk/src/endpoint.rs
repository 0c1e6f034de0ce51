//! What a plugin is told: its endpoint, a connection's peer, and input.

use std::ffi::{CStr, c_char};

use portcullis_plugin_abi as abi;
use portcullis_plugin_abi::{pc_endpoint, pc_input, pc_peer};

use crate::host::{Buffer, Host};
use crate::{Close, NotSent, Sent};

/// The endpoint that an instance serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name: its key in the configuration.
    pub name: String,
    /// Whom it faces: "public" or "internal".
    pub class: String,
    /// The handler's name.
    pub handler: String,
    /// Its `settings` table, as a JSON object.
    pub settings: String,
    /// Whether the gateway terminates TLS there.
    pub tls: bool,
    /// Which layer of the handler's chain this is; 0 is next to the client.
    pub layer: u32,
    /// How many layers the chain has.
    pub layers: u32,
    /// The largest message that framing lets through, in bytes.
    pub max_message: u32,
    /// How much a connection's queue holds, in bytes.
    pub max_queue: u32,
}

impl Endpoint {
    /// # Safety
    /// The record and its texts are valid.
    pub(crate) unsafe fn of(record: &pc_endpoint) -> Self {
        // SAFETY: as the caller vouches.
        let owned = |text: *const c_char| unsafe { text_of(text) }.unwrap_or_default().to_owned();
        Self {
            name: owned(record.name),
            class: owned(record.endpoint_class),
            handler: owned(record.handler),
            settings: owned(record.settings),
            tls: record.tls != 0,
            layer: record.layer,
            layers: record.layers,
            max_message: record.max_message,
            max_queue: record.max_queue,
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<'a> {
    /// The client's address and port.
    pub client: &'a str,
    /// The address and port that the client dialled.
    pub local: &'a str,
    /// The TLS version, such as "1.3"; `None` on a plain endpoint.
    pub tls_version: Option<&'a str>,
    /// The cipher suite's IANA name.
    pub tls_cipher: Option<&'a str>,
    /// The name that the client asked for (SNI).
    pub server_name: Option<&'a str>,
    /// The application protocol that ALPN chose.
    pub alpn: Option<&'a str>,
    /// The common name of the client's certificate, which was verified.
    pub certificate_name: Option<&'a str>,
}

impl<'a> Peer<'a> {
    /// # Safety
    /// The record and its texts are valid for `'a`.
    pub(crate) unsafe fn of(record: &'a pc_peer) -> Self {
        // SAFETY: as the caller vouches.
        let text = |text: *const c_char| unsafe { text_of::<'a>(text) };
        Self {
            client: text(record.client).unwrap_or_default(),
            local: text(record.local).unwrap_or_default(),
            tls_version: text(record.tls_version),
            tls_cipher: text(record.tls_cipher),
            server_name: text(record.server_name),
            alpn: text(record.alpn),
            certificate_name: text(record.certificate_name),
        }
    }
}

/// # Safety
/// `text` is NULL or ends with a NUL, and stays for `'a`.
unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and as the caller vouches.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// What came, borrowed for the call.
#[derive(Debug)]
pub struct Input<'a> {
    record: &'a pc_input,
    host: &'a Host,
}

impl<'a> Input<'a> {
    pub(crate) fn new(record: &'a pc_input, host: &'a Host) -> Self {
        Self { record, host }
    }

    /// The bytes: one message, where there is framing. Empty when the sender has ended and nothing was left.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        if self.record.length == 0 {
            return &[];
        }
        // SAFETY: the contract of `data`: so many bytes are there for the time of the call.
        unsafe { std::slice::from_raw_parts(self.record.bytes, self.record.length) }
    }

    /// Whether the sender has ended, so that nothing comes after this.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.record.flags & abi::PC_INPUT_LAST != 0
    }

    /// Whether the layer above wrote it, on its way to the client.
    #[must_use]
    pub fn is_from_above(&self) -> bool {
        self.record.flags & abi::PC_INPUT_FROM_ABOVE != 0
    }

    /// Keeps the bytes beyond the call, without copying them.
    #[must_use]
    pub fn keep(&self) -> Buffer {
        self.host.retain(self.record.buffer)
    }

    /// What `data` answers after an answer was sent: all is consumed if it was taken; nothing, so that the input comes again,
    /// if the queue is full.
    ///
    /// # Errors
    /// The connection is closed, since the answer can never be sent.
    pub fn consumed_if(&self, sent: Result<Sent, NotSent>) -> Result<usize, Close> {
        match sent {
            Ok(_) => Ok(self.record.length),
            Err(NotSent::Full) => Ok(0),
            Err(_) => Err(Close),
        }
    }
}
