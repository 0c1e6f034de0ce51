//! Servers that are named, not numbered: looks their names up, again and again as the answers' TTL says.
//!
//! `plan` looks a name up once, since a name that leads nowhere is an error of the configuration; from then on `minder`
//! runs this. A lookup that fails leaves the addresses that are known.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::{sleep, timeout};

use super::{Server, Upstream};

/// However short a TTL is, a name is not looked up more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// However long it is (an entry of the hosts file has none), a name is looked up as often as this.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// When a lookup that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// The most addresses of one name that are used.
const MOST_ADDRESSES: usize = 64;

/// A server that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedServer {
    /// As written, "HOST:PORT".
    pub name: Arc<str>,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Whom to ask for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServers {
    /// Servers of DNS; empty: those of `/etc/resolv.conf`.
    pub addresses: Vec<SocketAddr>,
    /// A lookup as a whole.
    pub timeout: Duration,
}

impl NameServers {
    /// A name's addresses, in order, and how long they hold. The hosts file counts first. IPv6 addresses count where
    /// there is none of IPv4, so that a machine without IPv6 is not sent there.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn look_up(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), String> {
        // Made anew each time, so that a changed resolv.conf or hosts file counts.
        let resolver = self.resolver().map_err(|e| format!("cannot look up {host:?}: {e}"))?;
        let found = timeout(self.timeout, resolver.lookup_ip(host)).await;
        let found = found.map_err(|_| format!("cannot look up {host:?}: no answer in time"))?;
        let found = found.map_err(|e| format!("cannot look up {host:?}: {e}"))?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_unstable(); // answers rotate
        addresses.dedup();
        addresses.truncate(MOST_ADDRESSES);
        if addresses.is_empty() {
            return Err(format!("{host:?} has no address"));
        }
        let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
        Ok((addresses, ttl.clamp(SHORTEST, LONGEST)))
    }

    /// As [`look_up`](Self::look_up), on a thread of its own, for whoever is on no runtime, or must not block the one that
    /// it is on.
    ///
    /// # Errors
    /// As there, and where a thread or runtime cannot be had.
    pub fn look_up_blocking(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let look_up = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| format!("cannot look up {host:?}: {e}"))?;
            runtime.block_on(self.look_up(host)).map(|(addresses, _)| addresses)
        };
        let looked_up = std::thread::scope(|scope| scope.spawn(look_up).join());
        looked_up.unwrap_or_else(|_| Err(format!("cannot look up {host:?}: the resolver panicked")))
    }

    fn resolver(&self) -> Result<TokioResolver, Box<dyn std::error::Error>> {
        let mut builder = if self.addresses.is_empty() {
            Resolver::builder_tokio()?
        } else {
            let servers = self.addresses.iter().map(|address| {
                let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
                connections.iter_mut().for_each(|connection| connection.port = address.port());
                NameServerConfig::new(address.ip(), true, connections)
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        Ok(builder.build()?)
    }
}

/// Looks a name up for as long as it is polled, and tells the upstream what it finds.
pub(super) async fn run(upstream: Arc<Upstream>, named: NamedServer, servers: NameServers) {
    let mut failed = false;
    loop {
        let found = servers.look_up(&named.host).await;
        let wait = match &found {
            Ok((_, ttl)) => *ttl,
            Err(_) => AGAIN,
        };
        if let Some(last) = upstream.lookups_of(&named.name) {
            last.note(found.as_ref().err().cloned(), wait);
        }
        match found {
            Ok((addresses, _)) => {
                failed = false;
                let addresses: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, named.port)).collect();
                upstream.renew(&named.name, &addresses);
            }
            Err(why) => {
                upstream.lookup_failed(&named.name);
                // Once for each time that it begins to fail.
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(upstream = %upstream.name, server = %named.name, "{why}; its addresses stay as they are");
                }
            }
        }
        sleep(wait).await;
    }
}

impl Upstream {
    /// Puts a name's addresses in the place of those that it had. Servers that stay keep everything.
    fn renew(&self, name: &str, addresses: &[SocketAddr]) {
        let members = self.members();
        let is_of_name = |server: &Server| *server.name == *name;
        let before: Vec<SocketAddr> = members.servers().filter(|s| is_of_name(s)).map(|s| s.address).collect();
        if let Some(server) = members.servers().find(|server| is_of_name(server)) {
            server.metrics.here().lookups_passed.add(1);
        }
        if before == addresses {
            return;
        }
        tracing::info!(upstream = %self.name, server = %name, "its addresses are now {addresses:?}");
        self.replace_members(members.with_addresses(name, addresses));
    }

    fn lookup_failed(&self, name: &str) {
        if let Some(server) = self.members().servers().find(|server| *server.name == *name) {
            server.metrics.here().lookups_failed.add(1);
        }
    }
}
