//! A connection to a server after it switched protocols: bytes, with what was read ahead first.
//!
//! Made by `exchange` from a 101 response; relayed by `handler/http_proxy/upgrade`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Open;
use super::lease::Lease;
use super::wire::Wire;
use crate::relay::End;
use crate::tcp::Tcp;

/// The upstream's end of a switched connection. It counts as open until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    wire: Wire,
    /// What came behind the 101's head in the same read.
    ahead: Bytes,
    _open: Open,
    /// The server is busy with it until then, too.
    _lease: Lease,
}

impl Tunnel {
    pub(super) fn new(wire: Wire, ahead: Bytes, open: Open, lease: Lease) -> Self {
        Self { wire, ahead, _open: open, _lease: lease }
    }

    /// Sees to it that the connection is reset, not ended, when it is dropped: what the client was cut off from must not
    /// look complete to the server.
    pub fn abort(&self) {
        self.wire.abort();
    }
}

impl End for Tunnel {
    fn source(&self) -> Option<&Tcp> {
        if self.ahead.is_empty() { self.wire.source() } else { None }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
