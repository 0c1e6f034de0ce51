//! TLS to servers: whose certificate is believed, which name it must prove, and what comes before the handshake.

use std::io::{Read, Write};
use std::net::SocketAddr;

use super::{GET, ONE_WORKER, answers, counted, of_server, tally};
use crate::support::client::{ask, connect};
use crate::support::peers::{Peer, free_address};
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, cert, http_proxy, run, stderr, tcp_proxy, with_app};

/// nginx that also serves TLS, with the certificate of www.example.com, at the address that is returned.
fn nginx(more: &str) -> (Peer, SocketAddr) {
    let address = free_address();
    let directives = format!(
        "listen {address} ssl http2; ssl_certificate {}; ssl_certificate_key {}; {more}
         location / {{ return 200 \"$ssl_server_name $ssl_client_s_dn $ssl_session_reused\"; }}",
        cert("www.pem"),
        cert("www.key"),
    );
    (Peer::nginx(Folder::new(), &directives), address)
}

/// Lines of a `tls` table.
fn trusting(ca: &str, more: &str) -> String {
    format!("tls = {{ ca = {:?}, {more} }}", cert(ca))
}

const NAMED: &str = "server_name = \"www.example.com\"";

#[test]
fn a_server_that_proves_its_name_is_spoken_to_over_one_kept_connection() {
    let (_nginx, address) = nginx("");
    let gateway = Gateway::start(&with_app(&http_proxy(&[address], ONE_WORKER), &trusting("ca.pem", NAMED)));
    assert_eq!(tally(&answers(&gateway, GET, 10)), counted(&[("www.example.com  .", 10)]));
    gateway.wait_for_metric(&of_server("connects_total", address), 1.0);
}

#[test]
fn a_server_whose_certificate_does_not_verify_gets_nothing() {
    let (_nginx, address) = nginx("");
    for (ca, more) in [("ca-rsa.pem", NAMED), ("ca.pem", "server_name = \"other.example.com\""), ("ca.pem", "")] {
        let gateway = Gateway::start(&with_app(&http_proxy(&[address], ""), &trusting(ca, more)));
        let answer = ask(&mut connect(gateway.address("front")), GET);
        assert_eq!(answer.status, 502, "{ca} {more}");
        assert!(answer.field("proxy-status").unwrap().contains("error=tls_certificate_error"), "{answer:?}");
        let failures = format!("failures_total{{upstream=\"app\",server=\"{address}\",reason=\"tls\"}}");
        gateway.wait_for_metric(&format!("portcullis_upstream_{failures}"), 1.0);
    }
}

#[test]
fn an_authority_whose_file_changes_is_believed_without_a_word() {
    let (_nginx, address) = nginx("");
    let folder = Folder::new();
    folder.write("authority.pem", std::fs::read(cert("ca-rsa.pem")).unwrap());
    let tls = format!("tls = {{ ca = \"authority.pem\", {NAMED} }}");
    let mut gateway = Gateway::start_in(folder, &with_app(&http_proxy(&[address], ""), &tls));
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 502);
    gateway.folder.write("authority.pem", std::fs::read(cert("ca.pem")).unwrap());
    gateway.wait_for_log("files or the clock have changed; reloaded: changed front");
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 200);
    gateway.folder.write("authority.pem", "half of it");
    gateway.wait_for_log("files have changed and are not taken");
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 200);
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_the_gateways_own() {
    let (_nginx, address) = nginx(&format!("ssl_client_certificate {}; ssl_verify_client on;", cert("clients-ca.pem")));
    let own = format!("{NAMED}, chain = {:?}, key = {:?}", cert("client.pem"), cert("client.key"));
    let gateway = Gateway::start(&with_app(&http_proxy(&[address], ""), &trusting("ca.pem", &own)));
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).body, "www.example.com CN=ops .");

    let gateway = Gateway::start(&with_app(&http_proxy(&[address], ""), &trusting("ca.pem", NAMED)));
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 400, "nginx wants one");
}

#[test]
fn the_gateways_own_chain_is_shown_in_the_order_of_its_path() {
    let own = format!("{NAMED}, chain = {:?}, key = {:?}", cert("leaf-last.pem"), cert("leaf-last.key"));
    let gateway = Gateway::start(&with_app(&http_proxy(&[free_address()], ""), &trusting("ca.pem", &own)));
    assert_eq!(gateway.count_in_log("(rule leaf-not-first)"), 1);
}

