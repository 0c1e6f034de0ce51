//! One [`Stream`] type for plain and TLS connections, so that nothing behind it needs to know which it has.
//!
//! Owns the socket, counts its bytes for the endpoint, and can give back bytes that were read ahead. Made by
//! `connection`; read and written by handlers.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::metrics::EndpointMetrics;
use crate::relay::End;
use crate::tcp::Tcp;

/// A client's connection, after the handshake if there is one.
pub struct Stream {
    transport: Transport,
    /// Bytes that were read ahead, given out before the transport is read again.
    ahead: Bytes,
}

enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// A plain connection.
    #[must_use]
    pub fn plain(socket: Socket) -> Self {
        Self { transport: Transport::Plain(socket), ahead: Bytes::new() }
    }

    /// A TLS connection whose handshake is done.
    #[must_use]
    pub fn tls(stream: TlsStream<Socket>) -> Self {
        Self { transport: Transport::Tls(Box::new(stream)), ahead: Bytes::new() }
    }

    /// Gives back what was read ahead: it will be read again, before anything else.
    pub fn unread(&mut self, bytes: Bytes) {
        self.ahead = match (bytes.is_empty(), self.ahead.is_empty()) {
            (true, _) => return,
            (false, true) => bytes,
            (false, false) => [bytes, std::mem::take(&mut self.ahead)].concat().into(),
        };
    }

    /// The socket, where the connection is plain and nothing was read ahead; for moving bytes without looking at them.
    pub fn as_plain(&mut self) -> Option<&mut Socket> {
        match &mut self.transport {
            Transport::Plain(socket) if self.ahead.is_empty() => Some(socket),
            _ => None,
        }
    }

    /// The socket under whatever there is.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match &self.transport {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Sees to it that the connection is reset, not ended, when it is dropped: what the client was cut off from must not look
    /// complete to it.
    pub fn abort(&self) {
        // A socket that cannot be told is broken already.
        let _ = self.socket().tcp().set_zero_linger();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.transport {
            Transport::Plain(_) => "plain",
            Transport::Tls(_) => "tls",
        };
        f.debug_struct("Stream").field("transport", &kind).field("ahead", &self.ahead.len()).finish()
    }
}

impl End for Stream {
    fn source(&self) -> Option<&Tcp> {
        match &self.transport {
            Transport::Plain(socket) if self.ahead.is_empty() && socket.ahead.is_empty() => Some(&socket.tcp),
            _ => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Transport::Tls(stream) => {
                let read = Pin::new(&mut **stream).poll_read(cx, buf);
                // What came may want an answer of TLS's own, such as the refusal of a renegotiation. tokio-rustls would
                // keep it until the next write, which may never come. If it cannot be sent, reading will find out.
                if read.is_pending() && stream.get_ref().1.wants_write() {
                    let _ = Pin::new(stream).poll_flush(cx);
                }
                read
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Up to this many bytes in several pieces are brought together before they are written.
const GATHERED: usize = 1024;

/// Writes pieces to a connection: small ones as one, since copying them costs less than what the kernel does for each piece.
pub(crate) fn gather<W: AsyncWrite>(
    to: Pin<&mut W>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
    if let (Some(only), None) = (filled.next(), filled.next()) {
        return to.poll_write(cx, only);
    }
    let length = pieces.iter().map(|piece| piece.len()).sum();
    if length > GATHERED {
        return to.poll_write_vectored(cx, pieces);
    }
    let mut whole = [0; GATHERED];
    let mut end = 0;
    for piece in pieces {
        whole[end..end + piece.len()].copy_from_slice(piece);
        end += piece.len();
    }
    to.poll_write(cx, &whole[..length])
}

/// A client's TCP socket that counts what passes and remembers how it began.
#[derive(Debug)]
pub struct Socket {
    tcp: Tcp,
    metrics: Arc<EndpointMetrics>,
    /// The first bytes that came, to tell a stray plain request from broken TLS.
    first: [u8; 8],
    first_len: u8,
    /// Refuse, unread, what cannot be the beginning of TLS, so that it can be answered in its own words.
    tls_only: bool,
    /// What was read ahead and is read again, counted once.
    ahead: Bytes,
}

impl Socket {
    /// Wraps an accepted socket; its bytes count for `metrics`.
    #[must_use]
    pub fn new(tcp: TcpStream, metrics: Arc<EndpointMetrics>) -> Self {
        Self { tcp: tcp.into(), metrics, first: [0; 8], first_len: 0, tls_only: false, ahead: Bytes::new() }
    }

    /// The first byte of every TLS connection: a record of type `handshake` (RFC 9846, section 5.1).
    pub const TLS_HANDSHAKE: u8 = 0x16;

    /// From here on, reading fails if the first byte is not that of a TLS handshake. Without this, an alert would go
    /// out before anyone could answer a stray plain HTTP request in HTTP.
    pub fn expect_tls(&mut self) {
        self.tls_only = true;
    }

    /// Starts over with [`first_bytes`](Self::first_bytes), after a PROXY header.
    pub fn forget_first_bytes(&mut self) {
        self.first_len = 0;
    }

    /// Gives back what was read ahead: it will be read again, before anything else.
    pub fn unread(&mut self, bytes: Bytes) {
        debug_assert!(self.ahead.is_empty(), "bytes are given back once");
        self.ahead = bytes;
    }

    /// The first bytes that were read, eight at most.
    #[must_use]
    pub fn first_bytes(&self) -> &[u8] {
        &self.first[..usize::from(self.first_len)]
    }

    /// Counts that the client asked for a name that no chain covers.
    pub fn count_unknown_name(&self) {
        self.metrics.here().unknown_server_names.add(1);
    }

    /// The socket itself.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn count_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.metrics.here().received_bytes.add(bytes.len() as u64);
        let have = usize::from(self.first_len);
        if have < self.first.len() {
            let n = bytes.len().min(self.first.len() - have);
            self.first[have..have + n].copy_from_slice(&bytes[..n]);
            self.first_len += n as u8;
            return self.check_first();
        }
        Ok(())
    }

    fn check_first(&self) -> io::Result<()> {
        if self.tls_only && self.first_len > 0 && self.first[0] != Self::TLS_HANDSHAKE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not TLS"));
        }
        Ok(())
    }

    fn count_written(&self, written: usize) {
        self.metrics.here().sent_bytes.add(written as u64);
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            self.check_first()?;
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        Poll::Ready(self.count_read(&buf.filled()[before..]))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.count_written(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(gather(Pin::new(&mut self.tcp), cx, bufs))?;
        self.count_written(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
