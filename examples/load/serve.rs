//! The upstream: answers `GET /N` with N bytes, over HTTP/1.1 with kept connections. One for all gateways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::Args;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::{Caller, Result};

/// What a body is made of, again and again.
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one, and the report says which.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

pub(crate) async fn run(options: Options, caller: &mut Caller) -> Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let listening = serde_json::json!({ "listening": listener.local_addr()? });
    tokio::select! {
        ended = accept(&listener) => ended,
        ended = caller.report(&listening) => ended,
    }
}

/// Serves whoever comes. Not bounded: the only clients are gateways, and they open what the load makes them open.
async fn accept(listener: &TcpListener) -> Result<()> {
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(serve(tcp));
    }
}

async fn serve(tcp: TcpStream) {
    // A connection that breaks is the gateway's business; the load sees it as a failed operation.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(answer)).await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Repeated>, Infallible> {
    let wanted = request.uri().path().strip_prefix('/').and_then(|length| length.parse().ok());
    let mut response = Response::new(Repeated { left: wanted.unwrap_or(0) });
    if wanted.is_none() {
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// A body of known length, made of static bytes.
struct Repeated {
    left: u64,
}

impl Body for Repeated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let n = usize::try_from(self.left).map_or(PIECE.len(), |left| left.min(PIECE.len()));
        self.left -= n as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..n])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
