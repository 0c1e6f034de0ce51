//! The hosts that a route is for: any, one name or address, or every name of one label before another.

use std::net::Ipv6Addr;

use crate::server_names::without_final_dot;

/// What a request's host must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    Any,
    Exactly(String),
    /// However it is spelled.
    Address(Ipv6Addr),
    /// One label, and then this, which begins with its dot.
    AnyLabel(String),
}

impl HostPattern {
    pub(super) fn compile(host: &str) -> Result<Self, String> {
        let host = host.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if let Some(address) = ipv6(&host) {
            return Ok(Self::Address(address));
        }
        let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !name.split('.').all(label) {
            return Err(format!("{host:?} is not a host: write a name, or \"*.\" and a name, without a port"));
        }
        Ok(match host.strip_prefix('*') {
            Some(suffix) => Self::AnyLabel(suffix.to_owned()),
            None => Self::Exactly(host),
        })
    }

    /// Whether a host, without its port, is one of these.
    pub(super) fn matches(&self, host: &str) -> bool {
        let host = without_final_dot(host);
        match self {
            Self::Any => true,
            Self::Exactly(name) => host.eq_ignore_ascii_case(name),
            Self::Address(address) => ipv6(host) == Some(*address),
            Self::AnyLabel(suffix) => host
                .find('.')
                .is_some_and(|dot| dot > 0 && host.get(dot..).is_some_and(|rest| rest.eq_ignore_ascii_case(suffix))),
        }
    }

    /// Whether it matches every host that `other` does.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (pattern, Self::Exactly(name)) => pattern.matches(name),
            (pattern, other) => pattern == other,
        }
    }
}

/// The address in brackets.
fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}
