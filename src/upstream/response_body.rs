//! The body of a server's response, which drives the connection that it comes from.
//!
//! Made by `exchange`. When the exchange is complete both ways the connection goes back to the worker's pool, often
//! before the first piece is asked for; a body that is dropped or breaks off closes it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::Server;
use super::link::Link;
use super::progress::{Deadlines, Phase};
use super::request_body::BoxError;
use crate::metrics::UpstreamFailure;

/// A response's body, streamed. It fails, rather than ends, where the server broke off.
pub struct ResponseBody {
    incoming: Incoming,
    server: Arc<Server>,
    /// The connection, until the exchange is complete.
    source: Option<Box<Source>>,
}

struct Source {
    link: Box<Link>,
    deadlines: Deadlines,
    /// Since when the next piece is waited for.
    waiting: Option<Instant>,
    /// Whether the connection may take another request.
    reusable: bool,
}

impl ResponseBody {
    pub(super) fn new(
        incoming: Incoming,
        server: Arc<Server>,
        link: Box<Link>,
        deadlines: Deadlines,
        reusable: bool,
        now: Instant,
    ) -> Self {
        if !link.is_ready() && !incoming.is_end_stream() {
            let source = Some(Box::new(Source { link, deadlines, waiting: None, reusable }));
            return Self { incoming, server, source };
        }
        if reusable {
            keep(&server, link, now);
        }
        Self { incoming, server, source: None }
    }

    /// The response is complete: keeps the connection if the request is complete too, else closes it.
    fn let_go(&mut self) {
        if let Some(source) = self.source.take()
            && source.reusable
        {
            keep(&self.server, source.link, Instant::now());
        }
    }

    /// What the connection has read already. It only moves when `source` is polled, by this same task, so nobody needs
    /// waking.
    fn poll_read_already(&mut self) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let read = self.poll_read_already();
        if read.is_ready() {
            return read;
        }
        // An end of the connection shows in what was read.
        if let Some(source) = &mut self.source {
            let _ = source.link.poll_quietly();
        }
        let read = self.poll_read_already();
        if read.is_ready() {
            return read;
        }
        if let Some(source) = &mut self.source {
            let _ = source.link.poll(cx);
        }
        self.poll_read_already()
    }

    fn broke_off(&mut self, error: hyper::Error) -> BoxError {
        let client_failed = self.source.take().is_some_and(|source| source.deadlines.phase() == Phase::Failed);
        if !client_failed {
            self.server.metrics.fail(UpstreamFailure::Truncated);
        }
        error.into()
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(source) = &mut self.source else { return Poll::Pending };
        let since = *source.waiting.get_or_insert_with(Instant::now);
        let deadline = source.deadlines.next_piece(since);
        if source.link.poll_deadline(cx, deadline).is_pending() {
            return Poll::Pending;
        }
        self.source = None;
        self.server.metrics.fail(UpstreamFailure::BodyTimeout);
        Poll::Ready(Some(Err("the upstream's response stood still for longer than the body deadline".into())))
    }
}

/// Keeps a connection whose response is complete `now`, if the request is complete too; else closes it.
fn keep(server: &Server, link: Box<Link>, now: Instant) {
    if link.is_ready() {
        server.pool.put(link, now);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.poll_incoming(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(source) = &mut self.source {
                    source.waiting = None;
                }
                // After the last piece nobody may ask again.
                if self.incoming.is_end_stream() {
                    self.let_go();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.broke_off(error)))),
            Poll::Ready(None) => {
                self.let_go();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_late(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.source.is_some() { "streaming" } else { "read" };
        f.debug_struct("ResponseBody").field("server", &self.server.name).field("state", &state).finish()
    }
}
