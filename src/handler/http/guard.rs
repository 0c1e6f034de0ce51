//! Stands between a client's stream and hyper, and lets nothing through that two parsers could read differently.
//!
//! Owns the reading rules' enforcement and the deadlines of an HTTP/1.1 connection. Made by `http1`; read by hyper, and
//! after an upgrade by whoever took the connection over. Bytes are looked at where hyper has them read to; they are
//! copied only where a head comes in pieces or something must be held back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::REFUSED_REQUEST;
use super::deadline::Deadline;
use super::fault::Fault;
use super::gate::{Gate, Holding, Switching};
use super::patient::Patient;
use super::scan::{Phase, Scanned, Scanner, Then};
use crate::stream::Stream;

/// An idle connection is taken apart after this long, so that it holds no buffers.
const PARK_AFTER: Duration = Duration::from_secs(2);
/// How much is read at a time while something is held back.
const PIECE: usize = 2048;

/// A client's stream whose requests are checked before they go on.
#[derive(Debug)]
pub(super) struct Guard {
    stream: Patient,
    scanner: Scanner,
    gate: Arc<Gate>,
    _holding: Holding,
    /// What was read and has not gone on: a section and a piece at most, or what came in one read behind an upgrade.
    held: BytesMut,
    /// So many bytes of `held` may go on.
    clear: usize,
    /// `held` is to be looked at again, although nothing new has come.
    again: bool,
    clock: Deadline,
    /// What is waited for, and since when.
    reading: Option<(Phase, Instant)>,
    /// Who waits for the outcome of an upgrade.
    waiting: Option<Waker>,
}

impl Guard {
    pub(super) fn new(stream: Stream, gate: Arc<Gate>) -> Self {
        Self {
            stream: Patient::new(stream, gate.context.timeouts.body),
            scanner: Scanner::new(),
            _holding: gate.hold(),
            gate,
            held: BytesMut::new(),
            clear: 0,
            again: false,
            clock: Deadline::default(),
            reading: None,
            waiting: None,
        }
    }

    /// Whether the connection is between two requests with nothing held back, so that it can be taken apart.
    pub(super) fn is_bare(&self) -> bool {
        self.scanner.phase() == Phase::Between && self.held.is_empty() && !self.stream.is_stalled()
    }

    /// Gives the stream back, of which nothing is held where [`is_bare`](Self::is_bare); and since when the connection
    /// has been idle.
    pub(super) fn into_parts(self) -> (Stream, Instant) {
        (self.stream.into_inner(), self.reading.map_or_else(Instant::now, |(_, since)| since))
    }

    /// Acts on what the scanner said of `held`.
    fn judge_held(&mut self) {
        self.again = false;
        let Scanned { pass, then } = self.scanner.scan(&self.held);
        self.clear = pass;
        match then {
            Then::Nothing | Then::More | Then::Hold => {}
            Then::Drop(n) => {
                // Only ever between two requests, so nothing that passes stands before what is dropped.
                let rest = self.held.split_off(pass + n);
                self.held.truncate(pass);
                self.held.unsplit(rest);
                self.again = !self.held.is_empty();
            }
            Then::Refuse(fault) => self.refuse(fault),
            Then::Break(fault) => {
                self.held.truncate(pass);
                self.gate.refuse(fault);
            }
        }
        self.begin_phase();
    }

    /// Acts on what the scanner says of the bytes of `buf` from `from` on.
    fn judge_read(&mut self, buf: &mut ReadBuf<'_>, from: usize) {
        let Scanned { pass, then } = self.scanner.scan(&buf.filled()[from..]);
        let end = from + pass;
        match then {
            Then::Nothing => {}
            Then::More | Then::Hold => self.held.extend_from_slice(&buf.filled()[end..]),
            Then::Drop(n) => {
                self.held.extend_from_slice(&buf.filled()[end + n..]);
                self.again = !self.held.is_empty();
            }
            Then::Refuse(fault) => self.refuse(fault),
            Then::Break(fault) => self.gate.refuse(fault),
        }
        buf.set_filled(end);
        self.begin_phase();
    }

    /// Puts our own request in the refused one's place; the engine's service knows it and answers with the fault.
    fn refuse(&mut self, fault: Fault) {
        self.gate.refuse(fault);
        self.held.truncate(self.clear);
        self.held.extend_from_slice(REFUSED_REQUEST);
        self.clear = self.held.len();
    }

    /// The outcome of an upgrade is known: lets what waited for it go on.
    fn settle(&mut self, switched: bool) {
        self.gate.set_switching(Switching::Unknown);
        self.scanner.settle(switched);
        self.again = !self.held.is_empty();
        if switched {
            self.stream.forget_deadline(); // whoever takes the connection over has deadlines of its own
        }
    }

    /// A head's deadline runs from its first byte; every other one begins anew with each read.
    fn begin_phase(&mut self) {
        let phase = self.phase();
        if phase != Phase::Head || self.reading.is_some_and(|(before, _)| before != phase) {
            self.reading = None;
        }
    }

    /// The scanner's phase, but that a head has begun as soon as anything of it is held.
    fn phase(&self) -> Phase {
        match self.scanner.phase() {
            Phase::Between if self.held.len() > self.clear => Phase::Head,
            phase => phase,
        }
    }

