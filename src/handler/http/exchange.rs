//! One request and its answer, from the head's arrival until the answer's last byte was handed over.
//!
//! Owns what is measured of it: the counters, the duration, the access log's line. Made by `answer`; ends with the
//! answer's body, whichever way that ends.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri, Version};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::BoxError;
use super::body::RequestBody;
use super::gate::Gate;
use crate::access_log::{Entry, RequestEntry};
use crate::metrics::{self, request_key};

/// What both halves of an exchange know of each other.
#[derive(Debug, Default)]
pub(super) struct Halves {
    /// Bytes of the request's body that the service has read.
    pub(super) received: AtomicU64,
    /// How often a piece of the answer was handed over or asked for: odd while one is being sent.
    pub(super) turns: AtomicU64,
    /// HTTP/2 alone: the request was let into work; its client gave it up; it was refused.
    pub(super) placed: AtomicBool,
    pub(super) given_up: AtomicBool,
    pub(super) refused: AtomicBool,
}

impl Halves {
    fn asked(&self) {
        let turns = self.turns.load(Relaxed);
        self.turns.store(turns + turns % 2, Relaxed);
    }
}

/// An exchange, counted and logged when it is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    gate: Arc<Gate>,
    begun: Instant,
    method: metrics::Method,
    version: Version,
    status: StatusCode,
    /// What the log's line needs of the request; cheap clones, and none where no log is kept.
    line: Option<Box<Line>>,
    halves: Option<Arc<Halves>>,
    sent: u64,
    upstream: Option<Arc<str>>,
    error: Option<&'static str>,
    /// The answer was handed over whole.
    whole: bool,
}

#[derive(Debug)]
struct Line {
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
}

impl Exchange {
    /// Begins with a request; gives it on with the body that the service reads.
    ///
    /// `halves` is what the two bodies share; without it, one is made where there is a body to count.
    pub(super) fn begin(
        gate: &Arc<Gate>,
        request: Request<Incoming>,
        halves: Option<Arc<Halves>>,
    ) -> (Self, Request<RequestBody>) {
        gate.enter();
        let (head, body) = request.into_parts();
        let halves = halves.or_else(|| (!body.is_end_stream()).then(Arc::default));
        let line = gate.context.access_log.is_on().then(|| {
            let host = head.headers.get(HOST).cloned();
            Box::new(Line { method: head.method.clone(), uri: head.uri.clone(), host })
        });
        let exchange = Self {
            gate: gate.clone(),
            begun: Instant::now(),
            method: metrics::Method::from(&head.method),
            version: head.version,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            line,
            halves: halves.clone(),
            sent: 0,
            upstream: None,
            error: None,
            whole: false,
        };
        let body = RequestBody::new(body, halves, (head.version == Version::HTTP_2).then(|| gate.clone()));
        (exchange, Request::from_parts(head, body))
    }

    /// Begins for a request whose head was refused, so that nothing is known of it.
    pub(super) fn refused(gate: &Arc<Gate>, version: Version) -> Self {
        gate.enter();
        Self {
            gate: gate.clone(),
            begun: Instant::now(),
            method: metrics::Method::Other,
            version,
            status: StatusCode::BAD_REQUEST,
            line: None,
            halves: None,
            sent: 0,
            upstream: None,
            error: None,
            whole: false,
        }
    }

    /// The answer's head is there; its body follows in what is returned.
    pub(super) fn answered<B: Body<Data = Bytes>>(
        mut self,
        status: StatusCode,
        upstream: Option<Arc<str>>,
        error: Option<&'static str>,
        is_head: bool,
        body: Answer<B>,
    ) -> Tracked<B>
    where
        B::Error: Into<BoxError>,
    {
        self.status = status;
        self.upstream = upstream;
        self.error = error;
        // No body follows these, whatever the service gave (RFC 9110, section 6.4.1).
        self.whole = is_head || matches!(status.as_u16(), 100..=199 | 204 | 304) || body.is_end_stream();
        let expected = body.size_hint().exact();
        let piece = if self.version == Version::HTTP_2 { PIECE } else { usize::MAX };
        Tracked { body, exchange: self, expected, piece, rest: Bytes::new() }
    }

