//! What is to be done next for one certificate, and when.
//!
//! Owned by `acme`, which does it and tells the job how it went. No clock and no network here: both are arguments.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::schedule;
use super::store::Leaf;

/// Never more orders for one certificate than this within [`WINDOW`], whatever clocks, authorities or bugs do.
const MOST_ORDERS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Order it, for this reason.
    Order(&'static str),
    /// Have what is stored served.
    Serve,
    /// Ask the authority when it should be renewed.
    Ask,
    /// Nothing before this.
    Wait(SystemTime),
}

/// A wait after failures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// On end.
    pub(super) failures: u32,
    pub(super) until: Option<SystemTime>,
}

impl Pause {
    /// Waits after another failure, and no less long than the authority asks for.
    pub(super) fn extend(&mut self, now: SystemTime, not_before: Option<SystemTime>, fraction: f64) {
        self.failures = self.failures.saturating_add(1);
        let until = now + schedule::wait(self.failures, fraction);
        self.until = Some(not_before.map_or(until, |asked| asked.max(until)));
    }
}

/// What the authority suggested about a certificate.
#[derive(Clone, Debug)]
struct Suggestion {
    /// The certificate's fingerprint.
    about: String,
    /// Its window; `None` where it suggests nothing.
    window: Option<(SystemTime, SystemTime)>,
    /// When to ask again.
    ask_at: SystemTime,
}

/// One certificate's state.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) pause: Pause,
    /// Chosen once for each certificate, so that the moment of renewal does not wander.
    fraction: f64,
    orders: VecDeque<SystemTime>,
    suggestion: Option<Suggestion>,
}

impl Job {
    /// A job whose renewals are shifted by `fraction`, from 0 to 1.
    pub(super) fn new(fraction: f64) -> Self {
        Self { fraction, ..Self::default() }
    }

    /// What to do now. `names` is what the certificate is to be for, `served` the fingerprint that the endpoints know.
    pub(super) fn next(&self, now: SystemTime, names: &[String], stored: Option<&Leaf>, served: Option<&str>) -> Step {
        let resting = self.pause.until.filter(|until| now < *until);
        // A clock that was set back must not make a wait of minutes one of years.
        let resting = resting.filter(|until| *until < now + Duration::from_secs(8 * 24 * 60 * 60));
        if let Some(until) = resting {
            return Step::Wait(until);
        }
        let Some(leaf) = stored else { return self.order(now, "there is none yet") };
        if served != Some(leaf.sha256.as_str()) {
            return Step::Serve;
        }
        if !same(names, &leaf.names) {
            return self.order(now, "its names have changed");
        }
        let suggestion = self.suggestion.as_ref().filter(|suggestion| suggestion.about == leaf.sha256);
        let (due, why) = self.due(leaf);
        if now >= due {
            return self.order(now, why);
        }
        match suggestion {
            Some(Suggestion { ask_at, .. }) if now < *ask_at => Step::Wait(due.min(*ask_at)),
            _ => Step::Ask,
        }
    }

    /// An order, unless there were too many within the hour.
    pub(super) fn order(&self, now: SystemTime, why: &'static str) -> Step {
        match self.orders.iter().filter(|at| now < **at + WINDOW && **at <= now).nth(MOST_ORDERS - 1) {
            Some(_) => Step::Wait(self.orders[0] + WINDOW),
            None => Step::Order(why),
        }
    }

    /// When a certificate is to be renewed, and why then.
    pub(super) fn due(&self, leaf: &Leaf) -> (SystemTime, &'static str) {
        let suggestion = self.suggestion.as_ref().filter(|suggestion| suggestion.about == leaf.sha256);
        match suggestion.and_then(|suggestion| suggestion.window) {
            Some((start, end)) => (schedule::within(start, end, self.fraction), "the authority suggests it"),
            None => schedule::old(leaf.not_before, leaf.not_after, self.fraction),
        }
    }

    /// An order begins.
    pub(super) fn ordering(&mut self, now: SystemTime) {
        self.orders.push_back(now);
        if self.orders.len() > MOST_ORDERS {
            self.orders.pop_front();
        }
    }

    /// The authority's suggestion about `leaf`, with its `Retry-After`; `None` where it has none, or could not be asked.
    pub(super) fn suggested(
        &mut self,
        now: SystemTime,
        leaf: &Leaf,
        answer: Option<((SystemTime, SystemTime), Duration)>,
    ) {
        let life = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
        // What it said before still stands where it does not answer now.
        let before = self.suggestion.take().filter(|before| before.about == leaf.sha256);
        let window = answer.map(|(window, _)| window).or_else(|| before.and_then(|before| before.window));
        let ask_at = now + schedule::ask_again(answer.map(|(_, wish)| wish), life);
        self.suggestion = Some(Suggestion { about: leaf.sha256.clone(), window, ask_at });
    }
}

