//! A client's stream whose writes may stand still only so long, and be only so slow, and that ends so that the client gets all of its answer.
//!
//! Used by `http1` and `paced`: a client that does not read its answers must not hold them for ever.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use super::pace::{Late, Pace};
use crate::deadline::Deadline;
use crate::handler::Context;
use crate::relay::End;
use crate::stream::Stream;

/// For how long what a client still sends is thrown away after the last answer.
const LINGER: Duration = Duration::from_millis(750);
/// How much of it at most: what was under way when the answer went out, not what a flood goes on to send.
const LINGER_BYTES: usize = 1024 * 1024;

/// A stream with a deadline between two writes.
#[derive(Debug)]
pub(super) struct Patient {
    stream: Stream,
    /// How long a write may stand still.
    limit: Duration,
    /// How fast what waits must go.
    pace: Pace,
    clock: Deadline,
    /// Since when a write has stood still.
    since: Option<Instant>,
    /// Nothing has come, and this task, which stays the same, is woken when something does.
    watched: bool,
    /// The client may still be sending when the stream is shut down.
    lingers: bool,
    /// Since when it has been shut down.
    ended: Option<Instant>,
    /// How much was thrown away since.
    thrown_away: usize,
}

impl Patient {
    /// Within the `body` deadline and the least rate of `context`.
    pub(super) fn new(stream: Stream, context: &Context) -> Self {
        let (limit, pace) = (context.timeouts.body, Pace::new(&context.limits));
        Self {
            stream,
            limit,
            pace,
            clock: Deadline::default(),
            since: None,
            watched: false,
            lingers: true,
            ended: None,
            thrown_away: 0,
        }
    }

    /// Whether the end waits for a client that may still be sending; it does unless told otherwise.
    pub(super) fn set_lingers(&mut self, lingers: bool) {
        self.lingers = lingers;
    }

    /// Fails if the client has reset the connection, and has the task woken should it do so.
    ///
    /// While an answer is awaited nobody reads, or a half-close could not be told from leaving, so nobody else notices.
    pub(super) fn check_reset(&mut self, cx: &mut task::Context<'_>) -> io::Result<()> {
        let tcp = self.stream.socket().tcp();
        match tcp.poll_read_ready(cx) {
            // Bytes, an end or an error; only the last ends the wait for an answer.
            Poll::Ready(Ok(())) => tcp.take_error()?.map_or(Ok(()), Err),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => {
                // A task that has used up its turn is told to wait too, and nothing but its next turn wakes it.
                self.watched = has_budget_remaining();
                Ok(())
            }
        }
    }

    /// Sees to it that the connection is reset, not ended, when it is dropped.
    pub(super) fn abort(&self) {
        self.stream.abort();
    }

    pub(super) fn into_inner(self) -> Stream {
        self.stream
    }

    fn watch<T>(&mut self, cx: &mut task::Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.since = None;
            return written;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let why = match ready!(self.pace.poll(cx, &mut self.clock, since, self.limit)) {
            Late::Stalled => "the client does not read what it is sent",
            Late::TooSlow => "the client reads what it is sent too slowly",
        };
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    fn watch_write(&mut self, cx: &mut task::Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.pace.add(*bytes);
        }
        self.watch(cx, written)
    }
}

impl Patient {
    /// Throws away what the client still sends, until it has noticed the end or time is up.
    ///
    /// Closing over unread bytes would reset the connection, and the client might lose the answer (RFC 9112, section
    /// 9.6). The loop yields when the task has read enough for once, as every read of a socket does.
    fn poll_linger(&mut self, cx: &mut task::Context<'_>, since: Instant) -> Poll<()> {
        let mut scratch = [0; 2048];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && since.elapsed() < LINGER => {
                    self.thrown_away += buf.filled().len();
                    if self.thrown_away > LINGER_BYTES {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.clock.poll(cx, since + LINGER),
            }
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if mem::take(&mut this.watched) && !this.stream.may_have_news() {
            this.watched = true;
            return Poll::Pending;
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() {
            this.pace.rest(); // nothing waits for the client any more
        }
        this.watch(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended.is_none() {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.watch(cx, shut))?;
            if !this.lingers {
                return Poll::Ready(Ok(()));
            }
        }
        let since = *this.ended.get_or_insert_with(Instant::now);
        this.poll_linger(cx, since).map(Ok)
    }
}
