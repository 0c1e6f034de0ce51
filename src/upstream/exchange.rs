//! One request, one answer: takes a connection from the pool or dials, sends, and waits for the head of the response.
//!
//! Called by `handler/http_proxy`. The body that it returns (`response_body`) carries on from there.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use hyper::header::{HeaderValue, UPGRADE};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Response, StatusCode};
use tokio::time::Instant;

use super::dial::{DialError, Use};
use super::http2::Came2;
use super::lease::{Found, Lease};
use super::link::Link;
use super::progress::Deadlines;
use super::response_body::ResponseBody;
use super::retry::Course;
use super::sending::{BodyFailed, Sending};
use super::tunnel::Tunnel;
use super::{Protocol, Upstream};
use crate::fields;
use crate::metrics::{RequestFailure, UpstreamFailure};
use crate::trail::Trail;

/// A server's answer, and how it was come by.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// The server, and what it took.
    pub trail: Trail,
}

/// What a server answered.
#[derive(Debug)]
pub enum Answer {
    /// A response.
    Response(Response<ResponseBody>),
    /// 101: from here on the connection speaks another protocol.
    Switched(Response<()>, Tunnel),
}

/// Takes the interim responses that come before an answer (RFC 9110, section 15.2).
pub type Early<'a> = &'a (dyn Fn(Response<()>) + Sync);

/// The most interim responses before the one that counts, and the most bytes that their heads may have together.
pub(super) const MOST_INTERIM: u8 = 16;
pub(super) const MOST_INTERIM_BYTES: usize = 64 * 1024;
pub(super) const TOO_MUCH_INTERIM: Failure = Failure::Protocol("too many interim responses come before it");

/// Why there is no answer.
#[derive(Debug)]
pub struct ExchangeError {
    /// What happened.
    pub failure: Failure,
    /// The server that it happened with; the upstream, where no server was to be had.
    pub server: Arc<str>,
    /// What it took.
    pub trail: Trail,
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
    /// No response within the `attempt` deadline.
    AttemptTimeout,
    /// No response, or not all of it, within the `total` deadline.
    TotalTimeout,
    /// A status that the configuration counts as the server's failure.
    Status,
    /// The server says that it did nothing about the request: it refused the stream, or goes away (HTTP/2).
    Unprocessed,
    /// Every server has as much in work as it may, and the queue is full, or the wait in it was in vain.
    Busy,
}

/// How an exchange ends that was not answered well at once.
type Ended = Box<Result<Answered, ExchangeError>>;

