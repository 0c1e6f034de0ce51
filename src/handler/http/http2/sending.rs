//! An answer on its way to an HTTP/2 client: a head for HTTP/2, and the body as the client's windows let it pass.
//!
//! Owns the stream from the answer's head on, and the wait for a client that does not take it. Called by `turn`.

use std::io;
use std::pin::{Pin, pin};
use std::task::{self, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_LENGTH, DATE, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::super::BoxError;
use super::super::answer::has_no_body;
use super::super::date;
use super::super::exchange::{Exchange, driven};
use super::super::pace::Pace;
use crate::deadline::Deadline;
use crate::fields;
use crate::handler::Context;

/// Sends an answer, to its last byte. It has no field of a connection, which h2 would refuse. `is_head` says that it has no
/// body, whatever its head says.
pub(super) async fn send<B>(
    respond: &mut SendResponse<Bytes>,
    mut head: Parts,
    body: B,
    is_head: bool,
    exchange: &mut Exchange<'_>,
) -> Sent
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let has_none = is_head || has_no_body(head.status);
    let ends = has_none || body.is_end_stream();
    let length = match () {
        () if has_none => None,
        () if ends => Some(0),
        () => body.size_hint().exact(),
    };
    let left = complete(&mut head, length);
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), ends) else {
        return Sent::GivenUp; // the client reset the stream
    };
    if ends {
        exchange.completed();
        exchange.ended_at_once();
        return Sent::Whole;
    }
    let mut pipe = Pipe::new(stream, left, exchange.context());
    let (sent, at_once) = driven(|cx| pipe.poll(cx, body.as_mut(), exchange)).await;
    if at_once {
        exchange.ended_at_once();
    }
    sent
}

/// Makes an answer's head one for HTTP/2. `length` is that of the body that follows, if it is known: it wins over what the head
/// says. Returns what it says then.
fn complete(head: &mut Parts, length: Option<u64>) -> Option<u64> {
    let fields = &mut head.headers;
    if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
        fields.remove(CONTENT_LENGTH); // RFC 9110, section 8.6
    }
    if fields::is_repeated(fields, &CONTENT_LENGTH)
        && let Some(first) = fields.get(CONTENT_LENGTH).cloned()
    {
        fields.insert(CONTENT_LENGTH, first); // RFC 9110, section 8.6: there is one
    }
    fields.entry(DATE).or_insert_with(date::now);
    let said = fields::first(fields, &CONTENT_LENGTH).map(|said| fields::number(said.as_bytes()));
    match (said, length) {
        (None, None | Some(0)) | (Some(Some(_)), None) => {} // nothing need be said of a body that is not there
        (Some(Some(said)), Some(length)) if said == length => {}
        (_, Some(length)) => drop(fields.insert(CONTENT_LENGTH, HeaderValue::from(length))),
        (Some(None), None) => drop(fields.remove(CONTENT_LENGTH)), // it is no length
    }
    length.or(said.flatten())
}

/// How the sending of an answer ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it was handed over.
    Whole,
    /// The service broke it off.
    BrokenOff,
    /// The client did.
    GivenUp,
}

/// An answer's body on its way. No more is handed to h2 than the client's windows let pass, so what a client does not take
/// waits here, where that is noticed.
struct Pipe {
    stream: SendStream<Bytes>,
    /// How much the body still has to bring, where the head says it.
    left: Option<u64>,
    /// What is left of the piece that the body gave last.
    piece: Bytes,
    /// Nothing comes behind it.
    is_last: bool,
    /// How long a piece may wait for the client, and how fast pieces must go.
    limit: Duration,
    pace: Pace,
    stall: Deadline,
    /// Since when this one does.
    since: Option<Instant>,
}

impl Pipe {
    fn new(stream: SendStream<Bytes>, left: Option<u64>, context: &Context) -> Self {
        let (limit, pace) = (context.timeouts.body, Pace::new(&context.limits));
        Self { stream, left, piece: Bytes::new(), is_last: false, limit, pace, stall: Deadline::default(), since: None }
    }

