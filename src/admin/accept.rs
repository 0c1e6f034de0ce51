//! Accepts the admin port's connections, also when the endpoints have used up every descriptor.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How many descriptors are kept in reserve.
const RESERVE: usize = 4;
/// How long to wait after a failed `accept`; the same failure would come back at once.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A listening socket with descriptors in reserve.
///
/// Each reserved descriptor is an open `/dev/null`. When `accept` finds none free, one is closed to make place.
pub(crate) struct Acceptor {
    listener: TcpListener,
    reserve: Vec<File>,
    /// Told when a connection has ended: its descriptor goes back into the reserve at once, before an endpoint that is
    /// out of them tries again and takes it.
    freed: Arc<Notify>,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> Self {
        let mut acceptor = Self { listener, reserve: Vec::with_capacity(RESERVE), freed: Arc::default() };
        acceptor.refill();
        acceptor
    }

    /// To be notified after each connection that has ended.
    pub(crate) fn freed(&self) -> Arc<Notify> {
        Arc::clone(&self.freed)
    }

    /// The next connection. Dropping the future loses none.
    pub(crate) async fn accept(&mut self) -> TcpStream {
        loop {
            self.refill();
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.freed.notified() => continue,
            };
            match accepted {
                Ok((socket, _)) => return socket,
                Err(error) if is_out_of_descriptors(&error) && self.reserve.pop().is_some() => {
                    // At once, before another thread takes the descriptor that was just set free. Where nobody waits to be
                    // accepted (that `accept` fails does not say that somebody does), it goes back into the reserve.
                    let now = poll_fn(|cx| Poll::Ready(self.listener.poll_accept(cx))).await;
                    if let Poll::Ready(Ok((socket, _))) = now {
                        return socket;
                    }
                }
                Err(_) => tokio::time::sleep(BACK_OFF).await,
            }
        }
    }

    fn refill(&mut self) {
        while self.reserve.len() < RESERVE {
            match File::open("/dev/null") {
                Ok(file) => self.reserve.push(file),
                Err(_) => return,
            }
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
