//! The client's end of an HTTP/1.1 connection: what was read and not used yet, and what is on its way out.
//!
//! Owns the stream and both buffers. Driven by `http1` and `turn`, in the connection's task.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{self, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::super::patient::Patient;
use super::output::Output;
use crate::handler::Context;
use crate::stream::Stream;

/// How much is read at a time, in bytes, while there is no sign of more: most requests whole.
const LEAST_READ: usize = 2 * 1024;
/// The most that is read at a time.
const MOST_READ: usize = 64 * 1024;

/// A client's connection and its buffers.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Patient,
    /// What was read and not used yet.
    pub(super) input: BytesMut,
    /// How much to read at a time.
    reach: usize,
    pub(super) output: Output,
}

impl Wire {
    /// Writes may stand still, and be slow, as `context` says.
    pub(super) fn new(stream: Stream, context: &Context) -> Self {
        let stream = Patient::new(stream, context);
        Self { stream, input: BytesMut::new(), reach: LEAST_READ, output: Output::default() }
    }

    /// Reads more; false at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<bool>> {
        if self.input.capacity() - self.input.len() < self.reach / 4 {
            self.input.reserve(self.reach);
        }
        let room = self.input.capacity() - self.input.len();
        let n = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx))?;
        if n == room {
            self.reach = MOST_READ.min(self.reach * 2);
        }
        Poll::Ready(Ok(n > 0))
    }

    /// Writes and flushes what there is.
    pub(super) fn poll_send(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.output.poll_write(cx, &mut self.stream)
    }

    /// Fails if the client has reset the connection, and has the task woken should it do so. While nobody reads, nobody
    /// else notices.
    pub(super) fn check_reset(&mut self, cx: &mut task::Context<'_>) -> io::Result<()> {
        self.stream.check_reset(cx)
    }

    /// Ends the connection. `lingers` says that the client may be in the middle of sending something.
    pub(super) fn poll_end(&mut self, cx: &mut task::Context<'_>, lingers: bool) -> Poll<io::Result<()>> {
        self.stream.set_lingers(lingers);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Sees to it that the connection is reset when it is dropped: what was cut off must not look complete.
    pub(super) fn abort(&self) {
        self.stream.abort();
    }

    /// The stream, with what was read ahead given back to it.
    pub(super) fn into_stream(self) -> Stream {
        let mut stream = self.stream.into_inner();
        stream.unread(self.input.freeze());
        stream
    }
}
