//! Upstreams from their words: servers resolved; on a reload, pools and counters taken over. How servers are used is
//! `upstreams/policy.rs`', TLS to them `upstreams/tls.rs`'.

mod policy;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use self::policy::One;
use super::{Inputs, Plan};
use crate::config::{Problems, ServerConfig, UpstreamConfig, UpstreamTlsConfig};
use crate::identity::Class;
use crate::tls::audit::Subject;
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::trust::{Trust, of_upstream};
use crate::units::{self, ServerAddress};
use crate::upstream::{NameServers, NamedServer, Server, Upstream};

/// Makes every upstream that is free of faults.
pub(super) fn plan(inputs: &Inputs<'_>, problems: &mut Problems) -> Vec<Arc<Upstream>> {
    let asked = name_servers(inputs, problems);
    let configs = inputs.config.upstreams.iter();
    configs
        .map(|(name, config)| taking_over(upstream(inputs, &asked, name, config, problems), inputs.previous))
        .collect()
}

/// The running upstreams, but for those whose files hold something else now.
pub(super) fn renew(inputs: &Inputs<'_>, running: &Plan, problems: &mut Problems) -> Vec<Arc<Upstream>> {
    let asked = name_servers(inputs, problems);
    let renewed = |known: &Arc<Upstream>| {
        let config = inputs.config.upstreams.get(&*known.name).filter(|_| known.files().next().is_some());
        let Some(config) = config else { return Arc::clone(known) };
        let mut faults = Problems::default();
        let tls = tls::plan(inputs, &known.name, config, known.policy.protocol, &mut faults);
        // Servers' names are looked up only where something is new: that may take long, or fail.
        let same = faults.is_empty() && format!("{tls:?}") == format!("{:?}", known.tls);
        if same {
            return Arc::clone(known);
        }
        taking_over(upstream(inputs, &asked, &known.name, config, problems), Some(running))
    };
    running.upstreams.iter().map(renewed).collect()
}

/// What the audit says of the files that TLS to upstreams rests on.
pub(super) fn trust(inputs: &Inputs<'_>, policy: &Policy) -> Vec<Arc<ChainReport>> {
    // Upstreams are one's own network, whoever issued their certificates.
    let judged =
        Subject { profile: Class::Internal, endpoint: None, server_names: &[], listen_ips: &[], now: inputs.now };
    let tables = inputs.config.upstreams.values().filter_map(|config| config.tls.as_ref());
    let of = |table: &UpstreamTlsConfig| {
        let place = |file: &PathBuf| inputs.directory.join(file);
        let own = table.chain.as_ref().zip(table.key.as_ref()).map(|(chain, key)| (place(chain), place(key)));
        of_upstream(&place(&table.ca), own.as_ref().map(|(chain, key)| (&**chain, &**key)), &judged, policy)
    };
    tables.map(of).fold(Trust::default(), Trust::and).reports
}

/// The running upstream of the same name where it is equal; else the fresh one, with what its servers have gathered.
fn taking_over(fresh: Upstream, running: Option<&Plan>) -> Arc<Upstream> {
    match running.and_then(|plan| plan.upstreams.iter().find(|upstream| upstream.name == fresh.name)) {
        Some(running) if running.description() == fresh.description() => Arc::clone(running),
        Some(running) => Arc::new(fresh.taking_over(running)),
        None => Arc::new(fresh),
    }
}

fn upstream(
    inputs: &Inputs<'_>,
    asked: &NameServers,
    name: &str,
    config: &UpstreamConfig,
    problems: &mut Problems,
) -> Upstream {
    if let Err(why) = crate::identity::EndpointName::new(name) {
        problems.push(&["upstreams", name], why, Some("rename it: the name is a label in metrics".into()));
    }
    let servers = servers(inputs, asked, name, config, problems);
    let mut one = One { name, config, problems };
    let timeouts = one.timeouts();
    let policy = one.policy();
    let tls = tls::plan(inputs, name, config, policy.protocol, problems);
    for (index, server) in config.servers.iter().enumerate() {
        if let Some(Err(_)) = tls.as_ref().map(|tls| tls.name_of(server.address())) {
            let path = ["upstreams", name, "servers", &index.to_string()];
            let message = format!("{:?} is no name that a certificate can prove", server.address());
            problems.push(&path, message, Some("give the name as tls.server_name".into()));
        }
    }
    let Servers { list, names, asked, .. } = servers;
    let upstream = Upstream::new(name, list, timeouts, policy).with_tls(tls);
    if names.is_empty() { upstream } else { upstream.with_names(names, asked) }
}

