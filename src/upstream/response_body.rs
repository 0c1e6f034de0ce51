//! The body of a server's response, which drives the connection that it comes from.
//!
//! Made by `exchange`. When the exchange is complete both ways the connection goes back to the worker's pool, often
//! before the first piece is asked for; a body that is dropped or breaks off closes it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::http2::Receiving;
use super::lease::Lease;
use super::link::Link;
use super::progress::Deadlines;
use super::request_body::BoxError;
use super::sending::{BodyFailed, Sending};
use crate::metrics::UpstreamFailure;

/// A response's body, streamed. It fails, rather than ends, where the server broke off.
pub struct ResponseBody {
    /// All of it, where it came along with the head.
    whole: Bytes,
    /// Where the rest comes from over HTTP/1.1, until the exchange is complete.
    source: Option<Box<Source>>,
    /// Where it comes from over HTTP/2.
    stream: Option<Box<Receiving>>,
}

struct Source {
    /// The server is busy until the exchange is complete.
    lease: Lease,
    link: Box<Link>,
    /// The request, of which the server may not have had all.
    request: Box<Sending>,
    deadlines: Deadlines,
    /// Since when the next piece is waited for.
    waiting: Option<Instant>,
}

impl ResponseBody {
    pub(super) fn new(
        lease: Lease,
        mut link: Box<Link>,
        request: Box<Sending>,
        deadlines: &Deadlines,
        now: Instant,
    ) -> Self {
        if let Some(whole) = link.take_whole_body() {
            keep(&lease, link, &request, now);
            return Self { whole, source: None, stream: None };
        }
        let source = Some(Box::new(Source { lease, link, request, deadlines: deadlines.clone(), waiting: None }));
        Self { whole: Bytes::new(), source, stream: None }
    }

    /// A body that came whole, with nothing in it.
    pub(super) fn empty() -> Self {
        Self { whole: Bytes::new(), source: None, stream: None }
    }

    pub(super) fn over_http2(stream: Box<Receiving>) -> Self {
        Self { stream: Some(stream), ..Self::empty() }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let polled = ready!(stream.poll_frame(cx));
        // The end, and nobody asks again; or an error, which resets the stream.
        let goes_on = polled.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data));
        if !goes_on || stream.is_end_stream() {
            self.stream = None;
        }
        Poll::Ready(polled)
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(Source { link, request, waiting, deadlines, .. }) = self.source.as_deref_mut() else {
            return Poll::Ready(None);
        };
        if deadlines.total.is_some_and(|total| Instant::now() >= total) {
            return self
                .broken(UpstreamFailure::BodyTimeout, "the upstream's response took longer than the total deadline");
        }
        if let Poll::Ready(Err(BodyFailed)) = link.poll_send(cx, request) {
            self.source = None; // the client's fault, not the server's
            return Poll::Ready(Some(Err("the request's body broke off".into())));
        }
        match link.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                *waiting = None;
                // After the last piece nobody may ask again.
                if link.is_read() {
                    self.let_go();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(why))) => self.broken(UpstreamFailure::Truncated, why),
            Poll::Ready(None) => {
                self.let_go();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_late(cx),
        }
    }

    /// The response is complete: keeps the connection if the request is complete too, else closes it.
    fn let_go(&mut self) {
        if let Some(source) = self.source.take() {
            keep(&source.lease, source.link, &source.request, Instant::now());
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(source) = &mut self.source else { return Poll::Pending };
        let since = *source.waiting.get_or_insert_with(Instant::now);
        let deadline = source.deadlines.next_piece(since);
        if source.link.poll_deadline(cx, deadline).is_pending() {
            return Poll::Pending;
        }
        self.broken(UpstreamFailure::BodyTimeout, "the upstream's response stood still for too long")
    }

    /// Counts the failure, closes the connection, and says why the body is not complete.
    fn broken(&mut self, reason: UpstreamFailure, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(source) = self.source.take() {
            source.lease.metrics.fail(reason);
        }
        Poll::Ready(Some(Err(why.into())))
    }
}

/// Keeps a connection whose response is complete `now`, if it can take another request; else closes it.
///
/// A server that was offered another protocol and refused may still have begun to speak it.
fn keep(server: &Lease, link: Box<Link>, request: &Sending, now: Instant) {
    if link.is_reusable() && request.is_complete() && request.offered().is_none() {
        server.here().pool.put(link, now);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.stream.is_some() {
            return this.poll_stream(cx);
        }
        if this.whole.is_empty() {
            return this.poll_source(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.whole)))))
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_empty() && self.source.is_none() && self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(stream) = &self.stream {
            return stream.left().map_or_else(SizeHint::default, SizeHint::with_exact);
        }
        let left = self.source.as_ref().map_or(Some(self.whole.len() as u64), |source| source.link.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.source.is_some() || self.stream.is_some() { "streaming" } else { "read" };
        f.debug_struct("ResponseBody").field("state", &state).finish()
    }
}
