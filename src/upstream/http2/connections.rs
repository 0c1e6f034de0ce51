//! A worker's HTTP/2 connections to one server, and who has a stream on which.
//!
//! A server is never sent more streams at once than it allows (`SETTINGS_MAX_CONCURRENT_STREAMS`): a connection is used
//! only once its settings have come, and where all are full another one is opened.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, SendStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::super::dial::{DialError, Use};
use super::super::lease::Lease;
use super::super::sending::Sending;
use super::super::{Server, Upstream};
use crate::metrics::UpstreamFailure;

/// The most streams that are opened on one connection, whatever the server allows.
const MOST_STREAMS: usize = 100;
/// How much of a response a server may send ahead of its reader, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Of all responses on a connection: enough that slow readers do not hold up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS as u32;
/// The largest head of a response, in bytes.
const MOST_HEAD: u32 = 64 * 1024;

/// A worker's connections to one server. Borrowed only within a call, never across an await.
#[derive(Debug, Default)]
pub(in super::super) struct Connections {
    list: RefCell<Vec<Kept>>,
    /// One dials at a time, and the others use what comes of it.
    dialling: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Kept {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    /// Since when it has had no stream, as far as sweeps have seen.
    idle_since: Option<Instant>,
}

/// What a connection's users share. Written and read by one worker; atomic so that futures are `Send`.
#[derive(Debug, Default)]
struct State {
    streams: AtomicUsize,
    /// No new stream is to be opened.
    retired: AtomicBool,
}

/// A place for one stream on a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
}

impl Connections {
    /// A place on a connection that has one.
    fn take(&self) -> Option<Ticket> {
        let mut list = self.list.borrow_mut();
        list.retain_mut(Kept::is_usable);
        let kept = list.iter_mut().find(|kept| kept.has_room())?;
        kept.idle_since = None;
        Some(Ticket::new(&kept.sender, &kept.state))
    }

    /// Lets go of connections that have ended, and of those without a stream for longer than `idle`.
    pub(in super::super) fn sweep(&self, idle: Duration) {
        let now = Instant::now();
        self.list.borrow_mut().retain_mut(|kept| {
            if kept.state.streams.load(Relaxed) > 0 {
                kept.idle_since = None;
                return kept.is_usable();
            }
            let since = *kept.idle_since.get_or_insert(now);
            now.duration_since(since) < idle && kept.is_usable()
        });
    }

    /// Lets go of all; each ends with its last stream.
    pub(in super::super) fn clear(&self) {
        self.list.borrow_mut().clear();
    }
}

impl Kept {
    /// Whether it can be used again, now or once it has room: neither ended, nor told to (GOAWAY), nor retired.
    fn is_usable(&mut self) -> bool {
        let polled = self.sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.state.retired.load(Relaxed) && !matches!(polled, std::task::Poll::Ready(Err(_)))
    }

    fn has_room(&self) -> bool {
        self.state.streams.load(Relaxed) < self.sender.current_max_send_streams().min(MOST_STREAMS)
    }
}

impl Upstream {
    /// A place on a connection to the server, a new one if need be; how long that took to dial is added to `spent`.
    pub(super) async fn http2_connection(
        &self,
        lease: &Lease,
        until: Option<Instant>,
        spent: &mut Duration,
    ) -> Result<Ticket, DialError> {
        if let Some(ticket) = lease.here().http2.take() {
            return Ok(ticket);
        }
        let deadline = until.into_iter().fold(Instant::now() + self.timeouts.connect, Instant::min);
        let dialling = Arc::clone(&lease.here().http2.dialling);
        let Ok(_turn) = timeout_at(deadline, dialling.lock()).await else { return Err(DialError::Timeout) };
        if let Some(ticket) = lease.here().http2.take() {
            return Ok(ticket); // while this one waited for its turn
        }
        let wire = self.dial(lease, Some(deadline), Use::Requests, spent).await?;
        let begun = timeout_at(deadline, begin(lease, wire)).await.unwrap_or(Err(DialError::Timeout));
        let kept = begun.inspect_err(|_| lease.metrics.fail(UpstreamFailure::Protocol))?;
        let ticket = Ticket::new(&kept.sender, &kept.state);
        lease.here().http2.list.borrow_mut().push(kept);
        Ok(ticket)
    }
}

/// Begins to speak HTTP/2, and waits for the server's settings: they come before its answer to a PING.
async fn begin(server: &Server, wire: super::super::Wire) -> Result<Kept, DialError> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MOST_HEAD);
    let (sender, mut connection) = builder.handshake::<_, Bytes>(wire).await.map_err(not_http2)?;
    let ping = connection.ping_pong();
    let open = server.opened();
    let state = Arc::new(State::default());
    let ended = Arc::clone(&state);
    tokio::spawn(async move {
        // What went wrong is told to every stream; here it only matters that it is over.
        let _ = connection.await;
        ended.retired.store(true, Relaxed);
        drop(open);
    });
    if let Some(mut ping) = ping {
        ping.ping(Ping::opaque()).await.map_err(not_http2)?;
    }
    if sender.current_max_send_streams() == 0 {
        return Err(DialError::Refused(io::Error::other("it allows no streams")));
    }
    Ok(Kept { sender, state, idle_since: None })
}

fn not_http2(error: h2::Error) -> DialError {
    DialError::Refused(io::Error::other(format!("it does not speak HTTP/2: {error}")))
}

impl Ticket {
    fn new(sender: &SendRequest<Bytes>, state: &Arc<State>) -> Self {
        state.streams.fetch_add(1, Relaxed);
        Self { sender: sender.clone(), state: Arc::clone(state) }
    }

    /// Opens the stream with the request's head.
    pub(super) fn open(&self, request: &mut Sending) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let is_whole = request.body_is_empty();
        self.sender.clone().send_request(request.head(), is_whole)
    }

    /// Lets no other stream be opened on the connection.
    pub(super) fn retire(&self) {
        self.state.retired.store(true, Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.streams.fetch_sub(1, Relaxed);
    }
}
