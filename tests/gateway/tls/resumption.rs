//! A session is resumed where it began, and nowhere else: not at another endpoint, and not past client authentication.

use std::path::Path;

use crate::support::tls::{Handshake, endpoint, failures, s_client, show};
use crate::support::{Folder, Gateway, cert};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// Settings that ask clients for a certificate.
fn client_auth(mode: &str) -> String {
    format!("client_auth = {{ mode = \"{mode}\", ca = {:?} }}", cert("clients-ca.pem"))
}

/// A first session with an endpoint, kept in a file.
fn begin(gateway: &Gateway, endpoint: &str, version: &str, more: &[&str], session: &Path) {
    let session = session.to_str().unwrap();
    let args = [&[version, "-sess_out", session], more].concat();
    let first = s_client(gateway.address(endpoint), &args);
    assert!(first.answered() && first.line("New, ").starts_with("TLS"), "{}", first.text);
}

/// Another connection that offers the kept session.
fn again(gateway: &Gateway, endpoint: &str, version: &str, session: &Path) -> Handshake {
    s_client(gateway.address(endpoint), &[version, "-sess_in", session.to_str().unwrap()])
}

#[test]
fn a_session_is_resumed_at_its_endpoint_and_counted() {
    let gateway = Gateway::start(&format!("{}{}", show(), endpoint("front", &["localhost"], "")));
    let folder = Folder::new();
    for version in VERSIONS {
        let session = folder.path().join(version);
        begin(&gateway, "front", version, &[], &session);
        let second = again(&gateway, "front", version, &session);
        assert!(second.answered() && second.line("Reused, ").starts_with("TLS"), "{}", second.text);
        assert!(second.shown().contains(" true "), "{}", second.text);
    }
    let metrics = gateway.get("/metrics").body;
    for version in ["1.2", "1.3"] {
        let resumed =
            |line: &&str| line.contains(&format!("version=\"{version}\"")) && line.contains("resumed=\"true\"");
        assert_eq!(metrics.lines().filter(resumed).count(), 1, "{metrics}");
    }
}

#[test]
fn a_session_is_not_resumed_at_another_endpoint() {
    let ends = [endpoint("front", &["localhost"], ""), endpoint("back", &["localhost"], "")];
    let gateway = Gateway::start(&format!("{}{}", show(), ends.concat()));
    let folder = Folder::new();
    for version in VERSIONS {
        let session = folder.path().join(version);
        begin(&gateway, "front", version, &[], &session);
        let elsewhere = again(&gateway, "back", version, &session);
        assert!(elsewhere.answered() && elsewhere.line("New, ").starts_with("TLS"), "{}", elsewhere.text);
    }
}

#[test]
fn a_session_does_not_lead_past_client_authentication() {
    let ends = [
        endpoint("open", &["localhost"], ""),
        endpoint("asking", &["localhost"], &client_auth("optional")),
        endpoint("closed", &["localhost"], &client_auth("required")),
    ];
    let gateway = Gateway::start(&format!("{}{}", show(), ends.concat()));
    let folder = Folder::new();
    for (version, begun_at) in VERSIONS.into_iter().flat_map(|v| [(v, "open"), (v, "asking")]) {
        let session = folder.path().join(format!("{version}{begun_at}"));
        begin(&gateway, begun_at, version, &[], &session);
        let refused = again(&gateway, "closed", version, &session);
        assert!(!refused.answered(), "{version} from {begun_at}: {}", refused.text);
    }
    gateway.wait_for_metric(&failures("closed", "client_certificate_missing"), 4.0);
}

#[test]
fn a_resumed_session_still_knows_its_client_certificate() {
    let config = format!("{}{}", show(), endpoint("closed", &["localhost"], &client_auth("required")));
    let gateway = Gateway::start(&config);
    let folder = Folder::new();
    let (client, key) = (cert("client.pem"), cert("client.key"));
    for version in VERSIONS {
        let session = folder.path().join(version);
        begin(&gateway, "closed", version, &["-cert", &client, "-key", &key], &session);
        let second = again(&gateway, "closed", version, &session);
        assert!(second.answered() && second.line("Reused, ").starts_with("TLS"), "{}", second.text);
    }
}
