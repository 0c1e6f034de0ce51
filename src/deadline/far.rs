//! The deadlines of a worker that are far off: a list that nobody but the worker reads.
//!
//! Written by `deadline`; the worker [keeps](keep) it for as long as its thread lives and [looks through](look) it about once a
//! second, a part at a time, so that a crowd that came at once is not woken at once. On a thread without a worker there is no
//! such list.

use std::cell::RefCell;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

/// What is less than this ahead is close: longer than it takes the worker to look again, with time to spare, and less than any
/// deadline that most connections run into.
const CLOSE: Duration = Duration::from_millis(1500);

/// How many lists the process has had.
static LISTS: AtomicU64 = AtomicU64::new(0);
/// How many deadlines a list may number: none will see as many.
const NUMBERS: u32 = 40;

thread_local! {
    static LIST: RefCell<Option<List>> = const { RefCell::new(None) };
}

struct List {
    entries: Slab<Entry>,
    /// The number of the latest entry. No other of any list has it, so that a place which another has taken since, or which is
    /// another thread's, is not mistaken for one's own.
    latest: u64,
}

struct Entry {
    number: u64,
    at: Instant,
    /// Whom to wake once that is close.
    task: Waker,
}

/// From here on, the thread keeps a list. It must [look](look) through all of it about once a second.
pub(crate) fn keep() {
    let latest = LISTS.fetch_add(1, Relaxed) << NUMBERS;
    LIST.with_borrow_mut(|list| *list = Some(List { entries: Slab::new(), latest }));
}

/// Wakes whose deadline is close by now, in one of as many `parts` of the list, and takes them off it.
pub(crate) fn look(part: usize, parts: usize) {
    let close = Instant::now() + CLOSE;
    let due = LIST.with_borrow_mut(|list| {
        let Some(List { entries, .. }) = list else { return Vec::new() };
        if part == 0 && entries.len() < entries.capacity() / 4 {
            entries.shrink_to_fit(); // a crowd has left
        }
        let mut due = Vec::new();
        for place in (part..entries.capacity()).step_by(parts) {
            if entries.get(place).is_some_and(|entry| entry.at <= close) {
                due.push(entries.remove(place));
            }
        }
        due
    });
    due.into_iter().for_each(|entry| entry.task.wake());
}

/// A deadline in the list; it leaves it when it is dropped.
#[derive(Debug)]
pub(super) struct Far {
    place: usize,
    number: u64,
}

impl Far {
    /// Puts a deadline on the list; `None` where it is close, or the thread has none.
    pub(super) fn set(task: &Waker, at: Instant) -> Option<Self> {
        LIST.with_borrow_mut(|list| {
            let List { entries, latest: number } = list.as_mut()?;
            if at.saturating_duration_since(Instant::now()) <= CLOSE {
                return None;
            }
            *number += 1;
            let place = entries.insert(Entry { number: *number, at, task: task.clone() });
            Some(Self { place, number: *number })
        })
    }

    /// Whether `task` will be woken before `at` is close; from here on it is, if another would have been.
    pub(super) fn wakes(&self, task: &Waker, at: Instant) -> bool {
        let mut other = None; // dropped where nothing is borrowed
        LIST.with_borrow_mut(|list| {
            let Some(entry) = list.as_mut().and_then(|list| self.entry(&mut list.entries)) else { return false };
            if entry.at > at {
                return false;
            }
            if !entry.task.will_wake(task) {
                other = Some(mem::replace(&mut entry.task, task.clone()));
            }
            true
        })
    }

