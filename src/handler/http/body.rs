//! A request's body as the service reads it.
//!
//! Owns [`RequestBody`] and, for HTTP/2, the count of its bytes, the deadline between two reads and the check of trailers;
//! HTTP/1.1's bodies come from `http1`, read and checked.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::RecvStream;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::EXPECT;
use tokio::time::Instant;

use super::BoxError;
use super::fault::Fault;
use super::field::is_padded;
use super::gate::Gate;
use super::http1::handover::Handed;
use super::pace::Pace;
use super::trailers;
use crate::deadline::Deadline;
use crate::fields::{declared_length, first, may_come_late};

/// A request's body as it streams in. Reading it has the endpoint's `body` deadline.
///
/// An error means that the client went away, stalled or broke the protocol: whatever the body was passed on to must be
/// aborted, never completed.
#[derive(Debug)]
pub struct RequestBody(Source);

#[derive(Debug)]
enum Source {
    Empty,
    Http1(Handed),
    Http2(Box<Watched>),
}

/// An HTTP/2 body: one stream among many.
#[derive(Debug)]
struct Watched {
    stream: RecvStream,
    /// All of its data has been read; trailers may come.
    is_read: bool,
    /// How much is to come, where the request says it. h2 sees to it that it does.
    left: Option<u64>,
    intake: Arc<Intake>,
    gate: Arc<Gate>,
    clock: Deadline,
    /// How fast it must come, where its length is known; else it may be a stream, such as gRPC's.
    pace: Pace,
    /// Since when the next piece is waited for.
    since: Option<Instant>,
}

/// What the service reads of an HTTP/2 body, as the exchange is told.
#[derive(Debug, Default)]
pub(super) struct Intake {
    received: AtomicU64,
    fault: OnceLock<Fault>,
    /// The client waits for 100 before it sends the body (RFC 9110, section 10.1.1).
    expectation: Option<Mutex<Expectation>>,
}

/// How far a client that waits for 100 has come.
#[derive(Debug)]
enum Expectation {
    /// The service does not read yet; the engine is to be woken when it does.
    Waits(Option<Waker>),
    /// The service reads, so the client is to be told to go on.
    Due,
    /// It was told, or needs it no more.
    Over,
}

impl Intake {
    fn new(fields: &HeaderMap) -> Self {
        let expects =
            first(fields, &EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let expectation = expects.then(|| Mutex::new(Expectation::Waits(None)));
        Self { expectation, ..Self::default() }
    }

    /// Whether the client is to be told to go on, which is so once; else the task is woken when it is to be.
    pub(super) fn continues(&self, cx: &mut Context<'_>) -> bool {
        let Some(expectation) = &self.expectation else { return false };
        let mut expectation = expectation.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *expectation {
            Expectation::Waits(engine) => *engine = Some(cx.waker().clone()),
            Expectation::Due => {
                *expectation = Expectation::Over;
                return true;
            }
            Expectation::Over => {}
        }
        false
    }

    /// The service waits for a piece. A client that has sent one did not wait to be told to.
    fn is_awaited(&self) {
        let Some(expectation) = &self.expectation else { return };
        let mut expectation = expectation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Expectation::Waits(engine) = &mut *expectation {
            let engine = engine.take();
            *expectation = if self.received() == 0 { Expectation::Due } else { Expectation::Over };
            drop(expectation);
            engine.into_iter().for_each(Waker::wake);
        }
    }

    /// How many bytes have been read.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// What is wrong with it, once it broke for the client's fault.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }
}

impl RequestBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self(Source::Empty)
    }

    /// A body that an HTTP/1.1 connection hands over.
    pub(super) fn http1(handed: Handed) -> Self {
        Self(Source::Http1(handed))
    }

    /// A body that comes in an HTTP/2 stream, and what is read of it where there is one.
    pub(super) fn http2(stream: RecvStream, fields: &HeaderMap, gate: &Arc<Gate>) -> (Self, Option<Arc<Intake>>) {
        if stream.is_end_stream() {
            return (Self::empty(), None);
        }
        let intake = Arc::new(Intake::new(fields));
        let (left, clock) = (declared_length(fields), Deadline::default());
        let shared = intake.clone();
        let pace = left.map_or_else(Pace::any, |_| Pace::new(&gate.context.limits));
        let watched = Watched { stream, is_read: false, left, intake, gate: gate.clone(), clock, pace, since: None };
        (Self(Source::Http2(Box::new(watched))), Some(shared))
    }
}

impl Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(piece) = self.poll_piece(cx) else {
            self.intake.is_awaited();
            let since = *self.since.get_or_insert_with(Instant::now);
            let late = ready!(self.pace.poll(cx, &mut self.clock, since, self.gate.context.timeouts.body));
            return Poll::Ready(Some(Err(self.broken_by(late.fault()))));
        };
        self.since = None;
        Poll::Ready(piece.transpose()?.map(|piece| self.check(piece)))
    }

    /// Any error is one, also of a stream that was reset without one: what was cut off must not look complete.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.is_read {
            if let Some(data) = ready!(self.stream.poll_data(cx)) {
                let data = data?;
                // The window opens again; if not, then because the stream is gone.
                let _ = self.stream.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.is_read = true;
        }
        Poll::Ready(ready!(self.stream.poll_trailers(cx))?.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// What `scan` refuses in HTTP/1: the upstream is sent both alike.
    fn check(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let received = length + self.intake.received.fetch_add(length, Relaxed);
        self.left = self.left.map(|left| left.saturating_sub(length));
        self.pace.add(length as usize);
        if self.gate.context.limits.body.is_some_and(|most| received > most) {
            return Err(self.broken_by(Fault::BODY_TOO_LARGE));
        }
        for (name, value) in frame.trailers_ref().into_iter().flatten() {
            if !may_come_late(name.as_str().as_bytes()) {
                return Err(self.broken_by(trailers::LATE));
            }
            if is_padded(value.as_bytes()) {
                return Err(self.broken_by(trailers::PADDED));
            }
        }
        Ok(frame)
    }

    fn broken_by(&self, fault: Fault) -> BoxError {
        self.gate.count_refusal(&fault);
        let _ = self.intake.fault.set(fault); // the first one is what the client is answered
        fault.detail.into()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Source::Empty => Poll::Ready(None),
            Source::Http1(handed) => handed.poll_frame(cx),
            Source::Http2(watched) => watched.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Http1(handed) => handed.is_over(),
            Source::Http2(watched) => watched.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(handed) => handed.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Http2(watched) => watched.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
