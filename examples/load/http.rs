//! Opens HTTP connections and sends checked requests on them. Used by `requests` and `idle`.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode, Version, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::tls::{self, Settled};
use crate::{Result, in_time};

/// Opens a TCP connection.
pub(crate) async fn dial(address: SocketAddr) -> Result<TcpStream> {
    let tcp = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// A connection, ready for requests; what the handshake settled where there was one.
pub(crate) async fn connect(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    version: Version,
) -> Result<(Sender, Option<Settled>)> {
    let tcp = dial(address).await?;
    let Some(config) = tls else { return Ok((Sender::open(tcp, version).await?, None)) };
    let stream = tls::connect(config.clone(), tcp).await?;
    let settled = Settled::of(&stream)?;
    Ok((Sender::open(stream, version).await?, Some(settled)))
}

/// What sends requests on one connection.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn open(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, version: Version) -> Result<Self> {
        // A connection that breaks is seen by its next request, so what its task returns is not needed.
        if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    /// Another sender on the same connection; HTTP/1.1 has none.
    pub(crate) fn another(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Gets `body` bytes from the upstream, and checks that they came: status and length.
    pub(crate) async fn get(&mut self, body: u64) -> Result<()> {
        in_time(async {
            let response = self.send(body).await?;
            if response.status() != StatusCode::OK {
                return Err(format!("the gateway answered {}", response.status()).into());
            }
            let received = length(response.into_body()).await?;
            if received == body { Ok(()) } else { Err(format!("{received} bytes came instead of {body}").into()) }
        })
        .await
    }

    async fn send(&mut self, body: u64) -> Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                let request = Request::get(format!("/{body}")).header("host", "localhost").body(Empty::new())?;
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Self::Http2(sender) => {
                let request = Request::get(format!("https://localhost/{body}")).body(Empty::new())?;
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

async fn length(mut body: Incoming) -> Result<u64> {
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(received)
}