    /// Its own, where it still has one and this is its list.
    fn entry<'a>(&self, entries: &'a mut Slab<Entry>) -> Option<&'a mut Entry> {
        entries.get_mut(self.place).filter(|entry| entry.number == self.number)
    }

    fn take(&self, entries: &mut Slab<Entry>) -> Option<Entry> {
        self.entry(entries).is_some().then(|| entries.remove(self.place))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // A thread that ends has thrown its list away already. What is dropped on another thread leaves its entry to be looked at.
        let gone = LIST.try_with(|list| self.take(&mut list.try_borrow_mut().ok()?.as_mut()?.entries));
        drop(gone);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};

    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::super::Deadline;
    use super::*;

    /// How long a worker takes to look again, at the most.
    const TURN: Duration = Duration::from_secs(1);

    /// Advances the clock as a worker's thread would see it pass.
    async fn pass(seconds: u64) {
        for _ in 0..seconds {
            advance(TURN).await;
            (0..3).for_each(|part| look(part, 3));
            yield_now().await;
        }
    }

    fn listed() -> usize {
        LIST.with_borrow(|list| list.as_ref().unwrap().entries.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_far_off_ends_when_it_is_due() {
        keep();
        let start = Instant::now();
        let due = start + Duration::from_millis(60_300);
        let waiting = tokio::spawn(async move {
            let mut deadline = Deadline::default();
            poll_fn(|cx| deadline.poll(cx, due)).await;
            Instant::now()
        });
        pass(50).await;
        assert_eq!(listed(), 1);
        pass(9).await;
        assert_eq!(listed(), 0, "it is the runtime's now");
        assert_eq!(waiting.await.unwrap(), due);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_moves_on_ends_at_its_last_place_and_one_that_comes_sooner_at_that() {
        keep();
        let start = Instant::now();
        let mut deadline = Deadline::default();
        let mut poll_once = |at: u64| {
            let cx = &mut Context::from_waker(Waker::noop());
            deadline.poll(cx, start + Duration::from_secs(at))
        };
        assert!(poll_once(60).is_pending());
        pass(50).await;
        assert!(poll_once(90).is_pending());
        assert_eq!(listed(), 1);
        pass(20).await;
        assert!(poll_once(90).is_pending());
        assert!(poll_once(71).is_pending(), "a second from here");
        assert_eq!(listed(), 0);
        advance(TURN).await;
        assert!(poll_once(71).is_ready());
        assert!(poll_once(90).is_pending());
        assert_eq!(listed(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_that_polled_last_is_woken() {
        keep();
        let due = Instant::now() + Duration::from_secs(10);
        let deadline = Arc::new(Mutex::new(Deadline::default()));
        let poll = move |deadline: &Mutex<Deadline>, cx: &mut Context<'_>| deadline.lock().unwrap().poll(cx, due);
        assert!(poll_fn(|cx| Poll::Ready(poll(&deadline, cx))).await.is_pending());
        let shared = Arc::clone(&deadline);
        let waiting = tokio::spawn(poll_fn(move |cx| poll(&shared, cx)));
        yield_now().await;
        assert_eq!(listed(), 1);
        pass(11).await;
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_deadline_that_is_dropped_leaves_no_trace() {
        keep();
        let mut deadline = Deadline::default();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(deadline.poll(cx, Instant::now() + Duration::from_secs(60)).is_pending());
        assert_eq!(listed(), 1);
        drop(deadline);
        assert_eq!(listed(), 0);
    }

    /// A library's service may read a body wherever it likes.
    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_goes_to_another_thread_is_kept_there_and_touches_no_other() {
        keep();
        let cx = &mut Context::from_waker(Waker::noop());
        let due = Instant::now() + Duration::from_secs(60);
        let mut gone = Deadline::default();
        assert!(gone.poll(cx, due).is_pending());
        let elsewhere = move || {
            keep();
            let paused = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            paused.block_on(async {
                let cx = &mut Context::from_waker(Waker::noop());
                let mut at_home = Deadline::default();
                assert!(at_home.poll(cx, due).is_pending());
                assert!(gone.poll(cx, due).is_pending());
                assert_eq!(listed(), 2);
                drop(gone);
                assert_eq!(listed(), 1);
                assert!(at_home.poll(cx, due).is_pending());
                assert_eq!(listed(), 1);
            });
        };
        std::thread::spawn(elsewhere).join().unwrap();
        assert_eq!(listed(), 1);
        pass(59).await;
        assert_eq!(listed(), 0, "nobody is left to be woken");
    }
}
