//! Active checks: asks every server at intervals whether it is well.
//!
//! Runs off the workers, on the runtime of `minder`, which starts it with the plan and ends it with it. What is found
//! reaches the workers through `health`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::dial::Use;
use super::request_body::BoxError;
use super::wire::Wire;
use super::{Protocol, Server, Upstream};

/// How servers are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPolicy {
    /// The path that is asked for by GET; `None`: a connection is enough.
    pub path: Option<Uri>,
    /// Between two checks of a server.
    pub interval: Duration,
    /// A check as a whole.
    pub timeout: Duration,
    /// So many checks in a row must go well before a server that is down counts as well again.
    pub healthy: u32,
    /// So many must fail before a server that is well counts as down.
    pub unhealthy: u32,
    /// The statuses that a server that is well answers with; empty: 200 to 399.
    pub statuses: Vec<StatusCode>,
}

/// Checks an upstream's servers for as long as it is polled.
pub(super) async fn run(upstream: Arc<Upstream>, policy: CheckPolicy) {
    let mut ticks = interval(policy.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streaks = HashMap::<SocketAddr, Streak>::new();
    loop {
        ticks.tick().await;
        let members = upstream.members();
        streaks.retain(|address, _| members.servers().any(|server| server.address == *address));
        let mut checks = JoinSet::new();
        for server in members.servers() {
            let (upstream, server, policy) = (Arc::clone(&upstream), Arc::clone(server), policy.clone());
            checks.spawn(async move {
                let checked = timeout(policy.timeout, check(&upstream, &server, &policy)).await;
                (server, checked.unwrap_or_else(|_| Err("no answer in time".into())))
            });
        }
        while let Some(checked) = checks.join_next().await {
            let Ok((server, outcome)) = checked else { continue }; // a panic, which its hook has told
            let streak = streaks.entry(server.address).or_default();
            streak.note(&upstream, &server, &policy, &outcome);
        }
    }
}

/// Checks in a row that ended alike.
#[derive(Debug, Default)]
struct Streak {
    well: bool,
    length: u32,
}

impl Streak {
    fn note(&mut self, upstream: &Upstream, server: &Server, policy: &CheckPolicy, outcome: &Result<(), String>) {
        let counters = server.metrics.here();
        let counted = if outcome.is_ok() { &counters.checks_passed } else { &counters.checks_failed };
        counted.add(1);
        server.checked.note(outcome.as_ref().err().cloned(), policy.interval);
        let length = if self.well == outcome.is_ok() { self.length.saturating_add(1) } else { 1 };
        *self = Self { well: outcome.is_ok(), length };
        let needed = if self.well { policy.healthy } else { policy.unhealthy };
        if length < needed || !server.health.set_down(!self.well, Instant::now()) {
            return;
        }
        let (upstream, server, address) = (&upstream.name, &server.name, server.address);
        match outcome {
            Ok(()) => tracing::info!(%upstream, %server, %address, "the server is well again"),
            Err(why) => tracing::warn!(%upstream, %server, %address, "the server is down: {why}"),
        }
    }
}

async fn check(upstream: &Upstream, server: &Server, policy: &CheckPolicy) -> Result<(), String> {
    let wire = upstream.reach(server, Use::Requests).await.map_err(|error| error.to_string())?;
    let Some(path) = &policy.path else { return Ok(()) };
    let status = ask(upstream, server, wire, path).await.map_err(|error| format!("no answer: {error}"))?;
    let expected = match &policy.statuses[..] {
        [] => status.is_success() || status.is_redirection(),
        listed => listed.contains(&status),
    };
    if expected { Ok(()) } else { Err(format!("it answered {status}")) }
}

/// Asks for a path over a fresh connection, which ends with it.
async fn ask(upstream: &Upstream, server: &Server, wire: Wire, path: &Uri) -> Result<StatusCode, BoxError> {
    let request = Request::get(path.clone()).header(USER_AGENT, "portcullis-health");
    let body = Empty::<Bytes>::new();
    let mut connection = JoinSet::new(); // the connection's task ends with this
    match upstream.policy.protocol {
        Protocol::Http1 => {
            let (mut sender, driver) = http1::handshake(TokioIo::new(wire)).await?;
            connection.spawn(driver);
            let request = request.header(HOST, upstream.host_of(server)).header(CONNECTION, "close").body(body);
            Ok(sender.send_request(request?).await?.status())
        }
        Protocol::Http2 => {
            let (mut sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await?;
            connection.spawn(driver);
            let target = format!("{}://{}{path}", upstream.scheme(), upstream.host_of(server));
            let request = request.uri(target).body(body);
            Ok(sender.send_request(request?).await?.status())
        }
    }
}
