//! What TLS settles with real clients: versions, protocols, names, keys, groups.

mod alerts;
mod client_auth;
mod evidence;
mod failures;
mod resumption;
mod scopes;
mod stapling;
mod tickets;

use std::io::Write;
use std::process::Command;

use crate::support::client::{curl, read_response};
use crate::support::tls::{ECDSA_ROOT, RSA_ROOT, endpoint, failures, rustls, s_client, show};
use crate::support::{Gateway, cert};

fn start(chains: &[&str], settings: &str) -> Gateway {
    Gateway::start(&format!("{}{}", show(), endpoint("front", chains, settings)))
}

/// curl to the `front` endpoint, as `localhost`.
fn curl_front(gateway: &Gateway, args: &[&str]) -> String {
    let url = format!("https://localhost:{}/", gateway.address("front").port());
    let root = cert(ECDSA_ROOT);
    curl(&[&["--cacert", &root, "--ipv4", &url], args].concat())
}

#[test]
fn curl_and_openssl_speak_tls_1_2_and_1_3() {
    let gateway = start(&["localhost"], "");
    for (curl, openssl, version) in [("--tls-max=1.2", "-tls1_2", "1.2"), ("--tlsv1.3", "-tls1_3", "1.3")] {
        let by_curl = match curl.split_once('=') {
            Some((option, value)) => curl_front(&gateway, &[option, value]),
            None => curl_front(&gateway, &[curl]),
        };
        assert!(by_curl.starts_with(&format!("shown: front {version} h2 localhost")), "{by_curl}");
        let seen = s_client(gateway.address("front"), &[openssl, "-CAfile", &cert(ECDSA_ROOT)]);
        assert!(seen.shown().starts_with(&format!("front {version}")), "{}", seen.text);
        assert_eq!(seen.line("Verify return code: "), "0 (ok)");
    }
}

#[test]
fn an_endpoint_for_tls_1_3_alone_refuses_tls_1_2_and_counts_it() {
    let gateway = start(&["localhost"], "min_version = \"1.3\"");
    let refused = s_client(gateway.address("front"), &["-tls1_2"]);
    assert!(!refused.answered() && refused.text.contains("alert protocol version"), "{}", refused.text);
    assert!(s_client(gateway.address("front"), &["-tls1_3"]).answered());
    gateway.wait_for_metric(&failures("front", "version"), 1.0);
}

