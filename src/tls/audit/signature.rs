//! Rules about signatures: hashes, algorithms, and whether they verify.

use super::{Found, View};
use crate::tls::audit::rules::RuleId;
use crate::tls::audit::verify::Signed;
use crate::tls::certificate::Certificate;
use crate::tls::key::{Hash, Scheme};

/// Looks at the signature of every certificate on the path.
pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let verified = view.path.verified();
    for (index, certificate) in verified.iter().map(|index| (index, view.at(*index))) {
        hash(certificate, found);
        if !certificate.signature.has_tls_scheme() {
            let seen = format!("signed with {}, which TLS has no scheme for", certificate.signature);
            found.at(RuleId::SigUnknown, certificate, seen);
        }
        let link = view.path.members.iter().position(|member| member == index).and_then(|at| view.path.links.get(at));
        if link == Some(&Signed::No) {
            invalid(view, *index, found);
        }
    }
    if view.path.forged {
        let seen = "its signature does not verify under its own key, although it names itself as its issuer";
        found.with_fix(RuleId::SigInvalid, view.leaf(), seen.to_owned(), "have the certificate made anew".to_owned());
    }
    for certificate in view.members().filter(|certificate| !certificate.raw.algorithms_agree) {
        let seen = "names another signature algorithm inside what is signed than outside".to_owned();
        found.at(RuleId::SigAlgMismatch, certificate, seen);
    }
    let anchor = view.members().last().filter(|_| view.path.anchored);
    let weak =
        |certificate: &Certificate| hashes(certificate).into_iter().find(|hash| hash.is_md() || *hash == Hash::Sha1);
    if let Some((anchor, hash)) = anchor.and_then(|anchor| Some((anchor, weak(anchor)?))) {
        found.at(RuleId::AnchorWeakSig, anchor, format!("signed itself with {}", hash.name()));
    }
}

fn hash(certificate: &Certificate, found: &mut Found) {
    let hashes = hashes(certificate);
    let seen = |hash: &Hash| format!("signed with {} ({})", hash.name(), certificate.signature);
    if let Some(hash) = hashes.iter().find(|hash| hash.is_md()) {
        found.at(RuleId::SigMd5, certificate, seen(hash));
    }
    if let Some(hash) = hashes.iter().find(|hash| **hash == Hash::Sha1) {
        found.at(RuleId::SigSha1, certificate, seen(hash));
    }
}

/// The hashes of a signature, the one in PSS's mask too.
fn hashes(certificate: &Certificate) -> Vec<Hash> {
    let mask = match &certificate.signature.scheme {
        Scheme::Pss { mask, .. } => Some(*mask),
        _ => None,
    };
    certificate.signature.hash.into_iter().chain(mask).collect()
}

fn invalid(view: &View<'_>, index: usize, found: &mut Found) {
    let certificate = view.at(index);
    let issuer = view.path.members.iter().skip_while(|member| **member != index).nth(1);
    let seen = match issuer.map(|issuer| view.at(*issuer)) {
        Some(issuer) => format!(
            "its signature does not verify under the key of certificate {} ({}), whose name is its issuer's",
            issuer.position, issuer.subject
        ),
        None => "its signature does not verify".to_owned(),
    };
    found.at(RuleId::SigInvalid, certificate, seen);
}
