//! Which addresses may connect, which peers speak for others, and which addresses are one client.
//!
//! Owns an endpoint's `allow`, `deny` and `accept_proxy_protocol` lists. Made by `plan`; asked by `listener` and
//! `connection`. `sketch` and `metrics` count clients by [`one_client`].

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// An endpoint's lists of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Clients that may connect; empty means all.
    pub allow: Vec<IpNet>,
    /// Clients that may not; wins over `allow`.
    pub deny: Vec<IpNet>,
    /// Peers that must say, in a PROXY header, for whom they connect.
    pub proxies: Vec<IpNet>,
}

impl Access {
    /// Whether a client may connect.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        !contains(&self.deny, client) && (self.allow.is_empty() || contains(&self.allow, client))
    }

    /// Whether this peer is a trusted proxy.
    #[must_use]
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        contains(&self.proxies, peer.to_canonical())
    }
}

/// What stands for a client wherever clients are counted: of IPv6 the /64 network, since one client is given all of it
/// (RFC 6177); an IPv4 address in IPv6 is itself.
#[must_use]
pub fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 => v4,
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_of_ipv4_or_a_network_of_ipv6() {
        let client = |text: &str| one_client(text.parse().unwrap());
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), client("2001:db8:1:2::9"));
        assert_ne!(client("2001:db8:1:2::9"), client("2001:db8:1:3::9"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }

    #[test]
    fn deny_wins_and_a_mapped_address_is_judged_as_ipv4() {
        let access = Access {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.1.0.0/16".parse().unwrap()],
            proxies: vec![],
        };
        assert!(access.admits("10.2.0.1".parse().unwrap()));
        assert!(access.admits("::ffff:10.2.0.1".parse().unwrap()));
        assert!(!access.admits("10.1.0.1".parse().unwrap()));
        assert!(!access.admits("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!access.admits("192.0.2.1".parse().unwrap()));
        assert!(!access.is_proxy("10.2.0.1".parse().unwrap()));
    }
}
