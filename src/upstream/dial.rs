//! Opens connections to a server, within the `connect` deadline, and counts them.
//!
//! Used by `exchange` and `session`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::wire::Wire;
use super::{Server, Upstream};
use crate::metrics::{RequestFailure, ServerMetrics, UpstreamFailure};

/// Why a server could not be reached. Nothing was sent to it.
#[derive(Debug)]
pub enum DialError {
    /// It refused the connection, or the attempt failed in a way that has no name of its own here.
    Refused(io::Error),
    /// No route leads to its address.
    Unroutable(io::Error),
    /// It did not answer within the `connect` deadline.
    Timeout,
    /// The TLS handshake failed, its certificate does not verify, or it does not speak the protocol that is asked for.
    Tls(io::Error),
    /// This machine has no descriptor or port left to dial with.
    Exhausted(io::Error),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Requests, in the upstream's protocol.
    Requests,
    /// A session's bytes, whatever they are.
    Bytes,
}

impl Upstream {
    /// Opens a connection to `server`, TLS where the upstream has it.
    ///
    /// The caller holds [`Server::opened`] for as long as the connection lives. How long it took is added to `spent`.
    ///
    /// # Errors
    /// The server could not be reached within [`connect`](super::UpstreamTimeouts::connect), or before `until`; it is
    /// counted.
    pub(super) async fn dial(
        &self,
        server: &Server,
        until: Option<Instant>,
        for_: Use,
        spent: &mut Duration,
    ) -> Result<Wire, DialError> {
        let begun = Instant::now();
        let deadline = until.into_iter().fold(begun + self.timeouts.connect, Instant::min);
        let connected = timeout_at(deadline, self.reach(server, for_)).await;
        let outcome = connected.unwrap_or(Err(DialError::Timeout));
        let took = begun.elapsed();
        *spent += took;
        match &outcome {
            Ok(_) => {
                let counters = server.metrics.here();
                counters.connects.add(1);
                counters.connect_seconds.observe(took);
            }
            Err(error) => server.metrics.fail(error.counted_as()),
        }
        outcome
    }

    /// Connects, without delay of small writes (`TCP_NODELAY`), and shakes hands; the caller sets the deadline.
    pub(super) async fn reach(&self, server: &Server, for_: Use) -> Result<Wire, DialError> {
        let tcp = TcpStream::connect(server.address).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Wire::Plain(tcp.into())),
            Some(tls) => {
                let stream = tls.shake_hands(server, tcp, for_).await.map_err(DialError::Tls)?;
                Ok(Wire::Tls(Box::new(stream)))
            }
        }
    }
}

impl Server {
    /// Counts a connection as open until the guard is dropped.
    pub(super) fn opened(&self) -> Open {
        self.metrics.here().active.add(1);
        Open { metrics: Arc::clone(&self.metrics) }
    }
}

/// Keeps a connection counted as open.
#[derive(Debug)]
pub(super) struct Open {
    metrics: Arc<ServerMetrics>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.here().active.sub(1);
    }
}

impl DialError {
    /// What `Proxy-Status` (RFC 9209, sections 2.3.6 to 2.3.16), the access log and the metrics call it.
    pub(super) fn word(&self) -> RequestFailure {
        match self {
            Self::Refused(_) => RequestFailure::ConnectionRefused,
            Self::Unroutable(_) => RequestFailure::DestinationIpUnroutable,
            Self::Timeout => RequestFailure::ConnectionTimeout,
            Self::Exhausted(_) => RequestFailure::ConnectionLimitReached,
            Self::Tls(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(_)) => RequestFailure::TlsCertificateError,
                Some(rustls::Error::AlertReceived(_)) => RequestFailure::TlsAlertReceived,
                _ => RequestFailure::TlsProtocolError,
            },
        }
    }

    fn counted_as(&self) -> UpstreamFailure {
        match self {
            Self::Timeout => UpstreamFailure::ConnectTimeout,
            Self::Tls(_) => UpstreamFailure::Tls,
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
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::Exhausted(error) => write!(f, "this machine cannot open another connection: {error}"),
        }
    }
}

impl std::error::Error for DialError {}
