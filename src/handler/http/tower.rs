//! Any tower service as an [`HttpService`], so that a library user brings what there is.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::MapErr;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tower_service::Service;

use super::{BoxError, HttpService, Interim, Reply, RequestBody, never};
use crate::identity::ConnectionInfo;
use crate::metrics::RequestFailure;

/// Serves a tower service, of which each request gets a clone.
///
/// The connection's [`Arc<ConnectionInfo>`](ConnectionInfo) is among the request's extensions, so that the service knows
/// the endpoint. An error of the service is logged and answered with 500.
#[derive(Clone, Debug)]
pub struct TowerService<T>(T);

impl<T> TowerService<T> {
    /// Wraps a service.
    pub fn new(service: T) -> Self {
        Self(service)
    }
}

/// A service's body, or the engine's own.
pub(super) type ServiceBody<B> = Either<MapErr<B, fn(<B as Body>::Error) -> BoxError>, OwnBody>;
type OwnBody = MapErr<Full<Bytes>, fn(Infallible) -> BoxError>;

impl<T, B> HttpService for TowerService<T>
where
    T: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
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
        let mut service = self.0.clone();
        // Errors become `BoxError` at once: theirs need not be `Send`, and must not be held across a wait.
        let ready = poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await;
        let answered = match ready {
            Ok(()) => service.call(request).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        self::answered(answered, info)
    }
}

/// What a service answered, or 500 for its error.
pub(super) fn answered<B>(answered: Result<Response<B>, BoxError>, info: &ConnectionInfo) -> Reply<ServiceBody<B>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match answered {
        Ok(response) => Reply::from(response.map(|body| Either::Left(body.map_err(Into::into as fn(_) -> _)))),
        Err(error) => {
            tracing::error!(endpoint = %info.endpoint.name, %error, "the service failed");
            Reply::failed(internal_error(), RequestFailure::ProxyInternalError)
        }
    }
}

fn internal_error<L>() -> Response<Either<L, OwnBody>> {
    let body = Full::new(Bytes::from_static(b"500 Internal Server Error\n"));
    let mut response = Response::new(Either::Right(body.map_err(never as fn(_) -> _)));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
