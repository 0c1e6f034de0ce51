//! OCSP stapling: clients that ask are handed the responder's answer, checked and fresh, and nothing else.

use std::path::Path;

use crate::support::client::{curl, curl_command};
use crate::support::pki::openssl;
use crate::support::tls::{s_client, show};
use crate::support::{Folder, Gateway, cert, portcullis, stderr};

/// Asks a responder of the test's own for a staple of must-staple.pem, `V` for good and `R` for revoked.
fn staple(folder: &Folder, to: &str, status: &str, validity: &[&str]) {
    let serial = openssl(&["x509", "-noout", "-serial", "-in", &cert("must-staple.pem")]);
    let serial = serial.trim().split('=').nth(1).unwrap();
    let revoked = if status == "R" { "250601000000Z" } else { "" };
    let index = folder.write("index.txt", format!("{status}\t991231235959Z\t{revoked}\t{serial}\tunknown\t/CN=x\n"));
    let request = folder.path().join("request.der");
    let issuer = cert("ca-issuing.pem");
    let (request, to) = (request.to_str().unwrap(), folder.path().join(to));
    openssl(&["ocsp", "-issuer", &issuer, "-cert", &cert("must-staple.pem"), "-no_nonce", "-reqout", request]);
    let answer = ["ocsp", "-index", index.to_str().unwrap(), "-CA", &issuer, "-rsigner", &issuer, "-rkey"];
    let key = cert("ca-issuing.key");
    openssl(&[&answer[..], &[&key, "-reqin", request, "-respout", to.to_str().unwrap()], validity].concat());
}

fn config(staple: &str) -> String {
    let (chain, key) = (cert("must-staple.pem"), cert("must-staple.key"));
    format!(
        "{}[endpoints.front]\nlisten = \"127.0.0.1:0\"\nhandler = \"show\"\n[endpoints.front.tls]\n\
         certificates = [{{ chain = {chain:?}, key = {key:?}, ocsp = {staple:?} }}]\n",
        show()
    )
}

const STAPLED: &str = "Cert Status: good";
const NOT_STAPLED: &str = "OCSP response: no response sent";

#[test]
fn a_fresh_staple_is_handed_to_clients_that_ask_and_dated() {
    let folder = Folder::new();
    staple(&folder, "site.ocsp", "V", &["-ndays", "7"]);
    let gateway = Gateway::start_in(folder, &config("site.ocsp"));
    let front = gateway.address("front");
    for version in ["-tls1_2", "-tls1_3"] {
        let asking = s_client(front, &[version, "-status"]);
        assert!(asking.answered() && asking.text.contains(STAPLED), "{}", asking.text);
        assert!(!s_client(front, &[version]).text.contains("OCSP Response Data"));
    }
    // curl verifies it.
    let url = format!("https://localhost:{}/", front.port());
    let root = cert("ca.pem");
    assert!(curl(&["--ipv4", "--cacert", &root, "--cert-status", &url]).starts_with("shown: front"));
    let series = format!(
        "portcullis_ocsp_next_update_timestamp_seconds{{endpoint=\"front\",certificate=\"{}\"}}",
        cert("must-staple.pem")
    );
    let left = gateway.metric(&series).unwrap() - time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    assert!((6.9..=7.0).contains(&(left / 86_400.0)), "{left}");
    let rules = rules(&gateway);
    assert!(!rules.iter().any(|rule| rule.contains("staple") || rule.contains("ocsp")), "{rules:?}");
}

fn rules(gateway: &Gateway) -> Vec<String> {
    let audit = gateway.json("/audit");
    let findings = audit["chains"][0]["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_not_fit_is_not_handed_out_until_a_reload_brings_what_is() {
    let folder = Folder::new();
    staple(&folder, "site.ocsp", "R", &["-ndays", "7"]);
    let gateway = Gateway::start_in(folder, &config("site.ocsp"));
    let front = gateway.address("front");
    let asking = s_client(front, &["-status"]);
    assert!(asking.answered() && asking.text.contains(NOT_STAPLED), "{}", asking.text);
    assert!(
        rules(&gateway).contains(&"ocsp-revoked".to_owned()) && rules(&gateway).contains(&"must-staple".to_owned())
    );
    let url = format!("https://localhost:{}/", front.port());
    let refused = curl_command(&["--ipv4", "--cacert", &cert("ca.pem"), "--cert-status", &url]).output().unwrap();
    assert_eq!(refused.status.code(), Some(91), "{}", stderr(&refused));

    staple(&gateway.folder, "site.ocsp", "V", &["-ndays", "7"]);
    gateway.reload();
    assert!(s_client(front, &["-status"]).text.contains(STAPLED));
    assert!(!rules(&gateway).contains(&"must-staple".to_owned()));
}

#[test]
fn check_tells_what_is_wrong_with_a_staple_by_file_and_remedy() {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config(&cert("staple-other.ocsp")));
    let output = portcullis(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
    let said = format!("{}{}", stderr(&output), crate::support::stdout(&output));
    let name = Path::new("staple-other.ocsp").display();
    for part in [&format!("{name}, is about another certificate"), "(rule ocsp-unusable)", "openssl ocsp -issuer"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}
