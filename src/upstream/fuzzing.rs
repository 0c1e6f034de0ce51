//! Responses of servers, as the fuzz targets see them: read from a real connection, in the pieces in which they are sent.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use hyper::{Method, Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use super::link::Link;
use super::request_body::Outgoing;
use super::sending::Sending;
use super::wire::Wire;
use super::{Early, Server};

/// What was read of a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The statuses of its heads; all but the last are of interim responses.
    pub statuses: Vec<u16>,
    /// Its content, as far as it came.
    pub body: Vec<u8>,
    /// How many trailers it has.
    pub trailers: usize,
    /// It was read to its end.
    pub is_whole: bool,
}

/// Reads the response to a request with this method, from a server that sends these pieces and ends.
///
/// # Errors
/// The machine has no connection to spare.
pub fn read_response<'a>(method: Method, pieces: impl IntoIterator<Item = &'a [u8]>) -> std::io::Result<Heard> {
    thread_local! {
        static RUNTIME: RefCell<Option<(Runtime, TcpListener)>> = const { RefCell::new(None) };
    }
    RUNTIME.with_borrow_mut(|kept| {
        let (runtime, listener) = match kept {
            Some(kept) => kept,
            None => {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
                kept.insert((runtime, listener))
            }
        };
        runtime.block_on(read(listener, method, pieces))
    })
}

async fn read<'a>(
    listener: &TcpListener,
    method: Method,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> std::io::Result<Heard> {
    let address = listener.local_addr()?;
    let near = TcpStream::connect(address).await?;
    let (mut far, _) = listener.accept().await?;
    far.set_zero_linger()?; // thousands of them a second
    far.set_nodelay(true)?;
    let mut link = Link::new(Wire::Plain(near.into()), Server::new("fuzzed", address).opened());
    link.begin();
    let (mut head, ()) = Request::builder().method(method).body(()).unwrap_or_default().into_parts();
    let mut request = Sending::new(&mut head, Outgoing::default(), |_| {});
    let statuses = Mutex::new(Vec::new());
    let note = |status| statuses.lock().unwrap_or_else(PoisonError::into_inner).push(status);
    let early = |head: Response<()>| note(head.status().as_u16());
    let mut heard = Heard::default();
    let mut has_head = false;
    let mut step = |cx: &mut Context<'_>| heard.poll(cx, &mut link, &mut request, &mut has_head, &early);
    let mut whole = Poll::Pending;
    for piece in pieces {
        far.write_all(piece).await?;
        yield_now().await; // so that the runtime has looked at the socket
        whole = poll_fn(|cx| Poll::Ready(step(cx))).await;
        if whole.is_ready() {
            break;
        }
    }
    far.shutdown().await?;
    let is_whole = match whole {
        Poll::Ready(is_whole) => is_whole,
        Poll::Pending => poll_fn(step).await,
    };
    if has_head {
        note(link.head().status.as_u16());
    }
    Ok(Heard { statuses: statuses.into_inner().unwrap_or_else(PoisonError::into_inner), is_whole, ..heard })
}

impl Heard {
    /// Reads what has come; ready with whether the response is whole.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        request: &mut Sending,
        has_head: &mut bool,
        early: Early<'_>,
    ) -> Poll<bool> {
        if !*has_head {
            if ready!(link.poll_head(cx, request, early)).is_err() {
                return Poll::Ready(false);
            }
            *has_head = true;
        }
        loop {
            match ready!(link.poll_frame(cx)) {
                None => return Poll::Ready(true),
                Some(Err(_)) => return Poll::Ready(false),
                Some(Ok(frame)) => self.take(frame),
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.body.extend_from_slice(&data),
            Err(frame) => self.trailers += frame.into_trailers().map_or(0, |trailers| trailers.len()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_the_same_however_it_is_cut() {
        let head = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n";
        for (rest, body, trailers, is_whole) in [
            ("Content-Length: 2\r\n\r\nok", "ok", 0, true),
            ("Content-Length: 3\r\n\r\nok", "ok", 0, false),
            ("Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nSum: 1\r\n\r\n", "ok", 1, true),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "ok", 0, false),
            ("\r\nok", "ok", 0, true),
        ] {
            let bytes = format!("{head}{rest}").into_bytes();
            for length in [1, 2, 7, 40, bytes.len()] {
                let heard = read_response(Method::GET, bytes.chunks(length)).unwrap();
                let expected = Heard { statuses: vec![103, 200], body: body.into(), trailers, is_whole };
                assert_eq!(heard, expected, "{rest:?} in pieces of {length}");
            }
        }
    }
}
