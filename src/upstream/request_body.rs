//! The body of a request on its way to a server.
//!
//! One type for all of them, so that one pool of connections serves every handler; a request without a body costs no
//! allocation. Read by `sending` as fast as the server takes it; it reports to `progress` how that goes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::progress::{Phase, Progress};

/// Any error of a body; it aborts the message, it never shortens it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, streamed.
#[derive(Default)]
pub struct Outgoing(Option<Streaming>);

struct Streaming {
    body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
    progress: Arc<Progress>,
}

impl Outgoing {
    /// A body that is read from `body` as the server takes it. An error of `body` aborts the request.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self(None);
        }
        Self(Some(Streaming { body: Box::pin(body), progress: Arc::new(Progress::new()) }))
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Notes that no more of it is asked for.
    pub(super) fn finish(&self) {
        if let Some(streaming) = &self.0 {
            streaming.progress.enter(Phase::Done);
        }
    }

    /// Tells, while the body is elsewhere, how far it has come.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.0.as_ref().map(|streaming| Arc::clone(&streaming.progress))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(Streaming { body, progress }) = &mut self.0 else { return Poll::Ready(None) };
        let polled = body.as_mut().poll_frame(cx);
        progress.enter(match &polled {
            Poll::Pending => Phase::AwaitingClient,
            Poll::Ready(Some(Err(_))) => Phase::Failed,
            Poll::Ready(None) => Phase::Done,
            // Nobody asks further after trailers, nor after the last piece.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || body.is_end_stream() => Phase::Done,
            Poll::Ready(Some(Ok(_))) => Phase::Moving,
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|streaming| streaming.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |streaming| streaming.body.size_hint())
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.0.as_ref().map(|streaming| streaming.progress.phase());
        f.debug_tuple("Outgoing").field(&phase).finish()
    }
}
