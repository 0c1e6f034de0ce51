//! What a connection's requests are answered with and by: its service, and what holds for them in every version.
//!
//! Made by `serve`; used by `http1` and `http2`.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, Response, StatusCode};

use super::Told;
use super::exchange::Exchange;
use super::fault::Fault;
use super::gate::Gate;
use crate::fields::declared_length;
use crate::metrics::RequestFailure;

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

/// Whether the client may make another request, and the request's host needs no other client authentication than the
/// connection had.
pub(super) fn admitted<B>(request: &Request<B>, gate: &Gate) -> Result<(), Fault> {
    gate.context.clients.request(gate.info.client.0.ip()).map_err(Fault::too_often)?;
    if gate
        .context
        .limits
        .body
        .is_some_and(|most| declared_length(request.headers()).is_some_and(|length| length > most))
    {
        return Err(Fault::BODY_TOO_LARGE);
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > gate.context.limits.request_line {
        return Err(Fault::TARGET_TOO_LONG); // HTTP/2 alone comes this far with one
    }
    let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if gate.info.admits(|| request.uri().authority().map(Authority::as_str).or_else(host)) {
        Ok(())
    } else {
        Err(Fault::MISDIRECTED)
    }
}

/// In place of an answer whose status is none: an interim one, or a switch that nobody asked for.
#[cold]
pub(super) fn no_answer(exchange: &mut Exchange<'_>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("500 Internal Server Error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    exchange.answered(response.status(), Told { error: Some(RequestFailure::ProxyInternalError), ..Told::default() });
    response
}

/// Whether no body follows such an answer, whatever the service gave (RFC 9110, section 6.4.1).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    matches!(status.as_u16(), 100..=199 | 204 | 304)
}
