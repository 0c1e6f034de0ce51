//! The trust side of the audit: authorities and revocation lists are judged with the chains, wherever those are shown.

use serde_json::Value;

use super::on;
use crate::support::tls::{endpoint, show};
use crate::support::{Gateway, cert};

/// An endpoint whose clients are vouched for by this authority, with this list.
fn config(ca: &str, crl: &str) -> String {
    let auth = format!("client_auth = {{ mode = \"optional\", ca = {:?}, crl = [{:?}] }}", cert(ca), cert(crl));
    format!("{}{}", show(), endpoint("front", &["localhost"], &auth))
}

/// Each finding about a file of trust: the file's role, the rule and the level.
fn found(report: &Value) -> Vec<String> {
    let files = report["chains"].as_array().unwrap().iter().filter(|chain| chain["role"].is_string());
    let of = |file: &Value| {
        let role = file["role"].as_str().unwrap().to_owned();
        let findings = file["findings"].as_array().unwrap().clone();
        findings
            .into_iter()
            .map(move |it| format!("{role}: {} {}", it["rule"].as_str().unwrap(), it["level"].as_str().unwrap()))
    };
    files.flat_map(of).collect()
}

const FOREIGN: [&str; 2] = ["client-ca: crl-missing error", "crl: crl-issuer-unknown warn"];

#[test]
fn an_audit_of_a_configuration_judges_what_vouches_for_clients() {
    let (status, out, err) = on(&config("clients-ca.pem", "clients.crl"), &["audit", "--format", "json"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found(&report), [""; 0], "{report:#}");
    assert_eq!(report["chains"].as_array().unwrap().len(), 3, "a chain, an authority and a list");

    let foreign = config("ca.pem", "clients.crl");
    let (status, out, _) = on(&foreign, &["audit", "--format", "json"]);
    assert_eq!((status, found(&serde_json::from_str(&out).unwrap())), (Some(1), FOREIGN.map(String::from).to_vec()));
    let (_, out, _) = on(&foreign, &["audit", "--format", "sarif"]);
    assert!(out.contains("\"crl-missing\"") && out.contains("clients.crl"), "{out}");
}

#[test]
fn check_fails_over_an_authority_that_no_client_can_be_verified_under() {
    let auth = format!("client_auth = {{ mode = \"required\", ca = {:?} }}", cert("ca-rsa1024.pem"));
    let (status, _, err) = on(&format!("{}{}", show(), endpoint("front", &["localhost"], &auth)), &["check"]);
    assert_eq!(status, Some(1));
    for part in ["endpoint \"front\"", "ca-rsa1024.pem, certificate 1 of 1", "(rule client-ca-weak)"] {
        assert!(err.contains(part), "{part}: {err}");
    }
}

#[test]
fn a_running_gateway_shows_what_vouches_for_its_clients_and_counts_the_findings() {
    let gateway = Gateway::start(&config("ca.pem", "clients.crl"));
    let report = gateway.json("/audit");
    assert_eq!(found(&report), FOREIGN);
    let metric = format!(
        "portcullis_certificate_audit_findings{{endpoint=\"front\",certificate=\"{}\",rule=\"crl-missing\",severity=\"error\"}}",
        cert("ca.pem")
    );
    assert_eq!(gateway.metric(&metric), Some(1.0));
    assert_eq!(gateway.get("/readyz").status, 200, "findings of trust refuse nothing by themselves");
}
