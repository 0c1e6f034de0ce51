//! Every chain in `certs/` yields the rule that its name promises, at the level that its profile gives it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{cert, run, stderr};

/// A file, and what it is found wanting in: `RULE LEVEL-IF-PUBLIC LEVEL-IF-INTERNAL POSITION`; empty: nothing that counts.
/// Authorities and clients' certificates are not servers' chains, and stand in [`is_no_servers`] instead.
const EXPECTED: &[(&str, &str)] = &[
    ("bare-wildcard.pem", "san-suspicious warn info 1"),
    ("bom-chain.pem", "pem-malformed deny deny 1"),
    ("bom.pem", "pem-no-cert deny deny -"),
    ("critical.pem", "critical-unknown deny deny 1"),
    ("cross.pem", "chain-cross-signed info info 3"),
    ("expired.pem", "expired error error 1"),
    ("extra.pem", "chain-extra info info 3"),
    ("glued.pem", "pem-malformed deny deny 2"),
    ("incomplete.pem", "chain-incomplete error warn 1"),
    ("issuer-clients.pem", "issuer-invalid error error 2"),
    ("issuer-names.pem", "issuer-invalid error error 2"),
    ("issuer-no-sign.pem", "issuer-invalid error error 2"),
    ("issuer-not-ca.pem", "issuer-invalid error error 2"),
    ("issuer-path.pem", "issuer-invalid error error 3"),
    ("key-dsa.pem", "key-unsupported deny deny 1"),
    ("key-ed25519.pem", "key-not-web warn info 1"),
    ("key-ed448.pem", "key-unsupported deny deny 1"),
    ("key-explicit.pem", "key-unsupported deny deny 1"),
    ("key-p521.pem", "key-not-web warn info 1"),
    ("key-pss.pem", "key-unsupported deny deny 1"),
    ("key-secp256k1.pem", "key-unsupported deny deny 1"),
    ("leaf-ca.pem", "leaf-is-ca error warn 1"),
    ("leaf-last.pem", "leaf-not-first warn warn 2"),
    ("localhost-rsa.pem", ""),
    ("localhost.pem", ""),
    ("md5-intermediate.pem", "sig-md5 deny deny 2"),
    ("md5-root.pem", "anchor-weak-sig info info 3"),
    ("md5-www.pem", "sig-md5 deny deny 1"),
    ("md5.pem", "sig-md5 deny deny 1"),
    ("must-staple.pem", "must-staple warn info 1"),
    ("no-end.pem", "pem-malformed deny deny 2"),
    ("no-san.pem", "san-missing error error 1"),
    ("no-server.pem", "eku-no-server error error 1"),
    ("no-signing.pem", "ku-no-signing error error 1"),
    ("not-yet.pem", "not-yet-valid error error 1"),
    ("old-label.pem", "pem-no-cert deny deny -"),
    ("poison.pem", "critical-unknown deny deny 1"),
    ("pss-mask.pem", "sig-sha1 deny warn 1"),
    ("pss-salt.pem", "sig-unknown error error 1"),
    ("pss.pem", ""),
    ("rsa-e3.pem", "key-rsa-odd warn warn 1"),
    ("rsa1024-intermediate.pem", "key-rsa-small deny error 2"),
    ("rsa1024.pem", "key-rsa-small deny error 1"),
    ("self-signed-md5.pem", "self-signed-leaf error warn 1"),
    ("self-signed.pem", "self-signed-leaf error warn 1"),
    ("sha1-ecdsa.pem", "sig-sha1 deny warn 1"),
    ("sha1-intermediate.pem", "sig-sha1 deny warn 2"),
    ("sha1-pss.pem", "sig-sha1 deny warn 1"),
    ("sha1.pem", "sig-sha1 deny warn 1"),
    ("sha224.pem", "sig-unknown error error 1"),
    ("sha3.pem", "sig-unknown error error 1"),
    ("short-issuer.pem", "issuer-expires-first warn info 2"),
    ("sig-invalid.pem", "sig-invalid error error 1"),
    ("trusted.pem", "pem-no-cert deny deny -"),
    ("unordered.pem", "chain-unordered warn warn 2"),
    ("version1.pem", "cert-unparseable deny deny 1"),
    ("wildcard.pem", ""),
    ("with-key.pem", "chain-extra info info -"),
    ("www-expired.pem", "expired error error 1"),
    ("www-rsa.pem", ""),
    ("www.pem", ""),
];

/// What no certificate of a private CA that lasts for ever can do without, whatever else is wrong with it.
const COMMON: [&str; 3] = ["public-web", "validity-too-long", "san-suspicious"];

fn is_no_servers(file: &str) -> bool {
    file.starts_with("ca-") || file.starts_with("client") || file == "ca.pem"
}

/// The report of every chain file in `certs/`, by its name.
fn reports(profile: &str) -> BTreeMap<String, Value> {
    let output = run(&["audit", "--format", "json", "--profile", profile, &cert("")]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["profile"], profile);
    let name = |chain: &Value| {
        let file = Path::new(chain["file"].as_str().unwrap()).file_name().unwrap();
        file.to_str().unwrap().to_owned()
    };
    report["chains"].as_array().unwrap().iter().map(|chain| (name(chain), chain.clone())).collect()
}

#[test]
fn every_file_has_its_row() {
    let listed: Vec<&str> = EXPECTED.iter().map(|(file, _)| *file).collect();
    let mut found: Vec<String> =
        std::fs::read_dir(cert("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.retain(|file| file.ends_with(".pem") && !is_no_servers(file));
    found.sort();
    assert_eq!(found, listed);
}

#[test]
fn every_chain_yields_the_rule_that_its_name_promises() {
    for (profile, column) in [("public", 1), ("internal", 2)] {
        let reports = reports(profile);
        for (file, expected) in EXPECTED {
            let report = &reports[*file];
            let findings = report["findings"].as_array().unwrap();
            let words: Vec<&str> = expected.split(' ').collect();
            if words.len() == 1 {
                let others: Vec<_> =
                    findings.iter().filter(|f| !COMMON.contains(&f["rule"].as_str().unwrap())).collect();
                assert!(others.is_empty(), "{file}, {profile}: {others:?}");
                continue;
            }
            let position = words[3].parse::<u64>().ok();
            let found = findings.iter().any(|finding| {
                finding["rule"] == words[0]
                    && finding["level"] == words[column]
                    && finding["position"].as_u64() == position
            });
            assert!(found, "{file}, {profile}: no {expected} in {findings:#?}");
            // Whatever else is wrong with it, what it is named for is the worst.
            if words[column] == "deny" || words[column] == "error" {
                assert!(
                    report["verdict"] == words[column] || report["verdict"] == "deny",
                    "{file}: {}",
                    report["verdict"]
                );
            }
        }
    }
}

#[test]
fn a_finding_says_what_was_seen_why_it_matters_and_what_to_do() {
    for (file, report) in reports("public") {
        for finding in report["findings"].as_array().unwrap() {
            for part in ["rule", "level", "file", "seen", "why", "fix"] {
                assert!(finding[part].as_str().is_some_and(|text| !text.is_empty()), "{file}: {part} of {finding}");
            }
            if finding["position"].is_u64() && !finding["sha256"].is_null() {
                assert!(finding["subject"].is_string(), "{file}: {finding}");
            }
        }
    }
}
