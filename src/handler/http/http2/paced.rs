//! An HTTP/2 client's stream, on which a header block has a deadline, frames that ask for nothing have a rate, and many
//! frames at a time wait for their turn.
//!
//! Owns these limits; `frames` tells what came. h2 bounds how large a header block may become, but waits for the rest of
//! it for as long as the client likes; and it answers every PING and SETTINGS. Used by `http2`.
//!
//! A connection that is ended for what its client sent is not closed at once: the client is told (RFC 9113, section
//! 6.8), all that it had in work ends, and `http2` lets the stream stand for a moment, unread. Whoever would come back in
//! the same instant to go on is held up like that at next to no cost, and nobody else who shares its address is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::super::gate::Gate;
use super::super::patient::Patient;
use super::conduct::Conduct;
use super::frames::{Frames, GOAWAY};
use crate::deadline::Deadline;
use crate::metrics::Http2Closing;
use crate::stream::Stream;

/// How many frames that ask for nothing may come at once (CVE-2019-9512, -9515, -9518): far more than any client sends
/// in good faith, and no more work than a few hundred requests.
const IDLE_FRAMES: u32 = 10_000;
/// How many more of them may come each second.
const IDLE_FRAMES_PER_SECOND: u32 = 1000;

/// After how many frames the worker's other connections have their turn. tokio's own measure is 128 reads, which are a
/// hundred thousand small frames: a hundred clients that send those would hold everyone else up for seconds.
const FRAMES_PER_TURN: u32 = 128;

/// How long the rest of a header block may take that spans several frames, since a client has all of it when it begins.
const NEXT_PART: Duration = Duration::from_secs(1);

const ENHANCE_YOUR_CALM: u32 = 11;

/// Where a stream is left whose client was at fault.
pub(super) type LeftBehind = Arc<Mutex<Option<Patient>>>;

/// A stream whose frames are watched on their way to h2.
#[derive(Debug)]
pub(super) struct Paced {
    /// Gone only while this is dropped.
    stream: Option<Patient>,
    gate: Arc<Gate>,
    conduct: Arc<Conduct>,
    left_behind: LeftBehind,
    /// Ended by us, for what the client sent.
    ended: bool,
    frames: Frames,
    sent: Frames,
    allowance: Allowance,
    clock: Deadline,
    /// How many frames had ended when this connection's turn began.
    turn: u32,
    /// What was begun and has not ended, and since when.
    open: Option<(u32, Instant)>,
}

impl Paced {
    pub(super) fn new(stream: Stream, gate: Arc<Gate>, conduct: Arc<Conduct>, left_behind: LeftBehind) -> Self {
        Self {
            stream: Some(Patient::new(stream, &gate.context)),
            gate,
            conduct,
            left_behind,
            ended: false,
            frames: Frames::received(),
            sent: Frames::sent(),
            allowance: Allowance { left: IDLE_FRAMES, since: Instant::now() },
            clock: Deadline::default(),
            turn: 0,
            open: None,
        }
    }

    /// Notes what was read; a flood is why the connection must end.
    fn note(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        let idle = self.frames.pass(bytes);
        if idle > 0 && !self.allowance.take(idle, Instant::now()) {
            return Err((Http2Closing::FrameFlood, "the client floods the connection with idle frames"));
        }
        self.open = match (self.frames.open(), self.open) {
            (Some(turn), Some((before, since))) if turn == before => Some((turn, since)),
            (Some(turn), _) => Some((turn, Instant::now())),
            (None, _) => None,
        };
        Ok(())
    }

    /// Until when what was begun must have ended.
    fn deadline(&self, since: Instant) -> Instant {
        let header = self.gate.context.timeouts.header;
        since + if self.frames.is_between_parts() { header.min(NEXT_PART) } else { header }
    }

    /// Notes what was written: it says how many WINDOW_UPDATEs may come, and whether h2 has ended the connection.
    fn note_written<B: std::ops::Deref<Target = [u8]>>(&mut self, pieces: &[B], mut written: usize) {
        let before = self.sent.moved();
        for piece in pieces {
            let n = piece.len().min(written);
            self.sent.pass(&piece[..n]);
            written -= n;
        }
        self.frames.owe(self.sent.moved().wrapping_sub(before));
    }

    /// Whether the connection ends for what the client sent.
    fn client_is_at_fault(&self) -> bool {
        self.ended || self.sent.goodbye().is_some_and(|error| error != 0)
    }

    /// Ends the connection: counts it, and tells the client as far as that can be done at once.
    fn end(&mut self, cx: &mut Context<'_>, (why, what): Ending) -> io::Error {
        self.ended = true;
        self.gate.count_closing(why);
        if let (Some(stream), true) = (&mut self.stream, self.sent.is_between_frames()) {
            let mut goodbye = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            goodbye[9..13].copy_from_slice(&self.frames.last_stream().to_be_bytes());
            goodbye[13..].copy_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
            // A client that takes nothing is owed nothing.
            let _ = Pin::new(&mut *stream).poll_write(cx, &goodbye);
            let _ = Pin::new(stream).poll_flush(cx);
        }
        io::Error::new(io::ErrorKind::TimedOut, what)
    }
}

/// Why a connection must end.
type Ending = (Http2Closing, &'static str);

impl Drop for Paced {
    fn drop(&mut self) {
        if self.client_is_at_fault() {
            *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
        }
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

/// For a stream that is gone, which nobody sees: it goes when this is dropped.
fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Paced {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let from = buf.filled().len();
        let ended = this.frames.ended();
        if ended.wrapping_sub(this.turn) >= FRAMES_PER_TURN {
            this.turn = ended;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.conduct.is_exhausted(this.frames.opened()) {
            let ending = (Http2Closing::Excess, "too many requests came to nothing by the client's doing");
            return Poll::Ready(Err(this.end(cx, ending)));
        }
        let Some(stream) = &mut this.stream else { return gone() };
        if let Poll::Ready(read) = Pin::new(stream).poll_read(cx, buf) {
            read?;
            return Poll::Ready(this.note(&buf.filled()[from..]).map_err(|ending| this.end(cx, ending)));
        }
        this.turn = ended;
        let Some((_, since)) = this.open else { return Poll::Pending };
        let deadline = this.deadline(since);
        ready!(this.clock.poll(cx, deadline));
        let ending = (Http2Closing::HeaderTimeout, "a header block or frame did not arrive in time");
        Poll::Ready(Err(this.end(cx, ending)))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return gone() };
        let written = ready!(Pin::new(stream).poll_write(cx, bytes))?;
        this.note_written(&[bytes], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return gone() };
        let written = ready!(Pin::new(stream).poll_write_vectored(cx, pieces))?;
        this.note_written(pieces, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(Patient::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.get_mut().stream else { return gone() };
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.client_is_at_fault() {
            return Poll::Ready(Ok(())); // it is left behind
        }
        let Some(stream) = &mut this.stream else { return gone() };
        Pin::new(stream).poll_shutdown(cx)
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
