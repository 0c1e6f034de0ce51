//! One connection, from the accepted socket to its handler.
//!
//! Owns what comes before the handler: the PROXY header of trusted peers and the TLS handshake, each with a deadline.
//! Called by `listener` with a socket that is within limits; hands a [`Connection`] to the endpoint's instance.

mod handshake;
mod hello;
mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{Level, debug, info};

pub use self::limits::{Limit, Slot};

use self::handshake::Failed;
use crate::drain::Drain;
use crate::handler::{Connection, Instance};
use crate::identity::{ConnectionInfo, Kept, Local, Remote, TlsInfo};
use crate::metrics::{HandshakeFailure, Rejection};
use crate::plan::passthrough::{self, PassRule};
use crate::plan::{EndpointPlan, TlsTerms};
use crate::proxy_protocol::{self, Claim, Parsed};
use crate::sketch::Open;
use crate::stream::{Socket, Stream};
use crate::tls::client_hello::Hello;

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
    let Some((connection, other)) = Box::pin(prepare(tcp, peer, &endpoint, drain, &mut place)).await else { return };
    let instance = other.unwrap_or(instance);
    let info = Arc::clone(&connection.info);
    if let Err(error) = instance.serve(connection).await {
        debug!(endpoint = %info.endpoint.name, client = %info.client.0, side = ?error.side, "connection ended: {error}");
    }
    drop((slot, place));
}

/// A connection, and what serves it where that is not the endpoint's own instance.
type Prepared = (Connection, Option<Arc<dyn Instance>>);

/// Everything before the handler; `None` if the connection ended there.
async fn prepare(
    tcp: TcpStream,
    peer: SocketAddr,
    plan: &Arc<EndpointPlan>,
    drain: Drain,
    place: &mut Option<Open>,
) -> Option<Prepared> {
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
    let mut ahead = Bytes::new();
    if !plan.passthrough.is_empty() {
        match look(plan, &mut socket, client, deadline.saturating_sub(start.elapsed())).await? {
            Look::GoOn(bytes) => ahead = bytes,
            Look::PassOn(bytes, hello, instance) => {
                let mut stream = Stream::plain(socket);
                stream.unread(bytes);
                let asked = hello.server_name.map(Arc::from);
                let connection = connection(plan, stream, Ends { client, dialled }, None, asked, drain);
                return Some((connection, Some(instance)));
            }
        }
    }
    let (stream, tls) = match &plan.tls {
        None => {
            let mut stream = Stream::plain(socket);
            stream.unread(ahead);
            (stream, None)
        }
        Some(terms) => {
            if let Err(reason) = plan.context.clients.shake_hands(client.ip()) {
                return reject(plan, reason, client, TOO_MUCH);
            }
            socket.unread(ahead);
            let left = deadline.saturating_sub(start.elapsed());
            let (stream, info) = shake_hands(plan, terms, socket, client, left).await?;
            (stream, Some(info))
        }
    };
    Some((connection(plan, stream, Ends { client, dialled }, tls, None, drain), None))
}

/// Both ends of a connection, as the client sees them.
struct Ends {
    client: SocketAddr,
    dialled: SocketAddr,
}

fn connection(
    plan: &EndpointPlan,
    stream: Stream,
    Ends { client, dialled }: Ends,
    tls: Option<TlsInfo>,
    asked: Option<Arc<str>>,
    drain: Drain,
) -> Connection {
    let endpoint = Arc::clone(&plan.endpoint);
    let info = Arc::new(ConnectionInfo {
        endpoint,
        client: Remote(client),
        local: Local(dialled),
        tls,
        asked,
        kept: Kept::default(),
    });
    Connection { stream, info, context: Arc::clone(&plan.context), drain }
}

/// What a client's first bytes lead to, and those bytes.
enum Look {
    /// What would be done without rules.
    GoOn(Bytes),
    /// This handler gets them as they come.
    PassOn(Bytes, Hello, Arc<dyn Instance>),
}

/// Looks at the first bytes and finds the rule for them; `None` if the connection ended there.
async fn look(plan: &EndpointPlan, socket: &mut Socket, client: SocketAddr, left: Duration) -> Option<Look> {
    let (bytes, hello) = match timeout(left, hello::read(socket)).await {
        Ok(Ok(read)) => read,
        Ok(Err(failed)) => return fail(plan, client, &failed),
        Err(_) => {
            let failed = Failed::new(HandshakeFailure::Timeout, "the ClientHello did not come in time");
            return fail(plan, client, &failed);
        }
    };
    let Some(hello) = hello else { return Some(Look::GoOn(bytes)) };
    match passthrough::choose(&plan.passthrough, &hello).map(PassRule::to) {
        None => Some(Look::GoOn(bytes)),
        Some(Some(instance)) => Some(Look::PassOn(bytes, hello, Arc::clone(instance))),
        Some(None) => {
            let _ = timeout(left, hello::refuse(socket)).await;
            plan.reject(Rejection::ServerName, client, "what it asks for is refused");
            None
        }
    }
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
    match handshake::accept(terms, socket, deadline).await {
        Ok(None) => {
            info!(endpoint = %plan.endpoint.name, %client, "answered a challenge of ACME");
            None
        }
        Ok(Some((stream, mut info))) => {
            counters.handshakes.count(crate::metrics::handshake_key(info.version, info.group, info.resumed));
            info.handshake = start.elapsed();
            counters.handshake_seconds.observe(info.handshake);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            counters.evidence.note(&info, client.ip(), now.as_secs());
            Some((stream, info))
        }
        Err(mut failed) => {
            if plan.is_waiting() && failed.reason == HandshakeFailure::NoCommonAlgorithm {
                failed.reason = HandshakeFailure::NoCertificate;
                failed.message = plan.certificates.waiting.join("; ");
            }
            fail(plan, client, &failed)
        }
    }
}

/// Counts a handshake that failed, and logs a sample.
fn fail<T>(plan: &EndpointPlan, client: SocketAddr, failed: &Failed) -> Option<T> {
    plan.context.metrics.here().handshake_failures[failed.reason as usize].add(1);
    if let Some(left_out) = plan.noise.admit(Rejection::ALL.len() + failed.reason as usize, Instant::now()) {
        let sni = failed.server_name.as_deref().unwrap_or("-");
        tracing::event!(Level::INFO, endpoint = %plan.endpoint.name, %client, sni, reason = %failed.reason,
            left_out, "TLS handshake failed: {}", failed.message);
    }
    None
}

fn reject<T>(plan: &EndpointPlan, reason: Rejection, client: SocketAddr, why: &str) -> Option<T> {
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
