//! From an HTTP/2 request to its answer: what hyper calls for each request.
//!
//! Owns the path from hyper through the service and back, with the exchange around it. Called by `http2`; `http1` does the
//! same for HTTP/1.1.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};

use super::body::RequestBody;
use super::exchange::Exchange;
use super::fault::Fault;
use super::gate::Gate;
use super::http2::{check, kept_halves};
use super::tracked::{Answer, Tracked};
use super::{HttpService, Reply};
use crate::identity::ConnectionInfo;

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
        let checked = check(&mut request, self.gate.info.scheme()).and_then(|()| admitted(&request, &self.gate.info));
        if let Err(fault) = checked {
            self.gate.count_refusal(&fault);
            halves.refused.store(true, Relaxed);
            return Ok(refusal(exchange, &fault, &request, is_head));
        }
        let request = request.map(|body| RequestBody::http2(body, halves, &self.gate));
        let Reply { response, upstream, error } = self.service.call(request, &self.gate.info).await;
        exchange.answered(response.status(), upstream, error);
        let has_none = is_head || has_no_body(response.status());
        Ok(response.map(|body| Tracked::new(Answer::Service { body }, exchange, has_none)))
    }
}

/// Whether the request's host needs no other client authentication than the connection had.
pub(super) fn admitted<B>(request: &Request<B>, info: &ConnectionInfo) -> Result<(), Fault> {
    let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(Authority::as_str).or_else(host);
    if info.admits(authority) { Ok(()) } else { Err(Fault::MISDIRECTED) }
}

/// Whether no body follows such an answer, whatever the service gave (RFC 9110, section 6.4.1).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    matches!(status.as_u16(), 100..=199 | 204 | 304)
}

fn refusal<B, T>(mut exchange: Exchange, fault: &Fault, request: &Request<T>, is_head: bool) -> Response<Tracked<B>>
where
    B: hyper::body::Body<Data = bytes::Bytes>,
    B::Error: Into<super::BoxError>,
{
    exchange.answered(fault.status, None, Some(fault.reason.as_str()));
    fault.response(request.version()).map(|body| Tracked::new(Answer::Engine { body }, exchange, is_head))
}
