//! A connection's bytes, on the worker that accepted it: reads for the plugin, sends what it queued, keeps the deadlines.
//!
//! Called by `chain`, once for each layer of a connection. Polled by hand: reading, sending, a call that is out on the pool
//! and what other threads ask go on side by side, without a task or a channel for each.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::guest::{Peer, Why};
use super::port::{Asked, Closing, DOWN, Port, UP, cost};
use super::run::{Job, Stage};
use super::session::{Event, FROM_ABOVE, FROM_BELOW, Outcome, Session};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// How many pieces are sent at once.
const GATHER: usize = 16;
/// How many times a busy connection goes round before others on the worker have their turn.
const ROUNDS: usize = 16;

/// How long a connection may do nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// Without a byte either way; `None` for the layers above the first, whose bytes the first one moves.
    pub(super) idle: Option<Duration>,
    /// With something to send and nobody to take it.
    pub(super) stall: Duration,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Why it ended.
    pub why: Why,
    /// Whether the client is to see a reset, since it did not get all there was.
    pub reset: bool,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// What broke it.
    pub error: Option<String>,
}

/// Drives one layer of one connection to its end. Dropping the future ends it too; the plugin hears of it either way.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    stage: &Arc<Stage>,
    peer: Peer,
    stream: &mut S,
    above: Option<DuplexStream>,
    deadlines: Deadlines,
    drain: WaitForCancellationFutureOwned,
) -> Ended {
    let (session, port) = Session::new(Arc::clone(stage));
    let mut driver = Driver {
        tenant: Tenant { stage: Arc::clone(stage), port, home: Some(session), why: Why::Broken },
        below: Pipe::new(stream),
        above: above.map(Pipe::new),
        open: Some(peer),
        closing: None,
        deadlines,
        moved: Instant::now(),
        clock: Box::pin(tokio::time::sleep(deadlines.stall)),
    };
    let mut drain = std::pin::pin!(drain);
    let ended = poll_fn(|cx| {
        if driver.closing.is_none() && drain.as_mut().poll(cx).is_ready() {
            driver.draining();
        }
        driver.poll(cx)
    })
    .await;
    driver.tenant.why = ended.why;
    ended
}

struct Driver<'a, S> {
    tenant: Tenant,
    below: Pipe<&'a mut S>,
    above: Option<Pipe<DuplexStream>>,
    /// The peer, until the plugin has been asked whether it wants the connection.
    open: Option<Peer>,
    closing: Option<Closing>,
    deadlines: Deadlines,
    /// When a byte last moved.
    moved: Instant,
    clock: Pin<Box<Sleep>>,
}

