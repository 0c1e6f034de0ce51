//! Upstreams from their words: servers resolved, deadlines read; on a reload, pools and counters taken over.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::{Inputs, Plan};
use crate::config::Problems;
use crate::config::UpstreamConfig;
use crate::units::{self, ServerAddress};
use crate::upstream::{Server, Upstream, UpstreamTimeouts};

/// Makes every upstream that is free of faults.
pub(super) fn plan(inputs: &Inputs<'_>, problems: &mut Problems) -> Vec<Arc<Upstream>> {
    let configs = inputs.config.upstreams.iter();
    configs.map(|(name, config)| taking_over(upstream(name, config, problems), inputs.previous)).collect()
}

/// The running upstream of the same name where it is equal; else the fresh one, with what its servers have gathered.
fn taking_over(fresh: Upstream, running: Option<&Plan>) -> Arc<Upstream> {
    match running.and_then(|plan| plan.upstreams.iter().find(|upstream| upstream.name == fresh.name)) {
        Some(running) if running.description() == fresh.description() => Arc::clone(running),
        Some(running) => Arc::new(fresh.taking_over(running)),
        None => Arc::new(fresh),
    }
}

fn upstream(name: &str, config: &UpstreamConfig, problems: &mut Problems) -> Upstream {
    if let Err(why) = crate::identity::EndpointName::new(name) {
        problems.push(&["upstreams", name], why, Some("rename it: the name is a label in metrics".into()));
    }
    if config.servers.is_empty() {
        problems.push(
            &["upstreams", name, "servers"],
            "there is no server",
            Some(r#"list one, such as "127.0.0.1:3000""#.into()),
        );
    }
    let mut servers: Vec<Server> = Vec::new();
    for (index, text) in config.servers.iter().enumerate() {
        let path = ["upstreams", name, "servers", &index.to_string()];
        if servers.iter().any(|server| *server.name == **text) {
            problems.push(&path, format!("{text:?} is listed twice"), Some("remove one of them".into()));
        }
        if let Some(address) = problems.take(&path, resolve(text)) {
            servers.push(Server::new(text, address));
        }
    }
    let mut deadline = |key: &str, text: &str| {
        problems.take(&["upstreams", name, "timeouts", key], units::positive_duration(text)).unwrap_or_default()
    };
    let timeouts = UpstreamTimeouts {
        connect: deadline("connect", &config.timeouts.connect),
        response: deadline("response", &config.timeouts.response),
        body: deadline("body", &config.timeouts.body),
        idle: deadline("idle", &config.timeouts.idle),
    };
    Upstream::new(name, servers, timeouts)
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
