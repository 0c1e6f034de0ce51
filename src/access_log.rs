//! The access log: a line for every request or TCP session, with its endpoint, on standard output.
//!
//! Handlers hand over an [`Entry`]; each worker writes it into a buffer of its own and passes whole buffers to one
//! writer thread, so that a slow terminal or a full pipe never holds a worker up. Where the writer cannot follow,
//! lines are dropped and counted, never waited for.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use thread_local::ThreadLocal;
use time::OffsetDateTime;

use crate::identity::ConnectionInfo;
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

/// What a line says.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The connection, with its endpoint.
    pub info: &'a ConnectionInfo,
    /// The request, where the line is about one.
    pub request: Option<RequestEntry<'a>>,
    /// How long it took.
    pub duration: Duration,
    /// Body bytes (or, for a session, stream bytes) from the client.
    pub received: u64,
    /// Body bytes (or, for a session, stream bytes) to the client.
    pub sent: u64,
    /// The upstream server that served it, if any.
    pub upstream: Option<&'a str>,
    /// Why it ended other than well.
    pub error: Option<&'a str>,
}

/// What a request's line says besides.
#[derive(Debug)]
pub struct RequestEntry<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// `Host` or `:authority`.
    pub host: &'a str,
    /// The request's path, without the query, which may hold secrets.
    pub path: &'a str,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: &'a str,
    /// The response's status.
    pub status: u16,
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
            entry.write_json(&mut buffer)
        } else {
            entry.write_text(&mut buffer)
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

impl Entry<'_> {
    fn write_text(&self, line: &mut String) {
        // Writing to a String cannot fail, so the results are dropped.
        let info = self.info;
        let _ = write!(line, "{} {} {} ", now(), info.endpoint.name, info.client.0);
        match &self.request {
            Some(r) => {
                let _ = write!(line, "{} {}://", Plain(r.method), info.scheme());
                let _ = write!(line, "{}{} {} {}", Plain(r.host), Plain(r.path), r.version, r.status);
            }
            None => line.push_str("session"),
        }
        let _ = write!(line, " {:.3}ms in={} out={}", millis(self.duration), self.received, self.sent);
        if let Some(tls) = &info.tls {
            let _ = write!(line, " tls={}", tls.version);
            if let Some(name) = &tls.server_name {
                let _ = write!(line, " sni={}", Plain(name));
            }
            if let Some(cn) = tls.client_certificate.as_ref().and_then(|c| c.common_name.as_deref()) {
                let _ = write!(line, " client_cn={:?}", cn);
            }
        }
        if let Some(upstream) = self.upstream {
            let _ = write!(line, " upstream={upstream}");
        }
        if let Some(error) = self.error {
            let _ = write!(line, " error={error:?}");
        }
    }

    fn write_json(&self, line: &mut String) {
        let info = self.info;
        let mut fields = serde_json::json!({
            "time": now(),
            "endpoint": info.endpoint.name,
            "class": info.endpoint.class,
            "client": info.client.0,
            "duration_ms": millis(self.duration),
            "received": self.received,
            "sent": self.sent,
        });
        if let Some(r) = &self.request {
            fields["method"] = r.method.into();
            fields["scheme"] = info.scheme().into();
            fields["host"] = r.host.into();
            fields["path"] = r.path.into();
            fields["http"] = r.version.into();
            fields["status"] = r.status.into();
        }
        if let Some(tls) = &info.tls {
            fields["tls"] = serde_json::json!({
                "version": tls.version.as_str(),
                "cipher": tls.cipher,
                "group": tls.group.as_str(),
                "signature": tls.signature.map(crate::identity::Signature::as_str),
                "alpn": tls.alpn.as_ref().map(crate::identity::Alpn::as_str),
                "server_name": tls.server_name.as_deref(),
                "resumed": tls.resumed,
                "client_cn": tls.client_certificate.as_ref().and_then(|c| c.common_name.as_deref()),
            });
        }
        if let Some(upstream) = self.upstream {
            fields["upstream"] = upstream.into();
        }
        if let Some(error) = self.error {
            fields["error"] = error.into();
        }
        let _ = write!(line, "{fields}");
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

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// A client's word on a line of text: what could end the line or imitate a field is escaped.
struct Plain<'a>(&'a str);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || c == ' ' || c == '"' || c == '\\' {
                write!(f, "\\u{{{:x}}}", u32::from(c))?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}
