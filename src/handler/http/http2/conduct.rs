//! What one HTTP/2 client has in work, and how often it thought better of it.
//!
//! Owns the places of a connection's requests and the count of those that the client gave up or that were refused. h2
//! forgets a stream the moment its client resets it; the upstream needs a while to notice, so a place stays taken for
//! that long, and what is in work there never exceeds what the client was told (CVE-2023-44487). Made by `http2` for each
//! connection; asked by `paced`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How long an upstream may take to notice that nobody waits for its answer any more.
const REST: Duration = Duration::from_millis(100);
/// How many requests a client may give up at once: as many as a page of pictures that is left half loaded.
const FAULTS: u32 = 256;
/// How many more each second.
const FAULTS_PER_SECOND: u32 = 50;

/// How many faults a head is that h2 has kept to itself: it was too large, so that reading it took as long as reading many.
const FAULTS_OF_A_HEAD: u32 = 8;

/// How many requests may have come and not been handed on yet.
const ON_THEIR_WAY: u32 = 128;

/// One connection's places and faults. Its atomics are for `Send` alone: one thread at a time runs a connection.
#[derive(Debug)]
pub(super) struct Conduct {
    free: AtomicU32,
    waiting: AtomicU32,
    freed: Notify,
    opened: Instant,
    /// Requests that h2 has handed on, and how many it has kept to itself, as far as they are counted as faults.
    begun: AtomicU32,
    kept: AtomicU32,
    /// Faults that may still come, and the second after `opened` in which they were last filled up.
    left: AtomicU32,
    second: AtomicU32,
}

impl Conduct {
    /// With room for `places` requests at a time.
    pub(super) fn new(places: u32) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicU32::new(places),
            waiting: AtomicU32::new(0),
            freed: Notify::new(),
            opened: Instant::now(),
            begun: AtomicU32::new(0),
            kept: AtomicU32::new(0),
            left: AtomicU32::new(FAULTS),
            second: AtomicU32::new(0),
        })
    }

    /// Waits for a place. Only who gave requests up just now has to wait, and no longer than the upstream needs.
    pub(super) async fn take_place(&self) {
        while !self.try_take() {
            let _waiting = Waiting::new(&self.waiting);
            self.freed.notified().await;
        }
    }

    fn try_take(&self) -> bool {
        let free = self.free.load(Relaxed);
        free > 0 && {
            self.free.store(free - 1, Relaxed);
            true
        }
    }

    /// A request is over that had a place.
    pub(super) fn give_back(&self) {
        self.free.fetch_add(1, Relaxed);
        if self.waiting.load(Relaxed) > 0 {
            self.freed.notify_one();
        }
    }

    /// The client gave up a request that had a place.
    pub(super) fn given_up(self: Arc<Self>) {
        self.count_fault();
        // As many of these tasks as there are places.
        tokio::spawn(async move {
            sleep(REST).await;
            self.give_back();
        });
    }

    /// Counts a request that came to nothing by the client's doing.
    pub(super) fn count_fault(&self) {
        let second = u32::try_from(self.opened.elapsed().as_secs()).unwrap_or(u32::MAX);
        let passed = second.saturating_sub(self.second.swap(second, Relaxed));
        let left = self.left.load(Relaxed).saturating_add(passed.saturating_mul(FAULTS_PER_SECOND)).min(FAULTS);
        self.left.store(left.saturating_sub(1), Relaxed);
    }

    /// A request has come through h2.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    /// Whether there were more faults than any client commits in good faith, now that it has opened so many streams.
    ///
    /// h2 answers a head that is too large by itself and refuses streams beyond the limit, and counts neither. What it
    /// has not handed on, but for as many as may be on their way, came to nothing.
    pub(super) fn is_exhausted(&self, opened: u32) -> bool {
        let kept = opened.saturating_sub(self.begun.load(Relaxed)).saturating_sub(ON_THEIR_WAY);
        for _ in self.kept.fetch_max(kept, Relaxed)..kept {
            (0..FAULTS_OF_A_HEAD).for_each(|_| self.count_fault());
        }
        self.left.load(Relaxed) == 0
    }
}

/// Someone who waits for a place, also where it is given up.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_that_was_given_up_is_free_once_the_upstream_has_noticed() {
        let conduct = Conduct::new(2);
        conduct.take_place().await;
        conduct.take_place().await;
        conduct.clone().given_up();
        let begun = Instant::now();
        conduct.take_place().await;
        assert_eq!(begun.elapsed(), REST);

        conduct.give_back();
        conduct.take_place().await;
        assert_eq!(begun.elapsed(), REST, "what was answered leaves its place at once");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_waiting_leaves_the_place_to_the_next() {
        let conduct = Conduct::new(1);
        conduct.take_place().await;
        let waiting = |conduct: Arc<Conduct>| tokio::spawn(async move { conduct.take_place().await });
        let (first, second) = (waiting(conduct.clone()), waiting(conduct.clone()));
        tokio::task::yield_now().await;
        first.abort();
        conduct.give_back();
        assert!(second.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn faults_are_forgiven_with_time() {
        let conduct = Conduct::new(1);
        (1..FAULTS).for_each(|_| conduct.count_fault());
        assert!(!conduct.is_exhausted(0));
        conduct.count_fault();
        assert!(conduct.is_exhausted(0));
        advance(Duration::from_secs(1)).await;
        conduct.count_fault();
        assert!(!conduct.is_exhausted(0));
    }

    #[test]
    fn streams_that_come_to_nothing_are_faults_but_for_those_on_their_way() {
        let conduct = Conduct::new(1);
        assert!(!conduct.is_exhausted(ON_THEIR_WAY));
        assert!(!conduct.is_exhausted(ON_THEIR_WAY + FAULTS / FAULTS_OF_A_HEAD - 1));
        assert!(conduct.is_exhausted(ON_THEIR_WAY + FAULTS / FAULTS_OF_A_HEAD));
    }
}
