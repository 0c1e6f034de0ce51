//! One request, one answer: takes a connection from the pool or dials, sends, and waits for the head of the response.
//!
//! Called by `handler/http_proxy`. The body that it returns (`response_body`) carries on from there.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::response::Parts;
use hyper::{Request, Response, StatusCode};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::dial::DialError;
use super::link::{Link, Sent};
use super::progress::{Deadlines, Phase};
use super::request_body::Outgoing;
use super::response_body::ResponseBody;
use super::tunnel::Tunnel;
use super::{Server, Upstream};
use crate::metrics::UpstreamFailure;

/// A server's answer, and which server it was.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// The server's name.
    pub server: Arc<str>,
}

/// What a server answered.
#[derive(Debug)]
pub enum Answer {
    /// A response.
    Response(Response<ResponseBody>),
    /// 101: from here on the connection speaks another protocol.
    Switched(Response<()>, Tunnel),
}

/// Why there is no answer.
#[derive(Debug)]
pub struct ExchangeError {
    /// What happened.
    pub failure: Failure,
    /// The server that it happened with.
    pub server: Arc<str>,
}

/// What went wrong between a request and the head of its response.
#[derive(Debug)]
pub enum Failure {
    /// No server could be reached; this is the last one's reason.
    Dial(DialError),
    /// The server closed or reset the connection before a byte of its response.
    Closed,
    /// The response broke off within its head.
    Incomplete,
    /// No response within the `response` deadline.
    ResponseTimeout,
    /// The server took nothing of the request for as long as the `body` deadline.
    WriteTimeout,
    /// What came is not a response that can be passed on, and why.
    Protocol(&'static str),
    /// The server switched protocols without being asked, or to one that was not offered.
    Switch,
    /// The response's head is larger, or has more fields, than is read.
    HeadTooLarge,
    /// The client's body failed; the request was aborted, not completed.
    ClientBody,
}

impl Upstream {
    /// Sends `request` to one of the servers and waits for the head of the response.
    ///
    /// A server that cannot be reached was sent nothing, so the next one is tried, each once, until twice the
    /// `connect` deadline is used up. A kept connection that proves closed is replaced once by a fresh one, where
    /// nothing was sent on it or where the request is idempotent and has no body (RFC 9110, section 9.2.2).
    ///
    /// `request`, boxed since it is large and passes through many hands, carries the head as the server is to see it: target in origin form, `Host` set, no fields of the
    /// client's connection. If it has `Upgrade`, a 101 to a protocol that it names is an answer; else 101 is a fault.
    ///
    /// # Errors
    /// No answer that could be passed on; it is counted, and the connection is closed.
    pub async fn exchange(&self, mut request: Box<Request<Outgoing>>) -> Result<Answered, ExchangeError> {
        let begun = Instant::now();
        let mut now = begun;
        let mut unreachable = None;
        for server in self.pick() {
            if let Some(link) = server.pool.take(now, self.timeouts.idle) {
                let copy = is_repeatable(&request).then(|| copy_of(&request));
                match self.attempt(server, link, request, now).await {
                    Ok(answer) => return Ok(answer),
                    Err(Unanswered { unsent: Some(unsent), .. }) => request = unsent,
                    Err(Unanswered { error, .. }) => match copy {
                        Some(copy) if matches!(error.failure, Failure::Closed) => request = copy,
                        _ => return Err(counted(server, error)),
                    },
                }
            }
            // Boxed, so that the many requests that dial nobody do not carry the room for it along.
            match Box::pin(self.fresh(server)).await {
                Ok(link) => {
                    let attempt = self.attempt(server, link, request, Instant::now()).await;
                    return attempt.map_err(|unanswered| counted(server, unanswered.error));
                }
                Err(error) => unreachable = Some(server.failed(Failure::Dial(error))),
            }
            now = Instant::now();
            if now.duration_since(begun) >= 2 * self.timeouts.connect {
                break;
            }
        }
        Err(unreachable.unwrap_or_else(|| self.has_no_server()))
    }

    async fn fresh(&self, server: &Server) -> Result<Box<Link>, DialError> {
        let tcp = self.dial(server).await?;
        let link = Link::new(tcp, server.opened()).await;
        link.map_err(|error| DialError::Refused(io::Error::other(error)))
    }

