//! Names: which host a certificate covers, and rules about the names it carries.
//!
//! [`covers`] is the one place that matches a host, for the rules here, for fallback, and for the choice by SNI.

use std::net::IpAddr;

use super::{Found, View};
use crate::identity::Class;
use crate::server_names::without_final_dot;
use crate::tls::audit::rules::RuleId;
use crate::tls::certificate::{Certificate, NameConstraints, Subtree};

/// Whether one of `names` covers `host` (RFC 9525, section 6.3).
///
/// A wildcard is the whole left-most label and stands for exactly one label. Case and a trailing dot do not matter.
/// `host` may be a wildcard itself: then the same wildcard covers it. Addresses match as text.
pub fn covers<S: AsRef<str>>(names: &[S], host: &str) -> bool {
    let host = without_final_dot(host);
    names.iter().any(|name| matches(name.as_ref(), host))
}

fn matches(name: &str, host: &str) -> bool {
    let name = without_final_dot(name);
    if let (Ok(name), Ok(host)) = (name.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        return name == host;
    }
    if name.eq_ignore_ascii_case(host) {
        return !host.is_empty() && name != "*";
    }
    let (Some(parent), Some((label, rest))) = (name.strip_prefix("*."), host.split_once('.')) else { return false };
    let wild = !label.is_empty() && !label.contains('*') && !parent.contains('*') && host.parse::<IpAddr>().is_err();
    wild && parent.eq_ignore_ascii_case(rest)
}

/// Looks at the leaf's names, beside what the endpoint needs.
pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let leaf = view.leaf();
    let names = leaf.names();
    if names.is_empty() {
        let beside = match leaf.common_names.first() {
            Some(name) => format!("; clients do not look at the common name, {name}"),
            None => String::new(),
        };
        found.at(RuleId::SanMissing, leaf, format!("has no name to connect to it by{beside}"));
    } else {
        needed(view, leaf, &names, found);
        listening(view, leaf, found);
    }
    suspicious(view, leaf, &names, found);
}

/// The names that the endpoint must serve: each must be covered by some chain of it, and each chain must cover one.
fn needed(view: &View<'_>, leaf: &Certificate, names: &[String], found: &mut Found) {
    let wanted = view.subject.server_names;
    let mut missing: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|name| view.uncovered.contains(name)).collect();
    if missing.is_empty() && !wanted.iter().any(|name| covers(names, name)) {
        missing = wanted.iter().map(String::as_str).collect();
    }
    if !missing.is_empty() {
        let seen = format!("does not cover {}; its names are {}", missing.join(", "), short(names));
        found.at(RuleId::SanMismatch, leaf, seen);
    }
}

/// A certificate for addresses alone is reached by address, so the addresses that are listened on must be among them.
/// With host names in it, or behind a translated address, what clients dial cannot be told from here.
fn listening(view: &View<'_>, leaf: &Certificate, found: &mut Found) {
    let extensions = &leaf.extensions;
    let public = extensions.ip_addresses.iter().any(|ip| !is_reserved(*ip));
    let missing: Vec<String> = view
        .subject
        .listen_ips
        .iter()
        .filter(|ip| !(ip.is_unspecified() || extensions.ip_addresses.contains(ip)))
        .filter(|ip| !public || !is_reserved(**ip))
        .map(ToString::to_string)
        .collect();
    if extensions.dns_names.is_empty() && !missing.is_empty() {
        let seen = format!("does not cover {}, where the endpoint listens", missing.join(", "));
        found.at(RuleId::SanMismatch, leaf, seen);
    }
}

fn suspicious(view: &View<'_>, leaf: &Certificate, names: &[String], found: &mut Found) {
    let mut say = |seen: String| found.at(RuleId::SanSuspicious, leaf, seen);
    let extensions = &leaf.extensions;
    for name in extensions.odd_names.iter().take(MOST_NAMES) {
        say(format!("has a name that no client can match: {name}"));
    }
    for name in extensions.dns_names.iter().take(MOST_NAMES) {
        if let Some(fault) = wildcard_fault(name) {
            say(format!("has the name {name}, {fault}"));
        } else if view.subject.profile == Class::Public && is_internal(name) {
            say(format!("has the internal name {name}"));
        }
    }
    if view.subject.profile == Class::Public {
        for ip in extensions.ip_addresses.iter().filter(|ip| is_reserved(**ip)).take(MOST_NAMES) {
            say(format!("has the reserved address {ip}"));
        }
    }
    for name in leaf.common_names.iter().filter(|_| !names.is_empty()).take(MOST_NAMES) {
        let like_a_host = !name.contains(char::is_whitespace) && name.contains('.');
        let counts = view.subject.profile == Class::Public || like_a_host;
        if counts && !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            say(format!("has the common name {name}, which is not among its alternative names"));
        }
    }
}

