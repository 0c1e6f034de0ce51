//! Drives an HTTP/2 connection through h2, with bounds on everything that a client can ask for.
//!
//! Owns h2's settings for it, the drain, and the idle deadline. Called by `serve`; each request gets a task of its own
//! (`turn`), `request` checks what h2 does not, `alive` asks whether the client is still there, and `paced` watches the
//! frames beneath it all.

mod alive;
mod conduct;
mod frames;
mod paced;
mod request;
mod sending;
mod turn;

use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use self::alive::Alive;
use self::conduct::Conduct;
use self::paced::{LeftBehind, Paced};
use self::turn::{Turn, Work};
use super::HttpService;
use super::answer::Link;
use crate::deadline::Deadline;
use crate::drain::Watch;
use crate::handler::{ServeError, Side};
use crate::metrics::Http2Closing;
use crate::stream::Stream;

/// Streams at a time. RFC 9113 (section 6.5.2) asks for 100 at least.
const STREAMS: u32 = 128;
/// What a client may send of one body before the service has read it: 256 KiB carry 20 Mbit/s over 100 ms.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same over all streams: so that 128 stalled uploads hold one mebibyte and not thirty-two.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of one answer until the client takes it.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that the client reset before they were looked at; more end the connection (CVE-2023-44487).
const RESET_BEFORE_ACCEPT: usize = 32;
/// Streams that we reset for the client's faults; more end the connection (CVE-2025-8671).
const RESET_FOR_FAULTS: usize = 64;
/// How long the stream of a client at fault stands before it is closed; see `paced`.
const STAND: Duration = Duration::from_millis(600);
/// How long closing it may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves requests until the connection ends.
pub(super) async fn serve<S: HttpService>(link: Link<S>, stream: Stream, mut drain: Watch) -> Result<(), ServeError> {
    let left_behind = LeftBehind::default();
    let ended = drive(link, stream, &left_behind, &mut drain).await;
    let stream = left_behind.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut stream) = stream {
        let _ = timeout(STAND, drain.begun()).await;
        stream.set_lingers(false);
        let _ = timeout(GOODBYE, stream.shutdown()).await;
    }
    ended
}

async fn drive<S: HttpService>(
    link: Link<S>,
    stream: Stream,
    left_behind: &LeftBehind,
    drain: &mut Watch,
) -> Result<(), ServeError> {
    let gate = link.gate.clone();
    let conduct = Conduct::new(STREAMS);
    let paced = Paced::new(stream, gate.clone(), conduct.clone(), left_behind.clone());
    let begin = builder(gate.context.limits.head).handshake(paced);
    let ended = match timeout(gate.context.timeouts.header, begin).await {
        Ok(Ok(mut connection)) => {
            let alive = connection.ping_pong().map(Alive::new);
            let clock = Deadline::default();
            let mut driver = Driver { link, conduct, connection, alive, clock, draining: false, leaving: None };
            poll_fn(|cx| driver.poll(cx, drain)).await
        }
        Ok(Err(error)) => Err(error),
        Err(_) => return Err(ServeError::new(Side::Client, "the HTTP/2 preface did not arrive in time")),
    };
    ended.map_err(|error| {
        if let Some(why) = closing(&error) {
            gate.count_closing(why);
        }
        ServeError::new(Side::Client, error)
    })
}

fn builder(head: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPT)
        .max_local_error_reset_streams(Some(RESET_FOR_FAULTS));
    builder
}

/// Why h2 ended the connection, if it did; what [`Paced`] ended is counted there.
fn closing(error: &h2::Error) -> Option<Http2Closing> {
    match error.reason()? {
        _ if error.is_remote() => None,
        h2::Reason::ENHANCE_YOUR_CALM => Some(Http2Closing::Excess),
        _ => Some(Http2Closing::Protocol),
    }
}

/// One connection.
struct Driver<S> {
    link: Link<S>,
    conduct: Arc<Conduct>,
    connection: Connection<Paced, Bytes>,
    alive: Option<Alive>,
    clock: Deadline,
    draining: bool,
    /// Since when the client has been told to go, for having been idle.
    leaving: Option<Instant>,
}

impl<S: HttpService> Driver<S> {
    /// Moves the connection on; ready when it has ended.
    fn poll(&mut self, cx: &mut Context<'_>, drain: &mut Watch) -> Poll<Result<(), h2::Error>> {
        if !self.draining && drain.has_begun(cx) {
            self.draining = true;
            self.connection.graceful_shutdown();
        }
        loop {
            if self.alive.as_mut().is_some_and(|alive| alive.poll_gone(cx).is_ready()) {
                self.connection.abrupt_shutdown(h2::Reason::NO_ERROR);
            }
            // Also reads, writes, and sees to everything that is not a request.
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(accepted)) => {
                    let (request, respond) = accepted?;
                    let turn = Turn::new(self.link.clone(), Work::begin(&self.conduct), respond);
                    tokio::spawn(turn.run(request));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return self.poll_idle(cx).map(Ok),
            }
        }
    }

    /// Without a stream for the `idle` deadline: says goodbye, and leaves when the client has not answered for `header`.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeouts = self.link.gate.context.timeouts;
        if let (Some(since), None) = (self.link.gate.idle_since(), self.leaving)
            && self.clock.poll(cx, since + timeouts.idle).is_ready()
        {
            self.leaving = Some(Instant::now());
            self.connection.graceful_shutdown();
            cx.waker().wake_by_ref(); // the goodbye is still to be written
        }
        match self.leaving {
            Some(since) => self.clock.poll(cx, since + timeouts.header),
            None => Poll::Pending,
        }
    }
}
