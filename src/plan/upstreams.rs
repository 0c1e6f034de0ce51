//! Upstreams from their words: servers resolved; on a reload, pools and counters taken over. How servers are used is
//! `upstreams/policy.rs`', TLS to them `upstreams/tls.rs`'.

mod policy;
mod tls;

use std::net::{SocketAddr, ToSocketAddrs};
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
use crate::upstream::{Server, Upstream};

/// Makes every upstream that is free of faults.
pub(super) fn plan(inputs: &Inputs<'_>, problems: &mut Problems) -> Vec<Arc<Upstream>> {
    let configs = inputs.config.upstreams.iter();
    configs.map(|(name, config)| taking_over(upstream(inputs, name, config, problems), inputs.previous)).collect()
}

/// The running upstreams, but for those whose files hold something else now.
pub(super) fn renew(inputs: &Inputs<'_>, running: &Plan, problems: &mut Problems) -> Vec<Arc<Upstream>> {
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
        taking_over(upstream(inputs, &known.name, config, problems), Some(running))
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

fn upstream(inputs: &Inputs<'_>, name: &str, config: &UpstreamConfig, problems: &mut Problems) -> Upstream {
    if let Err(why) = crate::identity::EndpointName::new(name) {
        problems.push(&["upstreams", name], why, Some("rename it: the name is a label in metrics".into()));
    }
    let servers = servers(name, config, problems);
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
    Upstream::new(name, servers, timeouts, policy).with_tls(tls)
}

fn servers(name: &str, config: &UpstreamConfig, problems: &mut Problems) -> Vec<(Server, u32)> {
    if config.servers.is_empty() {
        problems.push(
            &["upstreams", name, "servers"],
            "there is no server",
            Some(r#"list one, such as "127.0.0.1:3000""#.into()),
        );
    }
    let mut servers: Vec<(Server, u32)> = Vec::new();
    for (index, server) in config.servers.iter().enumerate() {
        let (text, index) = (server.address(), index.to_string());
        let mut path = vec!["upstreams", name, "servers", &index];
        path.extend(matches!(server, ServerConfig::Weighted(_)).then_some("address"));
        if servers.iter().any(|(server, _)| *server.name == *text) {
            let remedy = "remove one of them; a server that is to have more of the load has a `weight`";
            problems.push(&path, format!("{text:?} is listed twice"), Some(remedy.into()));
        }
        if let Some(address) = problems.take(&path, resolve(text)) {
            servers.push((Server::new(text, address), server.weight()));
        }
    }
    servers
}

/// A name is looked up once, when the plan is made.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    match units::server_address(text)? {
        ServerAddress::Address(address) => Ok(address),
        ServerAddress::Name { host, port } => {
            let found = (host.as_str(), port).to_socket_addrs();
            let mut found = found.map_err(|e| format!("cannot look up {host:?}: {e}"))?;
            found.next().ok_or_else(|| format!("{host:?} has no address"))
        }
    }
}