/// What few requests wait for.
pub(super) type Rare<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Upstream {
    /// Sends a request to one of the servers, chosen by `key` where the upstream is balanced by one, and waits for the head
    /// of the response. All of that begins `now`.
    ///
    /// A server that cannot be reached was sent nothing, so the next one is tried, each once, until twice the `connect`
    /// deadline is used up. A kept connection that proves closed is replaced once by a fresh one, where nothing was sent
    /// on it or where the request is idempotent and has no body (RFC 9110, section 9.2.2). What else is tried again is
    /// `retry`'s to say.
    ///
    /// If the request has `Upgrade`, a 101 to a protocol that it names is an answer; else 101 is a fault.
    ///
    /// Interim responses are given to `early` as they come, all but 100: the client's `Expect` is not passed on, so nobody
    /// asked for one (RFC 9110, section 15.2).
    ///
    /// # Errors
    /// No answer that could be passed on; it is counted, and the connection is closed.
    pub async fn exchange(
        &self,
        mut request: Box<Sending>,
        key: Option<u64>,
        mut now: Instant,
        early: Early<'_>,
    ) -> Result<Answered, ExchangeError> {
        let mut course = Course::new(now, key, &self.timeouts);
        self.here().budget.earn(self.policy.retries.budget);
        let mut lease = self.first_lease(&mut course).await?;
        loop {
            course.begin_attempt(&lease, &mut request, now);
            let outcome = match self.try_server(lease, request, &mut course, now, early).await {
                Ok(came) if !self.policy.retries.statuses.contains(&came.status()) => {
                    return Ok(came.accept(&mut course));
                }
                outcome => outcome,
            };
            match self.once_more(outcome, &mut course) {
                Ok(next) => (lease, request) = next,
                Err(end) => return *end,
            }
            request.rewind();
            now = Instant::now();
        }
    }

    /// What to try after an attempt that failed, or whose status counts as a failure.
    ///
    /// # Errors
    /// Nothing is to be tried again: how the exchange ends.
    #[cold]
    fn once_more(
        &self,
        outcome: Result<Came, Box<Failed>>,
        course: &mut Course,
    ) -> Result<(Lease, Box<Sending>), Ended> {
        match outcome {
            Ok(came) => {
                course.attempt_failed(&Failure::Status);
                let repeatable = came.request().is_repeatable();
                match self.another(course, came.lease(), &Failure::Status, repeatable) {
                    Some(next) => Ok((next, came.into_request())),
                    None => Err(Box::new(Ok(came.accept(course)))), // it is still an answer
                }
            }
            Err(failed) => {
                let Failed { failure, lease, request } = *failed;
                course.attempt_failed(&failure);
                match self.another(course, &lease, &failure, may_be_repeated(&failure, &request)) {
                    Some(next) => {
                        lease.count(&failure);
                        Ok((next, request))
                    }
                    None => Err(Box::new(Err(lease.failed(failure, course)))),
                }
            }
        }
    }

    /// The server that a request goes to first, in the queue's turn where there is one.
    pub(super) async fn first_lease(&self, course: &mut Course) -> Result<Lease, ExchangeError> {
        course.trail.tries = 1;
        if self.is_queue_empty() {
            match self.find(course.key, &[], course.begun) {
                Found::Server(lease) => return Ok(lease),
                Found::Nobody => {
                    let nobody = io::Error::other("the upstream has no servers");
                    return Err(self.nobody(Failure::Dial(DialError::Refused(nobody)), course));
                }
                Found::Busy => {}
            }
        }
        self.queued(course).await
    }

    /// Boxed, as whatever is rare is, so that the many requests do not carry the room for it along.
    #[cold]
    fn queued<'f>(&'f self, course: &'f mut Course) -> Rare<'f, Result<Lease, ExchangeError>> {
        Box::pin(async {
            let found = self.wait_for_room(course.key).await;
            course.trail.queued = course.begun.elapsed();
            self.metrics.here().queue_seconds.observe(course.trail.queued);
            found.ok_or_else(|| {
                self.metrics.here().busy.add(1);
                self.nobody(Failure::Busy, course)
            })
        })
    }

    #[cold]
    fn nobody(&self, failure: Failure, course: &mut Course) -> ExchangeError {
        ExchangeError { failure, server: Arc::clone(&self.name), trail: course.end() }
    }

    /// Sends the request to one server, over a kept connection if there is one.
    async fn try_server(
        &self,
        lease: Lease,
        mut request: Box<Sending>,
        course: &mut Course,
        now: Instant,
        early: Early<'_>,
    ) -> Result<Came, Box<Failed>> {
        course.deadlines.attempt = self.timeouts.attempt.map(|attempt| now + attempt);
        if self.policy.protocol == Protocol::Http2 {
            return self.attempt_http2(lease, request, course, early).await;
        }
        let (mut kept, mut begun) = (lease.here().pool.take(now, self.timeouts.idle), now);
        loop {
            let is_kept = kept.is_some();
            let mut link = match kept.take() {
                Some(link) => link,
                None => match self.fresh(&lease, course).await {
                    Ok(link) => {
                        begun = Instant::now();
                        link
                    }
                    Err(error) => return Err(Failed::new(Failure::Dial(error), lease, request)),
                },
            };
            course.begin_sending(&lease, &request, begun);
            let failure = match await_head(&mut link, &mut request, &course.deadlines, early).await {
                Ok(()) if switches_unasked(link.head(), &request) => Failure::Switch,
                Ok(()) => return Ok(Came::Http1(Came1 { lease, link, request })),
                Err(failure) => failure,
            };
            if !(is_kept && matches!(failure, Failure::Closed) && request.is_repeatable()) {
                return Err(Failed::new(failure, lease, request));
            }
            request.rewind();
            course.sent -= 1; // it is as if the server had never had the request
        }
    }

    /// A connection of its own for the attempt that is under way.
    #[cold]
    fn fresh<'f>(&'f self, lease: &'f Lease, course: &'f mut Course) -> Rare<'f, Result<Box<Link>, DialError>> {
        Box::pin(async {
            let until = course.deadlines.until();
            let wire = self.dial(lease, until, Use::Requests, &mut course.trail.connect).await?;
            Ok(Link::new(wire, lease.opened()))
        })
    }
}

