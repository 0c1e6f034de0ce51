//! `portcullis audit HOST:PORT`: what real servers present, judged like files.

use std::io::Write;
use std::net::TcpListener;

use serde_json::Value;

use super::audit::json;
use crate::support::peers::{Peer, free_address};
use crate::support::tls::{endpoint, show};
use crate::support::{Folder, Gateway, cert};

/// The rules that were found, each with its level.
fn found(report: &Value) -> Vec<String> {
    let chains = report["chains"].as_array().unwrap().iter();
    let findings = chains.flat_map(|chain| chain["findings"].as_array().unwrap());
    findings.map(|it| format!("{} {}", it["rule"].as_str().unwrap(), it["level"].as_str().unwrap())).collect()
}

#[test]
fn a_gateways_chains_for_both_kinds_of_keys_are_asked_for_and_judged() {
    let gateway = Gateway::start(&format!("{}{}", show(), endpoint("front", &["localhost", "localhost-rsa"], "")));
    let port = gateway.address("front").port();
    let server = format!("localhost:{port}");
    let (status, report) = json(&[&server, "--profile", "internal"]);
    assert_eq!(status, Some(0), "{report:#}");
    let shown = &report["servers"][0];
    assert_eq!((&shown["server"], &shown["name"]), (&server.as_str().into(), &"localhost".into()));
    assert_eq!(shown["versions"], serde_json::json!(["1.2", "1.3"]));
    let newest = &shown["handshakes"][0];
    assert_eq!((&newest["version"], &newest["key"]), (&"1.3".into(), &"ECDSA".into()));
    assert_eq!((&newest["group"], &newest["stapled"]), (&"X25519MLKEM768".into(), &false.into()));
    let keys: Vec<_> =
        report["chains"].as_array().unwrap().iter().map(|c| c["certificates"][0]["key"].as_str()).collect();
    assert_eq!(keys, [Some("ECDSA P-256"), Some("RSA 2048")]);
    assert_eq!(report["chains"][0]["file"], server);
}

#[test]
fn the_name_that_is_asked_for_must_be_covered() {
    let gateway = Gateway::start(&format!("{}{}", show(), endpoint("front", &["localhost", "www"], "")));
    let server = gateway.address("front").to_string();
    let asked = |more: &[&str]| json(&[&[server.as_str(), "--profile", "internal"], more].concat());
    let (status, report) = asked(&["--name", "www.example.com"]);
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(report["chains"][0]["certificates"][0]["subject"], "CN=www.example.com");
    let (status, report) = asked(&["--name", "other.example.net"]);
    assert_eq!((status, found(&report)[0].as_str()), (Some(1), "san-mismatch error"));
    assert_eq!(asked(&[]).0, Some(0), "an address names no host");
}

#[test]
fn a_server_that_presents_md5_and_speaks_old_versions_is_told_for_both() {
    let (chain, key, issuer) = (cert("md5.pem"), cert("md5.key"), cert("ca-rsa-issuing.pem"));
    let args = ["-cert", &chain, "-key", &key, "-cert_chain", &issuer, "-cipher", "ALL:@SECLEVEL=0"];
    let server = Peer::s_server(&[&args[..], &["-min_protocol", "TLSv1"]].concat());
    let (status, report) = json(&[&server.address.to_string(), "--profile", "internal"]);
    assert_eq!(status, Some(1));
    assert_eq!(report["servers"][0]["versions"], serde_json::json!(["1.0", "1.1", "1.2", "1.3"]));
    assert_eq!(found(&report)[..2], ["sig-md5 deny", "server-old-tls warn"], "{report:#}");
}

#[test]
fn a_server_without_tls_1_3_and_without_its_intermediate_is_told_for_both() {
    let (chain, key) = (cert("incomplete.pem"), cert("incomplete.key"));
    let server = Peer::s_server(&["-cert", &chain, "-key", &key, "-tls1_2"]);
    let (status, report) = json(&[&server.address.to_string()]);
    assert_eq!(status, Some(1));
    assert_eq!(report["servers"][0]["versions"], serde_json::json!(["1.2"]));
    for expected in ["chain-incomplete error", "server-no-tls13 info"] {
        assert!(found(&report).contains(&expected.to_owned()), "{expected}: {report:#}");
    }
}

#[test]
fn a_server_that_wants_a_client_certificate_still_shows_its_own() {
    let (chain, key, ca) = (cert("localhost.pem"), cert("localhost.key"), cert("clients-ca.pem"));
    let server = Peer::s_server(&[
        "-cert",
        &chain,
        "-key",
        &key,
        "-cert_chain",
        &cert("ca-issuing.pem"),
        "-Verify",
        "1",
        "-CAfile",
        &ca,
    ]);
    let (status, report) = json(&[&server.address.to_string(), "--profile", "internal"]);
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(report["chains"][0]["certificates"].as_array().unwrap().len(), 2);
}

#[test]
fn roots_are_asked_only_where_they_are_named() {
    let gateway = Gateway::start(&format!("{}{}", show(), endpoint("front", &["localhost"], "")));
    let server = gateway.address("front").to_string();
    for (what, root, status) in
        [(&server, "ca.pem", 0), (&server, "ca-rsa.pem", 1), (&cert("localhost.pem"), "ca-rsa.pem", 1)]
    {
        let (found_status, report) = json(&[what, "--profile", "internal", "--roots", &cert(root)]);
        assert_eq!(found_status, Some(status), "{what} {root}");
        assert_eq!(found(&report).contains(&"chain-untrusted error".to_owned()), status == 1, "{report:#}");
    }
    assert_eq!(super::audit::audit(&[&server, "--roots", &cert("localhost.key")]).0, Some(2));
}

#[test]
fn a_server_that_cannot_be_reached_or_is_no_tls_is_a_chain_with_a_finding() {
    let nobody = free_address().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        // One to find out whether it is there, and eight handshakes.
        for connection in listener.incoming().take(9).flatten() {
            let _ = (&connection).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let (status, report) = json(&[&nobody, &plain]);
    answering.join().unwrap();
    assert_eq!((status, found(&report)), (Some(1), vec!["server-unreachable deny".to_owned(); 2]), "{report:#}");
}

#[test]
fn a_file_of_that_name_is_a_file() {
    let folder = Folder::new();
    folder.write("localhost:443", std::fs::read(cert("localhost.pem")).unwrap());
    let mut command = crate::support::portcullis(&["audit", "--profile", "internal", "localhost:443"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", crate::support::stderr(&output));
}
