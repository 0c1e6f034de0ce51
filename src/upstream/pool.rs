//! A worker's kept connections to one server: a stack.
//!
//! The last one put back is the first taken, so that under falling load the others grow old and are closed. Filled and
//! emptied by `exchange` and `response_body`; swept by the worker through [`Upstream::sweep`](super::Upstream::sweep).

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;

/// How many connections to one server a worker keeps.
const MOST_KEPT: usize = 64;

/// The kept connections. They are borrowed only within a call, never across an await.
#[derive(Default)]
pub(super) struct Pool {
    stack: RefCell<Vec<Kept>>,
}

struct Kept {
    link: Box<Link>,
    since: Instant,
}

impl Pool {
    /// Takes the connection that was put back last. What waited longer than `idle` at `now`, or was closed or written to
    /// by its server meanwhile, is closed and passed over.
    pub(super) fn take(&self, now: Instant, idle: Duration) -> Option<Box<Link>> {
        let mut kept = self.stack.borrow_mut();
        while let Some(mut last) = kept.pop() {
            if now.duration_since(last.since) >= idle {
                kept.clear(); // the rest was put back earlier still
                return None;
            }
            if last.link.is_fit() {
                return Some(last.link);
            }
        }
        None
    }

    /// Keeps a connection, idle from `now` on, for the next request; closes it where this worker keeps enough already.
    pub(super) fn put(&self, mut link: Box<Link>, now: Instant) {
        let mut kept = self.stack.borrow_mut();
        if kept.len() < MOST_KEPT {
            link.rest();
            kept.push(Kept { link, since: now });
        }
    }

    /// Closes what waited longer than `idle`, and what its server closed.
    pub(super) fn sweep(&self, idle: Duration) {
        let now = Instant::now();
        self.stack.borrow_mut().retain_mut(|kept| now.duration_since(kept.since) < idle && kept.link.is_fit());
    }

    /// Closes everything this worker keeps.
    pub(super) fn clear(&self) {
        self.stack.borrow_mut().clear();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