/// An attempt that failed, and what is left of it.
pub(super) struct Failed {
    failure: Failure,
    lease: Lease,
    request: Box<Sending>,
}

impl Failed {
    #[cold]
    pub(super) fn new(failure: Failure, lease: Lease, request: Box<Sending>) -> Box<Self> {
        Box::new(Self { failure, lease, request })
    }
}

/// Whether the server may have the request twice.
fn may_be_repeated(failure: &Failure, request: &Sending) -> bool {
    match failure {
        Failure::Unprocessed => request.is_untouched(),
        _ => request.is_repeatable(),
    }
}

/// A response whose head has come.
pub(super) enum Came {
    Http1(Came1),
    Http2(Box<Came2>),
}

impl Came {
    fn status(&self) -> StatusCode {
        match self {
            Self::Http1(came) => came.link.head().status,
            Self::Http2(came) => came.status(),
        }
    }

    fn lease(&self) -> &Lease {
        match self {
            Self::Http1(came) => &came.lease,
            Self::Http2(came) => came.lease(),
        }
    }

    fn request(&self) -> &Sending {
        match self {
            Self::Http1(came) => &came.request,
            Self::Http2(came) => came.request(),
        }
    }

    fn into_request(self) -> Box<Sending> {
        match self {
            Self::Http1(came) => came.request,
            Self::Http2(came) => came.into_request(),
        }
    }

    fn accept(self, course: &mut Course) -> Answered {
        match self {
            Self::Http1(came) => came.accept(course),
            Self::Http2(came) => came.accept(course),
        }
    }
}

/// A response whose head has come over HTTP/1.1, and where the rest of it comes from.
pub(super) struct Came1 {
    lease: Lease,
    /// It holds the head.
    link: Box<Link>,
    request: Box<Sending>,
}

impl Lease {
    /// Counts an answer whose head has come, and says when that was.
    pub(super) fn answered(&self, status: StatusCode, course: &mut Course) -> Instant {
        let now = Instant::now();
        self.health.succeeded(now);
        let counters = self.metrics.here();
        counters.responses.count(status.as_u16().into());
        counters.response_seconds.observe(now.duration_since(course.deadlines.begun));
        (course.trail.server, course.trail.answered) = (Some(Arc::clone(&self.name)), Some(now));
        course.attempt_answered(status);
        now
    }

    /// Counts the failure that the exchange ends with.
    #[cold]
    pub(super) fn failed(&self, failure: Failure, course: &mut Course) -> ExchangeError {
        self.count(&failure);
        course.trail.server = Some(Arc::clone(&self.name));
        ExchangeError { failure, server: Arc::clone(&self.name), trail: course.end() }
    }

    /// Counts a failure; what a fresh connection makes good is none.
    fn count(&self, failure: &Failure) {
        if let Some(reason) = failure.counted_as() {
            self.metrics.fail(reason);
        }
    }
}

async fn await_head(
    link: &mut Link,
    request: &mut Sending,
    deadlines: &Deadlines,
    early: Early<'_>,
) -> Result<(), Failure> {
    link.begin();
    poll_fn(|cx| {
        if let Poll::Ready(Err(BodyFailed)) = link.poll_send(cx, request) {
            return Poll::Ready(Err(Failure::ClientBody));
        }
        if let Poll::Ready(head) = link.poll_head(cx, request, early) {
            return Poll::Ready(head);
        }
        ready!(link.poll_deadline(cx, deadlines.head()));
        Poll::Ready(Err(deadlines.failure()))
    })
    .await
}

