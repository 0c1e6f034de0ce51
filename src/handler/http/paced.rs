//! An HTTP/2 client's stream, on which a header block has a deadline and frames that ask for nothing have a rate.
//!
//! Owns both limits; `frames` tells what came. h2 bounds how large a header block may become, but waits for the rest of
//! it for as long as the client likes; and it answers every PING and SETTINGS. Used by `http2`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadline::Deadline;
use super::frames::Frames;
use super::gate::Gate;
use super::patient::Patient;
use crate::metrics::Http2Closing;
use crate::stream::Stream;

/// How many frames that ask for nothing may come at once (CVE-2019-9512, -9515, -9518): far more than any client sends
/// in good faith, and no more work than a few hundred requests.
const IDLE_FRAMES: u32 = 10_000;
/// How many more of them may come each second.
const IDLE_FRAMES_PER_SECOND: u32 = 1000;

/// A stream whose frames are watched on their way to h2.
#[derive(Debug)]
pub(super) struct Paced {
    stream: Patient,
    gate: Arc<Gate>,
    frames: Frames,
    allowance: Allowance,
    clock: Deadline,
    /// What was begun and has not ended, and since when.
    open: Option<(u32, Instant)>,
}

impl Paced {
    pub(super) fn new(stream: Stream, gate: Arc<Gate>) -> Self {
        Self {
            stream: Patient::new(stream, gate.context.timeouts.body),
            gate,
            frames: Frames::new(),
            allowance: Allowance { left: IDLE_FRAMES, since: Instant::now() },
            clock: Deadline::default(),
            open: None,
        }
    }

    /// Notes what was read; fails at a flood.
    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        let idle = self.frames.pass(bytes);
        if idle > 0 && !self.allowance.take(idle, Instant::now()) {
            return Err(self.close(Http2Closing::FrameFlood, "the client floods the connection with idle frames"));
        }
        self.open = match (self.frames.open(), self.open) {
            (Some(turn), Some((before, since))) if turn == before => Some((turn, since)),
            (Some(turn), _) => Some((turn, Instant::now())),
            (None, _) => None,
        };
        Ok(())
    }

    fn close(&self, why: Http2Closing, what: &'static str) -> io::Error {
        self.gate.context.metrics.here().http2_closed[why as usize].add(1);
        io::Error::new(io::ErrorKind::TimedOut, what)
    }
}

/// How many idle frames may still come.
#[derive(Debug)]
struct Allowance {
    left: u32,
    /// When it was last filled up.
    since: Instant,
}

impl Allowance {
    /// Takes `n`, if there are as many.
    fn take(&mut self, n: u32, now: Instant) -> bool {
        let seconds = u32::try_from(now.saturating_duration_since(self.since).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds.saturating_mul(IDLE_FRAMES_PER_SECOND)).min(IDLE_FRAMES);
            self.since = now;
        }
        let left = self.left.checked_sub(n);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

impl AsyncRead for Paced {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let from = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            return Poll::Ready(read.and_then(|()| this.note(&buf.filled()[from..])));
        }
        let Some((_, since)) = this.open else { return Poll::Pending };
        ready!(this.clock.poll(cx, since + this.gate.context.timeouts.header));
        Poll::Ready(Err(this.close(Http2Closing::HeaderTimeout, "a header block or frame did not arrive in time")))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Allowance, IDLE_FRAMES, IDLE_FRAMES_PER_SECOND};

    #[test]
    fn an_allowance_that_is_used_up_fills_again_with_time_and_never_overflows() {
        let start = Instant::now();
        let mut allowance = Allowance { left: IDLE_FRAMES, since: start };
        assert!(allowance.take(IDLE_FRAMES, start));
        assert!(!allowance.take(1, start + Duration::from_millis(999)));
        assert!(allowance.take(IDLE_FRAMES_PER_SECOND, start + Duration::from_secs(1)));
        assert!(!allowance.take(1, start + Duration::from_secs(1)));
        let later = start + Duration::from_secs(1_000_000);
        assert!(!allowance.take(IDLE_FRAMES + 1, later));
    }
}
