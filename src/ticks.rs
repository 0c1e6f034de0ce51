//! The ticks by which workers do what must be done now and then: those of one thread, for all of them.
//!
//! Started by `gateway` with the workers, ends after them. A timer of a worker's own would be one that the worker's runtime looks at
//! each time it waits.

use std::future::pending;
use std::io;
use std::thread::{Builder, sleep};
use std::time::Duration;

use tokio::sync::watch;

/// What a worker waits for; ticks that it missed are one.
#[derive(Clone, Debug)]
pub(crate) struct Ticks(watch::Receiver<()>);

impl Ticks {
    /// Ticks every `period` from now on, until everybody who waits is gone.
    pub(crate) fn every(period: Duration) -> io::Result<Self> {
        let (ticks, waiting) = watch::channel(());
        Builder::new().name("ticks".into()).spawn(move || {
            #[expect(clippy::disallowed_methods, reason = "this thread does nothing else")]
            while ticks.send(()).is_ok() {
                sleep(period);
            }
        })?;
        Ok(Self(waiting))
    }

    /// Waits for the next one. Nothing is lost if the wait is broken off.
    pub(crate) async fn tick(&mut self) {
        if self.0.changed().await.is_err() {
            pending().await // the thread ends behind us, not before
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn everybody_is_told_of_ticks_at_the_period_at_the_soonest() {
        let (start, period) = (Instant::now(), Duration::from_millis(3));
        let mut one = Ticks::every(period).unwrap();
        let mut other = one.clone();
        for _ in 0..5 {
            tokio::join!(one.tick(), other.tick());
        }
        assert!(start.elapsed() >= 4 * period);
    }
}
