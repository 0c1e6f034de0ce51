//! A connection to a server, plain or TLS, so that nothing behind it needs to know which it has.
//!
//! Made by `dial`; read and written by `link`, `tunnel`, `http2` and `handler/tcp_proxy`.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::relay::End;
use crate::stream::gather;
use crate::tcp::Tcp;

/// A connection to a server.
pub enum Wire {
    /// As it comes.
    Plain(Tcp),
    /// After the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Looks whether an idle connection can still be used: its server has neither closed it nor sent what nobody asked
    /// for. What TLS sends for itself, such as tickets, is taken in.
    pub(super) fn is_fit(&mut self) -> bool {
        match self {
            // No system call is made where tokio knows that nothing has come.
            Self::Plain(tcp) => tcp.try_read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock),
            Self::Tls(_) => {
                let cx = &mut Context::from_waker(Waker::noop());
                Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut [0])).is_pending()
            }
        }
    }

    /// Sees to it that the connection is reset, not ended, when it is dropped: what was cut off must not look complete to
    /// the server.
    pub fn abort(&self) {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // A socket that cannot be told is broken already.
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }

    /// Writes pieces: small ones as one.
    pub(super) fn poll_gather(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => gather(Pin::new(tcp), cx, pieces),
            Self::Tls(stream) => gather(Pin::new(&mut **stream), cx, pieces),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

impl End for Wire {
    fn source(&self) -> Option<&Tcp> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(_) => None,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(stream) => {
                let read = Pin::new(&mut **stream).poll_read(cx, buf);
                // As in `stream`: what came may want an answer of TLS's own, which would wait for the next write.
                if read.is_pending() && stream.get_ref().1.wants_write() {
                    let _ = Pin::new(stream).poll_flush(cx);
                }
                read
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