#[test]
fn tls_1_1_is_refused_everywhere() {
    let gateway = start(&["localhost"], "");
    let refused = s_client(gateway.address("front"), &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(!refused.answered() && refused.text.contains("SSL alert number"), "{}", refused.text);
    gateway.wait_for_metric(&failures("front", "version"), 1.0);
}

#[test]
fn the_client_chooses_among_the_protocols_offered() {
    let gateway = start(&["localhost"], "");
    let by_curl = |option| curl_front(&gateway, &[option]);
    assert_eq!(by_curl("--http2"), "shown: front 1.3 h2 localhost false HTTP/2\n");
    assert_eq!(by_curl("--http1.1"), "shown: front 1.3 http/1.1 localhost false HTTP/1.1\n");
    assert_eq!(s_client(gateway.address("front"), &["-alpn", "h2"]).line("ALPN protocol: "), "h2");
    assert!(s_client(gateway.address("front"), &[]).text.contains("No ALPN negotiated"));
}

#[test]
fn a_client_without_a_protocol_in_common_is_refused_and_counted() {
    let gateway = start(&["localhost"], "alpn = [\"http/1.1\"]");
    let refused = s_client(gateway.address("front"), &["-alpn", "imap,h2"]);
    assert!(refused.text.contains("alert no application protocol"), "{}", refused.text);
    gateway.wait_for_metric(&failures("front", "alpn"), 1.0);
}

#[test]
fn the_name_asked_for_chooses_the_chain_exact_before_wildcard_before_first() {
    let gateway = start(&["localhost", "wildcard", "www"], "");
    let names = |asked: &str| {
        let seen = s_client(gateway.address("front"), &["-servername", asked]);
        let leaf = seen.text.split("-----BEGIN").nth(1).unwrap().split("-----END").next().unwrap();
        names_of(&format!("-----BEGIN{leaf}-----END CERTIFICATE-----\n"))
    };
    assert_eq!(names("www.example.com"), "DNS:www.example.com, DNS:example.com");
    assert_eq!(names("WWW.example.COM"), names("www.example.com"));
    assert_eq!(names("api.example.com"), "DNS:*.example.com");
    let unknown = "portcullis_tls_unknown_server_names_total{endpoint=\"front\"}";
    assert_eq!(gateway.metric(unknown), Some(0.0));
    // A wildcard stands for one label.
    for asked in ["a.b.example.com", "com", "elsewhere.test"] {
        assert!(names(asked).starts_with("DNS:localhost"), "{asked}: {}", names(asked));
    }
    gateway.wait_for_metric(unknown, 3.0);
    assert!(s_client(gateway.address("front"), &["-noservername"]).answered());
    assert_eq!(gateway.metric(unknown), Some(3.0), "who asks for no name asks for none that is unknown");
}

/// A certificate's alternative names, as openssl lists them.
fn names_of(pem: &str) -> String {
    let folder = crate::support::Folder::new();
    let file = folder.write("leaf.pem", pem);
    let output =
        Command::new("openssl").args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_client_gets_the_first_chain_whose_key_it_can_verify() {
    let gateway = start(&["localhost", "localhost-rsa"], "");
    let key = |args: &[&str]| {
        let seen = s_client(gateway.address("front"), args);
        assert!(seen.answered(), "{args:?}: {}", seen.text);
        assert_eq!(seen.line("Verify return code: "), "0 (ok)", "{args:?}");
        seen.line("Peer signature type: ").to_owned()
    };
    let (ecdsa, rsa) = (["-CAfile", &cert(ECDSA_ROOT)], ["-CAfile", &cert(RSA_ROOT)]);
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(key(&[&ecdsa[..], &[version]].concat()), "ECDSA", "{version}");
        let only_rsa = key(&[&rsa[..], &[version, "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"]].concat());
        assert_eq!(only_rsa, "RSA-PSS", "{version}");
    }
    let old = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    assert_eq!(key(&[&rsa[..], &old].concat()), "RSA-PSS");
    assert_eq!(key(&[&rsa[..], &old, &["-sigalgs", "RSA+SHA256"]].concat()), "RSA");
}

#[test]
fn a_client_that_can_verify_no_chain_is_counted_by_what_is_missing() {
    let gateway = start(&["localhost"], "");
    for args in [&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"][..], &["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"]]
    {
        assert!(!s_client(gateway.address("front"), args).answered(), "{args:?}");
    }
    gateway.wait_for_metric(&failures("front", "no_common_algorithm"), 2.0);
}

#[test]
fn the_post_quantum_group_is_the_first_choice() {
    let gateway = start(&["localhost"], "");
    let mut stream = rustls(gateway.address("front"));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream).status, 200);
    let handshakes = |group| {
        let labels = format!("endpoint=\"front\",version=\"1.3\",group=\"{group}\",resumed=\"false\"");
        format!("portcullis_tls_handshakes_total{{{labels}}}")
    };
    gateway.wait_for_metric(&handshakes("X25519MLKEM768"), 1.0);
    assert!(s_client(gateway.address("front"), &["-groups", "X25519"]).answered());
    gateway.wait_for_metric(&handshakes("x25519"), 1.0);
}

#[test]
fn h2load_is_served_over_many_connections_and_streams() {
    let gateway = start(&["localhost"], "");
    let address = gateway.address("front");
    let output = Command::new("timeout")
        .args(["30", "h2load", "-n", "400", "-c", "8", "-m", "10", &format!("https://{address}/")])
        .output()
        .expect("h2load runs; scripts/test installs it");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("400 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    gateway.wait_for_metric("portcullis_http_requests_total{endpoint=\"front\",method=\"GET\",code=\"200\"}", 400.0);
}
