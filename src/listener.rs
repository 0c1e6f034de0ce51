//! Sockets and accept: one task per worker and listening address.
//!
//! Owns opening sockets (called by `reload` before any worker is told of them, so that a port in use is an error of the
//! start-up or of the reload) and the accept loop (started by `worker`), which survives exhausted descriptors, takes what
//! it serves from `reload`, and hands each socket to `connection`.

pub(crate) mod inherited;
pub(crate) mod spares;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{info, warn};

use self::inherited::Inherited;
use crate::connection::{self, Accepted, Limit, Slot};
use crate::drain::Drain;
use crate::handler::Instance;
use crate::metrics::Rejection;
use crate::plan::EndpointPlan;
use crate::sketch::Open;

/// How many connections may wait in a socket's queue; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long accept rests after descriptors or memory ran out.
const REST: Duration = Duration::from_millis(100);

/// Opens one listening socket per worker on one address, all or none. Port 0 means one free port for all of them.
///
/// # Errors
/// The address cannot be bound: taken by another process, not ours, or not permitted.
pub fn open(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // SO_REUSEPORT would let us share a port with another process of the same user without a word. Binding once
    // without it finds that out.
    let probe = bind(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    open_shared(address, workers)
}

/// As [`open`], on an address that sockets of ours may overlap.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn open_shared(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    (0..workers)
        .map(|_| {
            let socket = bind(address, true)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect()
}

/// Takes the sockets that were open on an address before this process was; at least one for each worker, or none.
///
/// # Errors
/// No descriptors are left.
pub(crate) fn take(
    inherited: &mut Inherited,
    address: SocketAddr,
    workers: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let sockets = inherited.take(address);
    if sockets.is_empty() { Ok(sockets) } else { inherited::shared_out(sockets, workers) }
}

fn bind(address: SocketAddr, share: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // "[::]:443" is IPv6 alone, so that "0.0.0.0:443" can stand beside it.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What an accept loop serves. A reload replaces it; the socket stays.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) endpoint: Arc<EndpointPlan>,
    pub(crate) instance: Arc<dyn Instance>,
    /// The caps, shared with the other workers.
    pub(crate) gateway_limit: Arc<Limit>,
    pub(crate) endpoint_limit: Arc<Limit>,
}

/// Accepts until the drain begins, or `doors` ends because a reload has removed the address; then closes the socket. What
/// came in by a removed address may finish what it does, and is asked to end.
///
/// The loop itself counts as in flight, until what waits in the queue is let in: the worker would end before that.
pub(crate) async fn run(
    socket: std::net::TcpListener,
    mut doors: watch::Receiver<Door>,
    drain: Drain,
    _in_flight: TaskTrackerToken,
) {
    let drain = drain.child();
    let mut door = doors.borrow_and_update().clone();
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(endpoint = %door.endpoint.endpoint.name, "cannot listen: {error}");
            return;
        }
    };
    let mut exhaustion = Exhaustion::default();
    let mut begun = std::pin::pin!(drain.begun());
    loop {
        tokio::select! {
            biased;
            () = &mut begun => break,
            changed = doors.changed() => match changed {
                Ok(()) => door = doors.borrow_and_update().clone(),
                Err(_) => break,
            },
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    exhaustion.over(&door.endpoint);
                    door.admit(tcp, peer, &drain);
                }
                Err(error) if is_exhaustion(&error) => {
                    exhaustion.begin(&door.endpoint, &error);
                    tokio::time::sleep(REST).await;
                }
                // Anything else concerned that one connection, which is gone (accept(2)).
                Err(_) => {}
            },
        }
    }
    drain.begin();
    door.admit_waiting(listener, &drain);
}

impl Door {
    /// Serves a connection in a task of its own, if it is let in.
    fn admit(&self, tcp: TcpStream, peer: SocketAddr, drain: &Drain) {
        let Self { endpoint, instance, gateway_limit, endpoint_limit } = self;
        endpoint.context.metrics.here().accepted.add(1);
        let place = match admit(endpoint, peer) {
            Ok(place) => place,
            Err((reason, why)) => {
                endpoint.reject(reason, peer, why);
                return;
            }
        };
        if !instance.admits() {
            endpoint.reject(Rejection::Handler, peer, "the handler takes no connections now");
            return;
        }
        let slot = match Slot::take(gateway_limit, endpoint_limit, &endpoint.context.metrics) {
            Ok(slot) => slot,
            Err(full) => {
                endpoint.reject(full, peer, "no room for another connection");
                return;
            }
        };
        // Counted as in flight before the task exists, or a drain could miss it.
        let in_flight = drain.track();
        let (endpoint, instance, drain) = (Arc::clone(endpoint), Arc::clone(instance), drain.clone());
        tokio::spawn(async move {
            connection::serve(Accepted { tcp, peer, endpoint, instance, drain, slot, place }).await;
            drop(in_flight);
        });
    }

    /// Serves what waits in the queue of a socket that is about to close: those clients were told that they are connected.
    fn admit_waiting(&self, listener: TcpListener, drain: &Drain) {
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..BACKLOG {
            let Ok((tcp, peer)) = listener.accept() else { return };
            if let Ok(tcp) = tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp)) {
                self.admit(tcp, peer, drain);
            }
        }
    }
}

/// Descriptors or memory that ran out, said once when it begins and once when it is over.
#[derive(Default)]
struct Exhaustion {
    lasts: bool,
    said: bool,
}

impl Exhaustion {
    fn begin(&mut self, endpoint: &EndpointPlan, error: &io::Error) {
        endpoint.context.metrics.reject(Rejection::Resources);
        if std::mem::replace(&mut self.lasts, true) {
            return;
        }
        // Clients that come and go at the very limit would have this begin and end ten times a second.
        let admitted = endpoint.noise.admit(Rejection::Resources as usize, Instant::now());
        self.said = admitted.is_some();
        if let Some(left_out) = admitted {
            warn!(endpoint = %endpoint.endpoint.name, left_out, "cannot accept: {error}; trying again every {REST:?}. Raise \
                the limit of open files (ulimit -n) or lower max_connections");
        }
    }

    fn over(&mut self, endpoint: &EndpointPlan) {
        self.lasts = false;
        if std::mem::take(&mut self.said) {
            info!(endpoint = %endpoint.endpoint.name, "accepting again");
        }
    }
}

/// Whether a peer may come in, with its place among its own connections. A trusted proxy may always: its clients are judged
/// when it has named them.
fn admit(endpoint: &EndpointPlan, peer: SocketAddr) -> Result<Option<Open>, (Rejection, &'static str)> {
    if endpoint.access.is_proxy(peer.ip()) {
        return Ok(None);
    }
    if !endpoint.access.admits(peer.ip()) {
        return Err((Rejection::Address, "its address is not allowed"));
    }
    endpoint.context.clients.enter(peer.ip()).map_err(|reason| (reason, connection::TOO_MUCH))
}

/// Whether the process or the system ran out of something, so that accepting again at once would fail again.
fn is_exhaustion(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

impl EndpointPlan {
    /// Counts a connection that is turned away, and logs a sample.
    pub(crate) fn reject(&self, reason: Rejection, client: SocketAddr, why: &str) {
        self.context.metrics.reject(reason);
        if let Some(left_out) = self.noise.admit(reason as usize, Instant::now()) {
            info!(endpoint = %self.endpoint.name, %client, %reason, left_out, "connection turned away: {why}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_socket_listens_on_cannot_be_shared_silently() {
        let first = open("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first[0].local_addr().unwrap(), first[1].local_addr().unwrap());
        let again = open(first[0].local_addr().unwrap(), 1);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