    fn handed_over(&mut self, bytes: usize, is_last: bool) {
        self.sent += bytes as u64;
        self.whole |= is_last;
        if let Some(halves) = &self.halves {
            halves.turns.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = Instant::now();
        let duration = now.saturating_duration_since(self.begun);
        let counters = self.gate.context.metrics.here();
        counters.requests.count(request_key(self.method, self.status.as_u16()));
        counters.request_seconds.observe(duration);
        self.gate.leave(now);
        if let (Some(halves), false, None) = (&self.halves, self.whole, self.error) {
            halves.given_up.store(true, Relaxed);
        }
        let log = &self.gate.context.access_log;
        if !log.is_on() {
            return;
        }
        let fault = || self.gate.fault().map(|fault| fault.reason.as_str());
        let closed = (!self.whole).then_some("client closed");
        let (method, host, path) = self.line.as_deref().map_or(("-", "-".into(), "-"), Line::words);
        log.write(&Entry {
            info: &self.gate.info,
            request: Some(RequestEntry {
                method,
                host: &host,
                path,
                version: match self.version {
                    Version::HTTP_2 => "HTTP/2",
                    Version::HTTP_10 => "HTTP/1.0",
                    _ => "HTTP/1.1",
                },
                status: self.status.as_u16(),
            }),
            duration,
            received: self.halves.as_ref().map_or(0, |halves| halves.received.load(Relaxed)),
            sent: self.sent,
            upstream: self.upstream.as_deref(),
            error: self.error.or_else(fault).or(closed),
        });
    }
}

impl Line {
    fn words(&self) -> (&str, Cow<'_, str>, &str) {
        let host = match (self.uri.authority(), &self.host) {
            (Some(authority), _) => authority.as_str().into(),
            (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()),
            (None, None) => "-".into(),
        };
        (self.method.as_str(), host, self.uri.path())
    }
}

pin_project! {
    /// An answer's body: the service's, or one that the engine made.
    #[project = AnswerPinned]
    pub(super) enum Answer<B> {
        Service { #[pin] body: B },
        Engine { body: Full<Bytes> },
    }
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            AnswerPinned::Service { body } => body.poll_frame(cx).map_err(Into::into),
            AnswerPinned::Engine { body } => Pin::new(body).poll_frame(cx).map_err(super::never),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Service { body } => body.is_end_stream(),
            Self::Engine { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Service { body } => body.size_hint(),
            Self::Engine { body } => body.size_hint(),
        }
    }
}

pin_project! {
    /// An answer's body on its way to the client; its exchange ends with it.
    pub(super) struct Tracked<B> {
        #[pin]
        body: Answer<B>,
        exchange: Exchange,
        // How long the body said it is; nobody asks for more than that.
        expected: Option<u64>,
        // How much is handed over at a time.
        piece: usize,
        // What is left of the frame that was cut last.
        rest: Bytes,
    }
}

/// How much of an HTTP/2 answer is handed over at a time. h2 takes a whole frame as soon as the window is open by one
/// byte; in pieces, the rest of a large one waits here, where a client that does not take it is noticed.
const PIECE: usize = 64 * 1024;

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(halves) = &this.exchange.halves {
            halves.asked();
        }
        let mut frame = if this.rest.is_empty() {
            ready!(this.body.as_mut().poll_frame(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(this.rest))))
        };
        if let Some(Ok(whole)) = &mut frame
            && let Some(data) = whole.data_mut()
            && data.len() > *this.piece
        {
            *this.rest = data.split_off(*this.piece);
        }
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let all = this.expected.is_some_and(|expected| this.exchange.sent + bytes as u64 >= expected);
                let ended = frame.is_trailers() || (this.rest.is_empty() && this.body.is_end_stream());
                this.exchange.handed_over(bytes, all || ended);
            }
            Some(Err(_)) => this.exchange.error = this.exchange.error.or(Some("answer broken off")),
            None => this.exchange.whole = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = self.body.size_hint();
        let mut sum = SizeHint::new();
        if let Some(upper) = hint.upper() {
            sum.set_upper(upper + rest);
        }
        sum.set_lower(hint.lower() + rest);
        sum
    }
}
