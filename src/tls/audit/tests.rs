//! Every rule, triggered by a certificate or a file that breaks it, and nothing else found beside it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::policy::Policy;
use super::rules::RULES;
use super::{Audited, Subject, audit, audit_all};
use crate::config::{AuditConfig, RuleLevel, WaiverConfig};
use crate::identity::{Class, EndpointName};
use crate::tls::chain::{self, Material};

pub(in crate::tls) fn certs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certs").join(name)
}

/// 2026-11-21, in seconds since 1970.
const TODAY: u64 = 1_795_219_200;
const DAY: u64 = 24 * 60 * 60;

pub(super) fn subject(profile: Class) -> Subject<'static> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(TODAY);
    Subject { profile, endpoint: None, server_names: &[], listen_ips: &[], now }
}

pub(super) fn material(name: &str) -> Material {
    let key = certs(&format!("{name}.key"));
    chain::read(&certs(&format!("{name}.pem")), key.exists().then_some(key.as_path()))
}

/// The chains of an internal endpoint, audited.
pub(super) fn endpoint(chains: &[&str], server_names: &[String]) -> Vec<Audited> {
    let materials: Vec<Material> = chains.iter().map(|name| material(name)).collect();
    let subject = Subject { endpoint: EndpointName::new("test").ok(), server_names, ..subject(Class::Internal) };
    audit_all(&materials, &subject, &Policy::default())
}

fn internal(material: &Material) -> Audited {
    audit(material, &subject(Class::Internal), &Policy::default())
}

/// What was found as "rule@position level"; the long life of test certificates is left out.
pub(super) fn found(audited: &Audited) -> Vec<String> {
    let place = |position: Option<usize>| position.map_or_else(|| "file".to_owned(), |position| position.to_string());
    let findings = audited.report.findings.iter().filter(|finding| finding.rule != "validity-too-long");
    findings.map(|finding| format!("{}@{} {}", finding.rule, place(finding.position), finding.level)).collect()
}

fn assert_found(audited: &Audited, expected: &[&str]) {
    assert_eq!(found(audited), expected, "{}", audited.report.file);
}

