//! Drives an HTTP/1.1 connection through hyper, behind the guard.
//!
//! Owns hyper's settings for it, the drain, and the taking apart of an idle connection. Called by `serve`.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::HttpService;
use super::answer::Link;
use super::guard::Guard;
use super::serve::broken;
use crate::handler::ServeError;
use crate::stream::Stream;

/// The most that hyper buffers in each direction: enough for bulk, and a bound on what one connection can hold.
const BUFFER: usize = 64 * 1024;

/// Serves requests until the connection ends, or has been idle for a while: then gives the stream back, and says since
/// when, so that the buffers are gone while it waits.
pub(super) async fn serve<S: HttpService>(
    link: &Link<S>,
    stream: Stream,
    mut begun: Pin<&mut WaitForCancellationFutureOwned>,
) -> Result<Option<(Stream, Instant)>, ServeError> {
    let guard = Guard::new(stream, link.gate.clone());
    // Boxed, so that a connection does not keep the room for it, and hyper does not move it about.
    let service = service_fn(|request| Box::pin(link.clone().http1(request)));
    let mut builder = Builder::new();
    builder.max_buf_size(BUFFER);
    // A client that has said all it has to say still gets its answer (RFC 9293, section 3.6: a half-closed connection).
    builder.half_close(true);
    let mut connection = builder.serve_connection(TokioIo::new(guard), service).with_upgrades();
    let mut draining = false;
    let parked = poll_fn(|cx| {
        if !draining && begun.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if link.gate.take_parked() => Poll::Ready(Ok(true)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| false)),
        }
    })
    .await
    .map_err(|error| broken(&error))?;
    let parts = connection.into_parts();
    if parked && let Some(parts) = parts {
        let guard = parts.io.into_inner();
        if guard.is_bare() && parts.read_buf.is_empty() {
            return Ok(Some(guard.into_parts()));
        }
        return Ok(None); // never seen: the guard asks for this only when there is nothing left over
    }
    drop(parts);
    link.gate.released().await;
    Ok(None)
}
