//! A request's body as the service reads it.
//!
//! Owns the count of its bytes and, for HTTP/2, the deadline between two reads and the check of trailers; HTTP/1.1's are
//! the guard's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::BoxError;
use super::deadline::Deadline;
use super::exchange::Halves;
use super::fault::Fault;
use super::gate::Gate;
use super::trailers;

/// A request's body as it streams in. Reading it has the endpoint's `body` deadline.
///
/// An error means that the client went away, stalled or broke the protocol: whatever the body was passed on to must be
/// aborted, never completed.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    halves: Option<Arc<Halves>>,
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
    /// Wraps a body; `watch` has it watched here, where no guard does.
    pub(super) fn new(body: Incoming, halves: Option<Arc<Halves>>, watch: Option<Arc<Gate>>) -> Self {
        let watch = watch
            .filter(|_| !body.is_end_stream())
            .map(|gate| Box::new(Watch { gate, clock: Deadline::default(), since: None }));
        Self { body, halves, watch }
    }
}

impl Watch {
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.clock.poll(cx, since + self.gate.context.timeouts.body).map(|()| self.broken_by(Fault::BODY_LATE))
    }

    /// What the guard refuses in HTTP/1: the upstream is sent both alike.
    fn check(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        let mut names = frame.trailers_ref().into_iter().flat_map(|trailers| trailers.keys());
        if names.any(|name| trailers::is_forbidden(name.as_str().as_bytes())) {
            return Err(self.broken_by(trailers::LATE));
        }
        Ok(frame)
    }

    fn broken_by(&self, fault: Fault) -> BoxError {
        self.gate.context.metrics.here().requests_refused[fault.reason as usize].add(1);
        fault.detail.into()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return match &mut this.watch {
                Some(watch) => watch.poll_late(cx).map(|late| Some(Err(late))),
                None => Poll::Pending,
            };
        };
        if let Some(watch) = &mut this.watch {
            watch.since = None;
        }
        if let (Some(halves), Some(Ok(frame))) = (&this.halves, &frame) {
            halves.received.fetch_add(frame.data_ref().map_or(0, Bytes::len) as u64, Relaxed);
        }
        Poll::Ready(frame.map(|frame| match &this.watch {
            Some(watch) => watch.check(frame?),
            None => Ok(frame?),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
