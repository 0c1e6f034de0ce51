//! Rules about authorities. rustls takes an authority as it is given: neither its dates nor its usages are looked at when
//! a peer's certificate is verified, so what has ended vouches on until someone takes it out of the file.

use time::OffsetDateTime;

use super::super::finding::rfc3339;
use super::Role;
use super::list::List;
use crate::tls::audit::Found;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::rules::RuleId;
use crate::tls::certificate::Certificate;
use crate::tls::chain::Material;
use crate::tls::key::{Curve, PublicKey};

/// The rules of one side.
struct Rules {
    expired: RuleId,
    expiring: RuleId,
    early: RuleId,
    weak: RuleId,
    not_ca: RuleId,
}

const CLIENTS: Rules = Rules {
    expired: RuleId::ClientCaExpired,
    expiring: RuleId::ClientCaExpiringSoon,
    early: RuleId::ClientCaNotYetValid,
    weak: RuleId::ClientCaWeak,
    not_ca: RuleId::ClientCaNotCa,
};

const UPSTREAMS: Rules = Rules {
    expired: RuleId::UpstreamCaExpired,
    expiring: RuleId::UpstreamCaExpiringSoon,
    early: RuleId::UpstreamCaNotYetValid,
    weak: RuleId::UpstreamCaWeak,
    not_ca: RuleId::UpstreamCaNotCa,
};

/// Looks at every authority of a file.
pub(super) fn check(material: &Material, role: Role, policy: &Policy, now: OffsetDateTime, found: &mut Found) {
    let rules = if role == Role::UpstreamCa { &UPSTREAMS } else { &CLIENTS };
    for certificate in &material.certificates {
        moment(certificate, rules, policy, now, found);
        if let Some(why) = weakness(&certificate.key) {
            let seen = format!("its key is {}, {why}", certificate.key);
            found.at(rules.weak, certificate, seen);
        }
        // Of version 1, a root has no extensions that could say what it is.
        if !certificate.extensions.ca && certificate.version == 3 {
            found.at(
                rules.not_ca,
                certificate,
                "is listed as an authority, and is none by its basicConstraints".into(),
            );
        } else if certificate.extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
            found.at(
                rules.not_ca,
                certificate,
                "is listed as an authority, and its key usage lacks keyCertSign".into(),
            );
        }
    }
}

fn moment(certificate: &Certificate, rules: &Rules, policy: &Policy, now: OffsetDateTime, found: &mut Found) {
    let (begin, end) = (certificate.not_before, certificate.not_after);
    if now < begin {
        found.at(rules.early, certificate, format!("is not valid before {}", rfc3339(begin)));
    } else if !certificate.is_valid_at(now) {
        found.at(rules.expired, certificate, format!("ended at {}", rfc3339(end)));
    } else if end - now < policy.expiry_warning(end - begin) {
        found.at(rules.expiring, certificate, format!("ends at {}", rfc3339(end)));
    }
}

/// Why signatures under such a key are refused, or should be.
fn weakness(key: &PublicKey) -> Option<&'static str> {
    match key {
        PublicKey::Rsa { modulus, .. } if !(2048..=8192).contains(&modulus.bits()) => {
            Some("and the gateway verifies RSA signatures of 2048 to 8192 bits alone: all that it issued is refused")
        }
        PublicKey::Rsa { .. } | PublicKey::Ed25519 | PublicKey::Ec(Curve::P256 | Curve::P384 | Curve::P521) => None,
        _ => Some("which the gateway verifies no signatures with: all that it issued is refused"),
    }
}

/// Finds authorities that have no list where lists are checked.
pub(super) fn check_lists<'a>(authorities: &Material, lists: impl Iterator<Item = &'a List>, found: &mut Found) {
    let issuers: Vec<&[u8]> = lists.map(|list| list.issuer.as_slice()).collect();
    let missing = authorities.certificates.iter().filter(|ca| !issuers.contains(&ca.raw.subject.as_slice()));
    for certificate in missing.take(20) {
        let seen = "has no revocation list among those that are named, so every client under it is refused".to_owned();
        found.at(RuleId::CrlMissing, certificate, seen);
    }
}
