//! A client's stream whose writes may stand still only so long.
//!
//! Used by `guard` and `http2`: a client that does not read its answers must not hold them for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadline::Deadline;
use crate::stream::Stream;

/// A stream with a deadline between two writes.
#[derive(Debug)]
pub(super) struct Patient {
    stream: Stream,
    /// How long a write may stand still; `None` for as long as it likes.
    limit: Option<Duration>,
    clock: Deadline,
    /// Since when one has.
    since: Option<Instant>,
}

impl Patient {
    pub(super) fn new(stream: Stream, limit: Duration) -> Self {
        Self { stream, limit: Some(limit), clock: Deadline::default(), since: None }
    }

    /// Whether something waits to be written.
    pub(super) fn is_stalled(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn forget_deadline(&mut self) {
        self.limit = None;
    }

    pub(super) fn into_inner(self) -> Stream {
        self.stream
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let (Poll::Pending, Some(limit)) = (&written, self.limit) else {
            self.since = None;
            return written;
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        ready!(self.clock.poll(cx, since + limit));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read what it is sent")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watch(cx, shut)
    }
}
