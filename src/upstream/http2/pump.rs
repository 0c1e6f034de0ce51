//! A request's body on its way to a server over HTTP/2, as fast as the server's windows allow.
//!
//! Polled inline by whoever waits for the answer: `http2` for its head, `receiving` for its body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::Body;

use super::super::sending::{BodyFailed, Sending};
use crate::fields;

/// A stream's sending half, and the request that is written to it.
pub(super) struct Pump {
    stream: SendStream<Bytes>,
    request: Box<Sending>,
    /// What the server's windows had no room for yet.
    piece: Bytes,
    /// How much the body still has to bring, where its length was declared.
    left: Option<u64>,
    is_done: bool,
}

impl Pump {
    pub(super) fn new(stream: SendStream<Bytes>, request: Box<Sending>) -> Self {
        let (is_done, left) = (request.body_is_empty(), request.declared_length());
        Self { stream, request, piece: Bytes::new(), left, is_done }
    }

    pub(super) fn request(&self) -> &Sending {
        &self.request
    }

    pub(super) fn into_request(self) -> Box<Sending> {
        self.request
    }

    /// Sends what the client has sent and the server has room for. Ready once nothing is left to be done, which is so too
    /// where the server takes no more: what it answers decides.
    ///
    /// # Errors
    /// The body failed; the stream is reset.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyFailed>> {
        while !self.is_done {
            if self.piece.is_empty() {
                let frame = ready!(Pin::new(self.request.body_mut()).poll_frame(cx));
                self.take(frame.transpose())?;
            } else {
                ready!(self.poll_piece(cx));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.reserve_capacity(self.piece.len());
        let mut room = self.stream.capacity();
        while room == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(more)) => room = more,
                Some(Err(_)) | None => return self.end(), // it takes no more
            }
        }
        let piece = self.piece.split_to(room.min(self.piece.len()));
        if self.stream.send_data(piece, false).is_err() {
            return self.end();
        }
        Poll::Ready(())
    }

    fn end(&mut self) -> Poll<()> {
        self.is_done = true;
        Poll::Ready(())
    }

    fn take<E>(&mut self, frame: Result<Option<hyper::body::Frame<Bytes>>, E>) -> Result<(), BodyFailed> {
        let Ok(frame) = frame else { return self.fail() };
        match frame.map(hyper::body::Frame::into_data) {
            Some(Ok(data)) => {
                if let Some(left) = &mut self.left {
                    let Some(rest) = left.checked_sub(data.len() as u64) else { return self.fail() };
                    *left = rest;
                }
                self.piece = data;
            }
            _ if self.left.is_some_and(|left| left > 0) => return self.fail(),
            end => {
                let trailers = end.and_then(Result::err).and_then(|frame| frame.into_trailers().ok());
                let ended = match trailers {
                    Some(mut trailers) => {
                        fields::leave_what_may_come_late(&mut trailers);
                        self.stream.send_trailers(trailers)
                    }
                    None => self.stream.send_data(Bytes::new(), true),
                };
                drop(ended); // a server that takes no more may have answered
                self.is_done = true;
            }
        }
        Ok(())
    }

    /// What is not whole must not look so (RFC 9113, section 8.1.1).
    fn fail(&mut self) -> Result<(), BodyFailed> {
        self.is_done = true;
        self.stream.send_reset(Reason::CANCEL);
        Err(BodyFailed)
    }
}