    /// Sends the request over one connection. `sent` is when that began.
    async fn attempt(
        &self,
        server: &Arc<Server>,
        mut link: Box<Link>,
        request: Box<Request<Outgoing>>,
        sent: Instant,
    ) -> Result<Answered, Unanswered> {
        let offered = request.headers().get(UPGRADE).cloned();
        let deadlines = Deadlines { begun: sent, timeouts: self.timeouts, progress: request.body().progress() };
        server.metrics.here().requests.add(1);
        match await_head(&mut link, request, &deadlines).await {
            Ok(response) => accept(server, link, response, deadlines, offered)
                .map(|answer| Answered { answer, server: Arc::clone(&server.name) })
                .map_err(|failure| Unanswered { unsent: None, error: server.failed(failure) }),
            Err((failure, unsent)) => Err(Unanswered { unsent, error: server.failed(failure) }),
        }
    }

    fn has_no_server(&self) -> ExchangeError {
        let nobody = io::Error::other("the upstream has no servers");
        ExchangeError { failure: Failure::Dial(DialError::Refused(nobody)), server: Arc::clone(&self.name) }
    }
}

/// An attempt that got no answer, and the request where nothing of it was sent.
struct Unanswered {
    error: ExchangeError,
    unsent: Option<Box<Request<Outgoing>>>,
}

impl Server {
    fn failed(&self, failure: Failure) -> ExchangeError {
        ExchangeError { failure, server: Arc::clone(&self.name) }
    }
}

/// Counts an error that is passed on; one that a fresh connection makes good is none.
fn counted(server: &Server, error: ExchangeError) -> ExchangeError {
    if let Some(reason) = error.failure.counted_as() {
        server.metrics.fail(reason);
    }
    error
}

/// Whether a request may be sent again without knowing what became of it (RFC 9110, section 9.2.2).
fn is_repeatable(request: &Request<Outgoing>) -> bool {
    request.body().is_empty() && request.method().is_idempotent() && !request.headers().contains_key(UPGRADE)
}

fn copy_of(request: &Request<Outgoing>) -> Box<Request<Outgoing>> {
    let mut copy = Box::new(Request::new(Outgoing::default()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Why no head came, and the request where nothing of it was sent.
type Headless = (Failure, Option<Box<Request<Outgoing>>>);

async fn await_head(
    link: &mut Link,
    request: Box<Request<Outgoing>>,
    deadlines: &Deadlines,
) -> Result<Response<Incoming>, Headless> {
    // The head comes while the connection is polled, right here, so its arrival needs no waker: a waker would schedule
    // this task once more for nothing. Without one, tokio's budget must not make the channel pretend to be empty.
    let mut head = pin!(unconstrained(link.send(*request)));
    let mut sent = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut sent, true) {
            let over = link.poll_quietly(); // woken, so the head is likely to be there
            if let Poll::Ready(came) = poll_head(head.as_mut(), over, link, deadlines) {
                return Poll::Ready(came);
            }
        }
        let over = link.poll(cx);
        if let Poll::Ready(came) = poll_head(head.as_mut(), over, link, deadlines) {
            return Poll::Ready(came);
        }
        ready!(link.poll_deadline(cx, deadlines.head()));
        let failure = match deadlines.phase() {
            Phase::Moving => Failure::WriteTimeout,
            Phase::AwaitingClient | Phase::Done | Phase::Failed => Failure::ResponseTimeout,
        };
        Poll::Ready(Err((failure, None)))
    })
    .await
}

/// Takes the head if it has come. `over` tells whether the connection has ended, so that it never will.
fn poll_head(
    head: Pin<&mut impl Future<Output = Sent>>,
    over: Poll<()>,
    link: &Link,
    deadlines: &Deadlines,
) -> Poll<Result<Response<Incoming>, Headless>> {
    match head.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
        Poll::Ready(Err(mut error)) => {
            let unsent = error.take_message().map(Box::new);
            Poll::Ready(Err((Failure::of(error.error(), link, deadlines), unsent)))
        }
        Poll::Pending => over.map(|()| Err((Failure::Closed, None))),
    }
}

