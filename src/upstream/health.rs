//! Whether a server may be taken: what active checks say, and ejection after failures in a row.
//!
//! Shared by all workers through atomics, which a request that goes well reads and does not write. `checks` writes
//! what it finds; `lease` and the exchanges report how requests went.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// When a server is taken out for failing, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// After so many failures in a row; 0: never.
    pub failures: u32,
    /// How long the first time; each time in a row takes twice as long.
    pub duration: Duration,
    /// The longest.
    pub max_duration: Duration,
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be taken.
    Up,
    /// Active checks have found it down.
    Down,
    /// It was taken out for failing, for so long from now.
    Ejected(Duration),
}

/// A server's health.
#[derive(Debug)]
pub(super) struct Health {
    /// What the times below count from, in nanoseconds; 0 means never.
    epoch: Instant,
    /// The active checks have found it down.
    down: AtomicBool,
    /// Failures in a row.
    failures: AtomicU32,
    /// Ejections in a row.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// When it was last found well again, or first known.
    back_since: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            down: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            back_since: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// Whether the server may be taken where there is a choice.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        !self.is_down() && !self.is_ejected(now)
    }

    /// Whether active checks have found it down.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Relaxed)
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let until = Duration::from_nanos(self.ejected_until.load(Relaxed));
        let left = (self.epoch + until).saturating_duration_since(now);
        match () {
            () if self.is_down() => Standing::Down,
            () if self.is_ejected(now) => Standing::Ejected(left),
            () => Standing::Up,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        let until = self.ejected_until.load(Relaxed);
        until != 0 && self.nanos(now) < until
    }

    /// Takes note that an exchange went well: that ends an ejection too.
    pub(super) fn succeeded(&self, now: Instant) {
        if self.failures.load(Relaxed) == 0 && self.ejections.load(Relaxed) == 0 {
            return;
        }
        self.failures.store(0, Relaxed);
        self.ejections.store(0, Relaxed);
        if self.is_ejected(now) {
            self.ejected_until.store(self.nanos(now), Relaxed);
        }
    }

    /// Takes note that an exchange failed. Until when the server is ejected, if it is now: not where it is the last one
    /// (`spared`).
    pub(super) fn failed(
        &self,
        now: Instant,
        policy: &EjectionPolicy,
        spared: impl FnOnce() -> bool,
    ) -> Option<Instant> {
        if policy.failures == 0 || self.is_ejected(now) {
            return None;
        }
        let failures = self.failures.load(Relaxed).saturating_add(1);
        self.failures.store(failures, Relaxed);
        if failures < policy.failures || spared() {
            return None;
        }
        let before = self.ejections.fetch_add(1, Relaxed);
        // What has just been ejected is on probation: the next failure ejects it again, for longer.
        self.failures.store(policy.failures - 1, Relaxed);
        let doubled = 2_u32.checked_pow(before).and_then(|times| policy.duration.checked_mul(times));
        let until = now + doubled.unwrap_or(policy.max_duration).min(policy.max_duration);
        self.ejected_until.store(self.nanos(until), Relaxed);
        Some(until)
    }

    /// Takes note of what active checks find. Whether that is news.
    pub(super) fn set_down(&self, down: bool, now: Instant) -> bool {
        let news = self.down.swap(down, Relaxed) != down;
        if news && !down {
            self.set_back(now);
        }
        news
    }

    /// It is back, or new: it is eased in from now on.
    pub(super) fn set_back(&self, now: Instant) {
        self.back_since.store(self.nanos(now).max(1), Relaxed);
    }

    /// How much of its share it is to have, from 0 to 1: it rises over `slow_start` from when it came back.
    pub(super) fn warmth(&self, now: Instant, slow_start: Duration) -> f64 {
        let back = self.back_since.load(Relaxed).max(self.ejected_until.load(Relaxed));
        if back == 0 || slow_start.is_zero() {
            return 1.0;
        }
        let since = Duration::from_nanos(self.nanos(now).saturating_sub(back));
        (since.as_secs_f64() / slow_start.as_secs_f64()).clamp(0.0, 1.0)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const POLICY: EjectionPolicy =
        EjectionPolicy { failures: 3, duration: Duration::from_secs(10), max_duration: Duration::from_secs(60) };

    fn fail(health: &Health, now: Instant, times: u32) -> Option<Duration> {
        (0..times).filter_map(|_| health.failed(now, &POLICY, || false)).last().map(|until| until - now)
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not_let_it_come_to_that() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(fail(&health, now, 2), None);
        health.succeeded(now);
        assert_eq!(fail(&health, now, 2), None);
        assert!(health.is_usable(now));
        assert_eq!(fail(&health, now, 1), Some(10 * SECOND));
        assert!(!health.is_usable(now + 9 * SECOND) && health.is_usable(now + 10 * SECOND));
    }

    #[test]
    fn an_ejection_in_a_row_takes_one_failure_and_lasts_twice_as_long_up_to_the_longest() {
        let (health, mut now) = (Health::default(), Instant::now());
        let mut last = fail(&health, now, 3);
        for expected in [20, 40, 60, 60] {
            now += last.unwrap_or_default();
            last = fail(&health, now, 1);
            assert_eq!(last, Some(expected * SECOND));
        }
        now += 60 * SECOND;
        health.succeeded(now);
        assert_eq!((fail(&health, now, 2), fail(&health, now, 1)), (None, Some(10 * SECOND)));
    }

    #[test]
    fn the_last_server_is_never_ejected_and_a_success_ends_an_ejection() {
        let (health, now) = (Health::default(), Instant::now());
        assert!((0..9).all(|_| health.failed(now, &POLICY, || true).is_none()) && health.is_usable(now));
        assert!(fail(&health, now, 1).is_some());
        health.succeeded(now + SECOND);
        assert!(health.is_usable(now + SECOND));
        let never = EjectionPolicy { failures: 0, ..POLICY };
        assert!((0..9).all(|_| health.failed(now + SECOND, &never, || false).is_none()));
    }

    #[test]
    fn a_server_that_comes_back_is_eased_in() {
        let (health, now) = (Health::default(), Instant::now());
        assert!((health.warmth(now, 10 * SECOND) - 1.0).abs() < f64::EPSILON, "it was never away");
        assert!(health.set_down(true, now) && !health.set_down(true, now) && !health.is_usable(now));
        assert!(health.set_down(false, now + SECOND) && health.is_usable(now));
        for (after, warmth) in [(1, 0.0), (6, 0.5), (11, 1.0), (60, 1.0)] {
            assert!((health.warmth(now + after * SECOND, 10 * SECOND) - warmth).abs() < 0.01, "{after}");
        }
        fail(&health, now + 20 * SECOND, 3);
        assert!(health.warmth(now + 35 * SECOND, 10 * SECOND) - 0.5 < 0.01, "so it is after an ejection");
    }
}
