//! A request's body as the service reads it.
//!
//! Owns [`RequestBody`] and, for HTTP/2, the count of its bytes, the deadline between two reads and the check of trailers;
//! HTTP/1.1's bodies come from `http1`, read and checked.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::BoxError;
use super::deadline::Deadline;
use super::fault::Fault;
use super::gate::Gate;
use super::http1::handover::Handed;
use super::tracked::Halves;
use super::trailers;

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
    Http2(Watched),
}

/// An HTTP/2 body: one stream among many.
#[derive(Debug)]
struct Watched {
    body: Incoming,
    halves: Arc<Halves>,
    /// Where there is anything to read.
    watch: Option<Box<Watch>>,
}

/// The deadline between two reads of one stream among many, and where its faults are counted.
#[derive(Debug)]
struct Watch {
    gate: Arc<Gate>,
    clock: Deadline,
    since: Option<Instant>,
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

    /// A body that hyper reads.
    pub(super) fn http2(body: Incoming, halves: Arc<Halves>, gate: &Arc<Gate>) -> Self {
        let watch = (!body.is_end_stream())
            .then(|| Box::new(Watch { gate: gate.clone(), clock: Deadline::default(), since: None }));
        Self(Source::Http2(Watched { body, halves, watch }))
    }
}

impl Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            return match &mut self.watch {
                Some(watch) => watch.poll_late(cx).map(|late| Some(Err(late))),
                None => Poll::Pending,
            };
        };
        if let Some(watch) = &mut self.watch {
            watch.since = None;
        }
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let received = length + self.halves.received.fetch_add(length, Relaxed);
            if let Some(watch) = self.watch.as_ref().filter(|watch| watch.is_too_large(received)) {
                self.halves.is_too_large.store(true, Relaxed);
                return Poll::Ready(Some(Err(watch.broken_by(Fault::BODY_TOO_LARGE))));
            }
        }
        Poll::Ready(frame.map(|frame| match &self.watch {
            Some(watch) => watch.check(frame?),
            None => Ok(frame?),
        }))
    }
}

impl Watch {
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.clock.poll(cx, since + self.gate.context.timeouts.body).map(|()| self.broken_by(Fault::BODY_LATE))
    }

    /// What `scan` refuses in HTTP/1: the upstream is sent both alike.
    fn check(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        let mut names = frame.trailers_ref().into_iter().flat_map(|trailers| trailers.keys());
        if names.any(|name| trailers::is_forbidden(name.as_str().as_bytes())) {
            return Err(self.broken_by(trailers::LATE));
        }
        Ok(frame)
    }

    fn is_too_large(&self, received: u64) -> bool {
        self.gate.context.limits.body.is_some_and(|most| received > most)
    }

    fn broken_by(&self, fault: Fault) -> BoxError {
        self.gate.count_refusal(&fault);
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
            Source::Http2(watched) => watched.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(handed) => handed.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Http2(watched) => watched.body.size_hint(),
        }
    }
}
