//! Lets a hyper service be served.
//!
//! Used by library users, through [`HyperService`]; `tower` does the same for tower services.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::service::Service;
use hyper::{Request, Response};

use super::tower::{ServiceBody, answered};
use super::{BoxError, HttpService, Interim, Reply, RequestBody};
use crate::identity::ConnectionInfo;

/// Serves a hyper service, such as [`service_fn`](hyper::service::service_fn) makes.
///
/// As with [`TowerService`](super::TowerService), the connection's [`Arc<ConnectionInfo>`](ConnectionInfo) is among the
/// request's extensions, and an error of the service is logged and answered with 500.
#[derive(Clone, Debug)]
pub struct HyperService<T>(T);

impl<T> HyperService<T> {
    /// Wraps a service.
    pub fn new(service: T) -> Self {
        Self(service)
    }
}

impl<T, B> HttpService for HyperService<T>
where
    T: Service<Request<RequestBody>, Response = Response<B>> + Send + Sync + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + 'static,
{
    type Body = ServiceBody<B>;

    async fn call(
        &self,
        mut request: Request<RequestBody>,
        info: &Arc<ConnectionInfo>,
        _: &Interim,
    ) -> Reply<Self::Body> {
        request.extensions_mut().insert(info.clone());
        answered(self.0.call(request).await.map_err(Into::into), info)
    }
}
