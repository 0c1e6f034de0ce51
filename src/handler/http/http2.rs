//! Drives an HTTP/2 connection through hyper, with bounds on everything that a client can ask for.
//!
//! Owns hyper's settings for it, the checks that go beyond h2's own, the drain, the idle deadline, and the deadline of a
//! stream whose client takes none of its answer. Called by `serve`.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::answer::Link;
use super::conduct::Conduct;
use super::deadline::Deadline;
use super::fault::Fault;
use super::field::MAX_FIELDS;
use super::paced::{LeftBehind, Paced};
use super::serve::broken;
use super::tracked::{Halves, Tracked};
use super::{HttpService, authority, head};
use crate::drain::Watch;
use crate::handler::ServeError;
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
/// How often a connection is asked whether it still lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);
/// How long the stream of a client at fault stands before it is closed; see `paced`.
const STAND: Duration = Duration::from_millis(500);
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
    let timeouts = gate.context.timeouts;
    let conduct = Conduct::new(STREAMS);
    let io = TokioIo::new(Paced::new(stream, gate.clone(), conduct.clone(), left_behind.clone()));
    let streams = Streams { stall: timeouts.body, conduct: conduct.clone() };
    // Boxed at once: hyper and tokio move a stream's future a dozen times before it is first polled.
    let service = service_fn(move |request| Box::pin(in_its_place(link.clone(), conduct.clone(), request)));
    let mut connection = pin!(builder(streams, gate.context.limits.head).serve_connection(io, service));
    let mut draining = false;
    let mut clock = Deadline::default();
    let mut leaving: Option<Instant> = None;
    poll_fn(|cx| {
        if !draining && drain.has_begun(cx) {
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        // Without a stream for `idle`: say goodbye, and leave when the client has not answered for `header`.
        if let (Some(since), None) = (gate.idle_since(), leaving)
            && clock.poll(cx, since + timeouts.idle).is_ready()
        {
            leaving = Some(Instant::now());
            connection.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref(); // the goodbye is still to be written
        }
        match leaving {
            Some(since) if clock.poll(cx, since + timeouts.header).is_ready() => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await
    .map_err(|error| {
        if let Some(why) = closing(&error) {
            gate.count_closing(why);
        }
        broken(&error)
    })
}

/// Answers a request once there is a place for it. While it waits, hyper sees to it that a reset ends it.
async fn in_its_place<S: HttpService>(
    link: Link<S>,
    conduct: Arc<Conduct>,
    request: Request<Incoming>,
) -> Result<Response<Tracked<S::Body>>, Infallible> {
    conduct.take_place().await;
    if let Some(halves) = kept_halves() {
        halves.placed.store(true, Relaxed);
    }
    link.http2(request).await
}

/// Why h2 ended the connection, if it did; what [`Paced`] ended is counted there.
fn closing(error: &hyper::Error) -> Option<Http2Closing> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    match error.reason()? {
        _ if error.is_remote() => None,
        h2::Reason::ENHANCE_YOUR_CALM => Some(Http2Closing::Excess),
        _ => Some(Http2Closing::Protocol),
    }
}

fn builder(streams: Streams, head: usize) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPT)
        .max_local_error_reset_streams(RESET_FOR_FAULTS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

/// What h2 does not check: the authority, the target, the number of fields, methods that are not for a gateway.
///
/// A request that names its authority by `Host` alone gets it into its URI, so that services look in one place.
pub(super) fn check<B>(request: &mut Request<B>, scheme: &str) -> Result<(), Fault> {
    if request.method() == Method::CONNECT {
        return Err(Fault::method("the method is not implemented")); // RFC 9110, sections 9.1 and 9.3.6
    }
    if request.headers().len() > usize::from(MAX_FIELDS) {
        return Err(Fault::too_large("the request has more than 100 fields"));
    }
    // As strictly as in HTTP/1: the target may go on in a request line (RFC 9113, section 10.3).
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    if !head::is_visible(target.as_bytes()) {
        return Err(Fault::malformed("the request target has a character that is not allowed"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Fault::host("Host is repeated"));
    }
    match (request.uri().authority(), host) {
        (None, None) => Err(Fault::host("the request names no authority")),
        (Some(authority), _) if !authority::is_valid(authority.as_str().as_bytes()) => {
            Err(Fault::host("the authority is not a host and port"))
        }
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(Fault::host("Host differs from the authority")) // RFC 9113, section 8.3.1
        }
        (Some(_), _) => Ok(()),
        (None, Some(host)) => {
            let uri = with_authority(request.uri(), host, scheme).ok_or(Fault::host("Host is not a host and port"))?;
            *request.uri_mut() = uri;
            Ok(())
        }
    }
}

fn with_authority(uri: &Uri, host: &HeaderValue, scheme: &str) -> Option<Uri> {
    if !authority::is_valid(host.as_bytes()) {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    parts.scheme = Some(Scheme::try_from(scheme).ok()?);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).ok()
}

tokio::task_local! {
    /// What the stream's keeper and its exchange share.
    static HALVES: Arc<Halves>;
}

/// What the task's keeper looks at; called by the exchange that runs in it.
pub(super) fn kept_halves() -> Option<Arc<Halves>> {
    HALVES.try_with(Clone::clone).ok()
}

/// Runs each stream in a task of its own, with a keeper.
#[derive(Clone, Debug)]
struct Streams {
    /// How long a piece of an answer may wait for the client to take it.
    stall: Duration,
    conduct: Arc<Conduct>,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let halves = Arc::<Halves>::default();
        self.conduct.begin();
        let work = Work { halves: halves.clone(), conduct: self.conduct.clone() };
        let kept = Kept { stream, work, stall: self.stall, clock: Deadline::default(), since: None };
        tokio::spawn(HALVES.scope(halves, kept));
    }
}

/// A stream's place among those in work, given back when all else of the stream is gone.
struct Work {
    halves: Arc<Halves>,
    conduct: Arc<Conduct>,
}

impl Drop for Work {
    fn drop(&mut self) {
        let halves = &self.halves;
        match (halves.placed.load(Relaxed), halves.given_up.load(Relaxed)) {
            (true, true) => self.conduct.clone().given_up(),
            (true, false) => self.conduct.give_back(),
            (false, _) => self.conduct.count_fault(), // it was reset before there was a place for it
        }
        if halves.refused.load(Relaxed) {
            self.conduct.count_fault();
        }
    }
}

pin_project! {
    /// A stream that is reset when the client has opened no window for its answer for too long.
    ///
    /// While hyper waits for the window it asks the body for nothing, so the body cannot tell; this can.
    struct Kept<F> {
        #[pin]
        stream: F,
        // Behind the stream, so that it is dropped after it.
        work: Work,
        stall: Duration,
        clock: Deadline,
        // The piece that waits, and since when.
        since: Option<(u64, Instant)>,
    }
}

impl<F: Future<Output = ()>> Future for Kept<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let turn = this.work.halves.turns.load(Relaxed);
        if turn.is_multiple_of(2) {
            *this.since = None; // the service is asked for the next piece: its time, not the client's
            return Poll::Pending;
        }
        let since = match *this.since {
            Some((before, since)) if before == turn => since,
            _ => this.since.insert((turn, Instant::now())).1,
        };
        this.clock.poll(cx, since + *this.stall)
    }
}