/// Chains with their own keys, and what is found in the internal profile.
const CHAINS: &[(&str, &[&str])] = &[
    ("localhost", &[]),
    ("localhost-rsa", &[]),
    ("wildcard", &[]),
    ("pss", &[]),
    ("md5", &["sig-md5@1 deny"]),
    ("md5-intermediate", &["sig-md5@2 deny"]),
    ("md5-root", &["anchor-weak-sig@3 info", "chain-extra@3 info"]),
    ("self-signed-md5", &["self-signed-leaf@1 warn", "anchor-weak-sig@1 info"]),
    ("sha1", &["sig-sha1@1 warn"]),
    ("sha1-ecdsa", &["sig-sha1@1 warn"]),
    ("sha1-intermediate", &["sig-sha1@2 warn"]),
    ("sha1-pss", &["sig-sha1@1 warn"]),
    ("sha224", &["sig-unknown@1 error"]),
    ("sha3", &["sig-unknown@1 error"]),
    ("pss-salt", &["sig-unknown@1 error"]),
    ("pss-mask", &["sig-unknown@1 error", "sig-sha1@1 warn"]),
    ("sig-invalid", &["sig-invalid@1 error"]),
    ("rsa1024", &["key-unsupported@1 deny", "key-rsa-small@1 error"]),
    ("rsa1024-intermediate", &["key-rsa-small@2 error"]),
    ("rsa-e3", &["key-rsa-odd@1 warn"]),
    ("key-p521", &["key-not-web@1 info"]),
    ("key-ed25519", &["key-not-web@1 info"]),
    ("key-ed448", &["key-unsupported@1 deny", "key-not-web@1 info"]),
    ("key-secp256k1", &["key-unsupported@1 deny"]),
    ("key-explicit", &["key-unsupported@1 deny"]),
    ("key-dsa", &["key-unsupported@1 deny"]),
    ("key-pss", &["key-unsupported@1 deny"]),
    ("expired", &["expired@1 error"]),
    ("not-yet", &["not-yet-valid@1 error"]),
    ("short-issuer", &["issuer-expires-first@2 info"]),
    ("unordered", &["chain-unordered@2 warn", "chain-extra@2 info"]),
    ("leaf-last", &["leaf-not-first@2 warn"]),
    ("incomplete", &["chain-incomplete@1 warn"]),
    ("extra", &["chain-extra@3 info", "chain-extra@4 info", "chain-extra@5 info"]),
    ("cross", &["chain-cross-signed@3 info"]),
    ("issuer-no-sign", &["issuer-invalid@2 error"]),
    ("issuer-names", &["issuer-invalid@2 error"]),
    ("issuer-clients", &["issuer-invalid@2 error"]),
    ("issuer-not-ca", &["issuer-invalid@2 error"]),
    ("issuer-path", &["issuer-invalid@3 error"]),
    ("no-san", &["san-missing@1 error"]),
    ("no-server", &["eku-no-server@1 error"]),
    ("no-signing", &["ku-no-signing@1 error"]),
    ("leaf-ca", &["leaf-is-ca@1 warn"]),
    ("critical", &["critical-unknown@1 deny"]),
    ("poison", &["critical-unknown@1 deny"]),
    ("must-staple", &["must-staple@1 info"]),
    ("bare-wildcard", &["san-suspicious@1 info"]),
    ("self-signed", &["self-signed-leaf@1 warn"]),
    ("version1", &["cert-unparseable@1 deny", "san-missing@1 error", "chain-incomplete@1 warn"]),
    // Files.
    ("glued", &["pem-malformed@2 deny"]),
    ("bom-chain", &["pem-malformed@1 deny"]),
    ("no-end", &["pem-malformed@2 deny", "chain-incomplete@1 warn"]),
    ("bom", &["pem-no-cert@file deny", "chain-incomplete@1 warn"]),
    ("trusted", &["pem-no-cert@file deny"]),
    ("old-label", &["pem-no-cert@file deny"]),
    ("with-key", &["chain-extra@file info"]),
    ("missing", &["file-unreadable@file deny"]),
];

#[test]
fn each_chain_has_its_one_fault_and_no_other() {
    for (name, expected) in CHAINS {
        assert_found(&internal(&material(name)), expected);
    }
}

#[test]
fn every_rule_has_a_chain_that_triggers_it() {
    let mut seen: BTreeSet<&str> =
        CHAINS.iter().flat_map(|(_, rules)| *rules).map(|r| r.split('@').next().unwrap()).collect();
    // These have tests of their own below.
    seen.extend(["key-unusable", "key-mismatch", "sig-alg-mismatch", "expiring-soon", "chain-too-large"]);
    seen.extend([
        "server-unreachable",
        "server-signature-invalid",
        "server-old-tls",
        "server-no-tls13",
        "chain-untrusted",
    ]);
    seen.extend(["cert-nonconforming", "issuer-key-unsupported", "issuer-name-mismatch", "eku-no-client"]);
    let of_trust = |id: &str| ["client-ca-", "upstream-ca-", "crl-"].iter().any(|start| id.starts_with(start));
    seen.extend(RULES.iter().map(|rule| rule.id).filter(|id| of_trust(id)));
    seen.extend(["san-mismatch", "waiver-expired", "validity-too-long", "public-web"]);
    seen.extend(["ocsp-revoked", "ocsp-stale", "ocsp-unusable"]);
    seen.extend(["pkcs12-password", "pkcs12-unreadable", "pkcs12-weak"]);
    let all: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(seen, all);
}