/// A certificate with very many bad names gets this many findings of a kind.
const MOST_NAMES: usize = 10;

/// Suffixes that many parties register names under and that are common in certificates by mistake. A last label alone
/// is one as well. The whole public suffix list changes weekly and is not needed to catch a slip.
const PUBLIC_SUFFIXES: &[&str] = &[
    "co.uk",
    "org.uk",
    "ac.uk",
    "gov.uk",
    "me.uk",
    "ltd.uk",
    "plc.uk",
    "net.uk",
    "sch.uk",
    "nhs.uk",
    "com.au",
    "net.au",
    "org.au",
    "edu.au",
    "gov.au",
    "co.nz",
    "org.nz",
    "net.nz",
    "ac.nz",
    "govt.nz",
    "co.jp",
    "ne.jp",
    "or.jp",
    "ac.jp",
    "go.jp",
    "co.kr",
    "or.kr",
    "go.kr",
    "com.br",
    "net.br",
    "org.br",
    "gov.br",
    "com.cn",
    "net.cn",
    "org.cn",
    "gov.cn",
    "edu.cn",
    "com.tw",
    "org.tw",
    "com.hk",
    "org.hk",
    "com.sg",
    "edu.sg",
    "com.my",
    "co.in",
    "net.in",
    "org.in",
    "gov.in",
    "co.za",
    "org.za",
    "gov.za",
    "com.mx",
    "org.mx",
    "gob.mx",
    "com.ar",
    "com.tr",
    "gov.tr",
    "com.ua",
    "com.pl",
    "net.pl",
    "org.pl",
    "co.il",
    "org.il",
    "ac.il",
    "com.es",
    "com.pt",
    "co.at",
    "or.at",
    "ac.at",
    "gv.at",
    "com.gr",
    "com.ro",
    "com.eg",
    "com.sa",
    "com.ng",
    "co.ke",
    "co.th",
    "or.th",
    "co.id",
    "or.id",
    "com.vn",
    "com.ph",
    "com.pk",
    "com.co",
    "com.pe",
    "com.ve",
    "com.ec",
    "com.uy",
    "com.bd",
    "com.np",
    "com.kw",
    "com.qa",
    "com.cy",
    "com.mt",
    "co.hu",
    "eu.org",
    "uk.com",
    "us.com",
    "eu.com",
    "de.com",
    "gb.net",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "appspot.com",
    "azurewebsites.net",
    "cloudfront.net",
    "amazonaws.com",
    "pages.dev",
    "workers.dev",
    "web.app",
    "firebaseapp.com",
    "vercel.app",
    "netlify.app",
    "fly.dev",
    "onrender.com",
    "blogspot.com",
    "duckdns.org",
];

/// What is wrong with a wildcard; `None` for a good one, and for a name without one.
fn wildcard_fault(name: &str) -> Option<&'static str> {
    if !name.contains('*') {
        return None;
    }
    match name.strip_prefix("*.") {
        _ if name == "*" || name == "*." => Some("a bare wildcard, which matches nothing"),
        Some(parent) if parent.contains('*') => Some("with more than one wildcard, which matches nothing"),
        Some(parent) => {
            let parent = parent.trim_end_matches('.').to_ascii_lowercase();
            let public = !parent.contains('.') && !is_internal(&format!("x.{parent}"));
            (public || PUBLIC_SUFFIXES.contains(&parent.as_str())).then_some("a wildcard over a public suffix")
        }
        None => Some("with a wildcard that is not its whole first label, which matches nothing"),
    }
}

/// Last labels that are never in the public name space (RFC 6761, RFC 6762, RFC 8375, RFC 9476, ICANN's resolutions).
const INTERNAL_LABELS: &[&str] = &[
    "local",
    "localhost",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "mail",
    "private",
    "test",
    "example",
    "invalid",
    "onion",
    "alt",
    "domain",
    "workgroup",
];

/// Whether a name is not in the public name space.
fn is_internal(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.rsplit_once('.') {
        None => true,
        Some((rest, last)) => match last {
            "arpa" => rest == "home" || rest.ends_with(".home"),
            last => INTERNAL_LABELS.contains(&last),
        },
    }
}

