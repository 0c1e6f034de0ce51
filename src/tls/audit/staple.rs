//! Rules about the stapled status: whether what a responder said may be handed to clients.
//!
//! Only a response that is whole, for this leaf, signed by who may speak for its issuer, good, and of this time becomes a
//! [`Staple`]; anything else is a finding, and the chain is served without it.

use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::finding::rfc3339;
use super::verify::by_provider;
use super::{Found, View};
use crate::tls::audit::rules::RuleId;
use crate::tls::certificate::Certificate;
use crate::tls::key::Hash;
use crate::tls::ocsp::{Answer, Responder, Response, Status};

/// A status to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staple {
    /// The response.
    pub der: Arc<[u8]>,
    /// From when on it may be handed out.
    pub since: SystemTime,
    /// From when on it no longer may.
    pub until: SystemTime,
}

impl Staple {
    /// Whether it may be handed out at this moment.
    #[must_use]
    pub fn is_fresh_at(&self, now: SystemTime) -> bool {
        self.since <= now && now < self.until
    }
}

/// Looks at the chain's staple; gives it where it may be handed out, now or later.
pub(super) fn check(view: &View<'_>, found: &mut Found) -> Option<Staple> {
    let leaf = view.leaf();
    let Some(file) = &view.material.staple else {
        let none = match view.material.stapled {
            Some(true) => return None,
            Some(false) => "the server sends none",
            None => "none is configured",
        };
        if leaf.extensions.must_staple {
            found.at(RuleId::MustStaple, leaf, format!("demands a stapled status (must-staple), and {none}"));
        }
        return None;
    };
    let named = |fault: String| format!("its staple, {}, {fault}", file.path.display());
    let staple = file.bytes.as_ref().map_err(|why| (RuleId::OcspUnusable, why.clone()));
    let staple = staple.and_then(|bytes| Ok((bytes, answer_for(view, bytes)?)));
    let (bytes, answer) = match staple {
        Ok(sound) => sound,
        Err((rule, fault)) => {
            found.at(rule, leaf, named(fault));
            unserved(leaf, found);
            return None;
        }
    };
    let stale = match answer.next_update {
        None => Some("does not say until when it holds (nextUpdate)".to_owned()),
        Some(next) if next <= view.now => Some(format!("ran out at {}", rfc3339(next))),
        Some(_) if view.now < answer.this_update => {
            Some(format!("does not hold before {}", rfc3339(answer.this_update)))
        }
        Some(_) => None,
    };
    if let Some(fault) = stale {
        found.at(RuleId::OcspStale, leaf, named(fault));
        unserved(leaf, found);
    }
    let until = answer.next_update.filter(|next| *next > view.now)?;
    Some(Staple { der: bytes.as_slice().into(), since: answer.this_update.into(), until: until.into() })
}

/// The other half of the finding, for a leaf whose clients insist.
fn unserved(leaf: &Certificate, found: &mut Found) {
    if leaf.extensions.must_staple {
        found.at(
            RuleId::MustStaple,
            leaf,
            "demands a stapled status (must-staple), and its staple is not fit".to_owned(),
        );
    }
}

/// The good answer about the leaf, of somebody who may give it; else the rule that is broken, and how.
fn answer_for(view: &View<'_>, bytes: &[u8]) -> Result<Answer, (RuleId, String)> {
    let unusable = |why: &str| (RuleId::OcspUnusable, why.to_owned());
    let mut response = Response::read(bytes).map_err(|why| (RuleId::OcspUnusable, why))?;
    let mut members = view.members();
    let (leaf, issuer) = (members.next(), members.next());
    let (Some(leaf), Some(issuer)) = (leaf, issuer) else {
        return Err(unusable("cannot be checked, since the leaf's issuer is not in the chain file"));
    };
    let about = response.answers.iter().position(|answer| is_about(answer, leaf, issuer));
    let about = about.ok_or_else(|| unusable("is about another certificate"))?;
    if !may_speak(&response, issuer, view.now) {
        return Err(unusable("is not signed by the leaf's issuer, nor by a responder that it appointed"));
    }
    let answer = response.answers.swap_remove(about);
    match answer.status {
        Status::Good => Ok(answer),
        Status::Revoked(at) => Err((RuleId::OcspRevoked, format!("says that it was revoked at {}", rfc3339(at)))),
        Status::Unknown => Err(unusable("says that its responder does not know the certificate")),
    }
}

/// Whether the answer names this leaf, by its issuer and its serial number (RFC 6960, section 4.1.1).
fn is_about(answer: &Answer, leaf: &Certificate, issuer: &Certificate) -> bool {
    let hashed = |bytes: &[u8], hash: &[u8]| answer.hash.digest(bytes).is_some_and(|digest| digest == hash);
    answer.serial == leaf.raw.serial
        && hashed(&leaf.raw.issuer, &answer.issuer_name_hash)
        && hashed(&issuer.raw.key_bits, &answer.issuer_key_hash)
}

