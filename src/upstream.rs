//! Groups of servers that handlers pass requests and sessions on to.
//!
//! Owns the choice of a server, dialling with a deadline, and each worker's pool of kept connections. Made by `plan`;
//! used by `handler/http_proxy` (see `exchange`: one request, one answer) and `handler/tcp_proxy` (see `session`).

mod balance;
mod checks;
mod chunks;
mod dial;
mod exchange;
mod findings;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod http2;
mod lease;
mod link;
mod members;
mod names;
mod pool;
mod progress;
mod request_body;
mod response_body;
mod response_head;
mod retry;
mod sending;
mod session;
mod tls;
mod tunnel;
mod wire;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use hyper::header::HeaderName;
use thread_local::ThreadLocal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::balance::Turns;
pub use self::balance::{Balance, address_key, hash};
pub use self::checks::CheckPolicy;
pub use self::dial::DialError;
pub use self::exchange::{Answer, Answered, Early, ExchangeError, Failure};
pub use self::findings::Finding;
use self::findings::Last;
use self::health::Health;
pub use self::health::{EjectionPolicy, Standing};
use self::http2::Connections;
use self::lease::Queue;
pub use self::lease::{Lease, Limit};
pub use self::members::{Member, Members};
pub use self::names::{NameServers, NamedServer};
use self::pool::Pool;
pub use self::request_body::{BoxError, Outgoing};
pub use self::response_body::ResponseBody;
use self::retry::Budget;
pub use self::retry::RetryPolicy;
pub use self::sending::{OwnFields, Sending};
pub use self::session::Session;
pub use self::tls::UpstreamTls;
pub use self::tunnel::Tunnel;
pub use self::wire::Wire;
use crate::metrics::{ServerMetrics, UpstreamMetrics};

/// A group of servers, ready to use.
///
/// One value serves all workers; what changes (whose turn it is, which connections are kept) lives in a slot of each
/// worker's own, so nothing here takes a lock.
#[derive(Debug)]
pub struct Upstream {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// Deadlines.
    pub timeouts: UpstreamTimeouts,
    /// How its servers are used.
    pub policy: UpstreamPolicy,
    /// TLS to its servers; `None`: plain.
    pub tls: Option<UpstreamTls>,
    /// Where it is counted.
    pub metrics: Arc<UpstreamMetrics>,
    /// Those of its servers that are named, and whom to ask for their addresses.
    names: Vec<NamedServer>,
    name_servers: Option<NameServers>,
    /// How the last lookup of each of these ended.
    looked_up: Vec<Last>,
    members: Arc<ArcSwap<Members>>,
    queue: Arc<Queue>,
    slots: ThreadLocal<Slot>,
}

/// What a worker remembers of an upstream. Borrowed only within a call, never across an await.
#[derive(Debug)]
struct Slot {
    members: RefCell<Cache<Arc<ArcSwap<Members>>, Arc<Members>>>,
    turns: Turns,
    budget: Budget,
}

/// Finds an upstream by its name in the configuration; where there is none, a sentence says so.
pub type LookUp<'a> = &'a dyn Fn(&str) -> Result<Arc<Upstream>, String>;

/// One server of a group: an address.
#[derive(Debug)]
pub struct Server {
    /// As written, "HOST:PORT": its label in metrics and logs, which all addresses of a name share.
    pub name: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// Where it is counted.
    pub metrics: Arc<ServerMetrics>,
    health: Health,
    /// How its last active check ended.
    checked: Last,
    /// How many exchanges it has in work over all workers, counted only where there is a limit.
    taken: AtomicU32,
    workers: ThreadLocal<Here>,
}

/// What a worker has at one server.
#[derive(Debug, Default)]
struct Here {
    /// Connections that wait for a request.
    pool: Pool,
    /// Connections that speak HTTP/2, with or without streams.
    http2: Connections,
    /// How many exchanges and sessions this worker has in work there. What began on one worker ends there, but for a
    /// library user who moves a future; less than nothing is nothing.
    load: Cell<i64>,
}

/// How an upstream's servers are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamPolicy {
    /// How the next server is chosen.
    pub balance: Balance,
    /// What the choice is made by, where it is made by a key.
    pub key: Option<KeySource>,
    /// When a server is taken out for failing.
    pub ejection: EjectionPolicy,
    /// When requests are tried again.
    pub retries: RetryPolicy,
    /// How much a server has in work at once; `None`: as much as comes.
    pub limit: Option<Limit>,
    /// How long a server that comes back is eased in.
    pub slow_start: Duration,
    /// How servers are asked whether they are well; `None`: they are not.
    pub checks: Option<CheckPolicy>,
    /// What requests are sent in.
    pub protocol: Protocol,
}

/// What requests are sent in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112).
    #[default]
    Http1,
    /// HTTP/2 (RFC 9113); with prior knowledge where there is no TLS.
    Http2,
}

