//! Why the engine refuses a request, and the answer that says so.
//!
//! Owns [`Fault`] and the response made from it. The scanner and the HTTP/2 checks find faults; `exchange` counts and
//! logs them.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode, Version};

use crate::metrics::RequestRefusal;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What is wrong with a request, how it is counted, and the status that it is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) reason: RequestRefusal,
    /// A phrase for the client and the log: printable ASCII without quotes or backslashes, so that it is safe as it
    /// stands within a structured field's string (RFC 9651, section 3.3.3).
    pub(super) detail: &'static str,
    /// After how many seconds the client may try again, if it may.
    pub(super) retry_after: Option<u32>,
}

impl Fault {
    pub(super) const fn new(status: StatusCode, reason: RequestRefusal, detail: &'static str) -> Self {
        Self { status, reason, detail, retry_after: None }
    }

    /// The grammar is broken.
    pub(super) const fn malformed(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, RequestRefusal::Malformed, detail)
    }

    /// The length of the body could be read in two ways.
    pub(super) const fn framing(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, RequestRefusal::Framing, detail)
    }

    /// `Host` or the authority is missing, repeated or malformed.
    pub(super) const fn host(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, RequestRefusal::Host, detail)
    }

    /// The chunked coding is broken.
    pub(super) const fn chunk(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, RequestRefusal::Chunk, detail)
    }

    /// The head is larger, or has more fields, than allowed.
    pub(super) const fn too_large(detail: &'static str) -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, RequestRefusal::HeadTooLarge, detail)
    }

    /// A method that is not implemented (RFC 9110, section 9.1): a gateway is no tunnel, so there is no CONNECT, and TRACE would
    /// show whoever gets the answer the credentials and the gateway's own fields that the request had (section 9.3.8).
    pub(super) const METHOD: Self =
        Self::new(StatusCode::NOT_IMPLEMENTED, RequestRefusal::Method, "the method is not implemented");

    /// The host needs other client authentication than the connection had (RFC 9110, section 15.5.20).
    pub(super) const MISDIRECTED: Self = Self::new(
        StatusCode::MISDIRECTED_REQUEST,
        RequestRefusal::Misdirected,
        "the host needs a connection of its own, by its name",
    );

    /// The request line is longer than allowed.
    pub(super) const TARGET_TOO_LONG: Self =
        Self::new(StatusCode::URI_TOO_LONG, RequestRefusal::TargetTooLong, "the request line is too long");

    /// The body is larger than allowed.
    pub(super) const BODY_TOO_LARGE: Self =
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, RequestRefusal::BodyTooLarge, "the request body is too large");

    /// The client makes more requests than it may (RFC 6585, section 4).
    pub(super) fn too_often(wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let fault = Self::new(StatusCode::TOO_MANY_REQUESTS, RequestRefusal::ClientRequestRate, "too many requests");
        Self { retry_after: Some(seconds), ..fault }
    }

    /// Whether an HTTP/1.1 connection ends with it: what follows cannot be trusted, or is not worth reading.
    pub(super) fn ends_connection(&self) -> bool {
        self.reason != RequestRefusal::ClientRequestRate
    }

    /// The head took longer than the `header` deadline.
    pub(super) const HEAD_LATE: Self =
        Self::new(StatusCode::REQUEST_TIMEOUT, RequestRefusal::HeadTimeout, "the request head did not arrive in time");

    /// The body stood still for longer than the `body` deadline.
    pub(super) const BODY_LATE: Self =
        Self::new(StatusCode::REQUEST_TIMEOUT, RequestRefusal::BodyTimeout, "the request body did not arrive in time");

    /// The body came more slowly than it must.
    pub(super) const BODY_SLOW: Self =
        Self::new(StatusCode::REQUEST_TIMEOUT, RequestRefusal::BodyTooSlow, "the request body arrives too slowly");

    /// Whether it breaks a body whose head went on already.
    #[cfg(any(test, fuzzing))]
    pub(super) fn breaks_body(&self) -> bool {
        matches!(self.reason, RequestRefusal::Chunk | RequestRefusal::BodyTimeout)
    }

    /// The answer to the client, in the version that it spoke. An HTTP/1 connection ends with it.
    #[cold]
    pub(super) fn response(&self, version: Version) -> Response<Full<Bytes>> {
        let reason = self.status.canonical_reason().unwrap_or("Error");
        let body = format!("{} {reason}: {}\n", self.status.as_str(), self.detail);
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let status = format!("portcullis; error=http_request_error; details=\"{}\"", self.detail);
        if let Ok(status) = HeaderValue::try_from(status) {
            headers.insert(PROXY_STATUS, status); // RFC 9209, section 2.3.20
        }
        headers.extend(self.retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
        if version < Version::HTTP_2 && self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
