//! Serves HTTP/1.1 and HTTP/2 to any [`HttpService`] or tower service, one instance per endpoint.
//!
//! Owns what is the same for every HTTP handler: the choice of protocol, the strict reading of requests, deadlines,
//! drain, counting and the access log. `http_proxy` and `respond` are services on it, and so is what a library user
//! brings.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, Response};

use crate::identity::ConnectionInfo;

/// Any error of a body; it aborts the message (RFC 9112, section 8; RFC 9113, section 8.1.1), it never shortens it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body as it streams in. Reading it has the endpoint's `body` deadline.
pub type RequestBody = hyper::body::Incoming;

/// Something that answers requests.
pub trait HttpService: Send + Sync + 'static {
    /// The answer's body.
    type Body: Body<Data = Bytes, Error = BoxError> + Send + 'static;

    /// Answers one request. Errors are answers too: the service makes the response.
    ///
    /// The future is dropped when the client goes away.
    fn call(
        self: Arc<Self>,
        request: Request<RequestBody>,
        info: &Arc<ConnectionInfo>,
    ) -> impl Future<Output = Reply<Self::Body>> + Send;
}

/// An answer, with what the access log says of it.
#[derive(Debug)]
pub struct Reply<B> {
    /// What the client gets.
    pub response: Response<B>,
    /// The upstream server that it came from.
    pub upstream: Option<Arc<str>>,
    /// What went wrong, in a few words from a closed set.
    pub error: Option<&'static str>,
}

impl<B> From<Response<B>> for Reply<B> {
    fn from(response: Response<B>) -> Self {
        Self { response, upstream: None, error: None }
    }
}

/// For bodies that cannot fail.
pub fn never(error: Infallible) -> BoxError {
    match error {}
}
