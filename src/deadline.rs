//! A timer that costs nothing while things move.
//!
//! Owns one sleep, moved only when it fires or when something sooner must be waited for, never when a later deadline
//! replaces an earlier one; nor is it polled again while it is set. Used by the HTTP engine for its clients, by `upstream/http2`
//! for its servers, and by `relay`.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer, made when it is first waited for.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom it wakes as it is set now.
    task: Option<Waker>,
}

impl Deadline {
    /// Ready once `at` has passed; until then the task is woken at `at` at the latest, and perhaps sooner.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if self.is_set(cx.waker(), at) { Poll::Pending } else { self.set(cx, at) }
    }

    fn is_set(&self, task: &Waker, at: Instant) -> bool {
        let wakes = self.task.as_ref().is_some_and(|set| set.will_wake(task));
        wakes && self.sleep.as_ref().is_some_and(|sleep| sleep.deadline() <= at && !sleep.is_elapsed())
    }

    fn set(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        // A task that has used up its turn would be told to wait without the timer being set.
        while pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            if Instant::now() >= at {
                self.task = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        self.task = Some(cx.waker().clone());
        Poll::Pending
    }
}