#[test]
fn only_what_nothing_denies_and_what_has_its_key_can_be_served() {
    for (name, expected) in CHAINS {
        let audited = internal(&material(name));
        let denied = expected.iter().any(|finding| finding.ends_with(" deny"));
        assert_eq!(audited.servable.is_some(), !denied && audited.report.key.is_some(), "{name}");
    }
}

#[test]
fn the_public_profile_denies_sha1_and_short_keys_and_asks_for_what_browsers_ask_for() {
    let public = |name: &str| found(&audit(&material(name), &subject(Class::Public), &Policy::default()));
    assert_eq!(public("www"), ["public-web@1 warn", "public-web@1 warn"]);
    assert_eq!(public("sha1")[0], "sig-sha1@1 deny");
    assert_eq!(public("rsa1024-intermediate")[0], "key-rsa-small@2 deny");
    assert_eq!(public("incomplete")[0], "chain-incomplete@1 error");
    assert_eq!(public("self-signed")[0], "self-signed-leaf@1 error");
    assert_eq!(public("leaf-ca")[0], "leaf-is-ca@1 error");
    let suspicious = public("localhost").iter().filter(|finding| finding.starts_with("san-suspicious@1 warn")).count();
    assert_eq!(suspicious, 4, "localhost, *.localhost and two loopback addresses");
}

#[test]
fn the_served_chain_is_leaf_to_last_intermediate_whatever_the_file_holds() {
    for (name, positions) in
        [("unordered", &[1, 4, 3][..]), ("leaf-last", &[2, 1]), ("extra", &[1, 2]), ("cross", &[1, 2, 3])]
    {
        let material = material(name);
        let served = internal(&material).servable.unwrap();
        let expected: Vec<_> =
            positions.iter().map(|position| material.certificates[position - 1].der.clone()).collect();
        assert_eq!(served.chain(), expected, "{name}");
        served.certified_key().keys_match().unwrap();
    }
}

#[test]
fn a_key_that_is_not_the_leafs_is_reported_with_the_certificate_that_it_is() {
    let pair = |chain: &str, key: &str| internal(&chain::read(&certs(chain), Some(&certs(key))));
    let none = pair("localhost.pem", "mismatch.key");
    assert_found(&none, &["key-mismatch@1 deny"]);
    assert!(none.report.findings[0].seen.contains("nor any other certificate's"), "{}", none.report.findings[0]);
    let issuers = pair("localhost.pem", "ca-issuing.key");
    assert_found(&issuers, &["key-mismatch@1 deny"]);
    assert!(issuers.report.findings[0].seen.contains("belongs to certificate 2"), "{}", issuers.report.findings[0]);
}

#[test]
fn an_unusable_key_is_reported_with_the_command_that_mends_it() {
    for (key, seen, fix) in [
        ("missing.key", "cannot be read", "correct the path"),
        ("encrypted.key", "is encrypted", "openssl pkey -in "),
        ("two.key", "holds 2 private keys", "keep the one key"),
        ("localhost-key.der", "in DER", "openssl pkey -inform DER -in "),
        ("localhost.p12", "PKCS#12", "openssl pkcs12 -nocerts -noenc -in "),
        ("localhost.pem", "holds a certificate", "may be swapped"),
        ("README.md", "holds no private key", "name a file"),
    ] {
        let audited = internal(&chain::read(&certs("localhost.pem"), Some(&certs(key))));
        assert_found(&audited, &["key-unusable@file deny"]);
        let finding = &audited.report.findings[0];
        assert!(finding.file.ends_with(key) && finding.seen.contains(seen) && finding.fix.contains(fix), "{finding}");
    }
}

