//! The trust side: the authorities that vouch for clients and for upstream servers, clients' revocation lists, and the
//! chains that the gateway itself shows to upstreams.
//!
//! `plan` asks, beside an endpoint's own chains; the findings weigh and are shown like theirs. A finding here refuses
//! nothing by itself: what a file of trust must be to be used at all, its readers check. `authority` and `list` hold the
//! rules.

mod authority;
mod list;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::finding::{ChainReport, Verdict};
use super::policy::Policy;
use super::rules::RuleId;
use super::{Found, Raw, Span, Subject, audit, leaf_of, weigh};
use crate::tls::chain::{self, Material};

/// What a file is for, where it is not a server's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Authorities that vouch for clients.
    ClientCa,
    /// Lists of clients' certificates that were revoked.
    Crl,
    /// Authorities that vouch for upstream servers.
    UpstreamCa,
    /// The chain that the gateway shows to upstream servers.
    UpstreamChain,
}

/// What the audit says of files of trust.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// A report for each file.
    pub reports: Vec<Arc<ChainReport>>,
    /// For how long they hold.
    pub span: Span,
}

impl Trust {
    fn add(&mut self, report: ChainReport, span: Span) {
        self.span = self.span.and(span);
        // The same file may be named for several of an endpoint's names.
        if !self.reports.iter().any(|known| known.file == report.file && known.role == report.role) {
            self.reports.push(Arc::new(report));
        }
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.span = self.span.and(other.span);
        for report in other.reports {
            if !self.reports.iter().any(|known| known.file == report.file && known.role == report.role) {
                self.reports.push(report);
            }
        }
        self
    }
}

/// Audits what vouches for clients. What cannot be read at all is an error of the configuration, and not reported here.
#[must_use]
pub fn of_clients(ca: &Path, crls: &[PathBuf], subject: &Subject<'_>, policy: &Policy) -> Trust {
    let now = OffsetDateTime::from(subject.now);
    let authorities = chain::read_roots(ca);
    let lists: Vec<(Material, Vec<list::List>)> = crls.iter().map(|file| list::read(file)).collect();
    let mut trust = Trust { span: Span::endless(subject.now), ..Trust::default() };
    let mut found = Found::default();
    authority::check(&authorities, Role::ClientCa, policy, now, &mut found);
    if !crls.is_empty() {
        authority::check_lists(&authorities, lists.iter().flat_map(|(_, lists)| lists), &mut found);
    }
    trust.add(
        report(&authorities, Role::ClientCa, found, subject, policy),
        Span::of(&authorities.certificates, policy, now),
    );
    for (material, lists) in &lists {
        let mut found = Found::default();
        lists.iter().for_each(|list| list.check(&authorities.certificates, policy, now, &mut found));
        let span = lists.iter().map(|list| list.span(subject.now, policy)).fold(Span::endless(subject.now), Span::and);
        trust.add(report(material, Role::Crl, found, subject, policy), span);
    }
    trust
}

/// Audits what vouches for an upstream's servers, and the gateway's own chain and key there.
#[must_use]
pub fn of_upstream(ca: &Path, own: Option<(&Path, &Path)>, subject: &Subject<'_>, policy: &Policy) -> Trust {
    let now = OffsetDateTime::from(subject.now);
    let authorities = chain::read_roots(ca);
    let mut trust = Trust { span: Span::endless(subject.now), ..Trust::default() };
    let mut found = Found::default();
    authority::check(&authorities, Role::UpstreamCa, policy, now, &mut found);
    trust.add(
        report(&authorities, Role::UpstreamCa, found, subject, policy),
        Span::of(&authorities.certificates, policy, now),
    );
    if let Some((chain, key)) = own {
        let mut material = chain::read(chain, Some(key));
        let usage = leaf_of(&material).and_then(|leaf| leaf.extensions.extended_key_usage);
        if usage.is_some_and(|usage| !usage.client_auth && !usage.any) {
            material.note(RuleId::EkuNoClient, "its leaf's extended key usages do not include clientAuth".into());
        }
        let audited = audit(&material, subject, policy);
        let mut report = Arc::unwrap_or_clone(audited.report);
        report.findings.retain(|finding| !SERVERS_ALONE.contains(&finding.rule));
        report.verdict = Verdict::of(&report.findings);
        report.role = Some(Role::UpstreamChain);
        trust.add(report, audited.span);
    }
    trust
}

/// Rules that ask of a chain what only a server's needs. An upstream trusts the issuer that it was given, whole path or
/// not.
const SERVERS_ALONE: &[&str] = &[
    "chain-incomplete",
    "self-signed-leaf",
    "san-missing",
    "san-mismatch",
    "san-suspicious",
    "eku-no-server",
    "validity-too-long",
    "public-web",
];

