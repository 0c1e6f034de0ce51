//! The body of a response over HTTP/2. A part of `response_body`, which the handlers see.
//!
//! What is dropped before its end resets the stream, and so does what the client's body breaks off.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::Frame;
use hyper::http::response::Parts;
use tokio::time::Instant;

use super::super::lease::Lease;
use super::super::progress::Deadlines;
use super::super::request_body::BoxError;
use super::super::sending::BodyFailed;
use super::connections::Ticket;
use super::pump::Pump;
use crate::deadline::Deadline;
use crate::fields;
use crate::metrics::UpstreamFailure;

/// A response's body on its way.
pub(in super::super) struct Receiving {
    lease: Lease,
    stream: RecvStream,
    pump: Pump,
    deadlines: Deadlines,
    timer: Deadline,
    /// Since when the next piece is waited for.
    waiting: Option<Instant>,
    /// How much is to come, where the head says so.
    left: Option<u64>,
    _ticket: Ticket,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl Receiving {
    pub(super) fn new(
        head: &Parts,
        lease: Lease,
        ticket: Ticket,
        stream: RecvStream,
        pump: Pump,
        timer: Deadline,
        deadlines: Deadlines,
    ) -> Self {
        let left = fields::declared_length(&head.headers);
        Self { lease, stream, pump, deadlines, timer, waiting: None, left, _ticket: ticket }
    }

    /// How many bytes are to come, where that is known.
    pub(in super::super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next piece, then the trailers; `None` at the end. After an error, or the end, it is not polled again.
    pub(in super::super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Poll::Ready(Err(BodyFailed)) = self.pump.poll(cx) {
            return Poll::Ready(Some(Err("the request's body broke off".into()))); // the client's fault
        }
        if self.deadlines.total.is_some_and(|total| Instant::now() >= total) {
            return self
                .broken(UpstreamFailure::BodyTimeout, "the upstream's response took longer than the total deadline");
        }
        match self.stream.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                self.waiting = None;
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                // It is the client's now; more may come.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(_))) => self.broken(UpstreamFailure::Truncated, "the upstream's response broke off"),
            Poll::Ready(None) => match self.stream.poll_trailers(cx) {
                Poll::Ready(Ok(trailers)) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
                Poll::Ready(Err(_)) => self.broken(UpstreamFailure::Truncated, "the upstream's response broke off"),
                Poll::Pending => self.poll_late(cx),
            },
            Poll::Pending => self.poll_late(cx),
        }
    }

    /// Whether nothing is left to come.
    pub(in super::super) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Polled {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        ready!(self.timer.poll(cx, self.deadlines.next_piece(since)));
        self.broken(UpstreamFailure::BodyTimeout, "the upstream's response stood still for too long")
    }

    fn broken(&mut self, reason: UpstreamFailure, why: &'static str) -> Polled {
        self.lease.metrics.fail(reason);
        Poll::Ready(Some(Err(why.into())))
    }
}
