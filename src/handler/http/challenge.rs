//! HTTP-01: an ACME authority asks a plain endpoint for what only the gateway knows (RFC 8555, section 8.3).
//!
//! Called by `http1` for every request, before the handler and its routes. What is no live token goes to the handler, so a
//! service behind the gateway can answer challenges of its own.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};

use super::gate::Gate;

/// Where challenges are asked for.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// The answer, if the request asks for a live token on a plain endpoint.
pub(super) fn answer<B>(gate: &Gate, request: &Request<B>) -> Option<Box<Response<Full<Bytes>>>> {
    let token = request.uri().path().strip_prefix(FOLDER)?;
    if gate.info.tls.is_some() || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let key_authorization = gate.context.challenges.key_authorization(token)?;
    let mut response = Response::new(Full::new(key_authorization));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // Boxed, so that no other request's future has room for it.
    Some(Box::new(response))
}