#[test]
fn what_the_audit_finds_of_an_upstreams_files_is_told_at_start_up_and_by_check() {
    let own = format!("{NAMED}, chain = {:?}, key = {:?}", cert("expired.pem"), cert("expired.key"));
    let config = with_app(&http_proxy(&[free_address()], ""), &trusting("ca.pem", &own));
    assert_eq!(Gateway::start(&config).count_in_log("(rule eku-no-client)"), 1);
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config);
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("\nupstreams:\n  trust ") && said.contains("(rule eku-no-client)"), "{said}");
}

#[test]
fn what_a_server_says_before_the_handshake_is_never_taken_for_an_answer() {
    let eager = Upstream::start(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        let _ = stream.read(&mut [0; 4096]);
    });
    for proxy in [http_proxy, tcp_proxy] {
        let config = with_app(&proxy(&[eager.address], ""), &trusting("ca.pem", NAMED));
        let gateway = Gateway::start(&config);
        let mut stream = connect(gateway.address("front"));
        let _ = stream.write_all(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes());
        let text = crate::support::client::read_to_close(&mut stream);
        assert!(!text.contains("evil"), "{text}");
        assert!(text.is_empty() || text.contains("error=tls_protocol_error"), "{text}");
    }
}

#[test]
fn a_session_goes_over_tls_too() {
    let (_nginx, address) = nginx("");
    let gateway = Gateway::start(&with_app(&tcp_proxy(&[address], ""), &trusting("ca.pem", NAMED)));
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).body, "www.example.com  .");
}

#[test]
fn checks_shake_hands_as_requests_do() {
    let (_nginx, address) = nginx("");
    let checks = "health = { path = \"/\", interval = \"20ms\", healthy = 1, unhealthy = 1 }";
    for (ca, healthy) in [("ca.pem", 1.0), ("ca-rsa.pem", 0.0)] {
        let keys = format!("{checks}\n{}", trusting(ca, NAMED));
        let gateway = Gateway::start(&with_app(&http_proxy(&[address], ""), &keys));
        let result = if healthy > 0.5 { "passed" } else { "failed" };
        let series = format!("upstream=\"app\",server=\"{address}\",result=\"{result}\"");
        while gateway.metric(&format!("portcullis_upstream_checks_total{{{series}}}")).unwrap() < 1.0 {
            std::thread::yield_now();
        }
        gateway.wait_for_metric(&of_server("server_healthy", address), healthy);
    }
}

#[test]
fn what_is_wrong_with_the_files_is_said_with_its_place() {
    for (table, said) in [
        ("ca = \"missing.pem\"", "upstreams.app.tls.ca: "),
        ("ca = \"CA\", chain = \"CHAIN\"", "upstreams.app.tls.chain: it has no key"),
        ("ca = \"CA\", chain = \"CHAIN\", key = \"CA\"", "upstreams.app.tls.key: "),
        ("ca = \"CA\", chain = \"CHAIN\", key = \"OTHER\"", "upstreams.app.tls.key: it cannot be used"),
        (
            "ca = \"CA\", chain = \"CHAIN\", key = \"SEALED\"",
            "encrypted.key: the private key is encrypted; openssl pkey -in ",
        ),
        ("ca = \"CA\", chain = \"GLUED\", key = \"OTHER\"", "glued.pem: the block at line 13 is glued to the END line"),
        ("ca = \"CA\", server_name = \"a b\"", "upstreams.app.tls.server_name: \"a b\" is neither"),
    ] {
        let words = [
            ("\"CA\"", "ca.pem"),
            ("\"CHAIN\"", "client.pem"),
            ("\"OTHER\"", "www.key"),
            ("\"SEALED\"", "encrypted.key"),
            ("\"GLUED\"", "glued.pem"),
        ];
        let table =
            words.iter().fold(table.to_owned(), |t, (word, file)| t.replace(word, &format!("{:?}", cert(file))));
        let config = with_app(&http_proxy(&[free_address()], ""), &format!("tls = {{ {table} }}"));
        let folder = Folder::new();
        let path = folder.write("gateway.toml", config);
        let output = run(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{table}");
        assert!(stderr(&output).contains(said), "{said:?} is not in\n{}", stderr(&output));
    }
}
