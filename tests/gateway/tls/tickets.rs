//! Session tickets of a fleet: gateways with one file of keys resume each other's sessions, and nothing else does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::pki::empty_crl;
use crate::support::tls::{Handshake, endpoint, failures, s_client, show};
use crate::support::{Folder, Gateway, cert, portcullis, stderr};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// A key of 48 bytes in base64.
fn key(n: u8) -> String {
    (0..64).map(|i: u8| char::from(b'A' + (i + n * 7) % 26)).collect()
}

/// Writes keys where [`gateway`]'s endpoint looks for them.
fn write_keys(folder: &Path, keys: &[String]) {
    let file = folder.join("tickets.key");
    fs::write(&file, keys.join("\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn config(more: &str) -> String {
    let tickets = format!("{more}\ntickets = {{ keys = \"tickets.key\" }}");
    format!("{}{}", show(), endpoint("front", &["localhost"], &tickets))
}

fn gateway(keys: &[String], more: &str) -> Gateway {
    let folder = Folder::new();
    write_keys(folder.path(), keys);
    Gateway::start_in(folder, &config(more))
}

/// Begins a session at one gateway, and offers it to another.
fn resumed(first: &Gateway, second: &Gateway, version: &str) -> bool {
    let folder = Folder::new();
    let session = folder.path().join("session");
    let session = session.to_str().unwrap();
    assert!(s_client(first.address("front"), &[version, "-sess_out", session]).answered());
    let seen = s_client(second.address("front"), &[version, "-sess_in", session]);
    assert!(seen.answered(), "{}", seen.text);
    seen.text.contains("Reused, ")
}

#[test]
fn gateways_that_share_keys_resume_each_others_sessions() {
    let (first, second) = (gateway(&[key(1), key(2)], ""), gateway(&[key(2), key(1)], ""));
    let stranger = gateway(&[key(3)], "");
    for version in VERSIONS {
        assert!(resumed(&first, &second, version) && resumed(&second, &first, version), "{version}");
        assert!(!resumed(&first, &stranger, version), "{version}");
    }
    let ids = |gateway: &Gateway| {
        let keys = gateway.json("/endpoints/front")["tickets"]["keys"].clone();
        keys.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (mut one, other) = (ids(&first), ids(&second));
    one.reverse();
    assert_eq!(one, other, "equal keys have equal names");
    for secret in [key(1), key(2)] {
        assert!(!first.get("/endpoints/front").body.contains(&secret) && !first.get("/config").body.contains(&secret));
    }
    let since = first.metric("portcullis_tls_ticket_key_timestamp_seconds{endpoint=\"front\"}").unwrap();
    assert!(since > 1_700_000_000.0, "{since}");
}

#[test]
fn shared_keys_do_not_lead_past_other_client_authentication() {
    let auth = |mode: &str| format!("client_auth = {{ mode = \"{mode}\", ca = {:?} }}", cert("clients-ca.pem"));
    let (open, optional) = (gateway(&[key(1)], ""), gateway(&[key(1)], &auth("optional")));
    let other_optional = gateway(&[key(1)], &auth("optional"));
    for version in VERSIONS {
        assert!(!resumed(&open, &optional, version) && !resumed(&optional, &open, version), "{version}");
        assert!(resumed(&optional, &other_optional, version), "{version}");
    }
}

#[test]
fn a_file_of_new_keys_is_taken_over_at_a_reload() {
    let front = gateway(&[key(1)], "");
    let turning = gateway(&[key(1)], "");
    assert!(resumed(&front, &turning, "-tls1_3"));
    write_keys(turning.folder.path(), &[key(2), key(1)]);
    assert!(turning.reload().contains("front"));
    let keys = turning.json("/endpoints/front")["tickets"]["keys"].as_array().unwrap().len();
    assert_eq!(keys, 2);
    assert!(resumed(&front, &turning, "-tls1_3"), "the old key still opens");
    assert!(!resumed(&turning, &front, "-tls1_3"), "the new one seals");
}

/// A connection with the client certificate that `clients.crl` revokes.
fn as_revoked(gateway: &Gateway, args: &[&str]) -> Handshake {
    let (chain, key) = (cert("client-revoked.pem"), cert("client-revoked.key"));
    s_client(gateway.address("front"), &[&["-cert", &chain, "-key", &key], args].concat())
}

#[test]
fn a_client_that_was_revoked_since_is_refused_with_its_session_too() {
    let auth = |crl: &str| {
        format!("client_auth = {{ mode = \"required\", ca = {:?}, crl = [{crl:?}] }}", cert("clients-ca.pem"))
    };
    // Two gateways of one fleet: the second has had the new list, the first has an empty one.
    let folder = Folder::new();
    let empty = folder.path().join("empty.crl");
    empty_crl(&folder, &empty, "");
    let (first, second) =
        (gateway(&[key(1)], &auth(empty.to_str().unwrap())), gateway(&[key(1)], &auth(&cert("clients.crl"))));
    for version in VERSIONS {
        let session = folder.path().join(version);
        let session = session.to_str().unwrap();
        assert!(as_revoked(&first, &[version, "-sess_out", session]).answered());
        let again = as_revoked(&first, &[version, "-sess_in", session]);
        assert!(again.answered() && again.text.contains("Reused, "), "{}", again.text);
        let refused = as_revoked(&second, &[version, "-sess_in", session]);
        assert!(!refused.answered() && refused.text.contains("alert certificate revoked"), "{}", refused.text);
    }
    second.wait_for_metric(&failures("front", "client_certificate_revoked"), 2.0);
}

#[test]
fn a_reload_with_new_revocation_lists_refuses_the_revoked_with_their_sessions_and_keeps_those_of_others() {
    let folder = Folder::new();
    let list = folder.path().join("clients.crl");
    empty_crl(&folder, &list, "");
    let auth =
        format!("client_auth = {{ mode = \"required\", ca = {:?}, crl = [\"clients.crl\"] }}", cert("clients-ca.pem"));
    let gateway = Gateway::start_in(folder, &format!("{}{}", show(), endpoint("front", &["localhost"], &auth)));
    let (chain, key) = (cert("client.pem"), cert("client.key"));
    let as_other =
        |args: &[&str]| s_client(gateway.address("front"), &[&["-cert", &chain, "-key", &key], args].concat());
    let session = |name: &str, version: &str| format!("{}{version}", gateway.folder.path().join(name).display());
    for version in VERSIONS {
        assert!(as_revoked(&gateway, &[version, "-sess_out", &session("revoked", version)]).answered());
        assert!(as_other(&[version, "-sess_out", &session("other", version)]).answered());
    }
    fs::copy(cert("clients.crl"), gateway.folder.path().join("clients.crl")).unwrap();
    gateway.reload();
    for version in VERSIONS {
        let refused = as_revoked(&gateway, &[version, "-sess_in", &session("revoked", version)]);
        assert!(!refused.answered() && refused.text.contains("alert certificate revoked"), "{}", refused.text);
        let resumed = as_other(&[version, "-sess_in", &session("other", version)]);
        assert!(resumed.answered() && resumed.text.contains("Reused, "), "{}", resumed.text);
    }
}

#[test]
fn a_key_file_that_others_can_read_or_that_holds_no_key_is_refused_with_its_place() {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config(""));
    let check = || {
        let output = portcullis(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    for (mode, content, said) in [
        (0o644, key(1), "its mode is 0644"),
        (0o600, "not a key".into(), "tickets.key: line 1: it is not base64"),
        (0o600, String::new(), "openssl rand -base64 48"),
    ] {
        write_keys(folder.path(), &[content]);
        let keys = folder.path().join("tickets.key");
        fs::set_permissions(&keys, fs::Permissions::from_mode(mode)).unwrap();
        let (status, text) = check();
        assert!(status == Some(1) && text.contains("tls.tickets.keys: ") && text.contains(said), "{said}: {text}");
    }
    write_keys(folder.path(), &[key(1)]);
    assert_eq!(check().0, Some(0));
    folder.write("gateway.toml", config("").replace("keys = \"tickets.key\"", "lifetime = \"8d\""));
    let (status, text) = check();
    assert!(status == Some(1) && text.contains("tls.tickets.lifetime: ") && text.contains("7 days at most"), "{text}");
}

#[test]
fn a_key_that_openssl_makes_is_taken_as_text_and_as_it_is() {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config(""));
    for args in [&["rand", "-base64", "48"][..], &["rand", "80"], &["rand", "48"]] {
        let made = std::process::Command::new("openssl").args(args).output().unwrap();
        fs::write(folder.path().join("tickets.key"), made.stdout).unwrap();
        fs::set_permissions(folder.path().join("tickets.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let output = portcullis(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    }
}
