//! The operator's own policy: levels by rule, and waivers until a day.

use super::{config, connect, does_not_start, view};
use crate::support::tls::{ECDSA_ROOT, RSA_ROOT, certificates, endpoint, endpoint_with};
use crate::support::{Folder, Gateway, cert, run, stdout};

/// The fingerprint of a certificate in a chain of `certs/`, as `portcullis audit` tells it.
fn fingerprint(chain: &str, position: usize) -> String {
    let output = run(&["audit", "--format", "json", &cert(chain)]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let certificate = &report["chains"][0]["certificates"][position - 1];
    format!("sha256:{}", certificate["sha256"].as_str().unwrap())
}

fn waiver(rule: &str, chain: &str, position: usize, until: &str) -> String {
    let certificate = fingerprint(chain, position);
    format!(
        "[[audit.waivers]]\nrule = \"{rule}\"\ncertificate = \"{certificate}\"\nuntil = \"{until}\"\nreason = \"a test\"\n"
    )
}

#[test]
fn a_level_of_ones_own_admits_or_refuses_what_the_profile_would_not() {
    let milder = format!("{}[audit.rules]\nsig-sha1 = \"warn\"\n", config(&[endpoint("front", &["sha1"], "")]));
    connect(&Gateway::start(&milder), "front", RSA_ROOT);
    let inside = endpoint_with("front", "internal", "show", &certificates(&["sha1"]), "");
    let stricter = format!("{}[audit.rules]\nsig-sha1 = \"deny\"\n", config(&[inside]));
    assert!(does_not_start(&stricter).contains("(rule sig-sha1)"));
}

#[test]
fn no_level_makes_a_file_servable_that_cannot_be_served() {
    let end = endpoint_with("front", "public", "show", &[(cert("localhost.pem"), cert("mismatch.key"))], "");
    let said = does_not_start(&format!("{}[audit.rules]\nkey-mismatch = \"warn\"\n", config(&[end])));
    assert!(said.contains("key-mismatch"), "{said}");
}

#[test]
fn a_waiver_accepts_one_finding_on_one_certificate_until_its_day() {
    let ends = [endpoint("waived", &["rsa1024-intermediate"], ""), endpoint("other", &["sha1"], "")];
    let waived = format!("{}{}", config(&ends), waiver("key-rsa-small", "rsa1024-intermediate.pem", 2, "2999-12-31"));
    let gateway = Gateway::start(&waived);
    connect(&gateway, "waived", ECDSA_ROOT);
    let report = gateway.json("/audit");
    let chains = report["chains"].as_array().unwrap();
    let findings = chains.iter().flat_map(|chain| chain["findings"].as_array().unwrap());
    let waived: Vec<_> = findings.filter(|finding| !finding["waived_until"].is_null()).collect();
    assert_eq!(waived.len(), 1, "{report}");
    assert_eq!((&waived[0]["rule"], &waived[0]["waived_until"]), (&"key-rsa-small".into(), &"2999-12-31".into()));
    assert_eq!(view(&gateway, "other").0["state"], "refused");
}

#[test]
fn a_waiver_that_has_passed_accepts_nothing_and_is_reported() {
    let end = endpoint("front", &["rsa1024-intermediate"], "");
    let passed = format!("{}{}", config(&[end]), waiver("key-rsa-small", "rsa1024-intermediate.pem", 2, "2026-01-01"));
    let said = does_not_start(&passed);
    assert!(said.contains("(rule key-rsa-small)"), "{said}");
    let folder = Folder::new();
    let file = folder.write("gateway.toml", passed);
    let report = stdout(&run(&["audit", "--format", "json", "--config", file.to_str().unwrap()]));
    assert!(report.contains("its waiver for key-rsa-small passed on 2026-01-01 (a test)"), "{report}");
}

#[test]
fn a_waiver_for_another_certificate_or_rule_accepts_nothing() {
    let end = endpoint("front", &["rsa1024-intermediate"], "");
    for (rule, position) in [("key-rsa-small", 1), ("sig-sha1", 2)] {
        let text = waiver(rule, "rsa1024-intermediate.pem", position, "2999-12-31");
        let said = does_not_start(&format!("{}{text}", config(std::slice::from_ref(&end))));
        assert!(said.contains("(rule key-rsa-small)"), "{said}");
    }
}

#[test]
fn a_policy_that_names_no_rule_or_no_day_is_a_fault_of_the_configuration() {
    let end = config(&[endpoint("front", &["localhost"], "")]);
    let said = does_not_start(&format!(
        "{end}[audit.rules]\nsig-md55 = \"warn\"\n[[audit.waivers]]\nrule = \"sig-md5\"\ncertificate = \"sha256:12\"\n\
         until = \"soon\"\nreason = \"\"\n"
    ));
    for part in ["sig-md55", "sig-md5", "sha256:12", "soon"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}