impl Protocol {
    /// Its name in ALPN (RFC 7301).
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// What a server is chosen by, where the same is wanted for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The client's address.
    ClientAddress,
    /// A field of the request.
    Header(HeaderName),
    /// A cookie of the request.
    Cookie(String),
}

impl Default for UpstreamPolicy {
    fn default() -> Self {
        let [duration, max_duration] = [10, 300].map(Duration::from_secs);
        Self {
            balance: Balance::RoundRobin,
            key: None,
            ejection: EjectionPolicy { failures: 5, duration, max_duration },
            retries: RetryPolicy { attempts: 2, budget: 20, statuses: Vec::new() },
            limit: None,
            slow_start: Duration::ZERO,
            checks: None,
            protocol: Protocol::Http1,
        }
    }
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
    /// From the dial to the head of the response, at each server.
    pub attempt: Option<Duration>,
    /// From the request to the end of the response, over all servers.
    pub total: Option<Duration>,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        let [connect, response, body, idle] = [2, 30, 30, 60].map(Duration::from_secs);
        Self { connect, response, body, idle, attempt: None, total: None }
    }
}

impl Upstream {
    /// A group of `servers`, each with its weight, none of them dialled yet.
    #[must_use]
    pub fn new(name: &str, servers: Vec<(Server, u32)>, timeouts: UpstreamTimeouts, policy: UpstreamPolicy) -> Self {
        let list = servers.into_iter().map(|(server, weight)| Member::new(Arc::new(server), weight)).collect();
        let members = Members::new(list, policy.slow_start);
        Self {
            name: name.into(),
            timeouts,
            policy,
            tls: None,
            names: Vec::new(),
            name_servers: None,
            looked_up: Vec::new(),
            metrics: Arc::default(),
            members: Arc::new(ArcSwap::from_pointee(members)),
            queue: Arc::default(),
            slots: ThreadLocal::new(),
        }
    }

    /// With TLS to its servers.
    #[must_use]
    pub fn with_tls(self, tls: Option<UpstreamTls>) -> Self {
        Self { tls, ..self }
    }

    /// With servers that are looked up again and again.
    #[must_use]
    pub fn with_names(self, names: Vec<NamedServer>, servers: NameServers) -> Self {
        let looked_up = names.iter().map(|_| Last::default()).collect();
        Self { names, looked_up, name_servers: Some(servers), ..self }
    }

    /// The addresses that a server's name has now.
    pub fn addresses_of(&self, name: &str) -> Vec<SocketAddr> {
        self.members().servers().filter(|server| *server.name == *name).map(|server| server.address).collect()
    }

    /// How the last lookup of a server's name ended, if there was one; `None` where the server is not looked up.
    #[must_use]
    pub fn looked_up(&self, name: &str) -> Option<Option<Finding>> {
        self.lookups_of(name).map(Last::get)
    }

    fn lookups_of(&self, name: &str) -> Option<&Last> {
        let of_name = self.names.iter().position(|named| *named.name == *name)?;
        self.looked_up.get(of_name)
    }

    fn replace_members(&self, members: Members) {
        self.members.store(Arc::new(members));
    }

    /// The servers as they are now.
    #[must_use]
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// The files that it was made from, as they can be opened.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.tls.iter().flat_map(|tls| &tls.files).map(PathBuf::as_path)
    }

    /// All that it was made from, in words that are equal where two upstreams are.
    #[must_use]
    pub fn description(&self) -> String {
        let members = self.members();
        // What a name means changes without a change of what was written.
        let is_looked_up = |server: &Server| self.names.iter().any(|named| named.name == server.name);
        let of = |m: &Member| (m.server.name.clone(), m.weight, (!is_looked_up(&m.server)).then_some(m.server.address));
        let mut servers: Vec<_> = members.list.iter().map(of).collect();
        servers.dedup();
        let asked = (&self.names, &self.name_servers);
        format!("{} {servers:?} {asked:?} {:?} {:?} {:?}", self.name, self.timeouts, self.policy, self.tls)
    }

    /// Takes over what `before` and its servers have gathered: the counters of each server that has the same name here, and
    /// its kept connections and health where it has the same address, and is spoken to in the same way, too.
    #[must_use]
    pub fn taking_over(mut self, before: &Self) -> Self {
        let known = before.members();
        let speaks = |upstream: &Self| format!("{:?} {:?}", upstream.policy.protocol, upstream.tls);
        let alike = speaks(&self) == speaks(before);
        let takes_over = |member: &Member| {
            let same_name = || known.servers().filter(|known| known.name == member.server.name);
            let server = match same_name().find(|known| alike && known.address == member.server.address) {
                Some(same) => Arc::clone(same),
                None => match same_name().next() {
                    Some(moved) => Arc::new(moved.at(member.server.address)),
                    None => Arc::clone(&member.server),
                },
            };
            Member { server, ..member.clone() }
        };
        let list = self.members().list.iter().map(takes_over).collect();
        self.members.store(Arc::new(Members::new(list, self.policy.slow_start)));
        self.metrics = Arc::clone(&before.metrics);
        self.queue = Arc::clone(&before.queue);
        self
    }

    /// The scheme of its URLs.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What a check's request says in `Host`.
    fn host_of(&self, server: &Server) -> String {
        let common = self.tls.as_ref().and_then(UpstreamTls::common_name);
        common.unwrap_or_else(|| server.name.to_string())
    }

    /// This worker's slot.
    fn here(&self) -> &Slot {
        self.slots.get_or(|| Slot {
            members: RefCell::new(Cache::new(Arc::clone(&self.members))),
            turns: Turns::default(),
            budget: Budget::default(),
        })
    }

    /// Closes this worker's kept connections that waited longer than the `idle` deadline or that their server closed.
    /// Each worker calls it about once a second.
    pub fn sweep(&self) {
        for server in self.here().members.borrow_mut().load().servers() {
            if let Some(here) = server.workers.get() {
                here.pool.sweep(self.timeouts.idle);
                here.http2.sweep(self.timeouts.idle);
            }
        }
    }

    /// Closes all of this worker's kept connections. Each worker calls it before its runtime ends, since a connection
    /// belongs to the runtime that opened it.
    pub fn close_idle(&self) {
        for server in self.members().servers() {
            if let Some(here) = server.workers.get() {
                here.pool.clear();
                here.http2.clear();
            }
        }
    }
}

