//! Requests to servers over HTTP/2 (RFC 9113): a stream for each, over few connections.
//!
//! `exchange` calls [`Upstream::attempt_http2`] where the upstream's protocol is HTTP/2. Connections, and how many streams
//! each may have, are `connections`', a request's way is `pump`'s, a response's `receiving`'s. The library `h2` reads and
//! writes the frames.

mod connections;
mod pump;
mod receiving;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};

use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use hyper::header::CONTENT_LENGTH;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

pub(super) use self::connections::Connections;
use self::connections::Ticket;
use self::pump::Pump;
pub(super) use self::receiving::Receiving;
use super::Upstream;
use super::exchange::{Answer, Answered, Came, Early, Failed, Failure, MOST_INTERIM, Rare, TOO_MUCH_INTERIM};
use super::lease::Lease;
use super::progress::Deadlines;
use super::response_body::ResponseBody;
use super::response_head::NOT_A_NUMBER;
use super::retry::Course;
use super::sending::{BodyFailed, Sending};
use crate::deadline::Deadline;
use crate::fields;

/// A response whose head has come, and where the rest of it comes from.
pub(super) struct Came2 {
    lease: Lease,
    ticket: Ticket,
    response: Response<RecvStream>,
    pump: Pump,
    timer: Deadline,
}

impl Upstream {
    /// Sends the request to one server over HTTP/2. Boxed, so that requests over HTTP/1.1 do not carry the room for it along.
    pub(super) fn attempt_http2<'f>(
        &'f self,
        lease: Lease,
        request: Box<Sending>,
        course: &'f mut Course,
        early: Early<'f>,
    ) -> Rare<'f, Result<Came, Box<Failed>>> {
        Box::pin(self.over_http2(lease, request, course, early))
    }

    async fn over_http2(
        &self,
        lease: Lease,
        mut request: Box<Sending>,
        course: &mut Course,
        early: Early<'_>,
    ) -> Result<Came, Box<Failed>> {
        let ticket = match self.http2_connection(&lease, course.deadlines.until(), &mut course.trail.connect).await {
            Ok(ticket) => ticket,
            Err(error) => return Err(Failed::new(Failure::Dial(error), lease, request)),
        };
        course.begin_sending(&lease, &request, Instant::now());
        let (response, stream) = match ticket.open(&mut request) {
            Ok(opened) => opened,
            Err(error) => return Err(Failed::new(failure(&error), lease, request)),
        };
        let (mut pump, mut timer) = (Pump::new(stream, request), Deadline::default());
        match await_head(response, &mut pump, &mut timer, &course.deadlines, early).await {
            Ok(response) => Ok(Came::Http2(Box::new(Came2 { lease, ticket, response, pump, timer }))),
            Err(failure) => {
                if matches!(failure, Failure::ResponseTimeout | Failure::AttemptTimeout | Failure::WriteTimeout) {
                    ticket.retire(); // nobody else is to wait for a connection that may be dead
                }
                Err(Failed::new(failure, lease, pump.into_request()))
            }
        }
    }
}

impl Came2 {
    /// Gives the stream to the response's body.
    pub(super) fn accept(self, course: &mut Course) -> Answered {
        let Self { lease, ticket, response, pump, timer } = self;
        let (head, stream) = response.into_parts();
        lease.answered(head.status, course);
        let body = if stream.is_end_stream() {
            ResponseBody::empty()
        } else {
            let receiving = Receiving::new(&head, lease, ticket, stream, pump, timer, course.deadlines.clone());
            ResponseBody::over_http2(Box::new(receiving))
        };
        Answered { answer: Answer::Response(Response::from_parts(head, body)), trail: course.end() }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn request(&self) -> &Sending {
        self.pump.request()
    }

    pub(super) fn into_request(self) -> Box<Sending> {
        self.pump.into_request()
    }
}

async fn await_head(
    mut response: ResponseFuture,
    pump: &mut Pump,
    timer: &mut Deadline,
    deadlines: &Deadlines,
    early: Early<'_>,
) -> Result<Response<RecvStream>, Failure> {
    let mut interim = 0;
    poll_fn(|cx| {
        if let Poll::Ready(Err(BodyFailed)) = pump.poll(cx) {
            return Poll::Ready(Err(Failure::ClientBody));
        }
        // Before the response, which would pass over them. h2 bounds the size of each.
        while let Poll::Ready(Some(Ok(head))) = response.poll_informational(cx) {
            if head.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Failure::Switch)); // RFC 9113, section 8.6
            }
            interim += 1;
            if interim > MOST_INTERIM {
                return Poll::Ready(Err(TOO_MUCH_INTERIM));
            }
            early(head);
        }
        if let Poll::Ready(head) = Pin::new(&mut response).poll(cx) {
            let head = head.map_err(|error| failure(&error))?;
            // h2 holds the body to the first of them; who reads on might hold it to another (RFC 9113, section 8.1.1).
            let is_clear = !fields::is_repeated(head.headers(), &CONTENT_LENGTH);
            return Poll::Ready(if is_clear { Ok(head) } else { Err(NOT_A_NUMBER) });
        }
        ready!(timer.poll(cx, deadlines.head()));
        Poll::Ready(Err(deadlines.failure()))
    })
    .await
}

/// What an error before the head of the response means for the request.
fn failure(error: &h2::Error) -> Failure {
    let unprocessed = match error.reason() {
        Some(Reason::REFUSED_STREAM) => error.is_reset(), // RFC 9113, section 8.7
        Some(Reason::NO_ERROR) => error.is_go_away(),     // its stream is above the last one (section 6.8)
        _ => false,
    };
    match () {
        () if unprocessed && error.is_remote() => Failure::Unprocessed,
        () if error.is_io() || error.is_remote() => Failure::Closed,
        () => Failure::Protocol("it breaks HTTP/2"),
    }
}
