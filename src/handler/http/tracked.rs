//! An HTTP/2 answer's body on its way to the client, with the exchange that ends with it.
//!
//! Made by `answer`; polled by hyper in the stream's task, which `http2` watches through [`Halves`].

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::BoxError;
use super::exchange::Exchange;

/// What both halves of an exchange, and its stream's keeper, know of each other.
#[derive(Debug, Default)]
pub(super) struct Halves {
    /// Bytes of the request's body that the service has read.
    pub(super) received: AtomicU64,
    /// How often a piece of the answer was handed over or asked for: odd while one is being sent.
    pub(super) turns: AtomicU64,
    /// The request was let into work; its client gave it up; it was refused.
    pub(super) placed: AtomicBool,
    pub(super) given_up: AtomicBool,
    pub(super) refused: AtomicBool,
    /// Its body was larger than allowed.
    pub(super) is_too_large: AtomicBool,
}

impl Halves {
    fn asked(&self) {
        let turns = self.turns.load(Relaxed);
        self.turns.store(turns + turns % 2, Relaxed);
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
        // What is left of the frame that was cut last.
        rest: Bytes,
    }
}

/// How much of an HTTP/2 answer is handed over at a time. h2 takes a whole frame as soon as the window is open by one
/// byte; in pieces, the rest of a large one waits here, where a client that does not take it is noticed.
const PIECE: usize = 64 * 1024;

impl<B> Tracked<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// An answer whose head is known. `has_none` says that no body follows, whatever the service gave.
    pub(super) fn new(body: Answer<B>, mut exchange: Exchange, has_none: bool) -> Self {
        if has_none || body.is_end_stream() {
            exchange.completed();
        }
        let expected = body.size_hint().exact();
        Self { body, exchange, expected, rest: Bytes::new() }
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(halves) = this.exchange.halves() {
            halves.asked();
        }
        let mut frame = if this.rest.is_empty() {
            ready!(this.body.as_mut().poll_frame(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(this.rest))))
        };
        if let Some(Ok(whole)) = &mut frame
            && let Some(data) = whole.data_mut()
            && data.len() > PIECE
        {
            *this.rest = data.split_off(PIECE);
        }
        match &frame {
            Some(Ok(frame)) => {
                if let Some(halves) = this.exchange.halves() {
                    halves.turns.fetch_add(1, Relaxed);
                }
                let sent = this.exchange.handed_over(frame.data_ref().map_or(0, Bytes::len));
                let all = this.expected.is_some_and(|expected| sent >= expected);
                if all || frame.is_trailers() || (this.rest.is_empty() && this.body.is_end_stream()) {
                    this.exchange.completed();
                }
            }
            Some(Err(_)) => this.exchange.broke_off(),
            None => this.exchange.completed(),
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
