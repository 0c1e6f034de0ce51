//! The records that calls carry. Each that may grow begins with its size.

use core::ffi::{c_char, c_void};

use crate::shape::{CType, join, records};

/// A connection: slot and generation, so that a handle that outlives its connection is found out. 0 is none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct pc_connection(pub u64);

impl CType for pc_connection {
    fn declare(name: &str) -> String {
        join("pc_connection", name)
    }
}

/// A reference-counted run of bytes that belongs to the gateway.
#[repr(C)]
#[derive(Debug)]
pub struct pc_buffer {
    _opaque: [u8; 0],
}

impl CType for pc_buffer {
    fn declare(name: &str) -> String {
        join("pc_buffer", name)
    }
}

/// How long an error text of start-up may be, with its NUL.
pub const ERROR_SIZE: usize = 256;

records! {
    /// How the client's bytes become messages. All zero means: they do not.
    pc_framing {
        /// One of PC_FRAMING_.
        kind: u32,
        /// The largest message, in bytes; 0: what the gateway allows, which is also the most.
        max_message: u32,
        /// PC_FRAMING_LENGTH: how many bytes the length has: 1, 2, 4 or 8. `data` gets the whole message, these included.
        length_size: u32,
        /// PC_FRAMING_LENGTH: PC_LENGTH_ flags.
        length_flags: u32,
        /// PC_FRAMING_DELIMITER: how many bytes of `delimiter` count: 1 to 8. `data` gets the whole message, these included.
        delimiter_size: u32,
        /// PC_FRAMING_DELIMITER: the delimiter.
        delimiter: [u8; 8],
    }

    /// What start-up answers. The gateway fills in `size` and zeroes the rest.
    pc_startup {
        /// How large this record is, in bytes.
        size: usize,
        /// The version that both sides will keep to: the lower of what was asked for and the plugin's highest.
        version: u32,
        /// The plugin's highest version.
        high_version: u32,
        /// The plugin's own; comes back in every call.
        instance: *mut c_void,
        /// PC_NEVER_BLOCKS, or 0.
        flags: u32,
        /// How the client's bytes become messages.
        framing: pc_framing,
        /// What went wrong and what to do, with a NUL, where start-up does not answer PC_OK.
        error: [c_char; 256],
    }

    /// The endpoint that an instance serves. Valid until `cleanup` returns. Texts are UTF-8 and end with a NUL.
    pc_endpoint {
        /// How large this record is, in bytes.
        size: usize,
        /// The endpoint's name: its key in the configuration.
        name: *const c_char,
        /// Whom it faces: "public" or "internal".
        endpoint_class: *const c_char,
        /// The handler's name.
        handler: *const c_char,
        /// The endpoint's `settings` table as a JSON object.
        settings: *const c_char,
        /// 1 if the gateway terminates TLS there, else 0. Bytes are plain to the plugin either way.
        tls: u32,
        /// Which layer of the handler's chain this is; 0 is next to the client.
        layer: u32,
        /// How many layers the chain has.
        layers: u32,
        /// The largest message that framing lets through, in bytes.
        max_message: u32,
        /// How much a connection's queue holds, in bytes.
        max_queue: u32,
    }

    /// Who is at the other end. Valid during `open`. Texts are UTF-8 and end with a NUL; what does not apply is NULL.
    pc_peer {
        /// How large this record is, in bytes.
        size: usize,
        /// The client's address and port, such as "192.0.2.7:51234".
        client: *const c_char,
        /// The address and port that the client dialled.
        local: *const c_char,
        /// The TLS version, such as "1.3".
        tls_version: *const c_char,
        /// The cipher suite's IANA name.
        tls_cipher: *const c_char,
        /// The name that the client asked for (SNI).
        server_name: *const c_char,
        /// The application protocol that ALPN chose.
        alpn: *const c_char,
        /// The common name of the client's certificate, which was verified.
        certificate_name: *const c_char,
    }

    /// What `data` gets. Borrowed for the call; `retain` the buffer to keep it.
    pc_input {
        /// How large this record is, in bytes.
        size: usize,
        /// The bytes; one message, where there is framing.
        bytes: *const u8,
        /// How many.
        length: usize,
        /// The buffer that holds them, borrowed.
        buffer: *mut pc_buffer,
        /// PC_INPUT_ flags.
        flags: u32,
    }

    /// A run of bytes to write. Copied before `write` returns, unless a buffer holds them.
    pc_piece {
        /// The bytes.
        bytes: *const u8,
        /// How many.
        length: usize,
        /// The buffer that holds the bytes, which is then shared and not copied; or NULL.
        buffer: *mut pc_buffer,
    }
}