fn report(material: &Material, role: Role, mut found: Found, subject: &Subject<'_>, policy: &Policy) -> ChainReport {
    found.0.splice(0..0, material.faults.iter().map(Raw::from));
    let findings = weigh(material, subject, policy, found, subject.now.into());
    ChainReport {
        role: Some(role),
        file: material.file.display().to_string(),
        key: None,
        endpoint: subject.endpoint.clone(),
        verdict: Verdict::of(&findings),
        certificates: material.certificates.iter().map(Into::into).collect(),
        findings,
        remote: false,
        leaf: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::{Path, PathBuf};

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
    };
    use time::{Duration, OffsetDateTime};

    use super::{Role, Trust, of_clients, of_upstream};
    use crate::identity::Class;
    use crate::tls::audit::Subject;
    use crate::tls::audit::policy::Policy;
    use crate::tls::audit::tests::certs;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_795_219_200).unwrap() // 2026-11-21
    }

    fn subject() -> Subject<'static> {
        Subject { profile: Class::Public, endpoint: None, server_names: &[], listen_ips: &[], now: now().into() }
    }

    /// An authority that ends so many days from now.
    fn authority(name: &str, days: i64, change: impl Fn(&mut CertificateParams)) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now() - Duration::days(100);
        params.not_after = now() + Duration::days(days);
        change(&mut params);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A list that was issued so many days ago and is to be renewed so many days from now.
    fn list(issuer: &Issuer<'_, KeyPair>, since: i64, next: i64) -> String {
        let params = CertificateRevocationListParams {
            this_update: now() - Duration::days(since),
            next_update: now() + Duration::days(next),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().pem().unwrap()
    }

    /// What is found of authorities and their lists, as "rule level".
    fn found(name: &str, ca: &str, lists: &[String]) -> Vec<String> {
        let folder = std::env::temp_dir().join(format!("portcullis-trust-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.pem"), ca).unwrap();
        let paths: Vec<PathBuf> = (0..lists.len()).map(|number| folder.join(format!("{number}.crl"))).collect();
        paths.iter().zip(lists).for_each(|(path, list)| std::fs::write(path, list).unwrap());
        let trust = of_clients(&folder.join("ca.pem"), &paths, &subject(), &Policy::default());
        std::fs::remove_dir_all(&folder).unwrap();
        flat(&trust)
    }

    fn flat(trust: &Trust) -> Vec<String> {
        let findings = trust.reports.iter().flat_map(|report| &report.findings);
        findings.map(|finding| format!("{} {}", finding.rule, finding.level)).collect()
    }

    #[test]
    fn authorities_are_told_for_their_dates_and_usages() {
        let nothing = |_: &mut CertificateParams| {};
        for (name, days, change, expected) in [
            ("fit", 1000, &nothing as &dyn Fn(&mut CertificateParams), &[][..]),
            ("ended", -1, &nothing, &["client-ca-expired error"]),
            ("ending", 20, &nothing, &["client-ca-expiring-soon warn"]),
            ("early", 1000, &|ca| ca.not_before = now() + Duration::DAY, &["client-ca-not-yet-valid warn"]),
            ("leaf", 1000, &|ca| ca.is_ca = IsCa::ExplicitNoCa, &["client-ca-not-ca warn"]),
            ("usage", 1000, &|ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign], &["client-ca-not-ca warn"]),
        ] {
            assert_eq!(found(name, &authority(name, days, change).pem(), &[]), expected, "{name}");
        }
        let small = std::fs::read_to_string(certs("ca-rsa1024.pem")).unwrap();
        assert_eq!(found("small", &small, &[]), ["client-ca-weak error"]);
    }

    #[test]
    fn lists_are_told_for_their_freshness_and_their_signature() {
        let ca = authority("CA", 1000, |_| {});
        let other = authority("CA", 1000, |_| {});
        let stranger = authority("Stranger", 1000, |_| {});
        let cases: Vec<(&str, String, Vec<String>, &[&str])> = vec![
            ("fresh", ca.pem(), vec![list(&ca, 10, 20)], &[]),
            ("stale", ca.pem(), vec![list(&ca, 10, -1)], &["crl-expired error"]),
            ("aging", ca.pem(), vec![list(&ca, 10, 2)], &["crl-expiring-soon warn"]),
            ("daily", ca.pem(), vec![list(&ca, 0, 1)], &[]),
            ("future", ca.pem(), vec![list(&ca, -1, 30)], &["crl-not-yet-valid warn"]),
            ("other-key", ca.pem(), vec![list(&other, 10, 20)], &["crl-signature-invalid error"]),
            ("stranger", ca.pem(), vec![list(&stranger, 10, 20)], &["crl-missing error", "crl-issuer-unknown warn"]),
            ("two", ca.pem() + &stranger.pem(), vec![list(&ca, 10, 20)], &["crl-missing error"]),
            ("both", ca.pem() + &stranger.pem(), vec![list(&ca, 10, 20), list(&stranger, 10, 20)], &[]),
        ];
        for (name, ca, lists, expected) in cases {
            assert_eq!(found(name, &ca, &lists), expected, "{name}");
        }
    }

    #[test]
    fn the_gateways_own_chain_for_upstreams_is_held_against_what_clients_need() {
        let judged = |name: &str| {
            let [chain, key] = ["pem", "key"].map(|kind| certs(&format!("{name}.{kind}")));
            let trust = of_upstream(&certs("ca.pem"), Some((&chain, &key)), &subject(), &Policy::default());
            assert_eq!(trust.reports[1].role, Some(Role::UpstreamChain));
            flat(&trust)
        };
        assert_eq!(judged("client"), [""; 0]);
        assert_eq!(judged("expired"), ["eku-no-client error", "expired error"]);
        let nothing = of_upstream(&certs("ca.pem"), None, &subject(), &Policy::default());
        assert_eq!((nothing.reports.len(), Path::new(&nothing.reports[0].file)), (1, certs("ca.pem").as_path()));
    }

    #[test]
    fn what_is_found_holds_until_the_first_date_that_changes_it() {
        let (ca, crl) = (certs("clients-ca.pem"), certs("clients.crl"));
        let next_year = (now() + Duration::days(365)).into();
        let trust = of_clients(&ca, &[crl], &Subject { now: next_year, ..subject() }, &Policy::default());
        assert_eq!(flat(&trust), [""; 0]);
        assert!(trust.span.holds_at(next_year) && trust.span.until.is_some());
        let twice = trust.clone().and(trust.clone());
        assert_eq!(twice.reports.len(), trust.reports.len(), "a file that is named twice is reported once");
    }
}
