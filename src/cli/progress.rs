//! Tells a person at a terminal how far a long run has come: one line that is written over. `audit` shows it.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A shorter run shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the line changes.
const PACE: Duration = Duration::from_millis(100);
/// Back to the beginning of the line, and wipes it.
const WIPE: &str = "\r\x1b[K";

/// How many of so many are done. Shown on standard error, if that is a terminal, and nowhere else.
pub(super) struct Progress {
    all: usize,
    done: AtomicUsize,
    begun: Instant,
    line: Option<Mutex<Line>>,
}

struct Line {
    stream: Box<dyn Write + Send>,
    last: Option<Instant>,
}

impl Progress {
    pub(super) fn new(all: usize) -> Self {
        let terminal = io::stderr().is_terminal();
        Self::on(all, terminal.then(|| Box::new(io::stderr()) as Box<dyn Write + Send>))
    }

    fn on(all: usize, stream: Option<Box<dyn Write + Send>>) -> Self {
        let line = stream.map(|stream| Mutex::new(Line { stream, last: None }));
        Self { all, done: AtomicUsize::new(0), begun: Instant::now(), line }
    }

    /// One more is done. Any thread may say so, and none waits for another.
    pub(super) fn tick(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(mut line) = self.line.as_ref().and_then(|line| line.try_lock().ok()) else { return };
        let now = Instant::now();
        let due = line.last.map_or(self.begun + PATIENCE, |last| last + PACE);
        if now >= due {
            line.last = Some(now);
            let text = text(done, self.all, now - self.begun);
            // What cannot be shown is not worth a word.
            let _ = write!(line.stream, "{WIPE}{text}").and_then(|()| line.stream.flush());
        }
    }

    /// Takes the line away, before something else is printed.
    pub(super) fn clear(&self) {
        let Some(mut line) = self.line.as_ref().and_then(|line| line.lock().ok()) else { return };
        if line.last.take().is_some() {
            let _ = write!(line.stream, "{WIPE}").and_then(|()| line.stream.flush());
        }
    }
}

fn text(done: usize, all: usize, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    format!("{done} of {all} audited, {rate:.0}/s")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::written::Written;

    fn shown(begun: Duration) -> String {
        let written = Written::default();
        let mut progress = Progress::on(10, Some(Box::new(written.clone())));
        progress.begun = progress.begun.checked_sub(begun).unwrap();
        progress.tick();
        progress.tick();
        progress.clear();
        progress.clear();
        written.text()
    }

    #[test]
    fn a_long_run_has_one_line_that_is_wiped_in_the_end_and_a_short_run_none() {
        assert_eq!(shown(Duration::ZERO), "");
        assert_eq!(shown(Duration::from_secs(10)), format!("{WIPE}1 of 10 audited, 0/s{WIPE}"));
    }
}
