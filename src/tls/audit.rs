//! The audit: every certificate of every chain is judged before a byte is served with it.
//!
//! One engine for start-up, reload, `check`, `audit`, `explain` and the admin port. The files of this folder hold the
//! rules; [`policy`] weighs what they find; [`decide()`](decide::decide) says which chains are served. An
//! [`AuditedChain`] can be made here only, and only such a chain can be served: the check is a type.

mod chain;
pub mod decide;
pub mod explain;
pub mod finding;
mod issuance;
mod key;
pub mod names;
#[cfg(test)]
mod odd;
mod path;
pub mod policy;
#[cfg(test)]
mod reference;
pub mod report;
pub mod rules;
pub mod sarif;
mod signature;
mod span;
mod staple;
#[cfg(test)]
pub(in crate::tls) mod tests;
pub mod trust;
mod usage;
mod validity;
mod verify;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use self::finding::{ChainReport, Finding, Verdict};
use self::policy::{Policy, Waived};
use self::rules::{Level, RuleId};
use self::span::ENDING;
pub use self::span::Span;
pub use self::staple::Staple;
use crate::identity::{Class, EndpointName};
use crate::tls::certificate::Certificate;
use crate::tls::chain::Material;
use crate::tls::parallel::in_order;

/// What a chain is judged for.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Whom it faces: chooses the levels.
    pub profile: Class,
    /// The endpoint; `None` for a file on its own.
    pub endpoint: Option<EndpointName>,
    /// Names that the endpoint must be able to serve.
    pub server_names: &'a [String],
    /// Addresses that it listens on.
    pub listen_ips: &'a [IpAddr],
    /// The clock.
    pub now: SystemTime,
}

/// A chain and what the audit says of it; cheap to clone, so that a reload can take it over.
#[derive(Clone, Debug)]
pub struct Audited {
    /// What was found.
    pub report: Arc<ChainReport>,
    /// The chain, if it may be served: it has its key, and nothing denies it.
    pub servable: Option<Arc<AuditedChain>>,
    /// The leaf's names as text; empty where no leaf could be read.
    pub names: Arc<[String]>,
    /// Whether a certificate of the path has ended, is about to, or has not yet begun, whatever the policy makes of it.
    pub out_of_time: bool,
    /// The moments between which the audit would find the same again.
    pub span: Span,
}

/// A chain that passed the audit, ready to be served.
#[derive(Debug)]
pub struct AuditedChain {
    certified: Arc<CertifiedKey>,
    file: PathBuf,
    key_file: PathBuf,
    names: Vec<String>,
    dns_names: Vec<String>,
    ip_addresses: Vec<IpAddr>,
    verdict: Verdict,
    sound: bool,
    not_before: SystemTime,
    not_after: SystemTime,
    sha256: String,
    key_type: String,
    staple: Option<Staple>,
}

impl AuditedChain {
    /// The leaf, its issuers in the order of the path, and any alternates; without the root. With the key.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The certificates as they are sent.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The chain file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The key file.
    #[must_use]
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// The leaf's names and addresses, as text; for [`names::covers`].
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The leaf's DNS names.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The leaf's addresses.
    #[must_use]
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.ip_addresses
    }

    /// The worst of what counts; never `deny`.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether clients accept it: its verdict is better than `error`, and it was within its validity when it was judged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// When the last certificate of the path becomes valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the first certificate of the path ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether the whole path is valid at this moment.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after + std::time::Duration::from_secs(1)
    }

    /// The leaf's SHA-256 fingerprint, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The status to hand out with it, while it is fresh.
    #[must_use]
    pub fn staple(&self) -> Option<&Staple> {
        self.staple.as_ref()
    }

    /// The leaf's kind of key, such as "ECDSA P-256".
    #[must_use]
    pub fn key_type(&self) -> &str {
        &self.key_type
    }
}

/// Audits one chain.
#[must_use]
pub fn audit(material: &Material, subject: &Subject<'_>, policy: &Policy) -> Audited {
    let loaded = Loaded::new(material);
    let uncovered = uncovered(std::slice::from_ref(&loaded), subject);
    judge(loaded, subject, policy, &uncovered)
}

/// Audits every chain of an endpoint. A name that the endpoint must serve need be covered by one of them only.
#[must_use]
pub fn audit_all(materials: &[Material], subject: &Subject<'_>, policy: &Policy) -> Vec<Audited> {
    let loaded: Vec<Loaded<'_>> = in_order(materials, Loaded::new).collect();
    let uncovered = uncovered(&loaded, subject);
    in_order(&loaded, |loaded| judge(loaded.clone(), subject, policy, &uncovered)).collect()
}

/// Whether the chain's private key is that of one of its certificates.
pub(super) fn key_belongs(material: &Material) -> bool {
    !key::load(material).matching.is_empty()
}

