//! A connection that leaves HTTP: handed over to whoever speaks the next protocol, once the 101 is written.
//!
//! Owns both ends of the handing over. `http1` makes them for a request that asks for an upgrade (RFC 9110, section 7.8);
//! a service takes its end with [`upgrade`].

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::http::Extensions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::handler::Timeouts;
use crate::relay::End;
use crate::stream::Stream;
use crate::tcp::Tcp;

/// Takes what a service needs to switch protocols from a request's extensions; `None` where the client does not ask for
/// it, or it was taken before.
///
/// The service then answers 101, with `Upgrade` and `Connection`, and gets the connection when that is written.
pub fn upgrade(extensions: &mut Extensions) -> Option<Upgrade> {
    let Offer(offer) = extensions.remove::<Offer>()?;
    offer.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A connection to be, for whoever speaks the next protocol.
#[derive(Debug)]
pub struct Upgrade {
    switched: oneshot::Receiver<Upgraded>,
    /// The endpoint's deadlines; keeping them is up to whoever takes the connection.
    pub timeouts: Timeouts,
}

/// The answer was not 101, or the client was gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUpgraded;

/// A client's connection after a 101; what was read ahead comes first. It counts as in flight until it is dropped.
#[derive(Debug)]
pub struct Upgraded {
    stream: Stream,
    _session: oneshot::Sender<Infallible>,
}

/// The engine's end.
#[derive(Debug)]
pub(super) struct Switch(oneshot::Sender<Upgraded>);

/// In a request's extensions, whose values have to be `Clone`.
#[derive(Clone, Debug)]
struct Offer(Arc<Mutex<Option<Upgrade>>>);

/// Offers an upgrade to the service that gets these extensions.
pub(super) fn offer(extensions: &mut Extensions, timeouts: Timeouts) -> Switch {
    let (switch, switched) = oneshot::channel();
    extensions.insert(Offer(Arc::new(Mutex::new(Some(Upgrade { switched, timeouts })))));
    Switch(switch)
}

impl Switch {
    /// Hands the connection over. What is returned ends with the session; at once if nobody took the upgrade.
    pub(super) fn hand_over(self, stream: Stream) -> oneshot::Receiver<Infallible> {
        let (session, ended) = oneshot::channel();
        drop(self.0.send(Upgraded { stream, _session: session })); // nobody wants it: it is closed
        ended
    }
}

impl Future for Upgrade {
    type Output = Result<Upgraded, NotUpgraded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.switched).poll(cx).map_err(|_| NotUpgraded)
    }
}

impl fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was not switched")
    }
}

impl std::error::Error for NotUpgraded {}

impl Upgraded {
    /// Sees to it that the connection is reset, not ended, when it is dropped.
    pub fn abort(&self) {
        self.stream.abort();
    }
}

impl End for Upgraded {
    fn source(&self) -> Option<&Tcp> {
        self.stream.source()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