/// Whether the address is none of the public internet's (the IANA special-purpose registries).
fn is_reserved(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_documentation()
                || ip.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && b & 0xc0 == 64)
                || (a == 198 && b & 0xfe == 18)
                || (a == 192 && b == 0 && c == 0)
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || a & 0xfe00 == 0xfc00
                || a & 0xffc0 == 0xfe80
                || (a == 0x2001 && b == 0x0db8)
                || (a == 0x3fff && b < 0x1000)
                || ip.to_ipv4_mapped().is_some()
        }
    }
}

/// The first few of a list of names.
fn short(names: &[String]) -> String {
    let mut text = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(&format!(" and {} more", names.len() - 5));
    }
    text
}

/// How many times a name is held against a subtree: as often as rustls clients do before they refuse the chain.
const MOST_COMPARISONS: usize = 250_000;

/// The first of the leaf's names that the constraints forbid (RFC 5280, section 4.2.1.10), or all, where there are more
/// than anyone compares.
pub(super) fn forbidden(constraints: &NameConstraints, leaf: &Certificate) -> Option<String> {
    let names = leaf.extensions.dns_names.len() + leaf.extensions.ip_addresses.len();
    let subtrees = constraints.permitted.len() + constraints.excluded.len();
    if names.saturating_mul(subtrees) > MOST_COMPARISONS {
        return Some(format!("{names} names, since they have {subtrees} subtrees: more than clients compare"));
    }
    let dns_forbidden = |name: &&String| {
        let inside = |tree: &Subtree| matches!(tree, Subtree::Dns(domain) if dns_inside(name, domain));
        let under = |tree: &Subtree| matches!(tree, Subtree::Dns(domain) if wildcard_over(name, domain));
        let touches = |tree: &Subtree| inside(tree) || under(tree);
        constraints.forbid(|tree| matches!(tree, Subtree::Dns(_)), inside, touches)
    };
    let ip_forbidden = |ip: &&IpAddr| {
        let inside = |tree: &Subtree| matches!(tree, Subtree::Ip(network) if ip_inside(**ip, network));
        constraints.forbid(|tree| matches!(tree, Subtree::Ip(_)), inside, inside)
    };
    let subject_forbidden = || {
        let subject = &leaf.directory_name;
        let inside = |tree: &Subtree| matches!(tree, Subtree::Directory(parts) if subject.starts_with(parts));
        constraints.forbid(|tree| matches!(tree, Subtree::Directory(_)), inside, inside)
    };
    let dns = leaf.extensions.dns_names.iter().find(dns_forbidden).cloned();
    dns.or_else(|| leaf.extensions.ip_addresses.iter().find(ip_forbidden).map(ToString::to_string))
        .or_else(|| (!leaf.directory_name.is_empty() && subject_forbidden()).then(|| leaf.subject.clone()))
}

impl NameConstraints {
    /// Whether they forbid a name: one excludes it, or names of its kind are permitted and it is none of them.
    fn forbid(
        &self,
        is_its_kind: impl Fn(&Subtree) -> bool,
        permits: impl Fn(&Subtree) -> bool,
        excludes: impl Fn(&Subtree) -> bool,
    ) -> bool {
        let left_out = self.permitted.iter().any(is_its_kind) && !self.permitted.iter().any(permits);
        left_out || self.excluded.iter().any(excludes)
    }
}