/// The session, while it is here; when this is dropped, the plugin is told that the connection is over.
struct Tenant {
    stage: Arc<Stage>,
    port: Arc<Port>,
    home: Option<Box<Session>>,
    why: Why,
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.port.end();
        if let Some(session) = self.home.take().or_else(|| self.port.abandon(self.why)) {
            self.stage.close(session, self.why);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<'_, S> {
    /// Nothing new is read; what came is served, what is queued is sent, and then it is over.
    fn draining(&mut self) {
        self.closing = Some(Closing { why: Why::Drain, abort: false });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let mut nowhere = VecDeque::new();
            let up = self.above.as_mut().map_or(&mut nowhere, |above| &mut above.sending);
            let mut asked = self.tenant.port.collect(cx.waker(), now, [&mut self.below.sending, up]);
            if let Some((session, outcome)) = asked.back.take() {
                self.came_back(session, outcome);
            }
            // What the plugin asks comes before our own reasons, unless we are as good as done.
            if let Some(closing) = asked.closing
                && self.closing.is_none_or(|own| closing.abort && !own.abort)
            {
                self.closing = Some(closing);
            }
            let sent = match self.send(cx, now) {
                Ok(sent) => sent,
                Err(error) => return Poll::Ready(self.ended(Why::Broken, true, Some(error))),
            };
            if let Poll::Ready(ended) = self.over(cx) {
                return Poll::Ready(ended);
            }
            let called = self.call(&asked, now);
            let read = !called && self.read(cx, now, &asked);
            if !(sent || called || read) {
                match self.wait(cx, &asked, now) {
                    Poll::Ready(Some(ended)) => return Poll::Ready(ended),
                    Poll::Ready(None) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn came_back(&mut self, session: Box<Session>, outcome: Outcome) {
        if let Outcome::End(why) = outcome {
            // What was queued before is still sent; a connection that was not wanted is just closed.
            self.closing = Some(Closing { why, abort: false });
        } else if self.closing.is_none() {
            self.follow_ends(&session);
        }
        self.tenant.home = Some(session);
    }

    /// What the plugin knows to have ended ends.
    fn follow_ends(&mut self, session: &Session) {
        if session.told_end(FROM_ABOVE) {
            self.closing = Some(Closing { why: Why::Plugin, abort: false });
        } else if session.told_end(FROM_BELOW) {
            match &mut self.above {
                Some(above) => above.ending = true,
                None => self.closing = Some(Closing { why: Why::Client, abort: false }),
            }
        }
    }

    /// Sends what is queued.
    fn send(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, String> {
        let mut moved = false;
        let below = self.below.send(cx).map_err(|error| error.to_string())?;
        if below > 0 {
            self.tenant.port.sent(DOWN, below);
            moved = true;
        }
        if let Some(above) = &mut self.above {
            // A layer above that is gone takes nothing more; that it is gone is found out by reading from it.
            let sent = above.send(cx).unwrap_or_else(|_| above.drop_all());
            if sent > 0 {
                self.tenant.port.sent(UP, sent);
                moved = true;
            }
        }
        if moved {
            self.moved = now;
        }
        Ok(moved)
    }

    /// Whether it is over.
    fn over(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(Closing { why, abort }) = self.closing else { return Poll::Pending };
        if abort {
            return Poll::Ready(self.ended(why, true, None));
        }
        let idle = self.tenant.home.as_ref().is_some_and(|session| why != Why::Drain || !self.still_wants(session));
        if !idle || !self.below.is_empty() {
            return Poll::Pending;
        }
        // The last words; whether they arrive is the client's affair.
        match Pin::new(&mut *self.below.io).poll_shutdown(cx) {
            Poll::Ready(_) => Poll::Ready(self.ended(why, false, None)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// While draining: whether there is still something to hand over that has come already.
    fn still_wants(&self, session: &Session) -> bool {
        self.open.is_none() && (session.wants(FROM_BELOW) || session.wants(FROM_ABOVE))
    }

    fn ended(&self, why: Why, reset: bool, error: Option<String>) -> Ended {
        Ended { why, reset, received: self.below.received, sent: self.below.sent, error }
    }

    /// Calls the plugin, if there is a reason to and no call is out.
    fn call(&mut self, asked: &Asked, now: Instant) -> bool {
        let Some(session) = &self.tenant.home else { return false };
        let draining = self.closing.is_some_and(|closing| closing.why == Why::Drain);
        if self.closing.is_some() && !draining {
            return false;
        }
        let event = if let Some(peer) = self.open.take() {
            Event::Open(peer)
        } else if let Some(id) = self.tenant.port.due(now) {
            Event::Timer(id)
        } else if asked.writable {
            self.tenant.port.told_writable();
            Event::Writable
        } else if asked.held {
            return false;
        } else if session.wants(FROM_ABOVE) {
            Event::Input(FROM_ABOVE)
        } else if session.wants(FROM_BELOW) {
            Event::Input(FROM_BELOW)
        } else {
            return false;
        };
        let Some(mut session) = self.tenant.home.take() else { return false };
        match &self.tenant.stage.pool {
            Some(pool) => pool.submit(Job::Turn(session, event)),
            None => {
                self.tenant.port.hush();
                let outcome = session.turn(event);
                self.came_back(session, outcome);
            }
        }
        true
    }

    /// Reads what the plugin has room for, while it is not busy.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant, asked: &Asked) -> bool {
        let Some(session) = self.tenant.home.as_deref_mut() else { return false };
        if self.closing.is_some() || asked.held {
            return false;
        }
        let mut moved = self.below.read(cx, session, FROM_BELOW);
        if let Some(above) = &mut self.above {
            moved |= above.read(cx, session, FROM_ABOVE);
        }
        if moved {
            self.moved = now;
        }
        moved
    }

    /// Nothing can be done now: waits for the next deadline. `None`: there may be something to do again.
    fn wait(&mut self, cx: &mut Context<'_>, asked: &Asked, now: Instant) -> Poll<Option<Ended>> {
        if let Some(error) = self.below.failed.take() {
            return Poll::Ready(Some(self.ended(Why::Broken, true, Some(error))));
        }
        let home = self.tenant.home.as_deref();
        if !asked.held && self.closing.is_none() && home.is_some_and(|session| session.is_stuck(FROM_BELOW)) {
            let error = "the plugin does not consume what fills its input".to_owned();
            return Poll::Ready(Some(self.ended(Why::Framing, true, Some(error))));
        }
        let stalls = !self.below.is_empty() || (self.closing.is_some() && home.is_some());
        let stall = stalls.then_some(self.moved + self.deadlines.stall);
        // A plugin that is busy is the watchdog's affair, not the client's.
        let idle = self.deadlines.idle.filter(|_| home.is_some() && !stalls).map(|idle| self.moved + idle);
        if stall.is_some_and(|at| at <= now) {
            return Poll::Ready(Some(self.ended(Why::Broken, true, Some("the client does not read".into()))));
        }
        if idle.is_some_and(|at| at <= now) {
            return Poll::Ready(Some(self.ended(Why::Idle, false, Some("idle".into()))));
        }
        let next = asked.next.filter(|_| home.is_some());
        let Some(next) = [stall, idle, next].into_iter().flatten().min() else { return Poll::Pending };
        // A clock that rings too early is set again; one that would ring too late must be.
        let next = tokio::time::Instant::from_std(next);
        if self.clock.is_elapsed() || self.clock.deadline() > next {
            self.clock.as_mut().reset(next);
        }
        self.clock.as_mut().poll(cx).map(|()| None)
    }
}

/// One side of a connection: the client, or the layer above.
struct Pipe<T> {
    io: T,
    sending: VecDeque<Bytes>,
    /// How much of the first piece has gone out already, so that its whole cost is known when the rest has.
    part: usize,
    flushed: bool,
    ending: bool,
    ended: bool,
    failed: Option<String>,
    received: u64,
    sent: u64,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Pipe<T> {
    fn new(io: T) -> Self {
        Self {
            io,
            sending: VecDeque::new(),
            part: 0,
            flushed: true,
            ending: false,
            ended: false,
            failed: None,
            received: 0,
            sent: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.sending.is_empty() && self.flushed
    }

    /// Sends as much as is taken; the cost of the pieces that have gone out.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut done = 0;
        while !self.sending.is_empty() {
            let mut slices = [IoSlice::new(&[]); GATHER];
            let pieces = self.sending.iter().zip(&mut slices);
            let count = pieces.map(|(piece, slice)| *slice = IoSlice::new(piece)).count();
            // Empty pieces need no call, and a call for nothing would look like an end.
            let written = if self.sending.iter().take(count).all(Bytes::is_empty) {
                0
            } else {
                match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count])? {
                    Poll::Pending => return Ok(done),
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => written,
                }
            };
            self.sent += written as u64;
            self.flushed = false;
            done += self.took(written);
        }
        if !self.flushed && Pin::new(&mut self.io).poll_flush(cx)?.is_ready() {
            self.flushed = true;
        }
        if self.ending && self.is_empty() && !self.ended {
            self.ended = Pin::new(&mut self.io).poll_shutdown(cx)?.is_ready();
        }
        Ok(done)
    }

    /// Takes what went out off the queue; the cost of the pieces that are done.
    fn took(&mut self, mut written: usize) -> usize {
        let mut done = 0;
        while let Some(first) = self.sending.front_mut() {
            if first.len() > written {
                first.advance(written);
                self.part += written;
                break;
            }
            written -= first.len();
            done += cost(first) + std::mem::take(&mut self.part);
            self.sending.pop_front();
        }
        done
    }

    fn drop_all(&mut self) -> usize {
        let part = std::mem::take(&mut self.part);
        self.sending.drain(..).map(|piece| cost(&piece)).sum::<usize>() + part
    }

    /// Reads once, into the session.
    fn read(&mut self, cx: &mut Context<'_>, session: &mut Session, side: usize) -> bool {
        let room = session.room(side).min(CHUNK);
        if room == 0 || self.failed.is_some() {
            return false;
        }
        // On the stack: a connection that is silent holds no buffer.
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK];
        let mut buffer = ReadBuf::uninit(&mut chunk[..room]);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => session.end(side),
            Poll::Ready(Ok(())) => {
                self.received += buffer.filled().len() as u64;
                session.take(side, buffer.filled());
            }
            Poll::Ready(Err(error)) => {
                self.failed = Some(error.to_string());
                return false;
            }
        }
        true
    }
}
