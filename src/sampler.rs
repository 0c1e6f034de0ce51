//! Keeps a flood of like events from flooding the log: one line a second for each reason, and how many were left out.
//!
//! Used by `connection` and `listener` for what clients do wrong. Counters count every event all the same.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use thread_local::ThreadLocal;

/// The least time between two lines for one reason, on one worker.
const INTERVAL: Duration = Duration::from_secs(1);

/// Decides which of many like events get a line. A slot per worker, without locks.
#[derive(Debug, Default)]
pub struct Sampler {
    slots: ThreadLocal<RefCell<Vec<Slot>>>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    last: Option<Instant>,
    left_out: u64,
}

impl Sampler {
    /// Whether an event of this reason gets a line now: `Some` with the number of events left out since the last line.
    ///
    /// `reason` is an index into a closed set.
    pub fn admit(&self, reason: usize, now: Instant) -> Option<u64> {
        let mut slots = self.slots.get_or_default().borrow_mut();
        if slots.len() <= reason {
            slots.resize(reason + 1, Slot::default());
        }
        let slot = &mut slots[reason];
        if slot.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            slot.left_out += 1;
            return None;
        }
        slot.last = Some(now);
        Some(std::mem::take(&mut slot.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_line_a_second_that_says_how_many_were_left_out() {
        let sampler = Sampler::default();
        let start = Instant::now();
        assert_eq!(sampler.admit(3, start), Some(0));
        for _ in 0..10 {
            assert_eq!(sampler.admit(3, start + Duration::from_millis(500)), None);
        }
        assert_eq!(sampler.admit(1, start), Some(0), "another reason has a line of its own");
        assert_eq!(sampler.admit(3, start + Duration::from_secs(1)), Some(10));
    }
}