/// The certificates as they are shown: the leaf, its issuers in the order of the path, and any alternates; without the
/// root. Nothing is judged.
pub(super) fn in_order_of_path(material: &Material, now: SystemTime) -> Vec<CertificateDer<'static>> {
    let certificates = &material.certificates;
    let path = Loaded::new(material).leaf.map(|leaf| path::find(certificates, leaf, now.into()));
    let shown = path.iter().flat_map(|path| path.served().iter().chain(&path.alternates));
    shown.map(|index| certificates[*index].der.clone()).collect()
}

/// The certificate that speaks for the server.
pub(super) fn leaf_of(material: &Material) -> Option<&Certificate> {
    material.certificates.get(Loaded::new(material).leaf?)
}

/// A chain with its private key ready for use, and its leaf found.
#[derive(Clone)]
struct Loaded<'a> {
    material: &'a Material,
    signing: key::Signing,
    /// `None` where no certificate could be read.
    leaf: Option<usize>,
}

impl<'a> Loaded<'a> {
    fn new(material: &'a Material) -> Self {
        let signing = key::load(material);
        let some = !material.certificates.is_empty();
        let leaf = some.then(|| path::leaf(&material.certificates, &signing.matching));
        Self { material, signing, leaf }
    }
}

/// The names that no chain's leaf covers.
fn uncovered<'a>(loaded: &[Loaded<'_>], subject: &Subject<'a>) -> Vec<&'a str> {
    if subject.server_names.is_empty() {
        return Vec::new();
    }
    let leaves = loaded.iter().filter_map(|chain| chain.material.certificates.get(chain.leaf?));
    let names: Vec<String> = leaves.flat_map(Certificate::names).collect();
    subject.server_names.iter().map(String::as_str).filter(|name| !names::covers(&names, name)).collect()
}

/// One chain as the rules see it.
struct View<'a> {
    material: &'a Material,
    certificates: &'a [Certificate],
    path: path::Path,
    subject: &'a Subject<'a>,
    /// Names that the endpoint must serve and none of its chains covers.
    uncovered: &'a [&'a str],
    now: OffsetDateTime,
    policy: &'a Policy,
}

impl View<'_> {
    fn at(&self, index: usize) -> &Certificate {
        &self.certificates[index]
    }

    fn leaf(&self) -> &Certificate {
        self.at(self.path.members[0])
    }

    /// The path: the leaf, its issuer, and so on.
    fn members(&self) -> impl Iterator<Item = &Certificate> {
        self.path.members.iter().map(|index| self.at(*index))
    }

    /// The path without its root.
    fn served(&self) -> impl Iterator<Item = &Certificate> {
        self.path.served().iter().map(|index| self.at(*index))
    }

    fn expiry_warning(&self, lifetime: Duration) -> Duration {
        self.policy.expiry_warning(lifetime)
    }
}

/// What the rules found, before it is weighed.
#[derive(Default)]
struct Found(Vec<Raw>);

struct Raw {
    rule: RuleId,
    file: Option<PathBuf>,
    position: Option<usize>,
    sha256: Option<String>,
    seen: String,
    fix: Option<String>,
    level: Option<Level>,
}

impl Found {
    fn push(&mut self, rule: RuleId, certificate: Option<&Certificate>, seen: String) -> &mut Raw {
        let position = certificate.map(|certificate| certificate.position);
        let sha256 = certificate.map(|certificate| certificate.sha256.clone());
        let at = self.0.len();
        self.0.push(Raw { rule, file: None, position, sha256, seen, fix: None, level: None });
        &mut self.0[at]
    }

    /// Reports a certificate.
    fn at(&mut self, rule: RuleId, certificate: &Certificate, seen: String) {
        self.push(rule, Some(certificate), seen);
    }

    /// Reports a certificate at a level that is not the rule's usual one.
    fn raised(&mut self, rule: RuleId, level: Level, certificate: &Certificate, seen: String) {
        self.push(rule, Some(certificate), seen).level = Some(level);
    }

    /// Reports a certificate, with a remedy that is not the rule's usual one.
    fn with_fix(&mut self, rule: RuleId, certificate: &Certificate, seen: String, fix: String) {
        self.push(rule, Some(certificate), seen).fix = Some(fix);
    }

    /// Reports the file.
    fn file(&mut self, rule: RuleId, seen: String) {
        self.push(rule, None, seen);
    }

    /// Reports the file at a level that is not the rule's usual one.
    fn file_raised(&mut self, rule: RuleId, level: Level, seen: String) {
        self.push(rule, None, seen).level = Some(level);
    }
}

