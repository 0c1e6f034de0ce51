//! Rules about the file as a whole: its order, what is missing, what is too much.

use super::path::Extra;
use super::{Found, View};
use crate::tls::audit::rules::{Level, RuleId};
use crate::tls::certificate::Certificate;

/// More certificates than this are reported.
const MANY: usize = 10;
/// More bytes of certificates than this are reported.
const LARGE: usize = 16 * 1024;
/// More bytes of certificates than this are denied: a Certificate message in rustls holds no more.
const TOO_LARGE: usize = 64 * 1024;
/// A file with very many certificates that are not needed gets this many findings about them, and one for the rest.
const MOST_EXTRAS: usize = 20;
/// As with faults of files: the first one already keeps the chain from being served.
const MOST_DEFECTS: usize = 100;

/// Looks at the file beside the path.
pub(super) fn check(view: &View<'_>, found: &mut Found) {
    versions(view, found);
    order(view, found);
    incomplete(view, found);
    renamed(view, found);
    extras(view, found);
    size(view, found);
}

/// Every certificate of the file must be readable, and those that are served must be of version 3.
fn versions(view: &View<'_>, found: &mut Found) {
    let defects =
        view.certificates.iter().flat_map(|certificate| certificate.defects.iter().map(move |it| (certificate, it)));
    for (certificate, defect) in defects.take(MOST_DEFECTS) {
        found.at(RuleId::CertUnparseable, certificate, defect.clone());
    }
    for certificate in view.members().filter(|certificate| !certificate.oddities.is_empty()) {
        found.at(RuleId::CertNonconforming, certificate, certificate.oddities.join("; "));
    }
    for certificate in view.served().filter(|certificate| certificate.version != 3) {
        let seen = format!("is of version {}, not 3", certificate.version);
        found.at(RuleId::CertUnparseable, certificate, seen);
    }
}

fn order(view: &View<'_>, found: &mut Found) {
    if !view.material.ordered {
        return;
    }
    let leaf = view.leaf();
    if view.path.members[0] != 0 {
        let seen = format!("is the leaf, but is certificate {} of the file", leaf.position);
        found.at(RuleId::LeafNotFirst, leaf, seen);
    }
    let issuers = &view.path.members[1..];
    let mut sorted = issuers.to_vec();
    sorted.sort_unstable();
    if let Some(misplaced) = sorted.iter().zip(issuers).find_map(|(there, needed)| (there != needed).then_some(*there))
    {
        let place = |index: &usize| view.at(*index).position.to_string();
        let order: Vec<String> = view.path.members.iter().map(place).collect();
        let seen = format!("is out of place; the path is certificates {}", order.join(", "));
        found.at(RuleId::ChainUnordered, view.at(misplaced), seen);
    }
}

fn incomplete(view: &View<'_>, found: &mut Found) {
    let leaf = view.leaf();
    if view.path.anchored || view.path.forged {
        return;
    }
    if view.path.members.len() > 1 {
        return gap(view, found);
    }
    let seen = format!("its issuer, {}, is not in the file", leaf.issuer);
    let fix = match leaf.extensions.issuer_urls.first() {
        Some(url) => format!("append the intermediates; the certificate says that its issuer's is at {url}"),
        None => "append the intermediates that the CA gave out with it".to_owned(),
    };
    found.with_fix(RuleId::ChainIncomplete, leaf, seen, fix);
}

/// A root that the path does not reach, in a path that ends before any: what stands between is missing.
fn gap(view: &View<'_>, found: &mut Found) {
    let reached = |root: &Certificate| {
        let mut alternates = view.path.alternates.iter().map(|index| view.at(*index));
        alternates.any(|alternate| alternate.raw.issuer == root.raw.subject)
    };
    let stray = |(index, extra): &&(usize, Extra)| {
        let root = view.at(*index);
        *extra == Extra::Unrelated && root.is_self_issued() && root.extensions.ca && !reached(root)
    };
    let Some((root, _)) = view.path.extras.iter().find(stray) else { return };
    let Some(last) = view.members().last() else { return };
    let (root, position) = (view.at(*root), last.position);
    let seen = format!(
        "its issuer, {}, is not in the file, and the root at position {} is not reached: a certificate between is missing",
        last.issuer, root.position
    );
    let fix = format!("insert what stands between certificates {position} and {}, or remove the root", root.position);
    let raw = found.push(RuleId::ChainIncomplete, Some(last), seen);
    (raw.fix, raw.level) = (Some(fix), Some(Level::Warn));
}

fn renamed(view: &View<'_>, found: &mut Found) {
    for (before, index) in view.path.members.iter().zip(view.path.members.iter().skip(1)) {
        if view.path.renamed.contains(index) {
            let (child, issuer) = (view.at(*before), view.at(*index));
            let seen = format!(
                "signed certificate {}, which gives its issuer another name: {}, in other words or another encoding",
                child.position, child.issuer
            );
            found.at(RuleId::IssuerNameMismatch, issuer, seen);
        }
    }
}

fn extras(view: &View<'_>, found: &mut Found) {
    for index in view.path.alternates.iter().take(MOST_EXTRAS) {
        let alternate = view.at(*index);
        let seen = format!("is a second certificate for an issuer on the path, by {}", alternate.issuer);
        found.at(RuleId::ChainCrossSigned, alternate, seen);
    }
    for (index, extra) in view.path.extras.iter().take(MOST_EXTRAS) {
        let seen = match extra {
            Extra::Root => "is the root, which clients have or do not trust",
            Extra::Duplicate => "stands in the file before",
            Extra::Renewed => "is another certificate of an issuer on the path, by the same authority",
            Extra::Expired => "is not on the leaf's path, and has ended",
            Extra::Unrelated => "is not on the leaf's path",
        };
        found.at(RuleId::ChainExtra, view.at(*index), seen.to_owned());
    }
    if view.path.extras.len() > MOST_EXTRAS {
        let seen = format!("{} more certificates are not needed", view.path.extras.len() - MOST_EXTRAS);
        found.file(RuleId::ChainExtra, seen);
    }
    for stranger in view.material.strangers.iter().take(MOST_EXTRAS) {
        found.file(RuleId::ChainExtra, format!("holds {stranger} beside the certificates"));
    }
}

fn size(view: &View<'_>, found: &mut Found) {
    let bytes: usize = view.certificates.iter().map(|certificate| certificate.der.len()).sum();
    let seen = format!("holds {} certificates of {bytes} bytes", view.certificates.len());
    if bytes > TOO_LARGE {
        found.file_raised(RuleId::ChainTooLarge, Level::Deny, seen);
    } else if bytes > LARGE || view.certificates.len() > MANY {
        found.file(RuleId::ChainTooLarge, seen);
    }
}
