//! Serves HTTP/1.1 and HTTP/2 to any [`HttpService`] or tower service, one instance per endpoint.
//!
//! Owns what is the same for every HTTP handler: the choice of protocol, the strict reading of requests, deadlines,
//! drain, counting and the access log. `http_proxy` and `respond` are services on it, and so is what a library user
//! brings.

mod answer;
mod authority;
mod body;
mod challenge;
mod chunked;
mod date;
mod exchange;
mod fault;
#[cfg(any(test, fuzzing))]
mod feed;
mod field;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gate;
mod head;
pub(crate) mod hop;
mod http1;
mod http2;
mod hyper_service;
mod interim;
mod pace;
mod patient;
mod scan;
mod serve;
mod spans;
mod tower;
mod trailers;
mod upgrade;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::http::response::Parts;
use hyper::{Request, Response};

pub use self::body::RequestBody;
pub use self::hyper_service::HyperService;
pub use self::interim::Interim;
pub use self::tower::TowerService;
pub use self::upgrade::{NotUpgraded, Upgrade, Upgraded, upgrade};
use crate::handler::{Connection, Handler, Instance, Serving, Settings, StartError};
use crate::identity::{ConnectionInfo, Endpoint};
use crate::metrics::RequestFailure;
use crate::metrics::routes::{RouteId, Routes};
use crate::trail::Trail;

/// Any error of a body; it aborts the message (RFC 9112, section 8; RFC 9113, section 8.1.1), it never shortens it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Something that answers requests.
pub trait HttpService: Send + Sync + 'static {
    /// Its answers have no field that belongs to one connection (RFC 9110, section 7.6.1), so that they need not be looked
    /// through for one.
    const ANSWERS_END_TO_END: bool = false;

    /// The answer's body.
    type Body: Body<Data = Bytes, Error = BoxError> + Send + 'static;

    /// Answers one request. Errors are answers too: the service makes the response. What the client is to have before the
    /// answer is left with `interim`.
    ///
    /// The future is dropped when the client goes away.
    fn call(
        &self,
        request: Request<RequestBody>,
        info: &Arc<ConnectionInfo>,
        interim: &Interim,
    ) -> impl Future<Output = Reply<Self::Body>> + Send;

    /// The routes that its replies speak of; `None` where it has none.
    fn routes(&self) -> Option<&Arc<Routes>> {
        None
    }
}

/// An answer, with what the access log and the metrics say of it. Boxed, since it passes through many hands.
#[derive(Debug)]
pub struct Reply<B>(Box<Answer<B>>);

/// What is in a [`Reply`].
#[derive(Debug)]
pub struct Answer<B> {
    /// What the client gets.
    pub response: Response<B>,
    /// How it came to be.
    pub told: Told,
}

/// How an answer came to be.
#[derive(Debug, Default)]
pub struct Told {
    /// The route that took the request, of the service's [`routes`](HttpService::routes).
    pub route: Option<RouteId>,
    /// How the request went to an upstream.
    pub trail: Trail,
    /// What went wrong.
    pub error: Option<RequestFailure>,
}

impl<B> From<Response<B>> for Reply<B> {
    fn from(response: Response<B>) -> Self {
        Self::new(response, Told::default())
    }
}

impl<B> Deref for Reply<B> {
    type Target = Answer<B>;

    fn deref(&self) -> &Answer<B> {
        &self.0
    }
}

impl<B> DerefMut for Reply<B> {
    fn deref_mut(&mut self) -> &mut Answer<B> {
        &mut self.0
    }
}

impl<B> Reply<B> {
    /// An answer that came to be like that.
    pub fn new(response: Response<B>, told: Told) -> Self {
        Self(Box::new(Answer { response, told }))
    }

    /// What is in it: the response's head and body, and what is told of it.
    pub fn into_parts(self) -> (Parts, B, Told) {
        let Answer { response, told } = *self.0;
        let (head, body) = response.into_parts();
        (head, body, told)
    }

    /// An answer in the place of the one that could not be had.
    pub fn failed(response: Response<B>, error: RequestFailure) -> Self {
        Self::new(response, Told { error: Some(error), ..Told::default() })
    }
}

/// An [`HttpService`] as one endpoint's instance.
#[derive(Debug)]
pub struct HttpInstance<S>(Arc<S>);

impl<S: HttpService> HttpInstance<S> {
    /// Serves HTTP with `service`.
    pub fn new(service: S) -> Self {
        Self(Arc::new(service))
    }
}

impl<S: HttpService> Instance for HttpInstance<S> {
    fn serve(self: Arc<Self>, connection: Connection) -> Serving {
        Box::pin(serve::serve(self.0.clone(), connection))
    }

    fn routes(&self) -> Option<&Arc<Routes>> {
        self.0.routes()
    }
}

/// A handler made of a function that makes each endpoint's service.
///
/// With [`TowerService`], that is all it takes to serve a tower or hyper service behind many endpoints.
#[derive(Clone, Copy)]
pub struct HttpHandler<F>(F);

impl<F, S> HttpHandler<F>
where
    F: Fn(&Arc<Endpoint>, &Settings) -> Result<S, StartError> + Send + Sync + 'static,
    S: HttpService,
{
    /// Calls `start` once for each endpoint, with the endpoint's settings.
    pub fn new(start: F) -> Self {
        Self(start)
    }
}

impl<F> fmt::Debug for HttpHandler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpHandler")
    }
}

impl<F, S> Handler for HttpHandler<F>
where
    F: Fn(&Arc<Endpoint>, &Settings) -> Result<S, StartError> + Send + Sync + 'static,
    S: HttpService,
{
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        Ok(Arc::new(HttpInstance::new((self.0)(endpoint, settings)?)))
    }

    fn protocols(&self) -> &'static [&'static str] {
        PROTOCOLS
    }
}

/// What the engine speaks, for [`Handler::protocols`]: most preferred first.
pub const PROTOCOLS: &[&str] = &["h2", "http/1.1"];

/// For bodies that cannot fail.
pub fn never(error: Infallible) -> BoxError {
    match error {}
}
