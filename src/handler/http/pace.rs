//! Whether a client that is waited for brings, or takes, as many bytes as it must (slow POST, slow read).
//!
//! Owns the span of time that is measured: it begins when the client is first waited for and goes on for as long as nobody
//! else is. Used for requests' bodies by `http1/turn` and `body`, for answers by `patient` and `http2/turn`. While bytes
//! move it costs an addition: the clock is read where somebody begins to wait, which is done for the `body` deadline
//! anyway, and when a timer fires.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::fault::Fault;
use crate::deadline::Deadline;
use crate::handler::Limits;

/// What one stream of bytes must keep up.
#[derive(Debug)]
pub(super) struct Pace {
    /// How many bytes must move within each `span`; none where it does not matter.
    least: u64,
    span: Duration,
    moved: u64,
    /// When the span that is measured began, and how many bytes had moved by then.
    begun: Option<(Instant, u64)>,
}

/// What a client that is waited for did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing moved for too long.
    Stalled,
    /// Too little did.
    TooSlow,
}

impl Late {
    /// What is wrong with a request whose body came like that.
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Stalled => Fault::BODY_LATE,
            Self::TooSlow => Fault::BODY_SLOW,
        }
    }
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        let least = limits.min_rate.saturating_mul(limits.min_rate_grace.as_secs().max(1));
        Self { least, span: limits.min_rate_grace.max(Duration::from_secs(1)), moved: 0, begun: None }
    }

    /// Without a measure.
    pub(super) fn any() -> Self {
        Self { least: 0, span: Duration::MAX, moved: 0, begun: None }
    }

    /// So many bytes have moved.
    pub(super) fn add(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// Nobody waits for the client now, so that nothing of what passes is its fault.
    pub(super) fn rest(&mut self) {
        self.begun = None;
    }

    /// Ready when a client that has been waited for since `since` has stood still for `stall`, or is too slow.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &mut Deadline,
        since: Instant,
        stall: Duration,
    ) -> Poll<Late> {
        if self.least == 0 {
            return clock.poll(cx, since + stall).map(|()| Late::Stalled);
        }
        loop {
            let (begun, before) = *self.begun.get_or_insert((since, self.moved));
            let (stalled, measured) = (since + stall, begun + self.span);
            ready!(clock.poll(cx, stalled.min(measured)));
            if stalled <= measured {
                return Poll::Ready(Late::Stalled);
            }
            if self.moved - before < self.least {
                return Poll::Ready(Late::TooSlow);
            }
            self.begun = Some((Instant::now(), self.moved));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;

    const STALL: Duration = Duration::from_secs(25);

    /// How a client fares that moves so many bytes every 20 seconds, and after how many seconds. It is given up after 10 times.
    async fn fate(pace: &mut Pace, bytes: usize, rests: bool) -> Option<(Late, u64)> {
        let (start, mut clock) = (Instant::now(), Deadline::default());
        for _ in 0..10 {
            let since = Instant::now();
            let late = poll_fn(|cx| pace.poll(cx, &mut clock, since, STALL));
            tokio::select! {
                late = late => return Some((late, start.elapsed().as_secs())),
                () = sleep(Duration::from_secs(20)) => pace.add(bytes),
            }
            if rests {
                pace.rest();
            }
        }
        None
    }

    fn pace() -> Pace {
        Pace::new(&Limits { min_rate: 10, min_rate_grace: Duration::from_secs(30), ..Limits::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_moves_too_little_while_it_is_waited_for_is_too_slow() {
        assert_eq!(fate(&mut pace(), 299, false).await, Some((Late::TooSlow, 30)));
        assert_eq!(fate(&mut pace(), 300, false).await, None);
        assert_eq!(fate(&mut pace(), 1, true).await, None, "the time of others does not count");
        assert_eq!(fate(&mut Pace::any(), 1, false).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stands_still_has_stalled() {
        let (since, mut clock) = (Instant::now(), Deadline::default());
        for mut pace in [pace(), Pace::any()] {
            let late = poll_fn(|cx| pace.poll(cx, &mut clock, since, STALL)).await;
            assert_eq!((late, since.elapsed()), (Late::Stalled, STALL));
        }
    }
}
