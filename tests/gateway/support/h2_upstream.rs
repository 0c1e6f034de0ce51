//! Upstreams that speak HTTP/2 and do what a test says with each stream, and a client that shows trailers.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{RecvStream, client};
use hyper::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use super::PATIENCE;

/// A server of HTTP/2 with prior knowledge, on a thread of its own.
pub struct Http2Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// What a server does with a stream.
pub type Stream = (Request<RecvStream>, SendResponse<Bytes>);

impl Http2Upstream {
    /// Each stream is handled by `handle`, all of them at once. `streams` may be open at once on a connection.
    pub fn start<F>(streams: u32, handle: impl Fn(Stream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = Arc::new(handle);
        Self::start_with(streams, move |mut connection| {
            let handle = Arc::clone(&handle);
            async move {
                while let Some(Ok(stream)) = connection.accept().await {
                    tokio::spawn(handle(stream));
                }
            }
        })
    }

    /// Each connection is handled by `handle`.
    pub fn start_with<F>(
        streams: u32,
        handle: impl Fn(Connection<TcpStream, Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((tcp, _)) = listener.accept().await {
                    counted.fetch_add(1, SeqCst);
                    let mut builder = Builder::new();
                    builder.max_concurrent_streams(streams);
                    if let Ok(connection) = builder.handshake(tcp).await {
                        tokio::spawn(handle(connection));
                    }
                }
            });
        });
        Self { address, connections }
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// Answers with 200 and this text.
pub fn say(mut answer: SendResponse<Bytes>, text: &str) {
    let head = Response::builder().header("content-length", text.len()).body(()).unwrap();
    let mut stream = answer.send_response(head, false).unwrap();
    stream.send_data(Bytes::copy_from_slice(text.as_bytes()), true).unwrap();
}

/// All of a body, and its trailers.
pub async fn read(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?.unwrap_or_default()))
}

/// What a request over HTTP/2 is answered, all of it: head, body and trailers. `trailers` end its body, if they are any.
pub fn ask(
    address: SocketAddr,
    request: Request<()>,
    body: &[&str],
    trailers: HeaderMap,
) -> Result<(Response<()>, Vec<u8>, HeaderMap), h2::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asking = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = client::handshake(tcp).await?;
        tokio::spawn(connection);
        let is_whole = body.is_empty() && trailers.is_empty();
        let (response, mut stream) = sender.ready().await?.send_request(request, is_whole)?;
        for piece in body {
            stream.send_data(Bytes::copy_from_slice(piece.as_bytes()), false)?;
        }
        if !is_whole {
            stream.send_trailers(trailers)?;
        }
        let (head, body) = response.await?.into_parts();
        let (body, trailers) = read(body).await?;
        Ok((Response::from_parts(head, ()), body, trailers))
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await.expect("an answer in time") })
}
