//! Looks at a client's first flight on an endpoint that passes some TLS connections on unterminated.
//!
//! Owns the wait for the ClientHello and what a client is told whose hello leads nowhere. Called by `connection`, which goes
//! on with what was read.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::handshake::Failed;
use crate::metrics::HandshakeFailure;
use crate::stream::Socket;
use crate::tls::client_hello::{self, Hello, MAX_BYTES, Parsed};

/// Fatal alerts (RFC 9846, section 6): the hello cannot be read; the name leads nowhere.
const DECODE_ERROR: u8 = 50;
const UNRECOGNIZED_NAME: u8 = 112;

/// Reads until the hello is whole, or it is plain that none comes; what was read, and the hello if there is one.
pub(super) async fn read(socket: &mut Socket) -> Result<(Bytes, Option<Hello>), Failed> {
    let mut have = BytesMut::new();
    let mut wanted = 1;
    loop {
        // Each turn reads at least one byte, and `parse` never wants more than `MAX_BYTES`.
        while have.len() < wanted.min(MAX_BYTES) {
            match socket.read_buf(&mut have).await {
                Ok(0) => return Err(Failed::new(HandshakeFailure::ClientClosed, "the client went away")),
                Ok(_) => {}
                Err(error) => {
                    return Err(Failed::new(HandshakeFailure::ClientClosed, format!("the client went away: {error}")));
                }
            }
        }
        match client_hello::parse(&have) {
            Ok(Parsed::Hello(hello)) => return Ok((have.freeze(), Some(hello))),
            Ok(Parsed::NotTls) => return Ok((have.freeze(), None)),
            Ok(Parsed::Incomplete(more)) if more <= MAX_BYTES => wanted = more,
            Ok(Parsed::Incomplete(_)) => return Err(malformed(socket, "a ClientHello that is too long").await),
            Err(why) => return Err(malformed(socket, why).await),
        }
    }
}

async fn malformed(socket: &mut Socket, why: &'static str) -> Failed {
    alert(socket, DECODE_ERROR).await;
    Failed::new(HandshakeFailure::Protocol, why)
}

/// Tells a client that the name or protocol it asks for is refused.
pub(super) async fn refuse(socket: &mut Socket) {
    alert(socket, UNRECOGNIZED_NAME).await;
}

/// A courtesy: the caller has a deadline, and a client that does not take seven bytes is owed nothing.
async fn alert(socket: &mut Socket, description: u8) {
    let _ = socket.write_all(&[21, 3, 3, 0, 2, 2, description]).await;
    let _ = socket.shutdown().await;
}