fn judge(loaded: Loaded<'_>, subject: &Subject<'_>, policy: &Policy, uncovered: &[&str]) -> Audited {
    let now = OffsetDateTime::from(subject.now);
    let Loaded { material, signing, leaf } = loaded;
    let mut found = Found(material.faults.iter().map(Raw::from).collect());
    let mut stapled = None;
    let view = leaf.map(|leaf| {
        let path = path::find(&material.certificates, leaf, now);
        View { material, certificates: &material.certificates, path, subject, uncovered, now, policy }
    });
    if let Some(view) = &view {
        key::check_pair(view, &signing, &mut found);
        signature::check(view, &mut found);
        key::check(view, &mut found);
        validity::check(view, &mut found);
        chain::check(view, &mut found);
        usage::check(view, &mut found);
        names::check(view, &mut found);
        stapled = staple::check(view, &mut found);
    }
    let findings = weigh(material, subject, policy, found, now);
    let report = ChainReport {
        role: None,
        file: material.file.display().to_string(),
        key: material.key_file.as_ref().map(|file| file.display().to_string()),
        endpoint: subject.endpoint.clone(),
        verdict: Verdict::of(&findings),
        certificates: material.certificates.iter().map(Into::into).collect(),
        findings,
        remote: material.stapled.is_some(),
        leaf: view.as_ref().map(|view| view.leaf().position),
    };
    let out_of_time = view.as_ref().is_some_and(|view| {
        let valid = |certificate: &Certificate| certificate.is_valid_at(now) && certificate.is_valid_at(now + ENDING);
        !view.members().all(valid)
    });
    let sound = !out_of_time && report.verdict.0 < Some(Level::Error);
    let servable =
        view.as_ref().and_then(|view| issuance::issue(view, signing.key, report.verdict, sound, stapled.clone()));
    let names = view.map(|view| view.leaf().names()).unwrap_or_default().into();
    let mut span = Span::of(&material.certificates, policy, now);
    if let Some(staple) = stapled {
        span = span.ending_at(staple.since).ending_at(staple.until);
    }
    Audited { report: Arc::new(report), servable, names, out_of_time, span }
}

impl From<&crate::tls::chain::Fault> for Raw {
    fn from(fault: &crate::tls::chain::Fault) -> Self {
        Self {
            rule: fault.rule,
            file: Some(fault.file.clone()),
            position: fault.position,
            sha256: fault.sha256.clone(),
            seen: fault.seen.clone(),
            fix: fault.fix.clone(),
            level: None,
        }
    }
}

/// Gives each finding its level and its waiver; the worst come first.
fn weigh(
    material: &Material,
    subject: &Subject<'_>,
    policy: &Policy,
    found: Found,
    now: OffsetDateTime,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for raw in found.0 {
        let Some(level) = policy.level(raw.rule, raw.level, subject.profile) else { continue };
        let mut waiver = None;
        match policy.waived(raw.rule, raw.sha256.as_deref(), now) {
            Waived::No => {}
            Waived::Until(day, reason) => waiver = Some((day, reason)),
            Waived::Passed(day, reason) => {
                let seen = format!("its waiver for {} passed on {day} ({reason})", raw.rule.rule().id);
                let expired =
                    Raw { rule: RuleId::WaiverExpired, seen, fix: None, level: None, file: None, ..raw.again() };
                if let Some(level) = policy.level(expired.rule, None, subject.profile) {
                    findings.push(finding(material, subject, expired, level, None));
                }
            }
        }
        findings.push(finding(material, subject, raw, level, waiver));
    }
    findings.sort_by_key(|finding| (!finding.counts(), std::cmp::Reverse(finding.level)));
    findings
}

impl Raw {
    /// The same place, for another finding.
    fn again(&self) -> Self {
        Self {
            rule: self.rule,
            file: self.file.clone(),
            position: self.position,
            sha256: self.sha256.clone(),
            seen: String::new(),
            fix: None,
            level: None,
        }
    }
}

fn finding(
    material: &Material,
    subject: &Subject<'_>,
    raw: Raw,
    level: Level,
    waiver: Option<(String, String)>,
) -> Finding {
    let rule = raw.rule.rule();
    let (waived_until, waiver) = waiver.unzip();
    let line = raw.position.and_then(|position| material.lines.get(position.checked_sub(1)?).copied());
    let certificate = material
        .certificates
        .iter()
        .find(|certificate| raw.sha256.is_some() && Some(certificate.position) == raw.position);
    Finding {
        rule: rule.id,
        level,
        file: raw.file.as_ref().unwrap_or(&material.file).display().to_string(),
        position: raw.position,
        subject: certificate.map(|certificate| certificate.subject.clone()),
        sha256: raw.sha256,
        seen: raw.seen,
        why: format!("{} ({})", rule.why, rule.source),
        fix: raw.fix.unwrap_or_else(|| rule.fix.to_owned()),
        waived_until,
        endpoint: subject.endpoint.clone(),
        serial: certificate.map(|certificate| certificate.serial.clone()),
        of: material.begun,
        line,
        waiver,
    }
}
