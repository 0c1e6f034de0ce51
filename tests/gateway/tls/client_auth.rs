//! Client certificates: who is let in, why others are not, and what the upstream learns.

use std::sync::mpsc::Receiver;

use crate::support::tls::{Handshake, certificates, endpoint, endpoint_with, failures, s_client, show};
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, PATIENCE, cert, portcullis, stderr};

/// Lines of a `tls` table.
fn client_auth(mode: &str, more: &str) -> String {
    format!("[endpoints.front.tls.client_auth]\nmode = \"{mode}\"\nca = {:?}\n{more}\n", cert("clients-ca.pem"))
}

fn start(mode: &str, more: &str) -> Gateway {
    let settings = client_auth(mode, more);
    Gateway::start(&format!("{}{}", show(), endpoint("front", &["localhost"], &settings)))
}

/// A connection with a certificate of `certs/`, by the name of its files.
fn as_client(gateway: &Gateway, name: &str, version: &str) -> Handshake {
    let (chain, key) = (cert(&format!("{name}.pem")), cert(&format!("{name}.key")));
    s_client(gateway.address("front"), &[version, "-cert", &chain, "-key", &key])
}

/// Who is refused for `reason`, and is told so by an alert, with both versions.
#[track_caller]
fn assert_refused(gateway: &Gateway, client: Option<&str>, reason: &str) {
    for version in ["-tls1_2", "-tls1_3"] {
        let refused = match client {
            Some(name) => as_client(gateway, name, version),
            None => s_client(gateway.address("front"), &[version]),
        };
        assert!(!refused.answered() && refused.text.contains("SSL alert number"), "{}", refused.text);
    }
    gateway.wait_for_metric(&failures("front", reason), 2.0);
}

#[track_caller]
fn assert_let_in(gateway: &Gateway, client: &str) {
    for version in ["-tls1_2", "-tls1_3"] {
        let seen = as_client(gateway, client, version);
        assert!(seen.answered(), "{}", seen.text);
    }
}

#[test]
fn a_required_certificate_is_asked_for_and_verified() {
    let gateway = start("required", "");
    assert_let_in(&gateway, "client");
    assert_refused(&gateway, None, "client_certificate_missing");
    assert_refused(&gateway, Some("localhost"), "client_certificate_invalid");
    let asked = s_client(gateway.address("front"), &["-tls1_3"]);
    assert!(
        asked.text.contains("CN = Portcullis Test Clients CA"),
        "the client learns whose are wanted: {}",
        asked.text
    );
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let gateway = start("optional", "");
    assert_let_in(&gateway, "client");
    assert!(s_client(gateway.address("front"), &[]).answered());
    assert_refused(&gateway, Some("localhost"), "client_certificate_invalid");
}

#[test]
fn a_revoked_certificate_is_refused_and_others_are_not() {
    let gateway = start("required", &format!("crl = [{:?}]", cert("clients.crl")));
    assert_let_in(&gateway, "client");
    assert_refused(&gateway, Some("client-revoked"), "client_certificate_revoked");
}

#[test]
fn only_clients_on_the_list_are_let_in() {
    let by = |entry: &str| start("required", &format!("allow = [\"{entry}\"]"));
    for (entry, listed, other) in [
        ("uri:spiffe://example.org/billing", "client-billing", "client"),
        ("dns:*.clients.example.org", "client", "client-billing"),
        ("email:ops@example.org", "client", "client-billing"),
        ("cn:billing", "client-billing", "client"),
    ] {
        let gateway = by(entry);
        assert_let_in(&gateway, listed);
        assert_refused(&gateway, Some(other), "client_certificate_not_allowed");
    }
}

/// A gateway in front of an upstream, and the heads that the upstream was sent.
fn proxied(mode: &str) -> (Gateway, Receiver<String>, Upstream) {
    let (upstream, heads) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let config = format!(
        "{}[handlers.site]\ntype = \"http-proxy\"\nupstream = \"app\"\n[upstreams.app]\nservers = [\"{}\"]\n",
        endpoint_with("front", "public", "site", &certificates(&["localhost"]), &client_auth(mode, "")),
        upstream.address
    );
    (Gateway::start(&config), heads, upstream)
}

/// The values of a field in a head.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

const FORGED: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nClient-Cert: :Zm9yZ2Vk:\r\nclient-cert: :Zm9yZ2Vk:\r\n\
                      Client-Cert-Chain: :Zm9yZ2Vk:\r\nPortcullis-Endpoint: forged\r\nConnection: close\r\n\r\n";

#[test]
fn the_upstream_learns_the_verified_certificate_and_nothing_that_a_client_forged() {
    let (gateway, heads, _upstream) = proxied("required");
    let pem = std::fs::read_to_string(cert("client.pem")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let (chain, key) = (cert("client.pem"), cert("client.key"));
    for version in ["-tls1_2", "-tls1_3"] {
        let args = ["-ign_eof", version, "-cert", &chain, "-key", &key];
        let seen = crate::support::tls::s_client_sending(gateway.address("front"), &args, FORGED);
        assert!(seen.answered(), "{}", seen.text);
        let head = heads.recv_timeout(PATIENCE).unwrap();
        assert_eq!(values(&head, "client-cert"), [format!(":{der}:")], "{head}");
        assert!(values(&head, "client-cert-chain").is_empty(), "{head}");
        assert_eq!(values(&head, "portcullis-endpoint"), ["front"], "{head}");
    }
}

#[test]
fn without_a_certificate_the_upstream_is_told_of_none() {
    let (gateway, heads, _upstream) = proxied("optional");
    let seen = crate::support::tls::s_client_sending(gateway.address("front"), &["-ign_eof"], FORGED);
    assert!(seen.answered(), "{}", seen.text);
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(values(&head, "client-cert").is_empty() && values(&head, "client-cert-chain").is_empty(), "{head}");
}

#[test]
fn a_file_of_authorities_that_is_not_pem_is_refused_with_the_command_that_makes_it_so() {
    let folder = Folder::new();
    let der = folder.path().join("ca.der");
    crate::support::pki::openssl(&["x509", "-in", &cert("ca.pem"), "-outform", "DER", "-out", der.to_str().unwrap()]);
    let auth = client_auth("required", "").replace(&cert("clients-ca.pem"), "ca.der");
    let file = folder.write("gateway.toml", format!("{}{}", show(), endpoint("front", &["localhost"], &auth)));
    let said = stderr(&portcullis(&["check", "--config", file.to_str().unwrap()]).output().unwrap());
    assert!(said.contains("is a certificate in DER, not PEM; openssl x509 -inform DER -in "), "{said}");
}

#[test]
fn what_is_wrong_with_the_authorities_or_the_list_stops_start_up_with_its_place() {
    let folder = Folder::new();
    folder.write("empty.pem", "");
    let more = "crl = [\"missing.crl\"]\nallow = [\"dns:\", \"host:a\"]";
    let auth = client_auth("required", more).replace(&cert("clients-ca.pem"), "empty.pem");
    let config = format!("{}{}", show(), endpoint("front", &["localhost"], &auth));
    let file = folder.write("gateway.toml", config);
    let output = portcullis(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "client_auth.ca: ",
        "empty.pem: is empty; name a PEM file of authorities",
        "client_auth.crl: ",
        "missing.crl: ",
        "client_auth.allow",
        "nothing stands behind the colon",
        "\"host:a\": expected",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}