/// Does for an upstream what it needs besides requests, for as long as it is polled. `minder` calls it.
pub(crate) async fn mind(upstream: Arc<Upstream>) {
    let mut tasks = JoinSet::new(); // they end with this
    if let Some(servers) = &upstream.name_servers {
        for named in &upstream.names {
            tasks.spawn(names::run(Arc::clone(&upstream), named.clone(), servers.clone()));
        }
    }
    if let Some(policy) = upstream.policy.checks.clone() {
        tasks.spawn(checks::run(Arc::clone(&upstream), policy));
    }
    while tasks.join_next().await.is_some() {}
}

impl Server {
    /// A server at `address`, under the `name` that the configuration gives it.
    #[must_use]
    pub fn new(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.into(),
            address,
            metrics: Arc::default(),
            health: Health::default(),
            checked: Last::default(),
            taken: AtomicU32::new(0),
            workers: ThreadLocal::new(),
        }
    }

    /// The same server at another address, counted together with it.
    #[must_use]
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        let (name, metrics) = (Arc::clone(&self.name), Arc::clone(&self.metrics));
        Self { name, metrics, ..Self::new("", address) }
    }

    /// Whether it is taken where there is a choice: neither down by what checks say, nor ejected for failing.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.health.is_usable(Instant::now())
    }

    /// How it is, and for how long.
    #[must_use]
    pub fn standing(&self, now: Instant) -> Standing {
        self.health.standing(now)
    }

    /// How often in a row exchanges with it have failed.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        self.health.failures()
    }

    /// How its last active check ended; `None` where there was none.
    #[must_use]
    pub fn last_check(&self) -> Option<Finding> {
        self.checked.get()
    }

    fn here(&self) -> &Here {
        self.workers.get_or_default()
    }

    /// How much this worker has in work there.
    fn load(&self) -> u64 {
        self.workers.get().map_or(0, |here| u64::try_from(here.load.get()).unwrap_or(0))
    }

    fn begin_work(&self) {
        let load = &self.here().load;
        load.set(load.get() + 1);
        self.metrics.here().in_work.add(1);
    }

    fn end_work(&self) {
        let load = &self.here().load;
        load.set(load.get() - 1);
        self.metrics.here().in_work.sub(1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn group(servers: &[(&str, u16)], policy: UpstreamPolicy) -> Upstream {
        let server = |(name, port): &(&str, u16)| (Server::new(name, ([127, 0, 0, 1], *port).into()), 1);
        Upstream::new("app", servers.iter().map(server).collect(), UpstreamTimeouts::default(), policy)
    }

    #[test]
    fn a_changed_group_keeps_the_counters_of_servers_by_name_and_their_pools_by_address() {
        let group = |servers| group(servers, UpstreamPolicy::default());
        let before = group(&[("same", 1), ("moved", 2)]);
        let after = group(&[("same", 1), ("moved", 3)]).taking_over(&before);
        let (old, new) = (before.members(), after.members());
        assert!(Arc::ptr_eq(&old.list[0].server, &new.list[0].server));
        assert!(!Arc::ptr_eq(&old.list[1].server, &new.list[1].server));
        assert!(Arc::ptr_eq(&old.list[1].server.metrics, &new.list[1].server.metrics));
        assert!(Arc::ptr_eq(&before.metrics, &after.metrics));
        assert_eq!(new.list[1].server.address.port(), 3);
        assert_eq!(before.description(), group(&[("same", 1), ("moved", 2)]).description());
        assert_ne!(before.description(), after.description());
    }
}