#[test]
fn a_file_that_is_no_pem_is_named_for_what_it_is_with_the_command_that_converts_it() {
    for (file, seen, fix) in [
        ("localhost.der", "a certificate in DER", "openssl x509 -inform DER -in "),
        ("localhost.p7b", "labelled PKCS7", "openssl pkcs7 -print_certs -in "),
        ("localhost.p7b.der", "PKCS#7 bundle in DER", "openssl pkcs7 -inform DER -print_certs -in "),
        ("localhost.p12", "PKCS#12", "openssl pkcs12 -nokeys -in "),
        ("localhost.csr", "certificate request", "have the request signed"),
        ("localhost.key", "private key", "swapped"),
        ("localhost-key.der", "private key in DER", "swapped"),
        ("README.md", "no CERTIFICATE block", "name a PEM file"),
    ] {
        let audited = internal(&chain::read(&certs(file), None));
        assert_found(&audited, &["pem-no-cert@file deny"]);
        let finding = &audited.report.findings[0];
        assert!(finding.seen.contains(seen) && finding.fix.contains(fix), "{finding}");
    }
}

#[test]
fn what_is_no_file_is_reported_without_blocking() {
    let folder = std::env::temp_dir().join(format!("portcullis-audit-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(folder.join("loop"), folder.join("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
    fs::write(folder.join("large"), vec![b'a'; 2 * 1024 * 1024]).unwrap();
    fs::write(folder.join("empty"), b"\n").unwrap();
    let judged = |name: &str| internal(&chain::read(&folder.join(name), None));
    let (results, empty) = (["loop", "socket", "fifo", "large", "."].map(judged), judged("empty"));
    fs::remove_dir_all(&folder).unwrap();
    for (audited, seen) in
        results.iter().zip(["symbolic links", "is a socket", "is a FIFO", "larger than", "a directory"])
    {
        assert_found(audited, &["file-unreadable@file deny"]);
        assert!(audited.report.findings[0].seen.contains(seen), "{}", audited.report.findings[0]);
    }
    assert_found(&empty, &["pem-no-cert@file deny"]);
}

/// The certificate at a position with some bytes of its DER exchanged, alone in a file and without its key.
fn surgery(name: &str, from: &[u8], to: &[u8], last: bool) -> Audited {
    let mut der = material(name).certificates[0].der.to_vec();
    let places: Vec<usize> =
        der.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    let at = if last { places.last() } else { places.first() };
    der.splice(at.unwrap()..&(at.unwrap() + from.len()), to.iter().copied());
    let pem = pem_of(&der);
    internal(&Material::from_pem(Path::new("odd.pem"), pem.as_bytes(), None))
}

pub(super) fn pem_of(der: &[u8]) -> String {
    use std::fmt::Write as _;
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk.iter().chain([0; 2].iter()).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 0x3f;
            text.push(if digit <= chunk.len() { DIGITS[index as usize] as char } else { '=' });
        }
    }
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// sha256WithRSAEncryption, as an object identifier.
const SHA256_RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];

#[test]
fn an_algorithm_that_differs_inside_and_outside_is_denied() {
    let sha384 = [&SHA256_RSA[..10], &[0x0c]].concat();
    let audited = surgery("localhost-rsa", SHA256_RSA, &sha384, true);
    assert_found(&audited, &["sig-alg-mismatch@1 deny", "chain-incomplete@1 warn"]);
}

#[test]
fn an_rsa_exponent_of_one_or_an_even_one_is_denied_where_a_small_one_is_warned_of() {
    for exponent in [1, 2] {
        let audited = surgery("rsa-e3", &[0x02, 0x01, 0x03, 0xa3], &[0x02, 0x01, exponent, 0xa3], false);
        assert_found(&audited, &["key-rsa-odd@1 deny", "chain-incomplete@1 warn"]);
    }
}

#[test]
fn bytes_behind_a_certificate_and_a_repeated_extension_make_it_unreadable() {
    let mut der = material("localhost").certificates[0].der.to_vec();
    der.push(0);
    let audited = internal(&Material::from_pem(Path::new("odd.pem"), pem_of(&der).as_bytes(), None));
    assert_found(&audited, &["cert-unparseable@1 deny", "chain-incomplete@1 warn"]);
    // The subject key identifier becomes a second basicConstraints, and an unreadable one.
    let audited = surgery("localhost", &[0x06, 0x03, 0x55, 0x1d, 0x0e], &[0x06, 0x03, 0x55, 0x1d, 0x13], false);
    assert!(found(&audited).contains(&"cert-unparseable@1 deny".to_owned()), "{:?}", found(&audited));
}

