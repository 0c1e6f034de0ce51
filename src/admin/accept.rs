//! Accepts the admin port's connections, also when the endpoints have used up every descriptor.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};

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
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> Self {
        let mut acceptor = Self { listener, reserve: Vec::with_capacity(RESERVE) };
        acceptor.refill();
        acceptor
    }

    /// The next connection. Dropping the future loses none.
    pub(crate) async fn accept(&mut self) -> TcpStream {
        loop {
            self.refill();
            match self.listener.accept().await {
                Ok((socket, _)) => return socket,
                Err(error) if is_out_of_descriptors(&error) && self.reserve.pop().is_some() => {
                    // At once, before another thread takes the descriptor that was just set free.
                    if let Ok((socket, _)) = self.listener.accept().await {
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
