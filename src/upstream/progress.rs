//! How far a request's body has come, and which deadline follows from that.
//!
//! `request_body` reports; `exchange` asks while it waits for the head of the response, and `response_body` while it
//! waits for the next piece of its body. Nothing is armed or re-armed as bytes move: whoever waits looks here when its
//! timer fires.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::UpstreamTimeouts;
use super::exchange::Failure;

/// Where a request's body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Pieces of it are being written to the server.
    Moving,
    /// The client has not sent the next piece; the endpoint's own deadline watches over that.
    AwaitingClient,
    /// All of it was handed over.
    Done,
    /// Reading it from the client failed.
    Failed,
}

/// A request body's phase and when it last changed or moved. Written and read by one task; atomic so that it is `Send`.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    phase: AtomicU8,
    moved_nanos: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), phase: AtomicU8::new(Phase::Moving as u8), moved_nanos: AtomicU64::new(0) }
    }

    pub(super) fn enter(&self, phase: Phase) {
        let nanos = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.moved_nanos.store(nanos, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        [Phase::Moving, Phase::AwaitingClient, Phase::Done, Phase::Failed]
            .into_iter()
            .find(|phase| *phase as u8 == self.phase.load(Relaxed))
            .unwrap_or(Phase::Failed)
    }

    fn moved(&self) -> Instant {
        self.begun + Duration::from_nanos(self.moved_nanos.load(Relaxed))
    }
}

/// What an exchange measures its waits by.
#[derive(Clone, Debug)]
pub(super) struct Deadlines {
    /// When the request began to be sent to the server that has it now.
    pub(super) begun: Instant,
    /// When this attempt is over, if its head has not come.
    pub(super) attempt: Option<Instant>,
    /// When the whole exchange is.
    pub(super) total: Option<Instant>,
    response: Duration,
    body: Duration,
    /// `None` where the request has no body.
    progress: Option<Arc<Progress>>,
}

impl Deadlines {
    /// For an exchange that begins at `begun`.
    pub(super) fn new(begun: Instant, timeouts: &UpstreamTimeouts) -> Self {
        let total = timeouts.total.map(|total| begun + total);
        Self { begun, attempt: None, total, response: timeouts.response, body: timeouts.body, progress: None }
    }

    /// The request, whose body's `progress` this is, is sent to a server from `now` on.
    pub(super) fn begin(&mut self, now: Instant, progress: Option<Arc<Progress>>) {
        (self.begun, self.progress) = (now, progress);
    }

    /// Until when the attempt may take, from the dial to the head of the response.
    pub(super) fn until(&self) -> Option<Instant> {
        self.attempt.into_iter().chain(self.total).min()
    }

    /// Where the request's body stands; one that never was is done.
    pub(super) fn phase(&self) -> Phase {
        self.progress.as_ref().map_or(Phase::Done, |progress| progress.phase())
    }

    /// Until when the head of the response must have come.
    pub(super) fn head(&self) -> Instant {
        let moved = self.progress.as_ref().map_or(self.begun, |progress| progress.moved());
        let due = match self.phase() {
            Phase::Done | Phase::Failed => moved + self.response,
            Phase::Moving => moved + self.body,
            Phase::AwaitingClient => Instant::now() + self.body,
        };
        [self.attempt, self.total].into_iter().flatten().fold(due, Instant::min)
    }

    /// Which deadline a head that has not come in time has missed.
    pub(super) fn failure(&self) -> Failure {
        let now = Instant::now();
        let is_over = |until: Option<Instant>| until.is_some_and(|until| now >= until);
        match self.phase() {
            _ if is_over(self.total) => Failure::TotalTimeout,
            _ if is_over(self.attempt) => Failure::AttemptTimeout,
            Phase::Moving => Failure::WriteTimeout,
            Phase::AwaitingClient | Phase::Done | Phase::Failed => Failure::ResponseTimeout,
        }
    }

    /// Until when the next piece of the response's body must have come, if it is waited for since `since`. A server that
    /// is still being sent the request may keep its answer back for as long as that moves.
    pub(super) fn next_piece(&self, since: Instant) -> Instant {
        let from = match (&self.progress, self.phase()) {
            (None, _) => since,
            (Some(_), Phase::AwaitingClient) => Instant::now(),
            (Some(progress), _) => since.max(progress.moved()),
        };
        self.total.into_iter().fold(from + self.body, Instant::min)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn deadlines(progress: Option<Arc<Progress>>) -> Deadlines {
        let [connect, response, body, idle] = [1, 20, 5, 60].map(Duration::from_secs);
        let timeouts = UpstreamTimeouts { connect, response, body, idle, attempt: None, total: None };
        let mut deadlines = Deadlines::new(Instant::now(), &timeouts);
        deadlines.begin(deadlines.begun, progress);
        deadlines
    }

    #[test]
    fn without_a_body_the_response_is_due_from_the_start() {
        let d = deadlines(None);
        assert_eq!(d.head(), d.begun + Duration::from_secs(20));
        assert_eq!(d.next_piece(d.begun), d.begun + Duration::from_secs(5));
    }

    #[test]
    fn while_the_body_moves_its_own_deadline_applies_and_then_the_response_is_due() {
        let progress = Arc::new(Progress::new());
        let d = deadlines(Some(Arc::clone(&progress)));
        assert_eq!(d.head(), progress.begun + Duration::from_secs(5));
        progress.enter(Phase::Done);
        assert_eq!(d.head(), progress.moved() + Duration::from_secs(20));
        assert!(progress.moved() > progress.begun);
    }

    #[test]
    fn no_wait_goes_beyond_the_attempts_or_the_whole_exchanges_deadline() {
        let mut d = deadlines(None);
        d.attempt = Some(d.begun);
        assert!(d.head() == d.begun && matches!(d.failure(), Failure::AttemptTimeout));
        d.total = Some(d.begun);
        assert!(d.next_piece(d.begun) == d.begun && matches!(d.failure(), Failure::TotalTimeout));
    }

    #[test]
    fn a_client_that_holds_its_body_back_is_not_held_against_the_server() {
        let progress = Arc::new(Progress::new());
        let d = deadlines(Some(Arc::clone(&progress)));
        progress.enter(Phase::AwaitingClient);
        assert!(d.head() > Instant::now() + Duration::from_secs(4));
        assert!(d.next_piece(d.begun) > Instant::now() + Duration::from_secs(4));
    }
}
