//! The stop signal, and the wait for what is in flight.
//!
//! Each worker owns one [`Drain`] and hands a clone to every connection. Nothing here is shared between
//! workers, so telling one connection to end wakes no other core.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// A worker's stop signal, shared by its listeners and connections.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stop: CancellationToken,
    in_flight: TaskTracker,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that follows this one and can also be given on its own (one endpoint's, say).
    /// What is in flight counts for both.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), in_flight: self.in_flight.clone() }
    }

    /// Asks everything that watches to finish what it does and take nothing new.
    pub fn begin(&self) {
        self.stop.cancel();
    }

    /// Whether [`begin`](Self::begin) was called.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves once the drain begins.
    pub fn begun(&self) -> WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// Counts something as in flight until the token is dropped.
    ///
    /// Take it before `accept` hands the socket on, or a drain can miss the connection.
    pub fn track(&self) -> TaskTrackerToken {
        self.in_flight.token()
    }

    /// How much is in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Waits until nothing is in flight, for `deadline` at most; true if everything ended by itself.
    pub async fn finished(&self, deadline: Duration) -> bool {
        self.in_flight.close();
        tokio::time::timeout(deadline, self.in_flight.wait()).await.is_ok()
    }
}

/// A drain as one task watches it: to ask again costs no lock.
#[derive(Debug)]
pub struct Watch {
    begun: Pin<Box<WaitForCancellationFutureOwned>>,
    bell: Option<Arc<Bell>>,
}

/// Rung once, when the drain begins.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Relaxed); // whoever is woken synchronizes
        self.task.wake_by_ref();
    }
}

impl Drain {
    /// Watches for the begin, from one task at a time.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { begun: Box::pin(self.begun()), bell: None }
    }
}

impl Watch {
    /// Resolves once the drain begins.
    pub async fn begun(&mut self) {
        poll_fn(|cx| if self.has_begun(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Whether the drain has begun. If not, the task is woken when it does.
    pub fn has_begun(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(bell) = &self.bell
            && bell.task.will_wake(cx.waker())
        {
            return bell.rung.load(Relaxed);
        }
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), task: cx.waker().clone() });
        let waker = Waker::from(Arc::clone(&bell));
        let begun = self.begun.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        bell.rung.fetch_or(begun, Relaxed);
        self.bell = Some(bell);
        begun
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_watch_wakes_whoever_asked_last_and_remembers() {
        let drain = Drain::new();
        let mut watch = drain.child().watch();
        let (first, last) = (Arc::<Counting>::default(), Arc::<Counting>::default());
        let wakers = [&first, &last].map(|counting| Waker::from(Arc::clone(counting)));
        for waker in &wakers {
            for _ in 0..2 {
                assert!(!watch.has_begun(&mut Context::from_waker(waker)));
            }
        }
        drain.begin();
        assert_eq!((first.0.load(Relaxed), last.0.load(Relaxed)), (0, 1));
        for waker in wakers.iter().rev() {
            assert!(watch.has_begun(&mut Context::from_waker(waker)));
        }
        assert!(drain.watch().has_begun(&mut Context::from_waker(Waker::noop())));
    }
}
