//! What was last found out about a server, or a name, apart from requests: for the admin port, which shows it.
//!
//! Written by `checks` and `names`, off the workers, so that its lock is never waited for by a request.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The last of several findings; none yet at first.
#[derive(Debug, Default)]
pub(super) struct Last(Mutex<Option<Finding>>);

/// How a check or a lookup ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// When.
    pub at: SystemTime,
    /// Why it failed; `None` where it went well.
    pub error: Option<String>,
    /// For how long it holds: when the next is made.
    pub holds: Duration,
}

impl Last {
    pub(super) fn note(&self, error: Option<String>, holds: Duration) {
        let found = Finding { at: SystemTime::now(), error, holds };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    pub(super) fn get(&self) -> Option<Finding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
