//! From a request to its answer: what hyper calls for each request.
//!
//! Owns the path from hyper through the service and back, in both versions, with the exchange around it. Called by
//! `http1` and `http2`.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};

use super::exchange::{Answer, Exchange, Halves, Tracked};
use super::fault::Fault;
use super::gate::{Gate, Switching};
use super::http2::{check, kept_halves};
use super::{HttpService, REFUSED_METHOD, Reply};
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
    /// Answers an HTTP/1 request that the guard let through, or stands for one that it did not.
    pub(super) fn http1(
        self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Tracked<S::Body>>, Infallible>> + Send {
        // Not an `async fn`, and neither is `exchange`: the future of each would have room for the request twice.
        let gate = self.gate.clone();
        // The guard holds the bytes behind exactly these requests.
        let asks_for_upgrade = request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE);
        if asks_for_upgrade {
            // Whoever switches needs the deadlines of what follows.
            request.extensions_mut().insert(gate.context.clone());
        }
        let outcome = match gate.fault() {
            // Only the guard writes this method: it refuses it from clients.
            Some(fault) if request.method().as_str().as_bytes() == REFUSED_METHOD => {
                let exchange = Exchange::refused(&gate, request.version());
                Err(refusal(exchange, fault, request.version(), false))
            }
            _ => match admitted(&request, &gate.info) {
                Ok(()) => Ok(self.exchange(request, None)),
                Err(fault) => Err(self.refuse(request, None, &fault)),
            },
        };
        async move {
            let mut response = match outcome {
                Ok(answering) => answering.await,
                Err(refusal) => return Ok(refusal),
            };
            if asks_for_upgrade {
                let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                gate.set_switching(if switched { Switching::Done } else { Switching::Declined });
            }
            if gate.fault().is_some_and(Fault::breaks_body) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    }

    /// Answers an HTTP/2 request, in its stream's task.
    pub(super) async fn http2(self, mut request: Request<Incoming>) -> Result<Response<Tracked<S::Body>>, Infallible> {
        let halves = kept_halves();
        let checked = check(&mut request, self.gate.info.scheme()).and_then(|()| admitted(&request, &self.gate.info));
        match checked {
            Ok(()) => Ok(self.exchange(request, halves).await),
            Err(fault) => Ok(self.refuse(request, halves, &fault)),
        }
    }

    /// Refuses a request that could be read, and counts that.
    fn refuse(
        &self,
        request: Request<Incoming>,
        halves: Option<Arc<Halves>>,
        fault: &Fault,
    ) -> Response<Tracked<S::Body>> {
        self.gate.context.metrics.here().requests_refused[fault.reason as usize].add(1);
        let (version, is_head) = (request.version(), request.method() == Method::HEAD);
        if let Some(halves) = &halves {
            halves.refused.store(true, Relaxed);
        }
        let (exchange, _) = Exchange::begin(&self.gate, request, halves);
        refusal(exchange, fault, version, is_head)
    }

    fn exchange(
        self,
        request: Request<Incoming>,
        halves: Option<Arc<Halves>>,
    ) -> impl Future<Output = Response<Tracked<S::Body>>> + Send {
        let is_head = request.method() == Method::HEAD;
        let (exchange, request) = Exchange::begin(&self.gate, request, halves);
        async move {
            let Reply { response, upstream, error } = self.service.call(request, &self.gate.info).await;
            let status = response.status();
            response.map(|body| exchange.answered(status, upstream, error, is_head, Answer::Service { body }))
        }
    }
}

/// Whether the request's host needs no other client authentication than the connection had.
fn admitted<B>(request: &Request<B>, info: &ConnectionInfo) -> Result<(), Fault> {
    let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(Authority::as_str).or_else(host);
    if info.admits(authority) { Ok(()) } else { Err(Fault::MISDIRECTED) }
}

fn refusal<B>(exchange: Exchange, fault: &Fault, version: Version, is_head: bool) -> Response<Tracked<B>>
where
    B: hyper::body::Body<Data = bytes::Bytes>,
    B::Error: Into<super::BoxError>,
{
    let (status, reason) = (fault.status, fault.reason.as_str());
    fault.response(version).map(|body| exchange.answered(status, None, Some(reason), is_head, Answer::Engine { body }))
}
