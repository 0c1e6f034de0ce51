//! Groups of servers that handlers pass requests and sessions on to.
//!
//! Owns the choice of a server, dialling with a deadline, and each worker's pool of kept connections. Made by `plan`;
//! used by `handler/http_proxy` (see `exchange`: one request, one answer) and `handler/tcp_proxy` (which dials).

mod chunks;
mod dial;
mod exchange;
mod link;
mod pool;
mod progress;
mod request_body;
mod response_body;
mod response_head;
mod sending;
mod tunnel;

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thread_local::ThreadLocal;

pub use self::dial::{DialError, Open};
pub use self::exchange::{Answer, Answered, ExchangeError, Failure};
use self::pool::Pool;
pub use self::request_body::{BoxError, Outgoing};
pub use self::response_body::ResponseBody;
pub use self::sending::{OwnFields, Sending};
pub use self::tunnel::Tunnel;
use crate::metrics::ServerMetrics;

/// A group of servers, ready to use.
///
/// One value serves all workers; what changes (whose turn it is, which connections are kept) lives in a slot of each
/// worker's own, so nothing here takes a lock.
#[derive(Debug)]
pub struct Upstream {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// The servers, in the order written; at least one.
    pub servers: Vec<Arc<Server>>,
    /// Deadlines.
    pub timeouts: UpstreamTimeouts,
    /// How many times this worker has picked a server.
    turns: ThreadLocal<Cell<usize>>,
}

/// Finds an upstream by its name in the configuration; where there is none, a sentence says so.
pub type LookUp<'a> = &'a dyn Fn(&str) -> Result<Arc<Upstream>, String>;

/// One server of a group.
#[derive(Debug)]
pub struct Server {
    /// As written, "HOST:PORT": its label in metrics and logs.
    pub name: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// Where it is counted.
    pub metrics: Arc<ServerMetrics>,
    /// Connections that wait for a request, by worker.
    pool: Pool,
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

impl Upstream {
    /// A group of `servers`, none of them dialled yet.
    #[must_use]
    pub fn new(name: &str, servers: Vec<Server>, timeouts: UpstreamTimeouts) -> Self {
        let servers = servers.into_iter().map(Arc::new).collect();
        Self { name: name.into(), servers, timeouts, turns: ThreadLocal::new() }
    }

    /// All that it was made from, in words that are equal where two upstreams are.
    #[must_use]
    pub fn description(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(|server| (&server.name, server.address)).collect();
        format!("{} {servers:?} {:?}", self.name, self.timeouts)
    }

    /// Takes over what the servers of `before` have gathered: the counters of each that has the same name here, and its
    /// kept connections where it has the same address too.
    #[must_use]
    pub fn taking_over(mut self, before: &Self) -> Self {
        for server in &mut self.servers {
            let Some(known) = before.servers.iter().find(|known| known.name == server.name) else { continue };
            *server = if known.address == server.address {
                Arc::clone(known)
            } else {
                let metrics = Arc::clone(&known.metrics);
                Arc::new(Server {
                    name: Arc::clone(&server.name),
                    address: server.address,
                    metrics,
                    pool: Pool::default(),
                })
            };
        }
        self
    }

    /// The server whose turn it is on this worker, then every other one once, in order: round robin, and whom to try
    /// next where one cannot be reached.
    pub fn pick(&self) -> impl Iterator<Item = &Arc<Server>> {
        let turn = self.turns.get_or_default();
        let first = turn.get() % self.servers.len().max(1);
        turn.set(first + 1);
        let (before, from) = self.servers.split_at(first);
        from.iter().chain(before)
    }

    /// Closes this worker's kept connections that waited longer than the `idle` deadline or that their server closed.
    /// Each worker calls it about once a second.
    pub fn sweep(&self) {
        for server in &self.servers {
            server.pool.sweep(self.timeouts.idle);
        }
    }

    /// Closes all of this worker's kept connections. Each worker calls it before its runtime ends, since a connection
    /// belongs to the runtime that opened it.
    pub fn close_idle(&self) {
        for server in &self.servers {
            server.pool.clear();
        }
    }
}

impl Server {
    /// A server at `address`, under the `name` that the configuration gives it.
    #[must_use]
    pub fn new(name: &str, address: SocketAddr) -> Self {
        Self { name: name.into(), address, metrics: Arc::default(), pool: Pool::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_group_keeps_the_counters_of_servers_by_name_and_their_pools_by_address() {
        let second = Duration::from_secs(1);
        let timeouts = UpstreamTimeouts { connect: second, response: second, body: second, idle: second };
        let group = |servers: [(&str, u16); 2]| {
            let servers = servers.map(|(name, port)| Server::new(name, SocketAddr::from(([127, 0, 0, 1], port))));
            Upstream::new("app", servers.into(), timeouts)
        };
        let before = group([("same", 1), ("moved", 2)]);
        let after = group([("same", 1), ("moved", 3)]).taking_over(&before);
        assert!(Arc::ptr_eq(&before.servers[0], &after.servers[0]));
        assert!(!Arc::ptr_eq(&before.servers[1], &after.servers[1]));
        assert!(Arc::ptr_eq(&before.servers[1].metrics, &after.servers[1].metrics));
        assert_eq!(after.servers[1].address.port(), 3);
        assert_eq!(before.description(), group([("same", 1), ("moved", 2)]).description());
        assert_ne!(before.description(), after.description());
    }

    #[test]
    fn servers_take_turns_and_each_is_offered_once() {
        let server = |port| Server::new(&format!("127.0.0.1:{port}"), SocketAddr::from(([127, 0, 0, 1], port)));
        let second = Duration::from_secs(1);
        let timeouts = UpstreamTimeouts { connect: second, response: second, body: second, idle: second };
        let upstream = Upstream::new("app", vec![server(1), server(2), server(3)], timeouts);
        let ports = || upstream.pick().map(|s| s.address.port()).collect::<Vec<_>>();
        assert_eq!([ports(), ports(), ports(), ports()], [vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2], vec![1, 2, 3]]);
    }
}
