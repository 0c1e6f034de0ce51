//! Hands the body of an HTTP/1.1 request over to the service: one piece at a time, and only when asked for.
//!
//! Owns the place where the piece lies. `http1` reads the connection and puts pieces there; the service takes them through
//! its [`RequestBody`](super::super::RequestBody), mostly in the same task, which then wakes nobody; some services read in a task
//! of their own.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::Frame;

use super::super::BoxError;

/// Makes both ends of a body, of which so many bytes are to come if its length is known.
pub(in crate::handler::http) fn pair(length: Option<u64>) -> (Feed, Handed) {
    let place = Arc::new(Place::default());
    (Feed(place.clone()), Handed { place, left: length, over: false })
}

/// The engine's end. Dropped before the body has ended, it breaks the body.
#[derive(Debug)]
pub(in crate::handler::http) struct Feed(Arc<Place>);

/// The service's end.
#[derive(Debug)]
pub(in crate::handler::http) struct Handed {
    place: Arc<Place>,
    left: Option<u64>,
    over: bool,
}

/// Where a piece lies until it is taken. The lock is held for a few instructions, and contended only where the service
/// reads in a task of its own.
#[derive(Debug, Default)]
struct Place(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: Next,
    /// The service has asked in vain, and is to be woken.
    asking: Option<Waker>,
    /// The engine is to be woken when the service asks.
    engine: Option<Waker>,
    /// The service will not ask again.
    gone: bool,
    taken: u64,
}

#[derive(Debug, Default)]
enum Next {
    #[default]
    Nothing,
    Piece(Frame<Bytes>),
    /// The body's last piece.
    Last(Frame<Bytes>),
    /// The body has ended.
    End,
    /// The body is broken, and why.
    Broken(&'static str),
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // whoever panicked left a whole state
    }

    fn put(&self, next: Next, task: &Waker) {
        let mut state = self.lock();
        state.next = next;
        let asking = state.asking.take();
        drop(state);
        // The engine polls the service again by itself.
        if let Some(asking) = asking.filter(|asking| !asking.will_wake(task)) {
            asking.wake();
        }
    }
}

impl Feed {
    /// Whether the service waits for a piece; if not, the task is woken when it does.
    pub(in crate::handler::http) fn is_wanted(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.0.lock();
        if state.asking.is_some() && !state.gone {
            return true;
        }
        if !state.engine.as_ref().is_some_and(|engine| engine.will_wake(cx.waker())) {
            state.engine = Some(cx.waker().clone());
        }
        false
    }

    /// Whether the service will not read on.
    pub(in crate::handler::http) fn is_abandoned(&self) -> bool {
        self.0.lock().gone
    }

    /// How many bytes the service has taken.
    pub(in crate::handler::http) fn taken(&self) -> u64 {
        self.0.lock().taken
    }

    /// Hands a piece over, from `task`. `is_last` says that nothing follows it.
    pub(in crate::handler::http) fn put(&self, task: &Waker, frame: Frame<Bytes>, is_last: bool) {
        self.0.put(if is_last { Next::Last(frame) } else { Next::Piece(frame) }, task);
    }

    /// Ends the body.
    pub(in crate::handler::http) fn end(&self, task: &Waker) {
        self.0.put(Next::End, task);
    }

    /// Breaks the body; `why` is what the service is told.
    pub(in crate::handler::http) fn break_off(&self, task: &Waker, why: &'static str) {
        self.0.put(Next::Broken(why), task);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let is_whole = matches!(self.0.lock().next, Next::Last(_) | Next::End | Next::Broken(_));
        if !is_whole {
            self.0.put(Next::Broken("the connection has ended"), Waker::noop());
        }
    }
}

impl Handed {
    pub(in crate::handler::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut state = self.place.lock();
        let frame = match mem::take(&mut state.next) {
            Next::Piece(frame) => frame,
            Next::Last(frame) => {
                state.next = Next::End;
                self.over = true;
                frame
            }
            Next::Nothing => {
                state.asking = Some(cx.waker().clone());
                let engine = state.engine.take().filter(|engine| !engine.will_wake(cx.waker()));
                drop(state);
                engine.into_iter().for_each(Waker::wake);
                return Poll::Pending;
            }
            Next::End => {
                state.next = Next::End;
                self.over = true;
                return Poll::Ready(None);
            }
            Next::Broken(why) => {
                state.next = Next::End;
                self.over = true;
                return Poll::Ready(Some(Err(why.into())));
            }
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        state.taken += length;
        self.left = self.left.map(|left| left.saturating_sub(length));
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether all of it was taken.
    pub(in crate::handler::http) fn is_over(&self) -> bool {
        self.over
    }

    /// How many bytes are to come, where that is known.
    pub(in crate::handler::http) fn left(&self) -> Option<u64> {
        self.left
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.place.lock().gone = true;
    }
}