/// Checks a response's head and gives its connection to its body, or to the protocol that it switched to.
fn accept(
    server: &Arc<Server>,
    mut link: Box<Link>,
    response: Response<Incoming>,
    deadlines: Deadlines,
    offered: Option<HeaderValue>,
) -> Result<Answer, Failure> {
    let now = Instant::now();
    let counters = server.metrics.here();
    counters.responses.count(response.status().as_u16().into());
    counters.response_seconds.observe(now.duration_since(deadlines.begun));
    let (mut head, incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let agreed = offered.is_some_and(|offered| is_one_of(head.headers.get(UPGRADE), &offered));
        // hyper lets go of the connection once it has seen the 101.
        if !agreed || link.poll_quietly().is_pending() {
            return Err(Failure::Switch);
        }
        head.extensions.clear(); // hyper's own handle of the upgrade
        let (tcp, ahead, open) = link.into_parts();
        return Ok(Answer::Switched(Response::from_parts(head, ()), Tunnel::new(tcp, ahead, open)));
    }
    check_framing(&head).map_err(Failure::Protocol)?;
    // A server that was offered another protocol and refused may still have begun to speak it.
    let body = ResponseBody::new(incoming, Arc::clone(server), link, deadlines, offered.is_none(), now);
    Ok(Answer::Response(Response::from_parts(head, body)))
}

/// Whether a 101 switches to a protocol that was offered; it has to say which (RFC 9110, section 7.8).
fn is_one_of(agreed: Option<&HeaderValue>, offered: &HeaderValue) -> bool {
    let agreed = agreed.map_or(&b""[..], HeaderValue::as_bytes).trim_ascii();
    offered.as_bytes().split(|b| *b == b',').any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(agreed))
}

/// Refuses a response whose end could be found in two ways (RFC 9112, section 6.3). hyper decides on one, but the fields
/// are passed on to a client that might decide on the other.
fn check_framing(head: &Parts) -> Result<(), &'static str> {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(()),
        (Some(_), Some(_)) => Err("it has both Content-Length and Transfer-Encoding"),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
            Ok(())
        }
        (Some(_), None) => Err("its transfer coding is not chunked alone"),
        (None, Some(length)) if is_length(length) && lengths.next().is_none() => Ok(()),
        (None, Some(_)) => Err("its Content-Length is not one number"),
    }
}

/// At most 19 digits, so that no reader's 64-bit number overflows; hyper looks at none where no body can follow.
fn is_length(value: &HeaderValue) -> bool {
    (1..=19).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_digit)
}

impl Failure {
    fn of(error: &hyper::Error, link: &Link, deadlines: &Deadlines) -> Self {
        match error {
            _ if deadlines.phase() == Phase::Failed => Self::ClientBody,
            e if e.is_parse_too_large() => Self::HeadTooLarge,
            e if e.is_parse() => Self::Protocol("its head is malformed"),
            _ if link.heard() => Self::Incomplete,
            _ => Self::Closed,
        }
    }

    /// How it is counted; a failed dial was counted where it failed, and the client's faults are not the server's.
    fn counted_as(&self) -> Option<UpstreamFailure> {
        match self {
            Self::Dial(_) | Self::ClientBody => None,
            Self::Closed => Some(UpstreamFailure::Closed),
            Self::Incomplete => Some(UpstreamFailure::Truncated),
            Self::ResponseTimeout => Some(UpstreamFailure::ResponseTimeout),
            Self::WriteTimeout => Some(UpstreamFailure::BodyTimeout),
            Self::Protocol(_) | Self::Switch | Self::HeadTooLarge => Some(UpstreamFailure::Protocol),
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream server {}: ", self.server)?;
        match &self.failure {
            Failure::Dial(error) => write!(f, "{error}"),
            Failure::Closed => f.write_str("it closed the connection without an answer"),
            Failure::Incomplete => f.write_str("its response broke off within the head"),
            Failure::ResponseTimeout => f.write_str("no response within the response deadline"),
            Failure::WriteTimeout => f.write_str("it took nothing of the request for the body deadline"),
            Failure::Protocol(what) => write!(f, "its response cannot be passed on: {what}"),
            Failure::Switch => f.write_str("it switched to a protocol that was not asked for"),
            Failure::HeadTooLarge => f.write_str("its response's head is too large"),
            Failure::ClientBody => f.write_str("the client broke off within the request's body"),
        }
    }
}

impl std::error::Error for ExchangeError {}