fn same(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|name| b.contains(name))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + 1_000_000 * HOUR
    }

    fn names() -> Vec<String> {
        vec!["a.example".into(), "b.example".into()]
    }

    /// One that lives for 90 hours, and is due after 45.
    fn leaf() -> Leaf {
        let names = names().into_iter().rev().collect();
        let not_after = start() + 90 * HOUR;
        Leaf { names, not_before: start(), not_after, sha256: "x".into(), der: CertificateDer::from(Vec::new()) }
    }

    /// A job that was told that the authority suggests nothing.
    fn unadvised(at: SystemTime) -> Job {
        let mut job = Job::new(0.0);
        job.suggested(at, &leaf(), None);
        job
    }

    #[test]
    fn what_is_missing_is_ordered_what_is_stored_is_served_and_then_asked_about() {
        let job = Job::new(0.0);
        assert_eq!(job.next(start(), &names(), None, None), Step::Order("there is none yet"));
        assert_eq!(job.next(start(), &names(), Some(&leaf()), None), Step::Serve);
        assert_eq!(job.next(start(), &names(), Some(&leaf()), Some("y")), Step::Serve);
        assert_eq!(job.next(start(), &names(), Some(&leaf()), Some("x")), Step::Ask);
        let other = vec!["a.example".into(), "c.example".into()];
        assert_eq!(job.next(start(), &other, Some(&leaf()), Some("x")), Step::Order("its names have changed"));
    }

    #[test]
    fn it_is_renewed_as_it_grows_old_where_the_authority_suggests_nothing() {
        let job = unadvised(start() + 44 * HOUR);
        assert_eq!(job.next(start() + 44 * HOUR, &names(), Some(&leaf()), Some("x")), Step::Wait(start() + 45 * HOUR));
        let renewal = Step::Order("half of its life is over");
        assert_eq!(job.next(start() + 45 * HOUR, &names(), Some(&leaf()), Some("x")), renewal);
    }

    #[test]
    fn a_suggested_window_goes_before_and_one_in_the_past_means_now() {
        let mut job = unadvised(start());
        let window = (start() + 20 * HOUR, start() + 30 * HOUR);
        job.suggested(start() + HOUR, &leaf(), Some((window, 10 * HOUR)));
        assert_eq!(job.due(&leaf()).0, start() + 20 * HOUR);
        assert_eq!(job.next(start() + 2 * HOUR, &names(), Some(&leaf()), Some("x")), Step::Wait(start() + 11 * HOUR));
        assert_eq!(job.next(start() + 11 * HOUR, &names(), Some(&leaf()), Some("x")), Step::Ask);
        job.suggested(start() + 11 * HOUR, &leaf(), Some(((start(), start() + HOUR), HOUR)));
        let renewal = Step::Order("the authority suggests it");
        assert_eq!(job.next(start() + 11 * HOUR, &names(), Some(&leaf()), Some("x")), renewal);
    }

    #[test]
    fn a_failure_makes_it_wait_as_long_as_the_authority_asks() {
        let mut job = Job::new(0.0);
        job.pause.extend(start(), None, 0.0);
        assert_eq!(job.next(start(), &names(), None, None), Step::Wait(start() + Duration::from_secs(120)));
        job.pause.extend(start(), Some(start() + 2 * HOUR), 0.0);
        assert_eq!(job.next(start(), &names(), None, None), Step::Wait(start() + 2 * HOUR));
        assert_eq!(job.next(start() + 2 * HOUR, &names(), None, None), Step::Order("there is none yet"));
        // The clock is set back by years.
        assert_eq!(job.next(start() - 90_000 * HOUR, &names(), None, None), Step::Order("there is none yet"));
    }

    #[test]
    fn an_authority_that_wants_every_certificate_renewed_at_once_is_not_hammered() {
        let mut job = Job::new(0.0);
        for minute in 0..5 {
            let now = start() + Duration::from_secs(60 * minute);
            assert_eq!(job.next(now, &names(), None, None), Step::Order("there is none yet"));
            job.ordering(now);
        }
        assert_eq!(job.next(start() + Duration::from_secs(300), &names(), None, None), Step::Wait(start() + HOUR));
        assert_eq!(job.next(start() + HOUR, &names(), None, None), Step::Order("there is none yet"));
    }
}
