//! What a client is told that is not let in: an alert that says what is wrong, and for the operator a line with its name.

use crate::support::pki::{ALWAYS, PAST, client, empty_crl};
use crate::support::tls::{endpoint, failures, s_client, show};
use crate::support::{Folder, Gateway, cert, portcullis, stderr};

/// An endpoint that requires a certificate, with lines of its `client_auth` table.
fn config(more: &str) -> String {
    let auth =
        format!("[endpoints.front.tls.client_auth]\nmode = \"required\"\nca = {:?}\n{more}\n", cert("clients-ca.pem"));
    format!("{}{}", show(), endpoint("front", &["localhost"], &auth))
}

#[test]
fn the_alert_tells_what_is_wrong_with_a_clients_certificate() {
    let folder = Folder::new();
    client(&folder, "expired", "clients-ca", "clientAuth", PAST);
    client(&folder, "server", "clients-ca", "serverAuth", ALWAYS);
    client(&folder, "stranger", "ca", "clientAuth", ALWAYS);
    let of = |name: &str| [".pem", ".key"].map(|suffix| format!("{}{suffix}", folder.path().join(name).display()));
    let shipped = |name: &str| [".pem", ".key"].map(|suffix| cert(&format!("{name}{suffix}")));
    let list = format!("crl = [{:?}]\nallow = [\"dns:*.clients.example.org\"]", cert("clients.crl"));
    let gateway = Gateway::start(&config(&list));
    for (client, alert, reason, so_far) in [
        (None, "certificate required", "client_certificate_missing", 2.0),
        (Some(of("expired")), "certificate expired", "client_certificate_invalid", 2.0),
        (Some(of("server")), "unsupported certificate", "client_certificate_invalid", 4.0),
        (Some(of("stranger")), "unknown ca", "client_certificate_invalid", 6.0),
        (Some(shipped("client-revoked")), "certificate revoked", "client_certificate_revoked", 2.0),
        (Some(shipped("client-billing")), "access denied", "client_certificate_not_allowed", 2.0),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut args = vec![version];
            if let Some([chain, key]) = &client {
                args.extend(["-cert", chain, "-key", key]);
            }
            let refused = s_client(gateway.address("front"), &args);
            // Alert 116 (RFC 8446, section 6.2) came with TLS 1.3, and OpenSSL has no word for it in 1.2.
            let told = refused.text.contains(&format!("alert {alert}")) || refused.text.contains("alert number 116");
            assert!(!refused.answered() && told, "{alert}, {version}: {}", refused.text);
        }
        gateway.wait_for_metric(&failures("front", reason), so_far); // it is counted behind the alert
    }
}

#[test]
fn a_failed_handshake_is_logged_with_the_name_that_was_asked_for() {
    let mut gateway = Gateway::start(&config(""));
    let refused = s_client(gateway.address("front"), &["-servername", "WWW.example.com"]);
    assert!(!refused.answered());
    let line = gateway.wait_for_log("TLS handshake failed");
    for part in ["sni=\"www.example.com\"", "reason=client_certificate_missing", "endpoint=front"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn revocation_lists_that_say_less_than_they_seem_to_are_refused_with_the_reason() {
    let folder = Folder::new();
    let config = config("crl = [\"list.crl\"]");
    let file = folder.write("gateway.toml", config);
    let scope = |line: &str| format!("issuingDistributionPoint = critical,@scope\n[scope]\n{line}");
    for (extensions, said) in [
        (scope("indirectCRL = TRUE"), "it is indirect"),
        (scope("fullname = URI:http://ca.test/1.crl"), "it is a partition"),
        (scope("onlysomereasons = keyCompromise"), "some reasons for revocation only"),
        (scope("onlyAA = TRUE"), "attribute certificates"),
        ("2.5.29.27 = critical,DER:020101".into(), "(a delta)"),
        (String::new(), ""),
    ] {
        empty_crl(&folder, &folder.path().join("list.crl"), &extensions);
        let output = portcullis(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
        let text = stderr(&output);
        let refused =
            output.status.code() == Some(1) && text.contains("client_auth.crl: ") && text.contains("list.crl: ");
        assert_eq!(refused, !said.is_empty(), "{extensions}: {text}");
        assert!(text.contains(said), "{said:?}: {text}");
    }
}
