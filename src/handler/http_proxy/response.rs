//! Turns a server's response into the one that the client gets, and answers what the gateway answers itself.
//!
//! Owns [`ProxyBody`] and the errors of a proxy: their status, their `Proxy-Status` (RFC 9209) and the few words that a
//! client is told. Called by `http_proxy`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, VIA};
use hyper::{Response, StatusCode, Version};

use super::via;
use crate::handler::http::{BoxError, Reply, Told, hop};
use crate::metrics::RequestFailure;
use crate::upstream::{DialError, ExchangeError, Failure, ResponseBody};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The body of an answer: the upstream's, as it streams in, or a short text of the gateway's.
#[derive(Debug)]
pub enum ProxyBody {
    /// The upstream's.
    Upstream(ResponseBody),
    /// The gateway's; `None` once it was read, or where there is none.
    Text(Option<Bytes>),
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Upstream(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|ok| ok.map(without_hop_fields)))
            }
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_end_stream(),
            Self::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(body) => body.size_hint(),
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

fn without_hop_fields(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        hop::strip(trailers, |_| false);
    }
    frame
}

/// Makes a server's response what the client gets, whichever version either speaks, from a gateway that is called `via`.
pub(super) fn pass_back<B>(response: &mut Response<B>, via: &via::Name) {
    let received = response.version();
    *response.version_mut() = Version::HTTP_11;
    hop::strip(response.headers_mut(), |_| false);
    response.headers_mut().append(VIA, via.in_answer(received));
}

/// A short text of the gateway's.
pub(super) fn text(status: StatusCode, text: Bytes) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::Text(Some(text).filter(|text| !text.is_empty())));
    *response.status_mut() = status;
    if !response.body().is_end_stream() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    response
}

/// Sends the client elsewhere.
pub(super) fn redirect(status: StatusCode, location: HeaderValue) -> Response<ProxyBody> {
    let mut response = text(status, Bytes::new());
    response.headers_mut().insert(LOCATION, location);
    response
}

/// Refuses a request that the client should not have sent like this; `why` is a few words from a closed set.
pub(super) fn refuse(status: StatusCode, why: &'static str) -> Reply<ProxyBody> {
    failed(status, RequestFailure::HttpRequestError, why)
}

/// Refuses a request that has come to this endpoint before (RFC 5842, section 7.2; RFC 9209, section 2.3.24).
pub(super) fn looped() -> Reply<ProxyBody> {
    failed(StatusCode::LOOP_DETECTED, RequestFailure::ProxyLoopDetected, "the request has passed this endpoint before")
}

#[cold]
fn failed(status: StatusCode, error: RequestFailure, why: &'static str) -> Reply<ProxyBody> {
    let mut response = text(status, sentence(status, why));
    let proxy_status = format!("portcullis; error={error}; details=\"{why}\"");
    response.headers_mut().extend(HeaderValue::try_from(proxy_status).ok().map(|value| (PROXY_STATUS, value)));
    Reply::failed(response, error)
}

/// Answers for an upstream that did not.
#[cold]
pub(super) fn upstream_failed(error: ExchangeError) -> Reply<ProxyBody> {
    let (status, name, words) = in_words(&error.failure);
    let mut response = text(status, sentence(status, words));
    // A server's name is "HOST:PORT", which a quoted string can hold as it is.
    let proxy_status = format!("portcullis; error={name}; next-hop=\"{}\"", error.server);
    response.headers_mut().extend(HeaderValue::try_from(proxy_status).ok().map(|value| (PROXY_STATUS, value)));
    if matches!(error.failure, Failure::Busy) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1")); // RFC 9110, section 10.2.3
    }
    Reply::new(response, Told { route: None, trail: error.trail, error: Some(name) })
}

fn sentence(status: StatusCode, words: &str) -> Bytes {
    format!("{} {}: {words}\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into()
}

/// An error's status, and what the client is told of it.
fn in_words(failure: &Failure) -> (StatusCode, RequestFailure, &'static str) {
    use StatusCode as S;
    let (status, words) = match failure {
        Failure::Dial(DialError::Refused(_)) => (S::BAD_GATEWAY, "connection refused"),
        Failure::Dial(DialError::Unroutable(_)) => (S::BAD_GATEWAY, "upstream unroutable"),
        Failure::Dial(DialError::Timeout) => (S::GATEWAY_TIMEOUT, "connection timed out"),
        Failure::Dial(DialError::Tls(_)) => (S::BAD_GATEWAY, "upstream TLS failed"),
        Failure::Dial(DialError::Exhausted(_)) => (S::SERVICE_UNAVAILABLE, "no connection to spare"),
        Failure::Unprocessed => (S::BAD_GATEWAY, "upstream refused the request's stream"),
        Failure::Closed => (S::BAD_GATEWAY, "upstream closed the connection"),
        Failure::Incomplete => (S::BAD_GATEWAY, "upstream response broke off"),
        Failure::Busy => (S::SERVICE_UNAVAILABLE, "every server is busy"),
        Failure::Status => (S::BAD_GATEWAY, "upstream failed"),
        Failure::ResponseTimeout | Failure::AttemptTimeout | Failure::TotalTimeout => {
            (S::GATEWAY_TIMEOUT, "upstream response timed out")
        }
        Failure::WriteTimeout => (S::GATEWAY_TIMEOUT, "upstream stopped reading"),
        Failure::Protocol(_) => (S::BAD_GATEWAY, "upstream response is malformed"),
        Failure::Switch => (S::BAD_GATEWAY, "upstream upgrade failed"),
        Failure::HeadTooLarge => (S::BAD_GATEWAY, "upstream response head too large"),
        Failure::ClientBody => (S::BAD_REQUEST, "request body broke off"),
    };
    (status, failure.word(), words)
}
