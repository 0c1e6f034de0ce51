//! One request, one answer: takes a connection from the pool or dials, sends, and waits for the head of the response.
//!
//! Called by `handler/http_proxy`. The body that it returns (`response_body`) carries on from there.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

use hyper::header::{HeaderValue, UPGRADE};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::dial::DialError;
use super::link::Link;
use super::progress::{Deadlines, Phase};
use super::response_body::ResponseBody;
use super::sending::{BodyFailed, Sending};
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
    /// Sends a request to one of the servers and waits for the head of the response.
    ///
    /// A server that cannot be reached was sent nothing, so the next one is tried, each once, until twice the
    /// `connect` deadline is used up. A kept connection that proves closed is replaced once by a fresh one, where
    /// nothing was sent on it or where the request is idempotent and has no body (RFC 9110, section 9.2.2).
    ///
    /// If the request has `Upgrade`, a 101 to a protocol that it names is an answer; else 101 is a fault.
    ///
    /// # Errors
    /// No answer that could be passed on; it is counted, and the connection is closed.
    pub async fn exchange(&self, mut request: Box<Sending>) -> Result<Answered, ExchangeError> {
        let begun = Instant::now();
        let mut now = begun;
        let mut unreachable = None;
        for server in self.pick() {
            if let Some(link) = server.pool.take(now, self.timeouts.idle) {
                match self.attempt(server, link, request, now).await {
                    Ok(answer) => return Ok(answer),
                    Err((Failure::Closed, unanswered)) if unanswered.is_repeatable() => {
                        request = unanswered;
                        request.rewind();
                    }
                    Err((failure, _)) => return Err(server.failed(failure)),
                }
            }
            // Boxed, so that the many requests that dial nobody do not carry the room for it along.
            match Box::pin(self.dial(server)).await {
                Ok(tcp) => {
                    let attempt = self.attempt(server, Link::new(tcp, server.opened()), request, Instant::now()).await;
                    return attempt.map_err(|(failure, _)| server.failed(failure));
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

    /// Sends the request over one connection. `sent` is when that began. Without an answer, the request comes back.
    async fn attempt(
        &self,
        server: &Arc<Server>,
        mut link: Box<Link>,
        mut request: Box<Sending>,
        sent: Instant,
    ) -> Result<Answered, (Failure, Box<Sending>)> {
        let deadlines = Deadlines { begun: sent, timeouts: self.timeouts, progress: request.progress() };
        server.metrics.here().requests.add(1);
        match await_head(&mut link, &mut request, &deadlines).await {
            Ok(head) => accept(server, link, head, request, deadlines)
                .map(|answer| Answered { answer, server: Arc::clone(&server.name) }),
            Err(failure) => Err((failure, request)),
        }
    }

    fn has_no_server(&self) -> ExchangeError {
        let nobody = io::Error::other("the upstream has no servers");
        ExchangeError { failure: Failure::Dial(DialError::Refused(nobody)), server: Arc::clone(&self.name) }
    }
}

impl Server {
    /// Counts a failure that is passed on; one that a fresh connection makes good is none.
    fn failed(&self, failure: Failure) -> ExchangeError {
        if let Some(reason) = failure.counted_as() {
            self.metrics.fail(reason);
        }
        ExchangeError { failure, server: Arc::clone(&self.name) }
    }
}

async fn await_head(link: &mut Link, request: &mut Sending, deadlines: &Deadlines) -> Result<Parts, Failure> {
    link.begin();
    poll_fn(|cx| {
        if let Poll::Ready(Err(BodyFailed)) = link.poll_send(cx, request) {
            return Poll::Ready(Err(Failure::ClientBody));
        }
        if let Poll::Ready(head) = link.poll_head(cx, request.is_head()) {
            return Poll::Ready(head);
        }
        ready!(link.poll_deadline(cx, deadlines.head()));
        Poll::Ready(Err(match deadlines.phase() {
            Phase::Moving => Failure::WriteTimeout,
            Phase::AwaitingClient | Phase::Done | Phase::Failed => Failure::ResponseTimeout,
        }))
    })
    .await
}

/// Gives the connection of a response whose head has come to its body, or to the protocol that it switched to.
fn accept(
    server: &Arc<Server>,
    link: Box<Link>,
    head: Parts,
    request: Box<Sending>,
    deadlines: Deadlines,
) -> Result<Answer, (Failure, Box<Sending>)> {
    let now = Instant::now();
    let counters = server.metrics.here();
    counters.responses.count(head.status.as_u16().into());
    counters.response_seconds.observe(now.duration_since(deadlines.begun));
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let agreed = request.offered().is_some_and(|offered| is_one_of(head.headers.get(UPGRADE), offered));
        if !agreed || !request.is_complete() {
            return Err((Failure::Switch, request));
        }
        let (tcp, ahead, open) = link.into_parts();
        return Ok(Answer::Switched(Response::from_parts(head, ()), Tunnel::new(tcp, ahead, open)));
    }
    let body = ResponseBody::new(Arc::clone(server), link, request, deadlines, now);
    Ok(Answer::Response(Response::from_parts(head, body)))
}

/// Whether a 101 switches to a protocol that was offered; it has to say which (RFC 9110, section 7.8).
fn is_one_of(agreed: Option<&HeaderValue>, offered: &HeaderValue) -> bool {
    let agreed = agreed.map_or(&b""[..], HeaderValue::as_bytes).trim_ascii();
    offered.as_bytes().split(|b| *b == b',').any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(agreed))
}

impl Failure {
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