    fn poll<B>(&mut self, cx: &mut task::Context<'_>, mut body: Pin<&mut B>, exchange: &mut Exchange<'_>) -> Poll<Sent>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        loop {
            while !self.piece.is_empty() {
                let Some(room) = ready!(self.poll_room(cx, exchange)) else { return Poll::Ready(Sent::GivenUp) };
                let data = self.piece.split_to(room.min(self.piece.len()));
                exchange.handed_over(data.len());
                self.pace.add(data.len());
                let ends = self.is_last && self.piece.is_empty();
                let sent = self.stream.send_data(data, ends);
                if ends || sent.is_err() {
                    return Poll::Ready(over(sent, exchange));
                }
            }
            let frame = if body.is_end_stream() { None } else { ready!(self.poll_frame(cx, body.as_mut())) };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    let Some(left) = self.left_behind(&data) else { return self.break_off(exchange) };
                    self.left = left;
                    self.is_last = left.unwrap_or(0) == 0 && body.is_end_stream();
                    self.piece = data;
                }
                Some(Err(Broken::Client)) => return Poll::Ready(Sent::GivenUp),
                Some(Err(Broken::Service)) => return self.break_off(exchange),
                _ if self.left.is_some_and(|left| left > 0) => return self.break_off(exchange),
                None => return Poll::Ready(over(self.stream.send_data(Bytes::new(), true), exchange)),
                Some(Ok(Err(trailers))) => {
                    let mut trailers = trailers.into_trailers().unwrap_or_default();
                    fields::leave_what_may_come_late(&mut trailers);
                    return Poll::Ready(over(self.stream.send_trailers(trailers), exchange));
                }
            }
        }
    }

    /// How much the body has to bring behind `data`; nothing where that is too much already.
    fn left_behind(&self, data: &Bytes) -> Option<Option<u64>> {
        match self.left {
            None => Some(None),
            Some(left) => left.checked_sub(data.len() as u64).map(Some),
        }
    }

    /// The body failed, or is not as long as its head says: it must not look whole (RFC 9113, section 8.1.1).
    #[cold]
    fn break_off(&mut self, exchange: &mut Exchange<'_>) -> Poll<Sent> {
        exchange.broke_off();
        self.stream.send_reset(Reason::INTERNAL_ERROR);
        Poll::Ready(Sent::BrokenOff)
    }

    /// The body's next piece; the end, too, where the client resets the stream meanwhile.
    fn poll_frame<B>(
        &mut self,
        cx: &mut task::Context<'_>,
        body: Pin<&mut B>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>>
    where
        B: Body<Data = Bytes>,
    {
        match body.poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(|_| Broken::Service))),
            Poll::Pending => {
                self.pace.rest(); // nothing waits for the client
                self.stream.poll_reset(cx).map(|_| Some(Err(Broken::Client)))
            }
        }
    }

    /// How many bytes the client takes now. Nothing once the stream is reset, or the client has taken too little for too long:
    /// then its stream is reset when it is dropped.
    fn poll_room(&mut self, cx: &mut task::Context<'_>, exchange: &mut Exchange<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(self.piece.len());
        let mut room = self.stream.capacity();
        while room == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(more))) => room = more,
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {
                    let since = *self.since.get_or_insert_with(Instant::now);
                    ready!(self.pace.poll(cx, &mut self.stall, since, self.limit));
                    exchange.not_taken(&io::ErrorKind::TimedOut.into());
                    return Poll::Ready(None);
                }
            }
        }
        self.since = None;
        Poll::Ready(Some(room))
    }
}

/// Who broke an answer off.
enum Broken {
    Service,
    Client,
}

/// The last of an answer was handed to h2, which fails only where the client has reset the stream.
fn over(sent: Result<(), h2::Error>, exchange: &mut Exchange<'_>) -> Sent {
    if sent.is_err() {
        return Sent::GivenUp;
    }
    exchange.completed();
    Sent::Whole
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_head_says_its_length_and_date() {
        let (mut head, ()) = Response::new(()).into_parts();
        complete(&mut head, Some(7));
        assert_eq!(head.headers[CONTENT_LENGTH], "7");
        assert!(head.headers.contains_key(DATE));
    }

    #[test]
    fn an_answers_head_says_the_length_that_its_body_has() {
        for (said, length, expected) in [
            (Some("7"), Some(7), Some("7")),
            (Some("7"), Some(5), Some("5")),
            (Some("7"), Some(0), Some("0")),
            (Some("7"), None, Some("7")),
            (Some("x"), None, None),
            (Some("x"), Some(5), Some("5")),
            (None, Some(0), None),
            (None, None, None),
        ] {
            let (mut head, ()) = Response::new(()).into_parts();
            head.headers.extend(said.map(|said| (CONTENT_LENGTH, HeaderValue::from_static(said))));
            let declared = complete(&mut head, length);
            let found = head.headers.get(CONTENT_LENGTH).map(|found| found.to_str().unwrap());
            assert_eq!(found, expected, "{said:?} {length:?}");
            assert_eq!(declared, length.or(expected.map(|text| text.parse().unwrap())), "{said:?} {length:?}");
        }
    }

    #[test]
    fn an_answer_without_content_says_no_length() {
        let (mut head, ()) = Response::builder().status(204).header(CONTENT_LENGTH, "7").body(()).unwrap().into_parts();
        complete(&mut head, None);
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
    }
}
