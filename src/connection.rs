//! One connection, from the accepted socket to its handler.
//!
//! Owns what comes before the handler: the PROXY header of trusted peers and the TLS handshake, each with a deadline.
//! Called by `listener` with a socket that is within limits; hands a [`Connection`] to the endpoint's instance.

mod handshake;
mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{Level, debug};

pub use self::limits::{Limit, Slot};
use crate::drain::Drain;
use crate::handler::{Connection, Instance};
use crate::identity::{ConnectionInfo, Local, Remote, TlsInfo};
use crate::metrics::Rejection;
use crate::plan::{EndpointPlan, TlsTerms};
use crate::proxy_protocol::{self, Claim, Parsed};
use crate::sketch::Open;
use crate::stream::{Socket, Stream};

/// What the log says of a client over one of its limits; the reason says which.
pub(crate) const TOO_MUCH: &str = "it is at its limit";

/// An accepted socket, within limits.
pub struct Accepted {
    /// The socket.
    pub tcp: TcpStream,
    /// Its peer: the client, or a proxy in front of it.
    pub peer: SocketAddr,
    /// The endpoint that it came in by, as planned when it came.
    pub endpoint: Arc<EndpointPlan>,
    /// What serves it.
    pub instance: Arc<dyn Instance>,
    /// The worker's stop signal.
    pub drain: Drain,
    /// Its place among the connections that are held.
    pub slot: Slot,
    /// Its place among those of its peer; that of a client behind a proxy is taken when the proxy has named it.
    pub place: Option<Open>,
}

/// Serves one connection to its end. What goes wrong is counted and logged here.
pub async fn serve(accepted: Accepted) {
    let Accepted { tcp, peer, endpoint, instance, drain, slot, mut place } = accepted;
    // Small writes of a response must not wait for the client's acknowledgement; failing that costs latency only.
    let _ = tcp.set_nodelay(true);
    // The handshake's state is large and short-lived: it has a box of its own, so that a served connection does not
    // carry it along.
    let Some(connection) = Box::pin(prepare(tcp, peer, &endpoint, drain, &mut place)).await else { return };
    let info = Arc::clone(&connection.info);
    if let Err(error) = instance.serve(connection).await {
        debug!(endpoint = %info.endpoint.name, client = %info.client.0, side = ?error.side, "connection ended: {error}");
    }
    drop((slot, place));
}

/// Everything before the handler; `None` if the connection ended there.
async fn prepare(
    tcp: TcpStream,
    peer: SocketAddr,
    plan: &Arc<EndpointPlan>,
    drain: Drain,
    place: &mut Option<Open>,
) -> Option<Connection> {
    let deadline = plan.context.timeouts.handshake;
    let start = Instant::now();
    let local = tcp.local_addr().unwrap_or(plan.listen[0]);
    let mut socket = Socket::new(tcp, Arc::clone(&plan.context.metrics));
    let (mut client, mut dialled) = (peer, local);
    if plan.access.is_proxy(peer.ip()) {
        match timeout(deadline, read_proxy_header(&mut socket)).await {
            Ok(Ok(Claim::Local)) => {}
            Ok(Ok(Claim::Proxied { source, destination })) => (client, dialled) = (source, destination),
            Ok(Err(why)) => return reject(plan, Rejection::ProxyHeader, peer, &why),
            Err(_) => return reject(plan, Rejection::ProxyHeader, peer, "the PROXY header did not come in time"),
        }
        // The lists speak of clients; the proxy in front was let in by its own list.
        if !plan.access.admits(client.ip()) {
            return reject(plan, Rejection::Address, client, "its address is not allowed");
        }
        match plan.context.clients.enter(client.ip()) {
            Ok(entered) => *place = entered,
            Err(reason) => return reject(plan, reason, client, TOO_MUCH),
        }
    }
    let (stream, tls) = match &plan.tls {
        None => (Stream::plain(socket), None),
        Some(terms) => {
            if let Err(reason) = plan.context.clients.shake_hands(client.ip()) {
                return reject(plan, reason, client, TOO_MUCH);
            }
            let left = deadline.saturating_sub(start.elapsed());
            let (stream, info) = shake_hands(plan, terms, socket, client, left).await?;
            (stream, Some(info))
        }
    };
    let endpoint = Arc::clone(&plan.endpoint);
    let info = Arc::new(ConnectionInfo { endpoint, client: Remote(client), local: Local(dialled), tls });
    Some(Connection { stream, info, context: Arc::clone(&plan.context), drain })
}

async fn shake_hands(
    plan: &EndpointPlan,
    terms: &TlsTerms,
    socket: Socket,
    client: SocketAddr,
    deadline: std::time::Duration,
) -> Option<(Stream, TlsInfo)> {
    let start = Instant::now();
    let counters = plan.context.metrics.here();
    match handshake::accept(&terms.acceptor, socket, deadline).await {
        Ok((stream, info)) => {
            counters.handshakes.count(crate::metrics::handshake_key(info.version, info.group, info.resumed));
            counters.handshake_seconds.observe(start.elapsed());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            counters.evidence.note(&info, client.ip(), now.as_secs());
            Some((stream, info))
        }
        Err(failed) => {
            counters.handshake_failures[failed.reason as usize].add(1);
            if let Some(left_out) = plan.noise.admit(Rejection::ALL.len() + failed.reason as usize, Instant::now()) {
                let sni = failed.server_name.as_deref().unwrap_or("-");
                tracing::event!(Level::INFO, endpoint = %plan.endpoint.name, %client, sni, reason = %failed.reason,
                    left_out, "TLS handshake failed: {}", failed.message);
            }
            None
        }
    }
}

fn reject(plan: &EndpointPlan, reason: Rejection, client: SocketAddr, why: &str) -> Option<Connection> {
    plan.reject(reason, client, why);
    None
}

/// Reads exactly one PROXY header: everything that is peeked and not yet a whole header belongs to it.
async fn read_proxy_header(socket: &mut Socket) -> Result<Claim, String> {
    let mut have = BytesMut::new();
    let mut window = [0; 512];
    // Each turn takes at least one byte, and `parse` refuses what is longer than a header may be.
    loop {
        let peeked = socket.tcp().peek(&mut window).await.map_err(|e| e.to_string())?;
        if peeked == 0 {
            return Err("the peer closed before its PROXY header was complete".into());
        }
        let known = have.len();
        have.extend_from_slice(&window[..peeked]);
        let (take, claim) = match proxy_protocol::parse(&have)? {
            Parsed::Header { length, claim } => (length - known, Some(claim)),
            Parsed::Incomplete => (peeked, None),
        };
        let mut taken = (&mut *socket).take(take as u64);
        while taken.limit() > 0 {
            if taken.read(&mut window).await.map_err(|e| e.to_string())? == 0 {
                return Err("the peer's PROXY header was gone before it was read".into());
            }
        }
        if let Some(claim) = claim {
            debug_assert!(have.remaining() >= take, "a header ends within what was peeked");
            socket.forget_first_bytes();
            return Ok(claim);
        }
    }
}
