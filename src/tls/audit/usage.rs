//! Rules about what certificates may be used for: issuers, the leaf, and what browsers ask for.

use time::Duration;

use super::names::forbidden;
use super::{Found, View};
use crate::identity::Class;
use crate::tls::audit::rules::{Level, RuleId};
use crate::tls::certificate::Certificate;

/// Looks at the usages of every certificate on the path.
pub(super) fn check(view: &View<'_>, found: &mut Found) {
    for (below, issuer) in view.members().enumerate().skip(1) {
        let faults = issuer_faults(view, issuer, below - 1);
        if !faults.is_empty() {
            found.at(RuleId::IssuerInvalid, issuer, faults.join("; "));
        }
    }
    for certificate in view.members() {
        critical(certificate, found);
    }
    leaf(view, found);
    web(view, found);
}

/// `below`: how many issuers stand between this one and the leaf.
fn issuer_faults(view: &View<'_>, issuer: &Certificate, below: usize) -> Vec<String> {
    let extensions = &issuer.extensions;
    let mut faults = Vec::new();
    // Clients take an anchor of version 1, which has no extensions, as it is.
    if !extensions.ca && issuer.version == 3 {
        faults.push("issued the certificate before it on the path, but is not a CA".to_owned());
    }
    if extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
        faults.push("its key usage does not include keyCertSign".to_owned());
    }
    if let Some(allowed) = extensions.path_length {
        // Self-issued certificates do not count (RFC 5280, section 4.2.1.9).
        let issuers = view.members().skip(1).take(below).filter(|issuer| !issuer.is_self_issued()).count();
        if issuers > usize::try_from(allowed).unwrap_or(usize::MAX) {
            faults.push(format!("its path length allows {allowed} issuers below it, and there are {issuers}"));
        }
    }
    if let Some(name) = extensions.name_constraints.as_ref().and_then(|limits| forbidden(limits, view.leaf())) {
        faults.push(format!("its name constraints do not allow {name}"));
    }
    if extensions.extended_key_usage.is_some_and(|usage| !usage.server_auth && !usage.any) {
        faults.push("its extended key usages do not include serverAuth".to_owned());
    }
    faults
}

fn critical(certificate: &Certificate, found: &mut Found) {
    if certificate.extensions.poison {
        found.at(
            RuleId::CriticalUnknown,
            certificate,
            "is a precertificate: it has the CT poison extension".to_owned(),
        );
    }
    let unknown = &certificate.extensions.unknown_critical;
    if !unknown.is_empty() {
        let some = unknown.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        found.at(
            RuleId::CriticalUnknown,
            certificate,
            format!("has a critical extension that clients do not know: {some}"),
        );
    }
}

fn leaf(view: &View<'_>, found: &mut Found) {
    let leaf = view.leaf();
    let extensions = &leaf.extensions;
    if extensions.ca {
        found.at(RuleId::LeafIsCa, leaf, "is a CA certificate".to_owned());
    }
    if view.path.anchored && view.path.members.len() == 1 {
        found.at(RuleId::SelfSignedLeaf, leaf, "is signed with its own key".to_owned());
    }
    match extensions.extended_key_usage {
        Some(usage) if !usage.server_auth => {
            found.at(RuleId::EkuNoServer, leaf, "its extended key usages do not include serverAuth".to_owned());
        }
        None if view.subject.profile == Class::Public => {
            let seen = "has no extended key usage; public CAs must state serverAuth".to_owned();
            found.raised(RuleId::EkuNoServer, Level::Warn, leaf, seen);
        }
        _ => {}
    }
    if extensions.key_usage.is_some_and(|usage| !usage.digital_signature) {
        found.at(RuleId::KuNoSigning, leaf, "its key usage does not include digitalSignature".to_owned());
    }
}

/// A certificate that lasts no longer needs no way to be revoked (BR 7.1.2.11.2 with the definition of short-lived).
const SHORT_LIVED: Duration = Duration::days(7);

/// What browsers and root programs ask for. Private authorities need none of it.
fn web(view: &View<'_>, found: &mut Found) {
    let leaf = view.leaf();
    let extensions = &leaf.extensions;
    let mut say = |seen: &str| found.at(RuleId::PublicWeb, leaf, seen.to_owned());
    if view.subject.profile == Class::Internal {
        return;
    }
    if !extensions.timestamps {
        say("has no signed certificate timestamps; browsers refuse a public certificate without");
    }
    if !extensions.crl && !extensions.ocsp && leaf.not_after - leaf.not_before > SHORT_LIVED {
        say("names neither a revocation list nor a status service, and lasts longer than 7 days");
    }
    if extensions.extended_key_usage.is_some_and(|usage| usage.client_auth) {
        say("its extended key usages include clientAuth, which root programs no longer allow beside serverAuth");
    }
}
