//! The servers of an upstream as they are now: an immutable list, swapped whole when names resolve to other addresses.
//!
//! Read by `lease` through a worker's own cache, which costs one load while nothing changes; written by `names`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

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

    /// The same list with other addresses for a name, which must be in it. Servers whose address stays are the same.
    pub(super) fn with_addresses(&self, name: &str, addresses: &[SocketAddr]) -> Self {
        let is_of_name = |member: &&Member| *member.server.name == *name;
        let Some(place) = self.list.iter().position(|member| is_of_name(&member)) else {
            return Self::new(self.list.clone(), self.slow_start);
        };
        let one = &self.list[place];
        let of_name = addresses.iter().map(|address| {
            let same = self.list.iter().filter(is_of_name).find(|member| member.server.address == *address);
            same.cloned().unwrap_or_else(|| {
                let server = one.server.at(*address);
                server.health.set_back(Instant::now());
                Member::new(Arc::new(server), one.weight)
            })
        });
        let others = self.list[place..].iter().filter(|member| !is_of_name(member)).cloned();
        let list = self.list[..place].iter().cloned().chain(of_name).chain(others).collect();
        Self::new(list, self.slow_start)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_names_new_addresses_stand_in_its_place_and_what_stays_is_the_same_server() {
        let server = |name: &str, ip: [u8; 4]| Member::new(Arc::new(Server::new(name, (ip, 80).into())), 2);
        let before = Members::new(
            vec![server("10.0.0.9:80", [10, 0, 0, 9]), server("a:80", [10, 0, 0, 1]), server("b:80", [10, 0, 0, 3])],
            Duration::ZERO,
        );
        let two = before.with_addresses("a:80", &[([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 80).into()]);
        let addresses = |members: &Members| members.servers().map(|s| s.address.to_string()).collect::<Vec<_>>();
        assert_eq!(addresses(&two), ["10.0.0.9:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        assert!(Arc::ptr_eq(&two.list[1].server, &before.list[1].server));
        assert!(Arc::ptr_eq(&two.list[2].server.metrics, &before.list[1].server.metrics));
        assert_eq!((&*two.list[2].server.name, two.list[2].weight), ("a:80", 2));
        let one = two.with_addresses("a:80", &[([10, 0, 0, 2], 80).into()]);
        assert_eq!(addresses(&one), ["10.0.0.9:80", "10.0.0.2:80", "10.0.0.3:80"]);
        assert!(Arc::ptr_eq(&one.list[1].server, &two.list[2].server));
    }
}
