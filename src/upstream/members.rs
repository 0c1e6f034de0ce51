//! The servers of an upstream as they are now: an immutable list, swapped whole when names resolve to other addresses.
//!
//! Read by `lease` through a worker's own cache, which costs one load while nothing changes; written by `names`.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::balance::hash;

/// A list of servers.
#[derive(Debug)]
pub struct Members {
    /// In the order written; a name's addresses stand together, in their own order.
    pub list: Vec<Member>,
    /// All weigh the same.
    pub(super) equal: bool,
    /// How long a server that comes back is eased in.
    pub(super) slow_start: Duration,
}

/// A server with its weight.
#[derive(Clone, Debug)]
pub struct Member {
    /// The server.
    pub server: Arc<Server>,
    /// How much of the load it is to have, in proportion to the others; at least 1.
    pub weight: u32,
    /// What it draws keys by.
    pub(super) hash: u64,
}

impl Members {
    pub(super) fn new(list: Vec<Member>, slow_start: Duration) -> Self {
        let equal = list.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        Self { list, equal, slow_start }
    }

    /// The servers.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.list.iter().map(|member| &member.server)
    }
}

impl Member {
    /// By its address, not its name: several gateways that resolve a name alike agree on who has which key.
    pub(super) fn new(server: Arc<Server>, weight: u32) -> Self {
        let hash = hash(server.address.to_string().as_bytes());
        Self { server, weight, hash }
    }
}
