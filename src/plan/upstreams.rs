//! Upstreams from their words: servers resolved, deadlines read.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crate::config::Problems;
use crate::config::UpstreamConfig;
use crate::units::{self, ServerAddress};
use crate::upstream::{Server, Upstream, UpstreamTimeouts};

/// Makes every upstream that is free of faults.
pub(super) fn plan(configs: &BTreeMap<String, UpstreamConfig>, problems: &mut Problems) -> Vec<Arc<Upstream>> {
    configs.iter().map(|(name, config)| Arc::new(upstream(name, config, problems))).collect()
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
