//! A connection to the engine, with a service that shows what reached it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::access_log::AccessLog;
use crate::clients::Clients;
use crate::drain::Drain;
use crate::handler::http::{BoxError, HttpInstance, HttpService, Interim, Reply, RequestBody, never, upgrade};
use crate::handler::{Connection, Context, Instance, Limits, ServeError, Timeouts};
use crate::identity::{Class, ConnectionInfo, Endpoint, EndpointName, Kept, Local, Remote};
use crate::metrics::{EndpointMetrics, RequestRefusal};
use crate::stream::{Socket, Stream};

/// Answers with the method, the target and the length of the body that it read; some paths do more.
pub(super) struct Show;

impl HttpService for Show {
    type Body = BoxBody<Bytes, BoxError>;

    async fn call(&self, request: Request<RequestBody>, _: &Arc<ConnectionInfo>, _: &Interim) -> Reply<Self::Body> {
        match request.uri().path() {
            "/unread" => text(StatusCode::OK, "unread"),
            "/slow" => {
                tokio::time::sleep(Duration::from_secs(90)).await;
                text(StatusCode::OK, "slow")
            }
            "/big" => text(StatusCode::OK, "x".repeat(8 * 1024 * 1024)),
            "/panic" => panic!("as the test asks"),
            "/echo" => Reply::from(Response::new(BoxBody::new(request.into_body()))),
            "/switch" => switch(request),
            "/spawned" => tokio::spawn(show(request)).await.unwrap(),
            "/streamed" => streamed([Ok("ab"), Ok(""), Ok("cd")]),
            "/fails" => streamed([Ok("part"), Err("as the test asks"), Ok("more")]),
            "/short" => {
                let mut reply = streamed([Ok("ab"), Ok("c"), Ok("")]);
                reply.response.headers_mut().insert(CONTENT_LENGTH, "4".parse().unwrap());
                reply
            }
            "/hop" => hop(),
            "/twice" => {
                let mut reply = text(StatusCode::OK, "twice");
                for _ in 0..2 {
                    reply.response.headers_mut().append(CONTENT_LENGTH, "5".parse().unwrap());
                }
                reply
            }
            "/early" => text(StatusCode::EARLY_HINTS, ""),
            _ => show(request).await,
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply<BoxBody<Bytes, BoxError>> {
    let mut response = Response::new(Full::new(body.into()).map_err(never).boxed());
    *response.status_mut() = status;
    response.into()
}

/// Answers with fields of the connection, as if its service were the only one on it.
fn hop() -> Reply<BoxBody<Bytes, BoxError>> {
    let response = Response::builder()
        .header("connection", "x-own, keep-alive")
        .header("keep-alive", "timeout=5")
        .header("transfer-encoding", "chunked")
        .header("te", "gzip")
        .header("x-own", "1")
        .header("x-other", "2");
    response.body(Full::new("hop".into()).map_err(never).boxed()).unwrap().into()
}

/// Answers with a body whose length nobody knows.
fn streamed(pieces: [Result<&'static str, &'static str>; 3]) -> Reply<BoxBody<Bytes, BoxError>> {
    let frames = pieces.map(|piece| piece.map(|text| Frame::data(text.into())).map_err(BoxError::from));
    Response::new(BoxBody::new(StreamBody(Mutex::new(frames.into())))).into()
}

/// A body made of these frames.
struct StreamBody(Mutex<VecDeque<Result<Frame<Bytes>, BoxError>>>);

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.lock().unwrap().pop_front())
    }
}

async fn show(request: Request<RequestBody>) -> Reply<BoxBody<Bytes, BoxError>> {
    let (head, body) = request.into_parts();
    match body.collect().await {
        Ok(body) => {
            let shown = format!("{} {} {}", head.method, head.uri, body.to_bytes().len());
            let status = if head.method == Method::DELETE { StatusCode::NO_CONTENT } else { StatusCode::OK };
            text(status, shown)
        }
        Err(_) => text(StatusCode::BAD_REQUEST, "broken"),
    }
}

/// Switches to a protocol that echoes in capitals, if asked for it.
fn switch(mut request: Request<RequestBody>) -> Reply<BoxBody<Bytes, BoxError>> {
    let Some(upgrade) = upgrade(request.extensions_mut()) else { return text(StatusCode::SWITCHING_PROTOCOLS, "") };
    tokio::spawn(async move {
        let Ok(mut stream) = upgrade.await else { return };
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            buffer[..n].make_ascii_uppercase();
            if stream.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    });
    let mut reply = text(StatusCode::SWITCHING_PROTOCOLS, "");
    reply.response.headers_mut().insert(UPGRADE, "capitals".parse().unwrap());
    reply.response.headers_mut().insert(CONNECTION, "upgrade".parse().unwrap());
    reply
}

/// The endpoint that every client comes in by.
pub(super) fn endpoint() -> Arc<Endpoint> {
    Arc::new(Endpoint { name: EndpointName::new("test").unwrap(), class: Class::Internal, tls: false })
}

/// A client whose connection the engine serves.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) serving: JoinHandle<Result<(), ServeError>>,
    pub(super) metrics: Arc<EndpointMetrics>,
    pub(super) drain: Drain,
}

impl Client {
    pub(super) async fn connect() -> Self {
        Self::connect_with(Timeouts::default()).await
    }

    pub(super) async fn connect_with(timeouts: Timeouts) -> Self {
        Self::connect_to(Arc::new(HttpInstance::new(Show)), timeouts).await
    }

    pub(super) async fn connect_to(instance: Arc<dyn Instance>, timeouts: Timeouts) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, remote) = listener.accept().await.unwrap();
        let metrics = Arc::new(EndpointMetrics::default());
        let info = ConnectionInfo {
            endpoint: endpoint(),
            client: Remote(remote),
            local: Local(accepted.local_addr().unwrap()),
            tls: None,
            asked: None,
            kept: Kept::default(),
        };
        let context = Context {
            limits: Limits::default(),
            clients: Clients::default(),
            noise: Arc::default(),
            timeouts,
            metrics: metrics.clone(),
            access_log: AccessLog::off(),
            tracer: crate::trace::Tracer::off(),
            challenges: Arc::default(),
        };
        let drain = Drain::new();
        let connection = Connection {
            stream: Stream::plain(Socket::new(accepted, metrics.clone())),
            info: Arc::new(info),
            context: Arc::new(context),
            drain: drain.clone(),
        };
        let serving = tokio::spawn(instance.serve(connection));
        Self { socket, serving, metrics, drain }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end` has come.
    pub(super) async fn read_until(&mut self, end: &str) -> String {
        let mut got = Vec::new();
        while !got.ends_with(end.as_bytes()) {
            match self.socket.read_u8().await {
                Ok(byte) => got.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&got)),
            }
        }
        String::from_utf8(got).unwrap()
    }

    /// Reads until the connection ends.
    pub(super) async fn read_to_end(&mut self) -> String {
        let mut got = Vec::new();
        self.socket.read_to_end(&mut got).await.unwrap();
        String::from_utf8(got).unwrap()
    }

    pub(super) fn refused(&self, reason: RequestRefusal) -> u64 {
        self.metrics.sum(|counters| counters.requests_refused[reason as usize].get())
    }

    pub(super) fn requests(&self) -> u64 {
        self.metrics.sum(|counters| counters.requests.iter().map(|(_, n)| n).sum())
    }
}
