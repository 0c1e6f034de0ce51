//! Groups of servers that handlers pass requests and sessions on to.
//!
//! Owns the choice of a server, dialling with a deadline, and each worker's pool of kept connections. Made by `plan`;
//! used by `handler/http_proxy` and `handler/tcp_proxy`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::ServerMetrics;

/// A group of servers, ready to use.
#[derive(Debug)]
pub struct Upstream {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// The servers, in the order written.
    pub servers: Vec<Server>,
    /// Deadlines.
    pub timeouts: UpstreamTimeouts,
}

/// One server of a group.
#[derive(Debug)]
pub struct Server {
    /// As written, "HOST:PORT": its label in metrics and logs.
    pub name: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// Where it is counted.
    pub metrics: Arc<ServerMetrics>,
}

/// An upstream's deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Opening a connection.
    pub connect: Duration,
    /// From the last byte of the request to the head of the response.
    pub response: Duration,
    /// Between two reads, or two writes, of a body.
    pub body: Duration,
    /// A kept connection without a request.
    pub idle: Duration,
}