fn servers<'a>(
    inputs: &Inputs<'a>,
    asked: &NameServers,
    name: &str,
    config: &UpstreamConfig,
    problems: &mut Problems,
) -> Servers<'a> {
    let running = inputs.previous.and_then(|plan| plan.upstreams.iter().find(|upstream| *upstream.name == *name));
    let running = running.map(|running| &**running);
    if config.servers.is_empty() {
        problems.push(
            &["upstreams", name, "servers"],
            "there is no server",
            Some(r#"list one, such as "127.0.0.1:3000""#.into()),
        );
    }
    let mut servers = Servers { running, asked: asked.clone(), list: Vec::new(), names: Vec::new() };
    for (index, server) in config.servers.iter().enumerate() {
        let (text, index) = (server.address(), index.to_string());
        let mut path = vec!["upstreams", name, "servers", &index];
        path.extend(matches!(server, ServerConfig::Weighted(_)).then_some("address"));
        if servers.list.iter().any(|(server, _)| *server.name == *text) {
            let remedy = "remove one of them; a server that is to have more of the load has a `weight`";
            problems.push(&path, format!("{text:?} is listed twice"), Some(remedy.into()));
        }
        problems.take(&path, servers.add(text, server.weight()));
    }
    servers
}

/// An upstream's servers in the making.
struct Servers<'a> {
    /// The running upstream of the same name.
    running: Option<&'a Upstream>,
    asked: NameServers,
    list: Vec<(Server, u32)>,
    names: Vec<NamedServer>,
}

impl Servers<'_> {
    /// Adds a server at its address, or at each address of its name.
    fn add(&mut self, text: &str, weight: u32) -> Result<(), String> {
        let addresses = match units::server_address(text)? {
            ServerAddress::Address(address) => vec![address],
            ServerAddress::Name { host, port } => {
                let addresses = self.look_up(text, &host, port)?;
                self.names.push(NamedServer { name: text.into(), host, port });
                addresses
            }
        };
        if let Some((first, more)) = addresses.split_first() {
            let server = Server::new(text, *first);
            let more: Vec<_> = more.iter().map(|address| (server.at(*address), weight)).collect();
            self.list.push((server, weight));
            self.list.extend(more);
        }
        Ok(())
    }

    /// A name that is in use already is looked up again as its TTL says; that DNS is down now must not fail a reload.
    fn look_up(&self, text: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let known = self.running.map(|running| running.addresses_of(text)).unwrap_or_default();
        if !known.is_empty() {
            return Ok(known);
        }
        let found = self.asked.look_up_blocking(host)?;
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

/// Whom to ask for the addresses of names.
fn name_servers(inputs: &Inputs<'_>, problems: &mut Problems) -> NameServers {
    let config = &inputs.config.dns;
    let mut addresses = Vec::new();
    for (index, text) in config.servers.iter().enumerate() {
        let path = ["dns", "servers", &index.to_string()];
        let parsed = match units::server_address(text) {
            Ok(ServerAddress::Address(address)) => Ok(address),
            Ok(ServerAddress::Name { .. }) => Err(format!("{text:?} would have to be looked up itself")),
            Err(why) => Err(why),
        };
        addresses.extend(problems.take(&path, parsed));
    }
    let timeout = problems.take(&["dns", "timeout"], units::positive_duration(&config.timeout));
    NameServers { addresses, timeout: timeout.unwrap_or_default() }
}