#[test]
fn a_block_that_is_no_certificate_is_reported_and_the_others_are_still_looked_at() {
    let good = fs::read_to_string(certs("md5.pem")).unwrap();
    let pem = format!("{good}-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let audited = internal(&Material::from_pem(Path::new("odd.pem"), pem.as_bytes(), None));
    assert_found(&audited, &["cert-unparseable@3 deny", "sig-md5@1 deny"]);
    let pem = format!("{good}-----BEGIN CERTIFICATE-----\nM*A=\n-----END CERTIFICATE-----\n");
    let audited = internal(&Material::from_pem(Path::new("odd.pem"), pem.as_bytes(), None));
    assert_found(&audited, &["pem-malformed@3 deny", "sig-md5@1 deny"]);
}

#[test]
fn a_certificate_is_warned_of_before_it_ends_and_at_its_last_second_still_valid() {
    let material = material("www-expired"); // 2020-01-01 to 2020-04-01
    let at = |seconds: u64| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        found(&audit(&material, &Subject { now, ..subject(Class::Internal) }, &Policy::default()))
    };
    let end = 1_585_699_200;
    // The intermediate, from 2025, is not yet valid in 2020: look at the leaf alone.
    let leaf = |seconds| at(seconds).into_iter().filter(|finding| finding.contains("@1 ")).collect::<Vec<_>>();
    assert_eq!(leaf(end - 31 * DAY), [""; 0]);
    assert_eq!(leaf(end - 29 * DAY), ["expiring-soon@1 warn"]);
    assert_eq!(leaf(end), ["expiring-soon@1 warn"]);
    assert_eq!(leaf(end + 1), ["expired@1 error"]);
}

