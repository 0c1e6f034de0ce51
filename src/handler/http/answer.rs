//! From an HTTP/2 request to its answer: what hyper calls for each request.
//!
//! Owns the path from hyper through the service and back, with the exchange around it. Called by `http2`; `http1` does the
//! same for HTTP/1.1.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::body::RequestBody;
use super::exchange::Exchange;
use super::fault::Fault;
use super::gate::Gate;
use super::http2::{check, kept_halves};
use super::tracked::{Answer, Tracked};
use super::{HttpService, Reply};

/// One connection's service.
#[derive(Debug)]
pub(super) struct Link<S> {
    pub(super) service: Arc<S>,
    pub(super) gate: Arc<Gate>,
}

impl<S> Clone for Link<S> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), gate: self.gate.clone() }
    }
}

impl<S: HttpService> Link<S> {
    /// Answers an HTTP/2 request, in its stream's task.
    pub(super) async fn http2(self, mut request: Request<Incoming>) -> Result<Response<Tracked<S::Body>>, Infallible> {
        let halves = kept_halves().unwrap_or_default();
        let is_head = request.method() == Method::HEAD;
        let mut exchange = Exchange::begin(&self.gate, &request);
        exchange.share(halves.clone());
        let checked = check(&mut request, self.gate.info.scheme()).and_then(|()| admitted(&request, &self.gate));
        if let Err(fault) = checked {
            self.gate.count_refusal(&fault);
            halves.refused.store(true, Relaxed);
            return Ok(refusal(exchange, &fault, request.version(), is_head));
        }
        let version = request.version();
        let request = request.map(|body| RequestBody::http2(body, halves.clone(), &self.gate));
        let Reply { response, told } = self.service.call(request, &self.gate.info).await;
        if halves.is_too_large.load(Relaxed) {
            return Ok(refusal(exchange, &Fault::BODY_TOO_LARGE, version, is_head));
        }
        exchange.answered(response.status(), told);
        let has_none = is_head || has_no_body(response.status());
        Ok(response.map(|body| Tracked::new(Answer::Service { body }, exchange, has_none)))
    }
}

/// Whether the client may make another request, and the request's host needs no other client authentication than the
/// connection had.
pub(super) fn admitted<B>(request: &Request<B>, gate: &Gate) -> Result<(), Fault> {
    gate.context.clients.request(gate.info.client.0.ip()).map_err(Fault::too_often)?;
    if gate.context.limits.body.is_some_and(|most| declared(request.headers()).is_some_and(|length| length > most)) {
        return Err(Fault::BODY_TOO_LARGE);
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > gate.context.limits.request_line {
        return Err(Fault::TARGET_TOO_LONG); // HTTP/2 alone comes this far with one
    }
    let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(Authority::as_str).or_else(host);
    if gate.info.admits(authority) { Ok(()) } else { Err(Fault::MISDIRECTED) }
}

/// The length that a request says its body has.
fn declared(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether no body follows such an answer, whatever the service gave (RFC 9110, section 6.4.1).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    matches!(status.as_u16(), 100..=199 | 204 | 304)
}

fn refusal<B>(mut exchange: Exchange, fault: &Fault, version: Version, is_head: bool) -> Response<Tracked<B>>
where
    B: hyper::body::Body<Data = bytes::Bytes>,
    B::Error: Into<super::BoxError>,
{
    exchange.refuse(fault);
    fault.response(version).map(|body| Tracked::new(Answer::Engine { body }, exchange, is_head))
}
