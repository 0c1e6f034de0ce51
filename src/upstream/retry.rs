//! Whether a request that failed at one server is tried at another.
//!
//! Only where that is safe: nothing of it was sent, the server says that it did nothing, or the request is idempotent
//! and has no body (RFC 9110, section 9.2.2). And only under a budget, so that retries do not bring down what is slow
//! already. Called by `exchange` and `session`.

use std::cell::Cell;
use std::sync::Arc;

use hyper::StatusCode;
use tokio::time::Instant;

use super::exchange::Failure;
use super::lease::{Found, Lease};
use super::progress::Deadlines;
use super::sending::Sending;
use super::{Server, Upstream, UpstreamTimeouts};
use crate::metrics::RetryReason;
use crate::trace::Attempt;
use crate::trail::Trail;

/// When requests are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// To how many servers a request is sent at most.
    pub attempts: u32,
    /// How many retries each hundred requests earn.
    pub budget: u32,
    /// Statuses that count as failures of the server.
    pub statuses: Vec<StatusCode>,
}

/// What a worker may still spend on retries, in hundredths of one.
#[derive(Debug)]
pub(super) struct Budget(Cell<u32>);

/// One retry.
const ONE: u32 = 100;
/// What can be saved up, so that a burst of failures after quiet hours is made good: ten retries.
const MOST_SAVED: u32 = 10 * ONE;

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MOST_SAVED))
    }
}

impl Budget {
    /// A request came.
    pub(super) fn earn(&self, hundredths: u32) {
        self.0.set((self.0.get() + hundredths).min(MOST_SAVED));
    }

    fn spend(&self) -> bool {
        let rest = self.0.get().checked_sub(ONE);
        rest.map(|rest| self.0.set(rest)).is_some()
    }
}

/// How a request fares, from its first server to its last.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) begun: Instant,
    /// What its server is chosen by, where it says.
    pub(super) key: Option<u64>,
    /// Those that it failed at.
    tried: Vec<Arc<Server>>,
    /// To how many servers it may have been sent.
    pub(super) sent: u32,
    /// Until when the attempt that is under way may take.
    pub(super) deadlines: Deadlines,
    /// What is told of it afterwards.
    pub(super) trail: Trail,
}

impl Course {
    pub(super) fn new(begun: Instant, key: Option<u64>, timeouts: &UpstreamTimeouts) -> Self {
        let deadlines = Deadlines::new(begun, timeouts);
        Self { begun, key, tried: Vec::new(), sent: 0, deadlines, trail: Trail::default() }
    }

    /// An attempt at a server begins; it is told as a span of its own, where the trace is recorded.
    pub(super) fn begin_attempt(&mut self, lease: &Lease, request: &mut Sending, now: Instant) {
        let Some(span) = request.new_span() else { return };
        let server = Arc::clone(&lease.name);
        self.trail.attempts.push(Attempt { span, server, begun: now, ended: None, status: None, error: None });
    }

    /// The request is sent to the server over a connection, from `now` on.
    pub(super) fn begin_sending(&mut self, lease: &Lease, request: &Sending, now: Instant) {
        self.deadlines.begin(now, request.progress());
        self.sent += 1;
        lease.metrics.here().requests.add(1);
    }

    /// The attempt has failed.
    #[cold]
    pub(super) fn attempt_failed(&mut self, failure: &Failure) {
        if let Some(attempt) = self.trail.attempts.last_mut() {
            (attempt.ended, attempt.error) = (Some(Instant::now()), Some(failure.word().as_str()));
        }
    }

    /// The attempt was answered: it ends with the request, even if it was to be followed by another for its status.
    pub(super) fn attempt_answered(&mut self, status: StatusCode) {
        if let Some(attempt) = self.trail.attempts.last_mut() {
            (attempt.status, attempt.ended, attempt.error) = (Some(status.as_u16()), None, None);
        }
    }

    /// It is over: what is told of it.
    pub(super) fn end(&mut self) -> Trail {
        std::mem::take(&mut self.trail)
    }
}

impl Upstream {
    /// The server to try after one where a request failed, if it is to be tried again; what that costs is spent then.
    /// `repeatable` says that the server may have the request twice.
    #[cold]
    pub(super) fn another(
        &self,
        course: &mut Course,
        lease: &Lease,
        failure: &Failure,
        repeatable: bool,
    ) -> Option<Lease> {
        let now = Instant::now();
        if failure.is_the_servers() {
            self.note_failure(lease.server(), now);
        }
        let reason = reason(failure, repeatable)?;
        // A failed dial costs no server anything, so there is no budget for it, but its time is bounded.
        let free = reason == RetryReason::Connect;
        let allowed = if free {
            now.duration_since(course.begun) < 2 * self.timeouts.connect
        } else {
            course.sent < self.policy.retries.attempts
        };
        course.tried.push(Arc::clone(lease.server()));
        if !allowed {
            return None;
        }
        let Found::Server(next) = self.find(course.key, &course.tried, now) else { return None };
        if !free && !self.here().budget.spend() {
            return None;
        }
        self.metrics.here().retries[reason as usize].add(1);
        course.trail.tries += 1;
        Some(next)
    }

    /// Takes note of a server's failure, and ejects it where it has failed too often and is not the last.
    fn note_failure(&self, server: &Arc<Server>, now: Instant) {
        let others = || {
            let members = self.members();
            members.servers().any(|other| !Arc::ptr_eq(other, server) && other.health.is_usable(now))
        };
        if let Some(until) = server.health.failed(now, &self.policy.ejection, || !others()) {
            server.metrics.here().ejections.add(1);
            let (upstream, seconds) = (&self.name, (until - now).as_secs_f64());
            tracing::warn!(%upstream, server = %server.name, "ejected for {seconds}s: it failed too often in a row");
        }
    }
}

/// Why a request that failed like this may be sent again, if it may.
fn reason(failure: &Failure, repeatable: bool) -> Option<RetryReason> {
    match failure {
        Failure::Dial(_) => Some(RetryReason::Connect),
        Failure::Unprocessed if repeatable => Some(RetryReason::Unprocessed),
        Failure::Closed if repeatable => Some(RetryReason::Closed),
        Failure::AttemptTimeout if repeatable => Some(RetryReason::Timeout),
        Failure::Status if repeatable => Some(RetryReason::Status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_lets_a_burst_pass_and_then_as_many_as_requests_have_earned() {
        let budget = Budget::default();
        assert_eq!((0..50).filter(|_| budget.spend()).count(), 10);
        let spent = (0..1000).filter(|_| {
            budget.earn(20);
            budget.spend()
        });
        assert_eq!(spent.count(), 200);
    }
}
