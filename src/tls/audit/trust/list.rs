//! Rules about revocation lists: whether they are fresh, and signed by an authority that may.

use std::path::Path;
use std::time::SystemTime;

use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::super::finding::rfc3339;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::rules::RuleId;
use crate::tls::audit::verify::{Message, Signed, verifies};
use crate::tls::audit::{Found, Span};
use crate::tls::certificate::{Certificate, name};
use crate::tls::chain::{self, Material};
use crate::tls::der;
use crate::tls::key::{Hash, SignatureAlgorithm};
use crate::tls::pem;

/// A revocation list, as far as the rules look at it.
pub(super) struct List {
    /// The issuer's name, byte for byte.
    pub(super) issuer: Vec<u8>,
    issuer_name: String,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    tbs: Vec<u8>,
    /// The algorithm's identifier, without its SEQUENCE header.
    algorithm: Vec<u8>,
    scheme: SignatureAlgorithm,
    signature: Vec<u8>,
}

/// Reads every list of a file. One that cannot be read is an error of the configuration, and left out here.
pub(super) fn read(file: &Path) -> (Material, Vec<List>) {
    let mut material = Material::empty(file, None);
    let bytes = chain::read_at_most(chain::MAX_TRUST, file).unwrap_or_default();
    let blocks = pem::revocation_lists(&bytes).unwrap_or_default();
    let lists: Vec<List> = blocks.iter().filter_map(|block| List::read(block)).collect();
    material.begun = lists.len();
    (material, lists)
}

/// How long before its end a list is warned of, at most. Lists are issued anew every few days.
const LONGEST_WARNING: Duration = Duration::days(7);

impl List {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(bytes).ok()?;
        let (outer, _) = der::take(der::SEQUENCE, bytes)?;
        let (tbs, rest) = der::split(outer)?;
        let (algorithm, rest) = der::take(der::SEQUENCE, rest)?;
        Some(Self {
            issuer: list.issuer().as_raw().to_vec(),
            issuer_name: name(list.issuer()),
            this_update: list.last_update().to_datetime(),
            next_update: list.next_update().map(|time| time.to_datetime()),
            tbs: tbs.whole.to_vec(),
            algorithm: algorithm.to_vec(),
            scheme: SignatureAlgorithm::read(&list.signature_algorithm),
            signature: der::bits(rest)?.to_vec(),
        })
    }

    pub(super) fn check(&self, authorities: &[Certificate], policy: &Policy, now: OffsetDateTime, found: &mut Found) {
        self.fresh(policy, now, found);
        let mine: Vec<&Certificate> = authorities.iter().filter(|ca| ca.raw.subject == self.issuer).collect();
        let weak = self.scheme.hash.filter(|hash| hash.is_md() || *hash == Hash::Sha1);
        if let Some(hash) = weak {
            let seen = format!("the list of {} is signed with {}", self.issuer_name, hash.name());
            found.file(RuleId::CrlWeakSignature, seen);
        }
        if mine.is_empty() {
            let seen = format!("the list of {} is by no authority that vouches for clients here", self.issuer_name);
            return found.file(RuleId::CrlIssuerUnknown, seen);
        }
        let message = Message {
            content: &self.tbs,
            algorithm: &self.algorithm,
            scheme: &self.scheme,
            signature: &self.signature,
        };
        match mine.iter().find(|ca| verifies(&message, ca) != Signed::No) {
            None => {
                let seen = format!("the signature of the list of {} does not verify under its key", self.issuer_name);
                found.file(RuleId::CrlSignatureInvalid, seen);
            }
            Some(ca) if ca.extensions.key_usage.is_some_and(|usage| !usage.crl_sign) => {
                let seen = format!("the key usage of {}, which signed its list, does not include cRLSign", ca.subject);
                found.file(RuleId::CrlIssuerInvalid, seen);
            }
            Some(_) => {}
        }
    }

    fn fresh(&self, policy: &Policy, now: OffsetDateTime, found: &mut Found) {
        let who = &self.issuer_name;
        if now < self.this_update {
            let seen = format!("the list of {who} is of {}, which is yet to come", rfc3339(self.this_update));
            found.file(RuleId::CrlNotYetValid, seen);
        }
        let Some(next) = self.next_update else { return };
        if next < now {
            let seen = format!("the list of {who} was to be renewed by {}, so clients are refused", rfc3339(next));
            found.file(RuleId::CrlExpired, seen);
        } else if next - now < self.warning(policy) {
            let seen = format!("the list of {who} must be renewed by {}", rfc3339(next));
            found.file(RuleId::CrlExpiringSoon, seen);
        }
    }

    /// A list that is issued daily is not to be warned of all day: a third of its time, as with certificates.
    fn warning(&self, policy: &Policy) -> Duration {
        let lifetime = self.next_update.map_or(Duration::ZERO, |next| next - self.this_update);
        let third = Duration::seconds(lifetime.whole_seconds().max(0) / 3);
        policy.expiry_warning(lifetime).min(third).min(LONGEST_WARNING)
    }

    /// Until when this holds.
    pub(super) fn span(&self, now: SystemTime, policy: &Policy) -> Span {
        let next = self.next_update.into_iter();
        let moments = next.flat_map(|next| [next.checked_sub(self.warning(policy)), Some(next)]).flatten();
        let all = moments.chain([self.this_update]).map(|moment| moment.saturating_add(Duration::SECOND));
        all.fold(Span::endless(now), |span, moment| span.ending_at(moment.into()))
    }
}
