//! Opens connections to a server, within the `connect` deadline, and counts them.
//!
//! Used by `exchange` and by `handler/tcp_proxy`.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Server, Upstream};
use crate::metrics::{ServerMetrics, UpstreamFailure};

/// Why a server could not be reached. Nothing was sent to it.
#[derive(Debug)]
pub enum DialError {
    /// It refused the connection, or the attempt failed in a way that has no name of its own here.
    Refused(io::Error),
    /// No route leads to its address.
    Unroutable(io::Error),
    /// It did not answer within the `connect` deadline.
    Timeout,
    /// This machine has no descriptor or port left to dial with.
    Exhausted(io::Error),
}

impl Upstream {
    /// Opens a connection to `server`, without delay of small writes (`TCP_NODELAY`).
    ///
    /// The caller holds [`Server::opened`] for as long as the connection lives.
    ///
    /// # Errors
    /// The server could not be reached within [`connect`](super::UpstreamTimeouts::connect); it is counted.
    pub async fn dial(&self, server: &Server) -> Result<TcpStream, DialError> {
        let connected = timeout(self.timeouts.connect, TcpStream::connect(server.address)).await;
        let outcome = match connected {
            Ok(connected) => connected.and_then(without_delay).map_err(DialError::from),
            Err(_) => Err(DialError::Timeout),
        };
        match &outcome {
            Ok(_) => server.metrics.here().connects.add(1),
            Err(error) => server.metrics.fail(error.counted_as()),
        }
        outcome
    }
}

fn without_delay(tcp: TcpStream) -> io::Result<TcpStream> {
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

impl Server {
    /// Counts a connection as open until the guard is dropped.
    #[must_use]
    pub fn opened(&self) -> Open {
        self.metrics.here().active.add(1);
        Open { metrics: Arc::clone(&self.metrics) }
    }
}

/// Keeps a connection counted as open.
#[derive(Debug)]
pub struct Open {
    metrics: Arc<ServerMetrics>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.here().active.sub(1);
    }
}

impl DialError {
    fn counted_as(&self) -> UpstreamFailure {
        match self {
            Self::Timeout => UpstreamFailure::ConnectTimeout,
            Self::Refused(_) | Self::Unroutable(_) | Self::Exhausted(_) => UpstreamFailure::Connect,
        }
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, TimedOut};
        use rustix::io::Errno;
        let out_of_descriptors = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        match error.kind() {
            HostUnreachable | NetworkUnreachable => Self::Unroutable(error),
            TimedOut => Self::Timeout,
            AddrNotAvailable => Self::Exhausted(error),
            _ if error.raw_os_error().is_some_and(|code| out_of_descriptors.contains(&code)) => Self::Exhausted(error),
            _ => Self::Refused(error),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "the connection failed: {error}"),
            Self::Unroutable(error) => write!(f, "the server's address cannot be reached: {error}"),
            Self::Timeout => f.write_str("no connection within the connect deadline"),
            Self::Exhausted(error) => write!(f, "this machine cannot open another connection: {error}"),
        }
    }
}

impl std::error::Error for DialError {}