#[test]
fn a_leaf_may_last_as_long_as_the_day_of_its_issue_allows() {
    let key = rcgen::KeyPair::generate().unwrap();
    let long = |profile, (year, month, day), seconds: i64| {
        let mut params = rcgen::CertificateParams::new(["www.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(year, month, day);
        params.not_after = params.not_before + time::Duration::seconds(seconds - 1);
        let pem = params.self_signed(&key).unwrap().pem();
        let audited = audit(
            &Material::from_pem(Path::new("made.pem"), pem.as_bytes(), None),
            &subject(profile),
            &Policy::default(),
        );
        audited.report.findings.iter().any(|finding| finding.rule == "validity-too-long")
    };
    let day = 24 * 60 * 60;
    for (issued, days) in [((2026, 3, 14), 398), ((2026, 3, 15), 200), ((2027, 3, 15), 100), ((2029, 3, 15), 47)] {
        assert!(!long(Class::Public, issued, days * day), "{issued:?}");
        assert!(long(Class::Public, issued, days * day + 1), "{issued:?}");
    }
    assert!(!long(Class::Internal, (2026, 3, 15), 825 * day));
    assert!(long(Class::Internal, (2026, 3, 15), 826 * day));
}

#[test]
fn a_server_name_that_no_chain_covers_is_a_mismatch_of_each() {
    let (local, www) = (material("localhost"), material("www"));
    let names = ["localhost".to_owned(), "www.example.com".to_owned()];
    let subject = Subject { server_names: &names, ..subject(Class::Internal) };
    let both = audit_all(&[material("localhost"), material("www")], &subject, &Policy::default());
    assert_found(&both[0], &[]);
    assert_found(&both[1], &[]);
    assert_found(&audit(&local, &subject, &Policy::default()), &["san-mismatch@1 error"]);
    let finding = audit(&www, &subject, &Policy::default()).report.findings[0].clone();
    assert!(finding.seen.contains("does not cover localhost;"), "{finding}");
}

#[test]
fn a_chain_that_covers_none_of_the_server_names_is_a_mismatch() {
    let names = ["www.example.com".to_owned()];
    let subject = Subject { server_names: &names, ..subject(Class::Internal) };
    let both = audit_all(&[material("localhost"), material("www")], &subject, &Policy::default());
    assert_found(&both[0], &["san-mismatch@1 error"]);
    assert_found(&both[1], &[]);
}

#[test]
fn a_certificate_for_addresses_alone_must_name_the_address_that_is_listened_on() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["192.168.7.1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let pem = params.self_signed(&key).unwrap().pem();
    let material = Material::from_pem(Path::new("made.pem"), pem.as_bytes(), None);
    let listening = |ip: &str| {
        let ips: [IpAddr; 1] = [ip.parse().unwrap()];
        let subject = Subject { listen_ips: &ips, ..subject(Class::Internal) };
        found(&audit(&material, &subject, &Policy::default())).contains(&"san-mismatch@1 error".to_owned())
    };
    assert!(listening("192.168.7.2"));
    assert!(!listening("192.168.7.1") && !listening("0.0.0.0"));
}

#[test]
fn a_large_chain_is_warned_of_and_a_huge_one_denied() {
    let one = fs::read_to_string(certs("localhost.pem")).unwrap();
    let large = internal(&Material::from_pem(Path::new("made.pem"), one.repeat(6).as_bytes(), None));
    assert!(found(&large).contains(&"chain-too-large@file warn".to_owned()), "{:?}", found(&large));
    let huge = internal(&Material::from_pem(Path::new("made.pem"), one.repeat(80).as_bytes(), None));
    assert!(found(&huge).contains(&"chain-too-large@file deny".to_owned()), "{:?}", found(&huge));
    assert!(huge.report.findings.len() < 40, "the findings about a hostile file are bounded");
}

fn policy(rules: &[(&str, RuleLevel)], waiver: Option<(&str, &str, &str)>) -> Policy {
    let mut config = AuditConfig::default();
    config.rules.extend(rules.iter().map(|(id, level)| ((*id).to_owned(), *level)));
    config.waivers.extend(waiver.map(|(rule, print, until)| WaiverConfig {
        rule: rule.into(),
        certificate: format!("sha256:{print}"),
        until: until.into(),
        reason: "replaced in December".into(),
    }));
    Policy::new(&config).unwrap()
}

#[test]
fn a_waived_finding_is_shown_and_does_not_count() {
    let material = material("md5");
    let print = &material.certificates[0].sha256;
    let policy = policy(&[("validity-too-long", RuleLevel::Off)], Some(("sig-md5", print, "2026-11-21")));
    let audited = audit(&material, &subject(Class::Internal), &policy);
    assert_eq!(audited.report.verdict.as_str(), "ok");
    assert_eq!(audited.report.findings[0].waived_until.as_deref(), Some("2026-11-21"));
    assert!(audited.servable.is_some());
}

#[test]
fn a_waiver_that_has_passed_no_longer_counts_and_is_reported() {
    let material = material("md5");
    let print = &material.certificates[0].sha256;
    let policy = policy(&[], Some(("sig-md5", print, "2026-11-20")));
    let audited = audit(&material, &subject(Class::Internal), &policy);
    assert_found(&audited, &["sig-md5@1 deny", "waiver-expired@1 info"]);
    assert!(audited.servable.is_none());
}

#[test]
fn an_override_silences_a_rule_or_changes_its_level() {
    let rules = [("sig-sha1", RuleLevel::Error), ("validity-too-long", RuleLevel::Off)];
    let audited = audit(&material("sha1"), &subject(Class::Internal), &policy(&rules, None));
    assert_found(&audited, &["sig-sha1@1 error"]);
    assert_eq!(audited.report.findings.len(), 1);
}

#[test]
fn a_finding_reads_as_one_sentence_with_place_rule_and_remedy() {
    let audited = internal(&material("md5"));
    let mut finding = audited.report.findings[0].clone();
    finding.file = "certs/site.pem".into();
    let line = "certs/site.pem, certificate 1 of 2 (CN=localhost): signed with MD5 (md5WithRSAEncryption) \
                (rule sig-md5); ask the CA to reissue it with SHA-256";
    assert_eq!(finding.to_string(), line);
    finding.endpoint = EndpointName::new("internet").ok();
    assert_eq!(finding.to_string(), format!("endpoint \"internet\": {line}"));
}

#[test]
fn the_json_has_the_shape_of_the_contract() {
    let audited = internal(&material("md5"));
    let report =
        super::report::Report { profile: Some(Class::Internal), servers: Vec::new(), chains: vec![&audited.report] };
    let json = serde_json::to_value(&report).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |words: &str| words.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(keys(&json), set("profile chains"));
    assert_eq!(keys(&json["chains"][0]), set("file key endpoint verdict certificates findings"));
    let certificate = &json["chains"][0]["certificates"][0];
    let words = "position subject issuer serial sha256 signature_algorithm key not_before not_after names";
    assert_eq!(keys(certificate), set(words));
    assert_eq!(certificate["not_after"], "9999-12-31T23:59:59Z");
    let words = "rule level file position subject sha256 seen why fix waived_until";
    assert_eq!(keys(&json["chains"][0]["findings"][0]), set(words));
    assert_eq!(json["profile"], "internal");
    assert_eq!(json["chains"][0]["verdict"], "deny");
}

#[test]
fn the_private_key_does_not_show_in_debug_output() {
    let text = format!("{:?}", material("localhost").key);
    assert!(text.contains("elided"), "{text}");
}

#[test]
fn a_folder_is_audited_by_its_chains_and_a_key_goes_to_the_chain_that_it_belongs_to() {
    let mut places = crate::tls::collect::list(&[certs("")]);
    crate::tls::collect::give_key(&mut places, &certs("www.key"));
    let found: Vec<Material> = places.iter().filter_map(|place| place.read(None)).collect();
    let names: Vec<String> = found.iter().map(|m| m.file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.is_sorted());
    for (name, listed) in [("www.pem", true), ("localhost.der", true), ("old-label.pem", true), ("www.key", false)] {
        assert_eq!(names.contains(&name.to_owned()), listed, "{name}");
    }
    assert!(!names.contains(&"README.md".to_owned()) && !names.contains(&"localhost.csr".to_owned()));
    let keyed: Vec<&String> =
        found.iter().zip(&names).filter(|(m, _)| m.key_file.is_some()).map(|(_, name)| name).collect();
    assert_eq!(keyed, ["www.pem"]);
}

proptest::proptest! {
    #[test]
    fn a_certificate_with_any_bytes_exchanged_is_judged_without_a_panic(
        which in 0usize..4, places in proptest::collection::vec((0usize..1500, proptest::prelude::any::<u8>()), 1..4))
    {
        let mut chain = material(["localhost", "pss", "issuer-names", "md5-root"][which]);
        for certificate in &mut chain.certificates {
            let mut der = certificate.der.to_vec();
            for (place, byte) in &places {
                let at = place % der.len();
                der[at] = *byte;
            }
            if let Ok(changed) = crate::tls::certificate::Certificate::read(der.into(), certificate.position) {
                *certificate = changed;
            }
        }
        for profile in [Class::Public, Class::Internal] {
            let audited = audit(&chain, &subject(profile), &Policy::default());
            for finding in &audited.report.findings {
                proptest::prop_assert!(!finding.to_string().chars().any(char::is_control), "{}", finding);
            }
        }
    }
}
