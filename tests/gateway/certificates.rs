//! Chains as they come in practice, through the real binary: what is refused, what stands in, what is served all the same,
//! and that everyone is told.

mod files;
mod policy;
mod rules;

use std::process::Stdio;

use serde_json::Value;

use crate::support::tls::{ECDSA_ROOT, Handshake, RSA_ROOT, certificates, endpoint, endpoint_with, s_client, show};
use crate::support::{Folder, Gateway, cert, portcullis, run, stderr, wait};

/// A configuration of endpoints that answer what [`show`] says.
fn config(endpoints: &[String]) -> String {
    format!("{}{}", show(), endpoints.concat())
}

/// What a gateway that must not start says.
fn does_not_start(config: &str) -> String {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", format!("{config}[admin]\nlisten = \"off\"\n"));
    let mut command = portcullis(&["run", "--config", file.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = wait(&mut child);
    let said = stderr(&child.wait_with_output().unwrap());
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

/// What `check` says on both its streams, with its status.
fn check(config: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config);
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    (output.status.code(), format!("{}{}", crate::support::stdout(&output), stderr(&output)))
}

/// A connection by a client that trusts both roots' chains, if they verify.
fn connect(gateway: &Gateway, endpoint: &str, root: &str) -> Handshake {
    let seen = s_client(gateway.address(endpoint), &["-CAfile", &cert(root), "-showcerts"]);
    assert!(seen.answered(), "{}", seen.text);
    seen
}

/// The admin port's view of an endpoint, and its reasons for refusing it as one text.
fn view(gateway: &Gateway, endpoint: &str) -> (Value, String) {
    let view = gateway.json(&format!("/endpoints/{endpoint}"));
    let reasons = view["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap());
    let reasons = reasons.collect::<Vec<_>>().join("\n");
    (view, reasons)
}

#[test]
fn an_md5_leaf_and_an_md5_intermediate_are_refused_and_an_md5_root_is_accepted() {
    let ends = [("leaf", "md5"), ("intermediate", "md5-intermediate"), ("root", "md5-root")]
        .map(|(end, chain)| endpoint(end, &[chain], ""));
    let gateway = Gateway::start(&config(&ends));
    for (end, position, file, subject) in [
        ("leaf", "1 of 2", "md5.pem", "CN=localhost"),
        ("intermediate", "2 of 2", "md5-intermediate.pem", "CN=Portcullis Test MD5 Issuing CA"),
    ] {
        let (view, reasons) = view(&gateway, end);
        assert_eq!((view["state"].as_str(), view["up"].as_bool()), (Some("refused"), Some(false)), "{view}");
        for part in [file, position, subject, "MD5", "rule sig-md5", "ask the CA to reissue it with SHA-256"] {
            assert!(reasons.contains(part), "{part:?} is not in {reasons:?}");
        }
        assert_eq!(gateway.metric(&format!("portcullis_endpoint_up{{endpoint=\"{end}\"}}")), Some(0.0));
    }
    let seen = connect(&gateway, "root", ECDSA_ROOT);
    assert!(
        !seen.text.contains("md5WithRSA") && !seen.text.contains("CN = Portcullis Test MD5 Root\n   i:"),
        "{}",
        seen.text
    );
    assert_eq!(gateway.get("/readyz").status, 503, "required endpoints are refused");
}

#[test]
fn a_chain_under_an_md5_root_verifies_for_a_client_that_trusts_the_root() {
    let gateway = Gateway::start(&config(&[endpoint("front", &["md5-root"], "")]));
    assert_eq!(connect(&gateway, "front", "ca-md5-root.pem").line("Verify return code: "), "0 (ok)");
}

#[test]
fn the_next_fit_chain_stands_in_for_an_md5_chain_and_everyone_is_told() {
    for unfit in ["md5", "md5-intermediate"] {
        let mut gateway = Gateway::start(&config(&[endpoint("front", &[unfit, "localhost"], "")]));
        let seen = connect(&gateway, "front", ECDSA_ROOT);
        assert_eq!(seen.line("Verify return code: "), "0 (ok)");
        assert_eq!(seen.line("Peer signature type: "), "ECDSA");

        let (state, _) = view(&gateway, "front");
        assert_eq!(
            (state["state"].as_str(), state["fallback_active"].as_bool()),
            (Some("ready"), Some(true)),
            "{state}"
        );
        assert_eq!(state["served"][0], cert("localhost.pem"));
        let fallbacks = &gateway.json("/audit")["fallbacks"];
        assert_eq!(fallbacks[0]["endpoint"], "front", "{fallbacks}");
        assert_eq!(fallbacks[0]["unfit"], cert(&format!("{unfit}.pem")));
        assert_eq!(fallbacks[0]["rules"], serde_json::json!(["sig-md5"]));
        assert_eq!(fallbacks[0]["by"], cert("localhost.pem"));
        assert_eq!(gateway.metric("portcullis_certificate_fallback_active{endpoint=\"front\"}"), Some(1.0));
        let found = format!(
            "portcullis_certificate_audit_findings{{endpoint=\"front\",certificate=\"{}\",rule=\"sig-md5\",severity=\"deny\"}}",
            cert(&format!("{unfit}.pem"))
        );
        assert_eq!(gateway.metric(&found), Some(1.0));
        assert_eq!(gateway.get("/readyz").status, 200);
        assert_eq!(gateway.count_in_log("is served in its place"), 1);
        gateway.signal("TERM");
        assert_eq!(gateway.wait(), 0);
    }
}

#[test]
fn a_fallback_covers_every_name_that_is_needed_of_the_chain_it_replaces() {
    let ends = [
        endpoint("other", &["md5-www", "localhost"], ""),
        endpoint("same", &["md5-www", "localhost", "www"], ""),
        endpoint("wider", &["md5-www", "wildcard"], "server_names = [\"www.example.com\"]"),
    ];
    let gateway = Gateway::start(&config(&ends));
    let (other, reasons) = view(&gateway, "other");
    assert_eq!(other["state"], "refused");
    assert!(reasons.contains("no other fit chain of this endpoint covers www.example.com, example.com"), "{reasons}");
    let served = |endpoint| view(&gateway, endpoint).0["served"].clone();
    assert_eq!(served("same"), serde_json::json!([cert("localhost.pem"), cert("www.pem")]));
    assert_eq!(served("wider"), serde_json::json!([cert("wildcard.pem")]));
}

#[test]
fn on_unfit_refuse_refuses_although_another_chain_is_fit() {
    let ends =
        [endpoint("strict", &["md5", "localhost"], "on_unfit = \"refuse\""), endpoint("good", &["localhost"], "")];
    let gateway = Gateway::start(&config(&ends));
    let (strict, reasons) = view(&gateway, "strict");
    assert_eq!(strict["state"], "refused");
    assert!(reasons.contains("rule sig-md5"), "{reasons}");
    connect(&gateway, "good", ECDSA_ROOT);
}

#[test]
fn a_gateway_whose_every_endpoint_is_refused_does_not_start_and_says_why() {
    let said = does_not_start(&config(&[endpoint("a", &["md5"], ""), endpoint("b", &["md5-intermediate"], "")]));
    let wanted = [
        format!(
            "endpoint \"a\" is refused: {}, certificate 1 of 2 (CN=localhost): signed with MD5 (md5WithRSAEncryption)",
            cert("md5.pem")
        ),
        format!(
            "endpoint \"b\" is refused: {}, certificate 2 of 2 (CN=Portcullis Test MD5 Issuing CA): signed with MD5",
            cert("md5-intermediate.pem")
        ),
        "(rule sig-md5); ask the CA to reissue it with SHA-256".to_owned(),
    ];
    for part in &wanted {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!said.to_lowercase().contains("common algorithm"), "{said}");
}

#[test]
fn on_refused_gateway_lets_nothing_serve() {
    let ends = [endpoint("bad", &["md5"], ""), endpoint("good", &["localhost"], "")];
    let said = does_not_start(&format!("{}[audit]\non_refused = \"gateway\"\n", config(&ends)));
    assert!(said.contains("endpoint \"bad\"") && said.contains("rule sig-md5"), "{said}");
    assert!(!said.contains("endpoint \"good\" is refused"), "{said}");
}

#[test]
fn an_expired_chain_never_beats_a_valid_one() {
    let ends = [
        endpoint("listed-first", &["www-expired", "www"], ""),
        endpoint("of-another-kind", &["www-expired", "www-rsa"], ""),
        endpoint("by-wildcard", &["www-expired", "wildcard"], ""),
        endpoint("alone", &["www-expired"], ""),
    ];
    // Whatever the policy makes of the finding.
    for policy in ["", "[audit.rules]\nexpired = \"info\"\n"] {
        let gateway = Gateway::start(&format!("{}{policy}", config(&ends)));
        for (end, root) in [("listed-first", ECDSA_ROOT), ("of-another-kind", RSA_ROOT), ("by-wildcard", ECDSA_ROOT)] {
            let seen = s_client(gateway.address(end), &["-servername", "www.example.com", "-CAfile", &cert(root)]);
            assert_eq!(seen.line("Verify return code: "), "0 (ok)", "{end}, {policy:?}");
        }
        let alone = s_client(gateway.address("alone"), &["-CAfile", &cert(ECDSA_ROOT)]);
        assert_eq!(alone.line("Verify return code: "), "10 (certificate has expired)");
    }
}

#[test]
fn a_client_that_cannot_verify_the_chain_with_the_name_itself_gets_one_with_a_wildcard() {
    let gateway = Gateway::start(&config(&[endpoint("front", &["www-rsa", "wildcard"], "")]));
    let by = |root: &str, kind: &[&str]| {
        let root = cert(root);
        let args = [&["-servername", "www.example.com", "-CAfile", &root], kind].concat();
        let seen = s_client(gateway.address("front"), &args);
        assert_eq!(seen.line("Verify return code: "), "0 (ok)", "{kind:?}");
    };
    by(RSA_ROOT, &[]);
    by(ECDSA_ROOT, &["-sigalgs", "ECDSA+SHA256"]);
    by(ECDSA_ROOT, &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
}

#[test]
fn a_chain_out_of_order_is_put_in_order_served_and_warned_about() {
    let gateway =
        Gateway::start(&config(&[endpoint("front", &["unordered"], ""), endpoint("last", &["leaf-last"], "")]));
    for (end, rule) in [("front", "chain-unordered"), ("last", "leaf-not-first")] {
        let seen = connect(&gateway, end, ECDSA_ROOT);
        assert_eq!(seen.line("Verify return code: "), "0 (ok)");
        // Each certificate is issued by the next, and the root is not sent.
        let subjects: Vec<&str> = seen.text.lines().filter_map(|line| line.split_once(" s:")).map(|(_, s)| s).collect();
        let issuers: Vec<&str> = seen.text.lines().filter_map(|line| line.strip_prefix("   i:")).collect();
        assert_eq!(subjects[0], "CN = localhost");
        assert_eq!(subjects[1..], issuers[..issuers.len() - 1], "{}", seen.text);
        assert!(!subjects.contains(&"CN = Portcullis Test Root"), "{subjects:?}");
        assert_eq!(gateway.count_in_log(&format!("(rule {rule})")), 1);
    }
}

#[test]
fn one_endpoints_internal_class_admits_what_the_public_one_refuses() {
    let ends = [
        endpoint_with("inside", "internal", "show", &certificates(&["sha1"]), ""),
        endpoint_with("outside", "public", "show", &certificates(&["sha1"]), ""),
    ];
    let gateway = Gateway::start(&config(&ends));
    connect(&gateway, "inside", RSA_ROOT);
    assert!(view(&gateway, "outside").1.contains("rule sig-sha1"));
}
