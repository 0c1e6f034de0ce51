//! A timer that costs nothing while things move.
//!
//! Owns one wait, moved only when it ends or when something sooner must be waited for, never when a later deadline
//! replaces an earlier one; nor is it polled again while it is set. Used by the HTTP engine for its clients, by `upstream`
//! for its servers, and by `relay`.
//!
//! What is close is a timer of the runtime's. What is far off only stands in the worker's list ([`far`]), which the worker
//! looks through now and then: while things move, every deadline is far off, the runtime has no timer, and a worker that waits
//! for its sockets need neither read the clock for that nor have the kernel do so.

pub(crate) mod far;

use std::future::Future;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use far::Far;

/// A timer, made when it is first waited for.
#[derive(Debug, Default)]
pub(crate) struct Deadline(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unset,
    /// The worker will wake the task before the deadline is close.
    Far(Far),
    /// The runtime will wake this task.
    Close(Pin<Box<Sleep>>, Waker),
}

impl Deadline {
    /// Ready once `at` has passed; until then the task is woken at `at` at the latest, and perhaps sooner.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if self.is_set(cx.waker(), at) { Poll::Pending } else { self.set(cx, at) }
    }

    fn is_set(&self, task: &Waker, at: Instant) -> bool {
        match &self.0 {
            State::Unset => false,
            State::Far(far) => far.wakes(task, at),
            State::Close(sleep, set) => set.will_wake(task) && sleep.deadline() <= at && !sleep.is_elapsed(),
        }
    }

    fn set(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if let Some(far) = Far::set(cx.waker(), at) {
            self.0 = State::Far(far);
            return Poll::Pending;
        }
        let mut sleep = match mem::take(&mut self.0) {
            State::Close(sleep, _) => sleep,
            State::Unset | State::Far(_) => Box::pin(sleep_until(at)),
        };
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        // A task that has used up its turn would be told to wait without the timer being set.
        while pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        self.0 = State::Close(sleep, cx.waker().clone());
        Poll::Pending
    }
}