impl Came1 {
    /// Gives the connection to the response's body, or to the protocol that it switched to.
    fn accept(self, course: &mut Course) -> Answered {
        let Self { lease, mut link, request } = self;
        let head = link.take_head();
        let now = lease.answered(head.status, course);
        let answer = if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let (wire, ahead, open) = link.into_parts();
            Answer::Switched(Response::from_parts(head, ()), Tunnel::new(wire, ahead, open, lease))
        } else {
            let body = ResponseBody::new(lease, link, request, &course.deadlines, now);
            Answer::Response(Response::from_parts(head, body))
        };
        Answered { answer, trail: course.end() }
    }
}

/// Whether the server switches protocols, and was not asked to, or has not had all of the request.
fn switches_unasked(head: &Parts, request: &Sending) -> bool {
    head.status == StatusCode::SWITCHING_PROTOCOLS
        && !(request.is_complete() && request.offered().is_some_and(|offered| agrees(&head.headers, offered)))
}

/// Whether a 101 switches to a protocol that was offered; it has to say which (RFC 9110, section 7.8).
fn agrees(answer: &HeaderMap, offered: &HeaderValue) -> bool {
    let is_agreed = |said: &HeaderValue| {
        let said = said.as_bytes().trim_ascii();
        fields::tokens(offered).any(|protocol| protocol.eq_ignore_ascii_case(said))
    };
    !fields::is_repeated(answer, &UPGRADE) && fields::first(answer, &UPGRADE).is_some_and(is_agreed)
}

impl Failure {
    /// How it is counted; a failed dial was counted where it failed, a response by its status, and the client's faults
    /// are not the server's.
    fn counted_as(&self) -> Option<UpstreamFailure> {
        match self {
            Self::Dial(_) | Self::ClientBody | Self::Status | Self::Busy => None,
            Self::Closed | Self::Unprocessed => Some(UpstreamFailure::Closed),
            Self::Incomplete => Some(UpstreamFailure::Truncated),
            Self::ResponseTimeout | Self::AttemptTimeout | Self::TotalTimeout => Some(UpstreamFailure::ResponseTimeout),
            Self::WriteTimeout => Some(UpstreamFailure::BodyTimeout),
            Self::Protocol(_) | Self::Switch | Self::HeadTooLarge => Some(UpstreamFailure::Protocol),
        }
    }

    /// What `Proxy-Status` (RFC 9209, section 2.3), the access log and the metrics call it.
    #[must_use]
    pub fn word(&self) -> RequestFailure {
        match self {
            Self::Dial(error) => error.word(),
            Self::Unprocessed | Self::Closed => RequestFailure::ConnectionTerminated,
            Self::Incomplete => RequestFailure::HttpResponseIncomplete,
            Self::Busy => RequestFailure::ConnectionLimitReached,
            Self::Status => RequestFailure::ProxyInternalResponse,
            Self::ResponseTimeout | Self::AttemptTimeout | Self::TotalTimeout => RequestFailure::HttpResponseTimeout,
            Self::WriteTimeout => RequestFailure::ConnectionWriteTimeout,
            Self::Protocol(_) => RequestFailure::HttpProtocolError,
            Self::Switch => RequestFailure::HttpUpgradeFailed,
            Self::HeadTooLarge => RequestFailure::HttpResponseHeaderSectionSize,
            Self::ClientBody => RequestFailure::HttpRequestError,
        }
    }

    /// Whether it speaks against the server, and not against the client or this machine.
    pub(super) fn is_the_servers(&self) -> bool {
        match self {
            Self::Dial(error) => !matches!(error, DialError::Exhausted(_)),
            // A server may refuse streams, or go away, in good order.
            Self::ClientBody | Self::Busy | Self::Unprocessed => false,
            _ => true,
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
            Failure::AttemptTimeout => f.write_str("no response within the attempt deadline"),
            Failure::TotalTimeout => f.write_str("no response within the total deadline"),
            Failure::Status => f.write_str("it answered with a status that counts as a failure"),
            Failure::Unprocessed => f.write_str("it refused the request's stream, or is going away"),
            Failure::Busy => f.write_str("every server has as much in work as it may"),
        }
    }
}

impl std::error::Error for ExchangeError {}