/// Whether the response is signed by the issuer, or by one whom the issuer gave a certificate for just that (RFC 6960,
/// section 4.2.2.2).
fn may_speak(response: &Response, issuer: &Certificate, now: OffsetDateTime) -> bool {
    let is_named = |certificate: &Certificate| match &response.responder {
        Responder::Name(name) => *name == certificate.raw.subject,
        Responder::KeyHash(hash) => Hash::Sha1.digest(&certificate.raw.key_bits).is_some_and(|digest| digest == *hash),
    };
    let signed = |by: &Certificate| {
        is_named(by) && by_provider(&response.algorithm, by, &response.tbs, &response.signature) == Some(true)
    };
    let appointed = |responder: &&Certificate| {
        let usage = responder.extensions.extended_key_usage;
        usage.is_some_and(|usage| usage.ocsp_signing)
            && responder.is_valid_at(now)
            && by_provider(&responder.raw.algorithm, issuer, &responder.raw.tbs, &responder.raw.signature) == Some(true)
    };
    signed(issuer) || response.certificates.iter().filter(appointed).any(signed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::tests::{certs, material};
    use super::super::{Audited, Subject, audit};
    use super::*;
    use crate::identity::Class;
    use crate::tls::audit::policy::Policy;

    /// A moment at which every staple holds that does so at all, in Unix time.
    const THEN: u64 = 1_900_000_000;

    fn judged(leaf: &str, staple: &Path, now: u64) -> Audited {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let subject = Subject { profile: Class::Internal, endpoint: None, server_names: &[], listen_ips: &[], now };
        audit(&material(leaf).with_staple(staple), &subject, &Policy::default())
    }

    fn found(audited: &Audited) -> Vec<(&str, &str)> {
        let findings = audited.report.findings.iter().filter(|finding| finding.rule != "validity-too-long");
        findings.map(|finding| (finding.rule, finding.seen.as_str())).collect()
    }

    #[test]
    fn a_good_answer_by_the_issuer_or_whom_it_appointed_is_served() {
        for name in ["must-staple", "staple-appointed", "staple-by-key"] {
            let audited = judged("must-staple", &certs(&format!("{name}.ocsp")), THEN);
            assert_eq!(found(&audited), [], "{name}");
            let chain = audited.servable.unwrap();
            let staple = chain.staple().unwrap();
            assert_eq!(*staple.der, *std::fs::read(certs(&format!("{name}.ocsp"))).unwrap());
            assert_eq!(audited.span.until, Some(staple.until), "the verdict ends with it");
        }
    }

    #[test]
    fn any_other_answer_is_found_and_not_served() {
        for (name, rule, said) in [
            ("staple-by-nobody", "ocsp-unusable", "is not signed by the leaf's issuer, nor by"),
            ("staple-impostor", "ocsp-unusable", "is not signed by the leaf's issuer, nor by"),
            ("staple-other", "ocsp-unusable", "is about another certificate"),
            ("staple-refused", "ocsp-unusable", "refusal to answer: unauthorized"),
            ("missing", "ocsp-unusable", "cannot be read"),
            ("staple-revoked", "ocsp-revoked", "says that it was revoked at 2025-06-01T00:00:00Z"),
            ("staple-stale", "ocsp-stale", "ran out at 2026-11-21T"),
            ("staple-endless", "ocsp-stale", "does not say until when"),
        ] {
            let audited = judged("must-staple", &certs(&format!("{name}.ocsp")), THEN);
            let all = found(&audited);
            assert!(all.iter().any(|(found, seen)| *found == rule && seen.contains(said)), "{name}: {all:?}");
            assert!(all.iter().any(|(found, _)| *found == "must-staple"), "{name}: {all:?}");
            assert_eq!(all.len(), 2, "{name}: {all:?}");
            assert!(audited.servable.unwrap().staple().is_none(), "{name}");
            let relaxed = judged("localhost", &certs(&format!("{name}.ocsp")), THEN);
            assert!(found(&relaxed).iter().all(|(found, _)| *found != "must-staple"), "{name}");
        }
    }

    #[test]
    fn an_answer_that_holds_later_is_served_from_then_on() {
        // After the certificates' beginning, and before the staple's.
        let early = judged("must-staple", &certs("must-staple.ocsp"), 1_790_000_000);
        assert_eq!(found(&early).iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), ["ocsp-stale", "must-staple"]);
        let chain = early.servable.unwrap();
        let staple = chain.staple().unwrap();
        assert_eq!(early.span.until, Some(staple.since));
        for (at, fresh) in [
            (staple.since - Duration::from_secs(1), false),
            (staple.since, true),
            (staple.until - Duration::from_secs(1), true),
            (staple.until, false),
        ] {
            assert_eq!(staple.is_fresh_at(at), fresh);
        }
    }

    #[test]
    fn a_leaf_whose_issuer_is_not_at_hand_cannot_be_spoken_for() {
        let audited = judged("incomplete", &certs("must-staple.ocsp"), THEN);
        assert!(found(&audited).iter().any(|(_, seen)| seen.contains("issuer is not in the chain file")));
    }

    #[test]
    fn a_change_to_any_byte_that_is_signed_makes_it_worthless() {
        let whole = std::fs::read(certs("must-staple.ocsp")).unwrap();
        let response = Response::read(&whole).unwrap();
        let at = whole.windows(response.tbs.len()).position(|part| part == response.tbs).unwrap();
        let folder = std::env::temp_dir().join(format!("portcullis-staple-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for index in (at..at + response.tbs.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[index] ^= 1;
            let file = folder.join("changed.ocsp");
            std::fs::write(&file, bytes).unwrap();
            let audited = judged("must-staple", &file, THEN);
            assert!(audited.servable.unwrap().staple().is_none(), "byte {index}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
