//! Serves one connection: waits for its first byte, chooses the protocol, and drives it to its end.
//!
//! Called by `HttpInstance`; goes on in `http1` or `http2`. While a connection is idle, this is all that exists of it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

use super::answer::Link;
use super::gate::Gate;
use super::http1::{self, After};
use super::{HttpService, http2};
use crate::deadline::Deadline;
use crate::drain::Watch;
use crate::handler::{Connection, ServeError, Side};
use crate::identity::{Alpn, ConnectionInfo};
use crate::stream::Stream;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read ahead: most first requests whole.
const AHEAD: usize = 2048;
/// How long saying goodbye to an idle client may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// For how long an idle client is still listened to once the drain has begun: its next request may be under way already.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

/// Serves a connection to its end.
pub(super) async fn serve<S: HttpService>(service: Arc<S>, connection: Connection) -> Result<(), ServeError> {
    let Connection { mut stream, info, context, drain } = connection;
    let timeouts = context.timeouts;
    let gate = Gate::new(info, context, service.routes().cloned());
    let link = Link { service, gate: Arc::new(gate) };
    let mut drain = drain.watch();
    let mut idle_since = Instant::now();
    loop {
        let first = first_bytes(&mut stream, &link.gate, &mut drain, idle_since + timeouts.idle).await;
        let (first, begun) = match first {
            Ok((first, begun)) if !first.is_empty() => (first, begun),
            Ok(_) => {
                // Nobody is left to tell whether the goodbye arrived.
                let _ = timeout(GOODBYE, stream.shutdown()).await;
                return Ok(());
            }
            Err(error) => return Err(ServeError::new(Side::Client, error)),
        };
        let is_http2 = speaks_http2(&link.gate.info, &first);
        stream.unread(first);
        if is_http2 {
            // Boxed, so that an HTTP/1.1 connection is not as large as an HTTP/2 one.
            return Box::pin(http2::serve(link, stream, drain)).await;
        }
        // Boxed, so that a connection that waits does not keep the room for it.
        match Box::pin(http1::serve(&link, stream, begun, &mut drain)).await? {
            After::Parked(back, since) => (stream, idle_since) = (back, since),
            After::Switched(session) => {
                let _ = session.await; // it never says anything, but ends
                return Ok(());
            }
            After::Over => return Ok(()),
        }
    }
}

/// By ALPN over TLS; without TLS by the preface, with prior knowledge (RFC 9113, sections 3.2 and 3.3).
fn speaks_http2(info: &ConnectionInfo, first: &[u8]) -> bool {
    match &info.tls {
        Some(tls) => tls.alpn == Some(Alpn::H2),
        None => first.starts_with(PREFACE),
    }
}

/// The connection's first bytes; none if it is over, late, or drained. Without TLS, enough of them to tell an HTTP/2 preface, and
/// since when that was waited for.
async fn first_bytes(
    stream: &mut Stream,
    gate: &Gate,
    drain: &mut Watch,
    until: Instant,
) -> io::Result<(Bytes, Option<Instant>)> {
    let drained = async {
        drain.begun().await;
        sleep(LAST_WORDS).await;
    };
    let mut clock = Deadline::default();
    let piece = poll_fn(|cx| match poll_piece(stream, cx) {
        Poll::Pending => clock.poll(cx, until).map(|()| Ok(Bytes::new())),
        first => first,
    });
    let first = tokio::select! {
        biased;
        first = piece => first?,
        () = drained => return Ok((Bytes::new(), None)),
    };
    if gate.info.tls.is_some() || !is_part_of_preface(&first) {
        return Ok((first, None));
    }
    let (begun, mut bytes) = (Instant::now(), BytesMut::from(first));
    // Where it comes late, whoever reads the head sees that, and says so.
    timeout(gate.context.timeouts.header, rest_of_preface(stream, &mut bytes)).await.unwrap_or(Ok(()))?;
    Ok((bytes.freeze(), Some(begun)))
}

fn is_part_of_preface(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes)
}

/// Reads on while what has come could be the beginning of a preface.
async fn rest_of_preface(stream: &mut Stream, bytes: &mut BytesMut) -> io::Result<()> {
    while is_part_of_preface(bytes) {
        let piece = poll_fn(|cx| poll_piece(stream, cx)).await?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(())
}

/// Reads once, by way of the stack, so that a connection that waits holds no buffer.
fn poll_piece(stream: &mut Stream, cx: &mut std::task::Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut space = [std::mem::MaybeUninit::uninit(); AHEAD];
    let mut buf = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(buf.filled())))
}
