//! One HTTP/1.1 connection to a server, driven by whoever waits for its answer.
//!
//! hyper splits a client connection into a sender and a state machine that is usually a task of its own. Here the two
//! stay together and the state machine is polled inline, by the request that waits for the head (`exchange`) and then by
//! the body that is being read (`response_body`): a request costs no task and no wake-up of another one.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::dial::Open;
use super::request_body::Outgoing;
use crate::stream::gather;

/// The most that hyper buffers of a connection, each way, and the largest head of a response, in bytes.
const MOST_BUFFERED: usize = 64 * 1024;

/// What comes back for a request: the head of the response and its body, or why not, with the request where it was
/// not sent.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>;

/// A connection, idle or with one request on its way.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    connection: Connection<TokioIo<Wire>, Outgoing>,
    /// The state machine has ended: it must not be polled again.
    over: bool,
    /// Whether a byte has come since the last request was sent.
    heard: Arc<AtomicBool>,
    /// Kept, and left armed, from one request to the next: most deadlines are never reached, so a timer that fires too
    /// early now and then costs less than arming one for every request.
    timer: Option<Pin<Box<Sleep>>>,
    open: Open,
}

impl Link {
    /// Speaks HTTP/1.1 over a fresh connection.
    ///
    /// # Errors
    /// hyper's, which has none to give for HTTP/1.1.
    pub(super) async fn new(tcp: TcpStream, open: Open) -> hyper::Result<Box<Self>> {
        let heard = Arc::new(AtomicBool::new(false));
        let wire = TokioIo::new(Wire { tcp, heard: Arc::clone(&heard) });
        // The bound on the number of fields is hyper's default of 100: naming one would move its table to the heap.
        let (sender, connection) =
            Builder::new().max_buf_size(MOST_BUFFERED).max_header_size(MOST_BUFFERED).handshake(wire).await?;
        Ok(Box::new(Self { sender, connection, over: false, heard, timer: None, open }))
    }

    /// Hands a request to the state machine; nothing moves before [`poll`](Self::poll).
    pub(super) fn send(&mut self, request: Request<Outgoing>) -> impl Future<Output = Sent> + Send + use<> {
        self.heard.store(false, Relaxed);
        self.sender.try_send_request(request)
    }

    /// Moves what can be moved, both ways. Ready once the connection is over, in order or not; what went wrong reaches
    /// whoever waits for the head or the body.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.over {
            // The error, if there is one, was told to whoever it concerns; an idle connection concerns nobody.
            let _ = ready!(self.connection.poll_without_shutdown(cx));
            self.over = true;
        }
        Poll::Ready(())
    }

    /// As [`poll`](Self::poll), but asks nobody to be woken.
    ///
    /// Whatever is taken from a connection that was polled like this schedules no further poll of the task that takes
    /// it. So it comes first wherever something is likely to have arrived, and `poll` before anyone waits.
    pub(super) fn poll_quietly(&mut self) -> Poll<()> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Whether a byte has come since the last request was sent.
    pub(super) fn heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    /// Whether the last exchange is complete, both ways, and the connection can take another.
    pub(super) fn is_ready(&self) -> bool {
        !self.over && self.sender.is_ready()
    }

    /// Looks whether an idle connection can still take a request: its server has neither closed it nor sent what
    /// nobody asked for.
    pub(super) fn is_fit(&mut self) -> bool {
        // This also forgets the waker of the request before.
        self.poll_quietly().is_pending() && self.sender.is_ready()
    }

    /// Ready once `deadline` has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline); // it was armed for an earlier wait
        }
    }

    /// Takes the connection apart after an upgrade: the socket, what was read beyond the response's head, and its count.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes, Open) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner().tcp, parts.read_buf, self.open)
    }
}

/// A socket that remembers whether anything was read from it.
struct Wire {
    tcp: TcpStream,
    heard: Arc<AtomicBool>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard.store(true, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        gather(Pin::new(&mut self.tcp), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
