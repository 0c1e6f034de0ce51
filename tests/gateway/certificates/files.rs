//! Chain and key files that cannot be used: their endpoint is refused with a remedy, and the others serve.

use super::{check, config, connect, does_not_start, view};
use crate::support::tls::{ECDSA_ROOT, endpoint, endpoint_with};
use crate::support::{Folder, Gateway, cert};

/// An endpoint's name, its chain and key (in `certs/` or the test's folder), the rule it falls by, and part of the reason.
const CASES: &[(&str, &str, &str, &str, &str)] = &[
    ("missing", "missing.pem", "localhost.key", "file-unreadable", "correct the path"),
    ("directory", "folder", "localhost.key", "file-unreadable", "directory"),
    ("loop", "loop.pem", "localhost.key", "file-unreadable", "loop.pem"),
    ("empty", "empty.pem", "localhost.key", "pem-no-cert", "empty"),
    ("garbage", "garbage.pem", "localhost.key", "pem-no-cert", "garbage.pem"),
    ("base64", "base64.pem", "localhost.key", "pem-malformed", "base64.pem"),
    ("der", "localhost.der", "localhost.key", "pem-no-cert", "openssl x509 -inform DER"),
    ("pkcs7", "localhost.p7b", "localhost.key", "pem-no-cert", "openssl pkcs7"),
    ("pkcs12", "localhost.p12", "localhost.key", "pem-no-cert", "openssl pkcs12"),
    ("request", "localhost.csr", "localhost.key", "pem-no-cert", "request"),
    ("swapped", "localhost.key", "localhost.pem", "pem-no-cert", "key"),
    ("glued", "glued.pem", "localhost.key", "pem-malformed", "glued to the END line"),
    ("cut", "no-end.pem", "localhost.key", "pem-malformed", "no END line"),
    ("mark", "bom.pem", "localhost.key", "pem-no-cert", "byte order mark"),
    ("no-key", "localhost.pem", "missing.key", "key-unusable", "missing.key"),
    ("empty-key", "localhost.pem", "empty.pem", "key-unusable", "empty.pem"),
    ("encrypted-key", "localhost.pem", "encrypted.key", "key-unusable", "encrypted"),
    ("two-keys", "localhost.pem", "two.key", "key-unusable", "two.key"),
    ("der-key", "localhost.pem", "localhost-key.der", "key-unusable", "openssl pkey -inform DER"),
    ("mismatch", "localhost.pem", "mismatch.key", "key-mismatch", "localhost.pem"),
];

/// A file of the test's folder if it is there, else of `certs/`.
fn place(folder: &Folder, name: &str) -> String {
    let own = folder.path().join(name);
    if own.symlink_metadata().is_ok() || name.starts_with("missing") { own.display().to_string() } else { cert(name) }
}

fn prepared() -> (Folder, String) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("loop.pem", folder.path().join("loop.pem")).unwrap();
    folder.write("empty.pem", "");
    folder.write("garbage.pem", [0xff, 0, 0x42, 0x0a].repeat(100));
    folder.write("base64.pem", "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    let ends: Vec<String> = CASES
        .iter()
        .map(|(name, chain, key, ..)| {
            let pair = (place(&folder, chain), place(&folder, key));
            endpoint_with(name, "internal", "show", &[pair], "")
        })
        .collect();
    (folder, config(&ends))
}

#[test]
fn an_unusable_file_refuses_its_endpoint_with_a_remedy_and_the_others_serve() {
    let (_folder, bad) = prepared();
    let gateway = Gateway::start(&format!("{bad}{}", endpoint("good", &["localhost"], "")));
    connect(&gateway, "good", ECDSA_ROOT);
    for (name, chain, _, rule, part) in CASES {
        let (view, reasons) = view(&gateway, name);
        assert_eq!(view["state"], "refused", "{name}");
        assert!(reasons.contains(&format!("(rule {rule})")), "{name} ({chain}): {reasons}");
        assert!(reasons.contains(part), "{name}: {part:?} is not in {reasons:?}");
    }
}

#[test]
fn check_lists_every_unusable_file_and_fails() {
    let (_folder, bad) = prepared();
    let (status, said) = check(&format!("{bad}{}", endpoint("good", &["localhost"], "")));
    assert_eq!(status, Some(1), "{said}");
    for (name, _, _, rule, _) in CASES {
        let told = said
            .lines()
            .any(|line| line.starts_with(&format!("endpoint \"{name}\"")) && line.contains(&format!("(rule {rule})")));
        assert!(told, "{name}, {rule}:\n{said}");
    }
}

#[test]
fn nothing_but_unusable_files_starts_nothing() {
    let (_folder, bad) = prepared();
    let said = does_not_start(&bad);
    for (name, ..) in CASES {
        assert!(said.contains(&format!("endpoint {name:?}")), "{name}:\n{said}");
    }
}

#[test]
fn an_unusable_first_file_falls_back_to_a_chain_for_the_endpoints_names() {
    let pairs = [(cert("missing.pem"), cert("localhost.key")), (cert("localhost.pem"), cert("localhost.key"))];
    let end = endpoint_with("front", "public", "show", &pairs, "server_names = [\"localhost\"]");
    let gateway = Gateway::start(&config(&[end]));
    connect(&gateway, "front", ECDSA_ROOT);
    assert_eq!(gateway.metric("portcullis_certificate_fallback_active{endpoint=\"front\"}"), Some(1.0));
}
