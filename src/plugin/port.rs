//! A connection as it is seen from any thread: what is queued for it, what was asked about it, and its session on the way
//! back from the pool.
//!
//! `host` writes here and wakes the connection's worker; `driver` collects. The lock is held for a few instructions, never
//! over a call into the plugin or the kernel.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::counters::LayerCounters;
use super::guest::{Place, Why};
use super::host::{Answer, TIMERS, reserve};
use super::session::{Outcome, Session};

/// The queue for the client, or for the layer below.
pub(super) const DOWN: usize = 0;
/// The queue for the layer above.
pub(super) const UP: usize = 1;

/// What a queued piece costs besides its bytes, so that empty ones are not free.
const PIECE: usize = 64;
/// When `writable` comes after a FULL that was the whole instance's, not this queue's.
const RETRY: Duration = Duration::from_millis(100);

/// A connection, from outside its worker.
#[derive(Debug)]
pub(super) struct Port {
    max_queue: usize,
    max_buffered: usize,
    counters: Arc<LayerCounters>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queues: [Queue; 2],
    closing: Option<Closing>,
    timers: [Option<Instant>; TIMERS],
    back: Option<(Box<Session>, Outcome)>,
    /// Nobody waits for the session any more: it is closed when it comes back.
    abandoned: Option<Why>,
    gone: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    fresh: VecDeque<Bytes>,
    /// What is queued, and not yet sent, with what each piece costs.
    held: usize,
    /// PAUSE or FULL was answered, and `writable` has not come yet.
    awaited: bool,
    /// `writable` does not come before this.
    not_before: Option<Instant>,
}

/// How a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) why: Why,
    pub(super) abort: bool,
}

/// What a driver finds.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) back: Option<(Box<Session>, Outcome)>,
    pub(super) closing: Option<Closing>,
    /// The queues are short again, and the plugin waits to hear it.
    pub(super) writable: bool,
    /// Input waits for that.
    pub(super) held: bool,
    /// When to look again.
    pub(super) next: Option<Instant>,
}

impl Port {
    pub(super) fn new(place: &Place, counters: Arc<LayerCounters>) -> Self {
        let (max_queue, max_buffered) = (place.max_queue as usize, place.max_buffered);
        Self { max_queue, max_buffered, counters, inner: Mutex::default() }
    }

    pub(super) fn queue(&self, to: usize, pieces: &[Bytes]) -> Answer {
        let cost = pieces.iter().map(cost).fold(0, usize::saturating_add);
        if cost > self.max_queue.saturating_add(PIECE) {
            return Answer::Limit;
        }
        let mut inner = self.lock();
        if inner.gone || inner.closing.is_some() {
            return Answer::Gone;
        }
        let queue = &mut inner.queues[to];
        if queue.held + cost > self.max_queue.saturating_add(PIECE) {
            queue.awaited = true;
            return Answer::Full;
        }
        if !reserve(&self.counters, cost, self.max_buffered) {
            (queue.awaited, queue.not_before) = (true, Some(Instant::now() + RETRY));
            wake(inner);
            return Answer::Full;
        }
        queue.held += cost;
        queue.fresh.extend(pieces.iter().cloned());
        let long = queue.held > self.max_queue / 2;
        queue.awaited |= long;
        wake(inner);
        if long { Answer::Pause } else { Answer::Ok }
    }

    pub(super) fn close(&self, why: Why, abort: bool) -> Answer {
        let mut inner = self.lock();
        if inner.gone {
            return Answer::Gone;
        }
        // The first wish counts, but for a reset, which is quicker.
        if inner.closing.is_none_or(|closing| abort && !closing.abort) {
            inner.closing = Some(Closing { why, abort });
        }
        wake(inner);
        Answer::Ok
    }

    pub(super) fn set_timer(&self, id: u32, at: Option<Instant>) -> Answer {
        let mut inner = self.lock();
        if inner.gone {
            return Answer::Gone;
        }
        let Some(timer) = inner.timers.get_mut(id as usize) else { return Answer::Limit };
        *timer = at;
        wake(inner);
        Answer::Ok
    }

    /// For the driver: moves what is queued to `sending`, tells what was asked, and has `waker` woken when there is more.
    pub(super) fn collect(&self, waker: &Waker, now: Instant, sending: [&mut VecDeque<Bytes>; 2]) -> Asked {
        let mut inner = self.lock();
        if inner.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
        let mut asked = Asked { back: inner.back.take(), closing: inner.closing, ..Asked::default() };
        for (queue, sending) in inner.queues.iter_mut().zip(sending) {
            sending.append(&mut queue.fresh);
            asked.held |= queue.awaited;
        }
        let short = |queue: &Queue| {
            let due = queue.not_before.is_none_or(|at| at <= now);
            !queue.awaited || (queue.held <= self.max_queue / 4 && due)
        };
        asked.writable = asked.held && inner.queues.iter().all(short);
        let waits = inner.queues.iter().filter_map(|queue| queue.not_before.filter(|_| queue.awaited));
        asked.next = waits.chain(inner.timers.iter().flatten().copied()).min();
        asked
    }

    /// For the driver: a call is about to run on this very thread, which needs no waking.
    pub(super) fn hush(&self) {
        self.lock().waker = None;
    }

    /// For the driver: the plugin is about to hear that the queues are short again.
    pub(super) fn told_writable(&self) {
        for queue in &mut self.lock().queues {
            (queue.awaited, queue.not_before) = (false, None);
        }
    }

    /// For the driver: a timer that has run out, which is thereby unset.
    pub(super) fn due(&self, now: Instant) -> Option<u32> {
        let mut inner = self.lock();
        let id = inner.timers.iter().position(|timer| timer.is_some_and(|at| at <= now))?;
        inner.timers[id] = None;
        Some(id as u32)
    }

    /// For the session: whether PAUSE or FULL was answered and `writable` is yet to come.
    pub(super) fn is_long(&self) -> bool {
        self.lock().queues.iter().any(|queue| queue.awaited)
    }

    /// For the driver: these pieces went out.
    pub(super) fn sent(&self, to: usize, cost: usize) {
        self.lock().queues[to].held -= cost;
        self.counters.buffered.fetch_sub(cost, Relaxed);
    }

    /// For the pool: hands a session back; or, where nobody waits for it, returns it to be closed.
    pub(super) fn bring_back(&self, session: Box<Session>, outcome: Outcome) -> Option<(Box<Session>, Why)> {
        let mut inner = self.lock();
        if let Some(why) = inner.abandoned {
            return Some((session, why));
        }
        inner.back = Some((session, outcome));
        wake(inner);
        None
    }

    /// For the driver that ends while its session is away: the session, if it has just come back.
    pub(super) fn abandon(&self, why: Why) -> Option<Box<Session>> {
        let mut inner = self.lock();
        inner.abandoned = Some(why);
        inner.back.take().map(|(session, _)| session)
    }

    /// Nothing is taken any more, and what is queued is dropped.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.gone = true;
        inner.waker = None;
        let held: usize = inner.queues.iter().map(|queue| queue.held).sum();
        let dropped = std::mem::take(&mut inner.queues);
        drop(inner);
        self.counters.buffered.fetch_sub(held, Relaxed);
        // Outside the lock: a wrapped buffer calls the plugin's `free`.
        drop(dropped);
    }

    #[cfg(test)]
    pub(super) fn queued(&self, to: usize) -> usize {
        self.lock().queues[to].held
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a piece costs in a queue.
pub(super) fn cost(piece: &Bytes) -> usize {
    piece.len() + PIECE
}

fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}
