//! Which of an endpoint's client-authentication settings a name needs, and which a connection had.
//!
//! An endpoint may ask the clients of one chain's names for other certificates than those of another's. `plan` makes the
//! [`Scopes`]; `tls` picks one for a connection by the name that its client asks for; the HTTP engine holds the host of
//! every request against it, so that no request comes in by another name than the one that was authenticated for.

use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::server_names::ServerNames;

/// An endpoint's settings, as numbers, by the names that need them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    names: ServerNames<usize>,
    /// For names that no chain covers, and for clients that ask for none.
    default: usize,
}

impl Scopes {
    /// What `names` need, and what everything else does.
    #[must_use]
    pub fn new(names: ServerNames<usize>, default: usize) -> Self {
        Self { names, default }
    }

    /// The settings that a connection gets, by the name that its client asks for (SNI).
    #[must_use]
    pub fn of_name(&self, name: Option<&str>) -> usize {
        name.and_then(|name| self.names.get(name)).copied().unwrap_or(self.default)
    }

    /// The settings that a request needs, by its `Host` or `:authority`, with or without a port.
    #[must_use]
    fn of_authority(&self, authority: &str) -> usize {
        match authority.strip_prefix('[') {
            // One address has many spellings; chains are listed under the one that the standard library writes.
            Some(rest) => match rest.split(']').next().unwrap_or_default().parse::<Ipv6Addr>() {
                Ok(address) => self.of_name(Some(&address.to_string())),
                Err(_) => self.default,
            },
            None => self.of_name(authority.split(':').next()),
        }
    }
}

/// The settings that a connection was authenticated by, where its endpoint has more than one.
#[derive(Clone, Debug)]
pub struct Scope {
    scopes: Arc<Scopes>,
    own: usize,
}

impl Scope {
    /// Those with the number `own`.
    #[must_use]
    pub fn new(scopes: Arc<Scopes>, own: usize) -> Self {
        Self { scopes, own }
    }

    /// Whether a request for `authority` needs just these; a request that names no host needs what nameless clients do.
    #[must_use]
    pub fn admits(&self, authority: Option<&str>) -> bool {
        self.own == authority.map_or(self.scopes.default, |authority| self.scopes.of_authority(authority))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Scope, Scopes};
    use crate::server_names::ServerNames;

    #[test]
    fn every_way_to_write_a_host_needs_what_the_host_needs() {
        let mut names = ServerNames::default();
        names.entry("admin.example.com", || 1);
        names.entry("*.partners.example.com", || 2);
        names.entry("::1", || 1);
        let scopes = Arc::new(Scopes::new(names, 0));
        for (authority, needed) in [
            ("www.example.com", 0),
            ("admin.example.com", 1),
            ("ADMIN.example.com:443", 1),
            ("admin.example.com.", 1),
            ("admin.example.com.:8443", 1),
            ("a.partners.example.com", 2),
            ("a.b.partners.example.com", 0),
            ("[::1]:443", 1),
            ("[0:0::0001]", 1),
            ("127.0.0.1", 0),
        ] {
            for own in 0..3 {
                let scope = Scope::new(Arc::clone(&scopes), own);
                assert_eq!(scope.admits(Some(authority)), own == needed, "{authority} on {own}");
            }
        }
        assert!(Scope::new(Arc::clone(&scopes), 0).admits(None));
        assert!(!Scope::new(scopes, 1).admits(None));
    }
}
