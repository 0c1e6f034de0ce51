//! An upstream whose every byte a test writes, a gateway around the service, and a client that reads to the end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Front, HttpProxy, HttpProxyService};
use crate::access_log::AccessLog;
use crate::clients::Clients;
use crate::config::{HttpProxyConfig, RouteConfig};
use crate::drain::Drain;
use crate::handler::http::HttpInstance;
use crate::handler::{Connection, Context, Instance, Limits, Timeouts};
use crate::identity::{Class, ConnectionInfo, Endpoint, EndpointName, Kept, Local, Remote};
use crate::metrics::{EndpointMetrics, ServerMetrics, UpstreamFailure};
use crate::stream::{Socket, Stream};
use crate::upstream::{Server, Upstream, UpstreamPolicy, UpstreamTimeouts};

/// Long enough that no test reaches it, but the one that hangs.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// Short enough to wait for.
pub(super) const SHORT: Duration = Duration::from_millis(60);

pub(super) fn timeouts() -> UpstreamTimeouts {
    UpstreamTimeouts { connect: LONG, response: LONG, body: LONG, idle: LONG, ..UpstreamTimeouts::default() }
}

/// A hand-written server: `serve` gets each connection and its number, from 0.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Origin {
    pub(super) async fn start<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, count.fetch_add(1, Relaxed)));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request on a connection with `answer`, keeping it open.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(move |mut stream, _| async move {
            while !head(&mut stream).await.is_empty() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await
    }

    /// Answers the first request of each connection with `answer` and closes.
    pub(super) async fn closing_after(answer: &'static str) -> Self {
        Self::start(move |mut stream, _| async move {
            head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await
    }

    /// Answers with the head that it got.
    pub(super) async fn mirroring() -> Self {
        Self::start(|mut stream, _| async move {
            loop {
                let head = head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

/// A port that refuses connections.
pub(super) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Reads a head to its empty line; empty where the connection ends first.
pub(super) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// A gateway with one endpoint, `internet`.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) upstream: Arc<Upstream>,
}

impl Gateway {
    pub(super) async fn before(servers: &[SocketAddr]) -> Self {
        Self::with(servers, timeouts(), Vec::new()).await
    }

    pub(super) async fn with(servers: &[SocketAddr], timeouts: UpstreamTimeouts, routes: Vec<RouteConfig>) -> Self {
        let servers = servers.iter().map(|address| (Server::new(&address.to_string(), *address), 1)).collect();
        let upstream = Arc::new(Upstream::new("app", servers, timeouts, UpstreamPolicy::default()));
        let service = Arc::new(HttpInstance::new(service(&upstream, routes)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, client)) = listener.accept().await {
                tokio::spawn(serve(stream, info(client), Arc::clone(&service)));
            }
        });
        Self { address, upstream }
    }

    /// Sends a request, and returns all that comes until the gateway closes.
    pub(super) async fn ask(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good an end.
        let _ = client.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    pub(super) async fn get(&self) -> String {
        self.ask("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").await
    }

    pub(super) async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) fn metrics(&self) -> Arc<ServerMetrics> {
        Arc::clone(&self.upstream.members().list[0].server.metrics)
    }

    pub(super) fn failures(&self, reason: UpstreamFailure) -> u64 {
        let members = self.upstream.members();
        members.servers().map(|s| s.metrics.sum(|here| here.failures[reason as usize].get())).sum()
    }
}

pub(super) fn endpoint() -> Arc<Endpoint> {
    Arc::new(Endpoint { name: EndpointName::new("internet").unwrap(), class: Class::Public, tls: false })
}

pub(super) fn info(client: SocketAddr) -> Arc<ConnectionInfo> {
    let local = Local(([127, 0, 0, 1], 80).into());
    Arc::new(ConnectionInfo {
        endpoint: endpoint(),
        client: Remote(client),
        local,
        tls: None,
        asked: None,
        kept: Kept::default(),
    })
}

fn service(upstream: &Arc<Upstream>, routes: Vec<RouteConfig>) -> HttpProxyService {
    let config = HttpProxyConfig { upstream: Some("app".into()), routes, double_encoded_slashes: false, via: None };
    let front = Front { name: "internet", class: Class::Public, is_ours: true };
    let proxy = HttpProxy::new(&config, &|_| Ok(Arc::clone(upstream)), &[front]).unwrap();
    proxy.service(&endpoint(), None)
}

async fn serve(stream: TcpStream, info: Arc<ConnectionInfo>, service: Arc<HttpInstance<HttpProxyService>>) {
    let metrics = Arc::new(EndpointMetrics::default());
    let stream = Stream::plain(Socket::new(stream, Arc::clone(&metrics)));
    let context = Context {
        limits: Limits::default(),
        clients: Clients::default(),
        noise: Arc::default(),
        timeouts: Timeouts::default(),
        metrics,
        access_log: AccessLog::off(),
        tracer: crate::trace::Tracer::off(),
        challenges: Arc::default(),
    };
    let connection = Connection { stream, info, context: Arc::new(context), drain: Drain::new() };
    // How a connection ends is for the client to judge.
    let _ = service.serve(connection).await;
}