    /// Hands out what may go on.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.clear.min(buf.remaining());
        buf.put_slice(&self.held.split_to(n));
        self.clear -= n;
        if self.held.is_empty() {
            self.held = BytesMut::new(); // an idle connection keeps no buffer
        }
    }

    /// Reads to where held bytes are; false at the stream's end.
    fn poll_read_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let before = self.held.len();
        self.held.resize(before + PIECE, 0);
        let mut buf = ReadBuf::new(&mut self.held[before..]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
        let n = buf.filled().len();
        self.held.truncate(before + n);
        ready!(polled)?;
        if n > 0 {
            self.judge_held();
        }
        Poll::Ready(Ok(n > 0))
    }

    /// The reading is at a standstill: ready once that has lasted too long, with what it then means for the reader.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        let phase = self.phase();
        let timeouts = &self.gate.context.timeouts;
        let (limit, begun) = match phase {
            Phase::Between => match self.gate.idle_since() {
                Some(since) if !self.stream.is_stalled() => (timeouts.idle, Some(since)),
                _ => {
                    self.reading = None;
                    return Poll::Pending;
                }
            },
            Phase::Head => (timeouts.header, None),
            Phase::Body => (timeouts.body, None),
            Phase::Held | Phase::Tunnel | Phase::Ended => return Poll::Pending,
        };
        let since = match self.reading {
            Some((before, since)) if before == phase => since,
            _ => self.reading.insert((phase, begun.unwrap_or_else(Instant::now))).1,
        };
        let parks = phase == Phase::Between && PARK_AFTER < limit;
        ready!(self.clock.poll(cx, since + if parks { PARK_AFTER } else { limit }));
        Poll::Ready(match phase {
            Phase::Between if parks => Overdue::Park,
            Phase::Between => Overdue::End,
            Phase::Head => Overdue::Refuse(Fault::HEAD_LATE),
            _ => Overdue::Fail(Fault::BODY_LATE),
        })
    }

    /// Everything is written. Lets the idle deadline begin, and an upgrade that was declined go on as HTTP.
    fn flushed(&mut self, cx: &mut Context<'_>) {
        match self.phase() {
            Phase::Between if self.reading.is_none_or(|(phase, _)| phase != Phase::Between) && self.gate.is_idle() => {
                // Nothing is due yet; this sets the timer, since hyper may not read again before bytes come.
                let _ = self.poll_overdue(cx);
            }
            Phase::Held if self.gate.switching() != Switching::Unknown => {
                if let Some(waiting) = self.waiting.take() {
                    waiting.wake();
                }
            }
            _ => {}
        }
    }

    /// Whether the client may be in the middle of sending something that nobody will read.
    fn may_be_sending(&self) -> bool {
        matches!(self.phase(), Phase::Head | Phase::Body | Phase::Ended | Phase::Held)
    }
}

/// What an overdue read means.
enum Overdue {
    /// The connection may be taken apart.
    Park,
    /// The connection ends, silently.
    End,
    /// The request is refused.
    Refuse(Fault),
    /// The body breaks off.
    Fail(Fault),
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.clear > 0 {
                this.hand_out(buf);
                return Poll::Ready(Ok(()));
            }
            if this.again {
                this.judge_held();
                continue;
            }
            match this.scanner.phase() {
                Phase::Tunnel => return Pin::new(&mut this.stream).poll_read(cx, buf),
                Phase::Held => match this.gate.switching() {
                    Switching::Unknown => {
                        this.waiting = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    switching => {
                        this.settle(switching == Switching::Done);
                        continue;
                    }
                },
                // A refusal is on its way to the client, and nothing more is read: hyper would take an end for
                // the client's leaving. A broken body is an error, every time.
                Phase::Ended if this.gate.fault().is_some_and(|fault| fault.breaks_body()) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request body is broken")));
                }
                Phase::Ended => return Poll::Pending,
                Phase::Between | Phase::Head | Phase::Body => {}
            }
            let from = buf.filled().len();
            let polled = if this.held.is_empty() {
                Pin::new(&mut this.stream).poll_read(cx, buf).map_ok(|()| {
                    let any = buf.filled().len() > from;
                    if any {
                        this.judge_read(buf, from);
                    }
                    any
                })
            } else {
                this.poll_read_held(cx)
            };
            match polled? {
                Poll::Ready(true) if buf.filled().len() > from => return Poll::Ready(Ok(())),
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Ok(())),
                Poll::Pending => match ready!(this.poll_overdue(cx)) {
                    Overdue::Park => {
                        this.gate.park();
                        return Poll::Pending;
                    }
                    Overdue::End => return Poll::Ready(Ok(())),
                    Overdue::Refuse(fault) => {
                        this.scanner.end();
                        this.refuse(fault);
                    }
                    Overdue::Fail(fault) => {
                        this.scanner.end();
                        this.gate.refuse(fault);
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, fault.detail)));
                    }
                },
            }
        }
    }
}

impl AsyncWrite for Guard {
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
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.flushed(cx);
        if !this.gate.is_idle() {
            this.stream.check_reset(cx)?; // between exchanges hyper reads, and finds out by itself
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.stream.set_lingers(this.may_be_sending());
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
