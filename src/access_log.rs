//! The access log: a line for every request or TCP session, with its endpoint, on standard output.
//!
//! Handlers hand over an [`Entry`]; each worker writes it into a buffer of its own and passes whole buffers to one
//! writer thread, so that a slow terminal or a full pipe never holds a worker up. Where the writer cannot follow,
//! lines are dropped and counted, never waited for.

mod entry;
mod facts;
mod json;
mod text;

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::SystemTime;

use thread_local::ThreadLocal;
use time::OffsetDateTime;

pub use self::entry::{Entry, RequestEntry};
pub use self::facts::Facts;
use crate::metrics::Counter;

/// A worker's buffer is passed on when it holds this many bytes, or when the worker says so.
const PASS_ON: usize = 16 * 1024;
/// How many buffers may wait for the writer.
const WAITING: usize = 64;
/// Tells the writer that nothing more comes: a buffer that is passed on is never empty.
const END: &str = "";

/// Where lines go. Clones share one writer.
#[derive(Clone, Debug, Default)]
pub struct AccessLog(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    json: bool,
    buffers: ThreadLocal<RefCell<String>>,
    writer: SyncSender<String>,
    dropped: ThreadLocal<Counter>,
    /// The writer, until [`AccessLog::finish`] has waited for it.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// A log that nothing is written to.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// A log on standard output, written by a thread of its own.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn stdout(json: bool) -> std::io::Result<Self> {
        let (writer, lines) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || write_out(&lines))?;
        let thread = Mutex::new(Some(thread));
        let shared = Shared { json, buffers: ThreadLocal::new(), writer, dropped: ThreadLocal::new(), thread };
        Ok(Self(Some(Arc::new(shared))))
    }

    /// Whether anything is written; lets a caller skip gathering what nobody reads.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes one line.
    pub fn write(&self, entry: &Entry<'_>) {
        let Some(shared) = &self.0 else { return };
        let mut buffer = shared.buffers.get_or_default().borrow_mut();
        if shared.json {
            json::write(entry, &mut buffer);
        } else {
            text::write(entry, &mut buffer);
        }
        buffer.push('\n');
        if buffer.len() >= PASS_ON {
            shared.pass_on(&mut buffer);
        }
    }

    /// Passes on what this worker has written so far. Called by each worker a few times a second, and before it ends.
    pub fn flush(&self) {
        if let Some(shared) = &self.0 {
            shared.pass_on(&mut shared.buffers.get_or_default().borrow_mut());
        }
    }

    /// Waits until everything that was passed on is written. Nothing that comes later is.
    pub fn finish(&self) {
        let Some(shared) = &self.0 else { return };
        let thread = shared.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && shared.writer.send(END.into()).is_ok()
        {
            // The writer cannot panic; were it to, its lines are lost either way.
            let _ = thread.join();
        }
    }

    /// How many lines were dropped because the writer could not follow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.dropped.iter().map(Counter::get).sum())
    }
}

impl Shared {
    fn pass_on(&self, buffer: &mut String) {
        if buffer.is_empty() {
            return;
        }
        let full = std::mem::take(buffer);
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) = self.writer.try_send(full) {
            self.dropped.get_or_default().add(lost.bytes().filter(|b| *b == b'\n').count() as u64);
        }
    }
}

fn write_out(lines: &Receiver<String>) {
    let mut out = std::io::stdout();
    for chunk in lines {
        if chunk == END {
            return;
        }
        // A closed standard output must not end the gateway; nothing is left to tell it to.
        if out.write_all(chunk.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// RFC 3339 in UTC, always to the millisecond, so that lines align.
fn now() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    let (date, time) = (now.date(), now.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}