/// Whether a name is in a domain; a domain that begins with a dot has only what is below it.
fn dns_inside(name: &str, domain: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    match domain.strip_prefix('.') {
        Some(parent) => name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
        None => {
            domain.is_empty() || name == domain || name.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

/// Whether a wildcard stands for the domain itself.
fn wildcard_over(name: &str, domain: &str) -> bool {
    name.starts_with("*.") && matches(name, domain.trim_start_matches('.'))
}

fn ip_inside(ip: IpAddr, network: &[u8]) -> bool {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (address, mask) = network.split_at(network.len() / 2);
    octets.len() == address.len()
        && octets.iter().zip(address.iter().zip(mask)).all(|(octet, (address, mask))| octet & mask == address & mask)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{covers, dns_inside, forbidden, is_internal, is_reserved, wildcard_fault};
    use crate::tls::certificate::{Certificate, NameConstraints, Subtree};
    use proptest::prelude::*;

    #[test]
    fn a_wildcard_stands_for_exactly_one_whole_first_label() {
        let names = ["*.example.com"];
        assert!(covers(&names, "www.example.com") && covers(&names, "WWW.Example.COM."));
        for host in ["example.com", "a.b.example.com", ".example.com", "wwwexample.com", "www.example.org", ""] {
            assert!(!covers(&names, host), "{host}");
        }
        assert!(!covers(&["w*.example.com", "*", "*.*.com"], "www.example.com"));
        assert!(!covers(&["*"], "*"));
        assert!(covers(&names, "*.example.com"));
    }

    #[test]
    fn more_names_and_subtrees_than_clients_compare_are_not_compared() {
        let names: Vec<String> = (0..1000).map(|i| format!("{i}.example.com")).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let leaf = Certificate::read(leaf.der().clone(), 1).unwrap();
        let excluding = |count| NameConstraints {
            permitted: Vec::new(),
            excluded: (0..count).map(|i| Subtree::Dns(format!("{i}.example.org"))).collect(),
        };
        assert_eq!(forbidden(&excluding(250), &leaf), None);
        assert!(forbidden(&excluding(251), &leaf).unwrap().contains("more than clients compare"));
    }

    #[test]
    fn a_subject_is_held_against_the_directory_names_that_are_permitted_and_excluded() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = |parts: &[(rcgen::DnType, &str)]| {
            let mut params = rcgen::CertificateParams::new(["www.example.com".to_owned()]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            parts.iter().for_each(|(kind, text)| params.distinguished_name.push(kind.clone(), *text));
            Certificate::read(params.self_signed(&key).unwrap().der().clone(), 1).unwrap()
        };
        let organization = |text: &'static str| (rcgen::DnType::OrganizationName, text);
        let base = Subtree::Directory(certificate(&[organization("Acme  Works")]).directory_name);
        let permitting = NameConstraints { permitted: vec![base.clone()], excluded: Vec::new() };
        let excluding = NameConstraints { permitted: Vec::new(), excluded: vec![base] };
        let name = (rcgen::DnType::CommonName, "www.example.com");
        for (parts, inside) in
            [(vec![organization("ACME Works"), name.clone()], true), (vec![organization("Acme"), name], false)]
        {
            let leaf = certificate(&parts);
            assert_eq!(forbidden(&permitting, &leaf).is_none(), inside);
            assert_eq!(forbidden(&excluding, &leaf).is_some(), inside);
        }
        assert_eq!(forbidden(&permitting, &certificate(&[])), None, "an empty subject is no name");
    }

    #[test]
    fn addresses_match_by_value_and_never_by_wildcard() {
        assert!(covers(&["::1"], "0:0:0:0:0:0:0:1"));
        assert!(!covers(&["*.0.0.1"], "127.0.0.1"));
    }

    #[test]
    fn wildcards_over_public_suffixes_and_odd_ones_are_faulty() {
        for bad in ["*", "*.com", "*.co.uk", "w*.example.com", "www.*.com", "*.*.example.com"] {
            assert!(wildcard_fault(bad).is_some(), "{bad}");
        }
        for good in ["*.example.com", "www.example.com", "*.localhost", "*.svc.cluster.local"] {
            assert!(wildcard_fault(good).is_none(), "{good}");
        }
    }

    #[test]
    fn internal_names_and_reserved_addresses_are_told_from_public_ones() {
        for internal in ["localhost", "db", "db.internal", "printer.local", "x.home.arpa", "nas.lan"] {
            assert!(is_internal(internal), "{internal}");
        }
        for public in ["example.com", "www.example.org", "some.host", "in-addr.arpa"] {
            assert!(!is_internal(public), "{public}");
        }
        for (address, reserved) in [("10.1.2.3", true), ("100.64.0.1", true), ("8.8.8.8", false), ("fd00::1", true)] {
            assert_eq!(address.parse().map(is_reserved), Ok(reserved), "{address}");
        }
    }

    #[test]
    fn a_constraint_covers_the_domain_and_what_is_below_it() {
        assert!(dns_inside("www.example.com", "example.com") && dns_inside("example.com", "example.com"));
        assert!(!dns_inside("badexample.com", "example.com") && !dns_inside("example.com", ".example.com"));
        assert!(dns_inside("a.example.com", ".example.com") && dns_inside("anything", ""));
        // A wildcard stands for names below the domain.
        assert!(dns_inside("*.example.com", ".example.com") && dns_inside("*.example.com", "example.com"));
        assert!(!dns_inside("*.example.com", ".a.example.com") && !dns_inside("*.com", "example.com"));
    }

    proptest! {
        #[test]
        fn a_wildcard_never_covers_more_or_fewer_labels(labels in proptest::collection::vec("[a-z]{1,5}", 1..5)) {
            let host = labels.join(".");
            prop_assert_eq!(covers(&["*.example.com"], &format!("{host}.example.com")), labels.len() == 1);
            prop_assert!(covers(&[host.to_uppercase()], &host));
        }
    }
}
