//! Certificates and files that are odd in ways that OpenSSL does not make on demand, each with what is found of it.
//!
//! A table of chains that are written here, octet by octet where that is what is odd, and signed with real keys.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use rcgen::{KeyPair, SigningKey};

use super::policy::Policy;
use super::tests::{certs, found, pem_of, subject};
use super::{Audited, audit};
use crate::identity::Class;
use crate::tls::chain::Material;

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const BMP: u8 = 0x1e;

/// A name of one common name.
fn name(tag: u8, text: &[u8]) -> Vec<u8> {
    seq(&[&tlv(0x31, &seq(&[&[6, 3, 0x55, 4, 3], &tlv(tag, text)]))])
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    seq(&[&tlv(6, id), critical, &tlv(4, value)])
}

fn san(critical: bool, names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, name)| tlv(*tag, name)).collect();
    extension(&[0x55, 0x1d, 0x11], critical, &tlv(0x30, &names.concat()))
}

fn ca() -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x13], true, &[0x30, 3, 1, 1, 0xff])
}

/// What is written into a certificate; everything is as it should be unless it is told otherwise.
struct Draft {
    version: u8,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    times: Vec<u8>,
    subject: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

const DNS: u8 = 0x82;
const IP: u8 = 0x87;

/// A leaf for www.example.com, by "CA".
fn leaf() -> Draft {
    Draft {
        version: 2,
        serial: vec![0x11; 8],
        issuer: name(UTF8, b"CA"),
        times: [tlv(0x17, b"260101000000Z"), tlv(0x18, b"20501231235959Z")].concat(),
        subject: name(UTF8, b"www.example.com"),
        extensions: vec![
            extension(&[0x55, 0x1d, 0x25], false, &[0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1]), // serverAuth
            san(false, &[(DNS, b"www.example.com")]),
        ],
    }
}

/// An authority "CA", by an issuer of this name.
fn authority(issuer: &str) -> Draft {
    let name_of = |text: &str| name(UTF8, text.as_bytes());
    Draft { issuer: name_of(issuer), subject: name_of("CA"), extensions: vec![ca()], ..leaf() }
}

impl Draft {
    fn sign(&self, key: &KeyPair, issuer: &KeyPair) -> Vec<u8> {
        let version = tlv(0xa0, &[2, 1, self.version]);
        let version = if self.version == 0 { &[][..] } else { &version };
        let all = tlv(0xa3, &tlv(0x30, &self.extensions.concat()));
        let all = if self.extensions.is_empty() { &[][..] } else { &all };
        let spki = rcgen::PublicKeyData::subject_public_key_info(key);
        let serial = tlv(2, &self.serial);
        let validity = tlv(0x30, &self.times);
        let tbs = seq(&[version, &serial, ECDSA_SHA256, &self.issuer, &validity, &self.subject, &spki, all]);
        let signature = [&[0][..], &issuer.sign(&tbs).unwrap()].concat();
        seq(&[&tbs, ECDSA_SHA256, &tlv(3, &signature)])
    }

    fn with(mut self, change: impl Fn(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn judged(chain: &[Vec<u8>], profile: Class) -> Audited {
    let pem: String = chain.iter().map(|der| pem_of(der)).collect();
    audit(&Material::from_pem(Path::new("odd.pem"), pem.as_bytes(), None), &subject(profile), &Policy::default())
}

/// What is found of a leaf under an issuer that is as it should be, for one's own network.
fn of(draft: &Draft) -> Vec<String> {
    let (key, issuer) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    found(&judged(&[draft.sign(&key, &issuer), authority("Root").sign(&issuer, &issuer)], Class::Internal))
}

#[test]
fn an_odd_leaf_is_read_and_told_for_what_is_odd() {
    let serial = |serial: &[u8]| leaf().with(|draft| draft.serial = serial.to_vec());
    let times = |begin: &[u8], end: &[u8]| leaf().with(|draft| draft.times = [begin, end].concat());
    let utc = |text: &[u8]| tlv(0x17, text);
    let general = |text: &[u8]| tlv(0x18, text);
    let named = |names: &[(u8, &[u8])]| leaf().with(|draft| draft.extensions[1] = san(false, names));
    let subject = |name: Vec<u8>| leaf().with(|draft| draft.subject = name.clone());
    let with = |id: &[u8], value: &[u8]| leaf().with(|draft| draft.extensions.push(extension(id, true, value)));
    let refused = &["critical-unknown@1 deny"][..];
    let nonconforming = &["cert-nonconforming@1 info"][..];
    let unreadable = &["cert-unparseable@1 deny"][..];
    let no_name = &["san-missing@1 error", "san-suspicious@1 info"][..];
    let bmp: Vec<u8> = "www.example.com".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let cases: Vec<(&str, Draft, &[&str])> = vec![
        ("nothing", leaf(), &[]),
        ("a serial number of 20 octets", serial(&[0x7f; 20]), &[]),
        ("a serial number of 21 octets", serial(&[0x7f; 21]), nonconforming),
        ("a negative serial number", serial(&[0xff, 1]), nonconforming),
        ("the serial number zero", serial(&[0]), nonconforming),
        ("a serial number with an octet too many", serial(&[0, 1]), unreadable),
        ("a time without seconds", times(&utc(b"2601010000Z"), &general(b"20501231235959Z")), unreadable),
        ("a time with an offset", times(&utc(b"260101000000+0000"), &general(b"20501231235959Z")), unreadable),
        ("a time with a fraction", times(&utc(b"260101000000Z"), &general(b"20501231235958.5Z")), unreadable),
        (
            "an octet behind an extension's value",
            leaf().with(|draft| {
                let value = [&[0x30, 17, DNS, 15][..], b"www.example.com", &[0]].concat();
                draft.extensions[1] = extension(&[0x55, 0x1d, 0x11], false, &value);
            }),
            unreadable,
        ),
        (
            "a truth that is neither 00 nor FF",
            leaf().with(|draft| {
                draft.extensions.push(seq(&[&[6, 3, 0x55, 0x1d, 0x0f, 1, 1, 1], &[4, 4, 3, 2, 7, 0x80]]))
            }),
            unreadable,
        ),
        (
            "a GeneralizedTime before 2050",
            times(&general(b"20260101000000Z"), &general(b"20501231235959Z")),
            nonconforming,
        ),
        (
            "the last second of time",
            times(&utc(b"260101000000Z"), &general(b"99991231235959Z")),
            &["issuer-expires-first@2 info"],
        ),
        ("the last UTCTime of the century before", times(&utc(b"500101000000Z"), &utc(b"491231235959Z")), &[]),
        (
            "an end before the beginning",
            times(&utc(b"260101000000Z"), &utc(b"250101000000Z")),
            &["not-yet-valid@1 error", "expired@1 error"],
        ),
        ("a common name in UTF-16", subject(name(BMP, &bmp)), &[]),
        ("a common name in PrintableString", subject(name(PRINTABLE, b"www.example.com")), &[]),
        ("a common name in UTF-8 beyond ASCII", subject(name(UTF8, "bücher".as_bytes())), &[]),
        ("an empty subject, alternative names not critical", subject(seq(&[])), nonconforming),
        (
            "an empty subject, alternative names critical",
            subject(seq(&[])).with(|draft| draft.extensions[1] = san(true, &[(DNS, b"www.example.com")])),
            &[],
        ),
        ("an IPv4 and an IPv6 address", named(&[(IP, &[10, 0, 0, 1]), (IP, &[0; 16]), (DNS, b"www.example.com")]), &[]),
        (
            "an address of five octets",
            named(&[(IP, &[10, 0, 0, 1, 5]), (DNS, b"www.example.com")]),
            &["san-suspicious@1 info"],
        ),
        ("an address as a name", named(&[(DNS, b"10.0.0.1")]), no_name),
        ("a name with a dot at its end", named(&[(DNS, b"www.example.com.")]), no_name),
        ("a name with an empty label", named(&[(DNS, b"www..example.com")]), no_name),
        ("a name with a label of 64 octets", named(&[(DNS, &[b'a'; 64])]), no_name),
        ("a name with a NUL", named(&[(DNS, b"www.example.com\0.evil.example")]), no_name),
        (
            "an internationalized name, encoded",
            named(&[(DNS, b"xn--bcher-kva.example.com"), (DNS, b"www.example.com")]),
            &[],
        ),
        ("an internationalized name, not encoded", named(&[(DNS, "bücher.example.com".as_bytes())]), no_name),
        ("a name with an underscore", named(&[(DNS, b"a_b.example.com"), (DNS, b"www.example.com")]), &[]),
        ("only a URI", named(&[(0x86, b"https://www.example.com")]), &["san-missing@1 error"]),
        ("an extension twice", leaf().with(|draft| draft.extensions.push(draft.extensions[1].clone())), unreadable),
        ("a critical key identifier", with(&[0x55, 0x1d, 0x0e], &[4, 1, 7]), refused),
        ("critical TLS features", with(&[0x2b, 6, 1, 5, 5, 7, 1, 0x18], &[0x30, 3, 2, 1, 17]), refused),
        ("critical policy constraints", with(&[0x55, 0x1d, 0x24], &[0x30, 3, 0x80, 1, 0]), &[]),
        (
            "version 2",
            leaf().with(|draft| draft.version = 1),
            &["cert-unparseable@1 deny", "cert-nonconforming@1 info"],
        ),
        ("version 4", leaf().with(|draft| draft.version = 3), unreadable),
    ];
    let other = |(what, draft, expected): (&str, Draft, &[&str])| {
        let seen = of(&draft);
        (seen != expected).then(|| format!("{what}: {seen:?}, not {expected:?}"))
    };
    let wrong: Vec<String> = cases.into_iter().filter_map(other).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn bytes_after_the_signature_and_lengths_that_are_not_der_are_refused() {
    let (key, issuer) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let leaf = leaf().sign(&key, &issuer);
    // A SEQUENCE of more than 255 octets: its length has two.
    let content = &leaf[4..];
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    for changed in [seq(&[content, &[5, 0]]), [&[0x30, 0x84], &length[..], content].concat()] {
        let audited = judged(&[changed, authority("Root").sign(&issuer, &issuer)], Class::Internal);
        assert_eq!(found(&audited), ["cert-unparseable@1 deny"]);
    }
}

#[test]
fn a_leaf_of_version_1_with_extensions_is_refused() {
    let draft = leaf().with(|draft| draft.version = 0);
    assert!(of(&draft).contains(&"cert-unparseable@1 deny".to_owned()), "{:?}", of(&draft));
}

/// Keys of a leaf, its issuer, and two roots.
fn keys() -> [KeyPair; 4] {
    std::array::from_fn(|_| KeyPair::generate().unwrap())
}

fn named(draft: Draft, subject: &str) -> Draft {
    draft.with(|draft| draft.subject = name(UTF8, subject.as_bytes()))
}

fn expired(draft: Draft) -> Draft {
    draft.with(|draft| draft.times = [tlv(0x17, b"200101000000Z"), tlv(0x17, b"210101000000Z")].concat())
}

#[test]
fn of_several_paths_the_soundest_as_a_whole_is_taken() {
    let [key, ca, old, new] = keys();
    let leaf = leaf().sign(&key, &ca);
    // Both issuers are valid; above the first stands one that has ended.
    let by_old = authority("Old").sign(&ca, &old);
    let by_new = authority("New").sign(&ca, &new);
    let old_above = expired(named(authority("Gone"), "Old")).sign(&old, &new);
    let audited = judged(&[leaf.clone(), by_old.clone(), old_above.clone(), by_new.clone()], Class::Internal);
    assert_eq!(found(&audited), ["chain-cross-signed@2 info", "chain-extra@3 info"]);
    // Without the other way there is only that.
    let audited = judged(&[leaf, by_old, old_above], Class::Internal);
    assert!(found(&audited).contains(&"expired@3 error".to_owned()), "{:?}", found(&audited));
}

#[test]
fn a_renewed_intermediate_with_the_same_key_makes_the_old_one_needless() {
    let [key, ca, root, _] = keys();
    let leaf = leaf().sign(&key, &ca);
    let old = authority("Root").with(|draft| draft.serial = vec![1]).sign(&ca, &root);
    let new = authority("Root").sign(&ca, &root);
    assert_eq!(found(&judged(&[leaf.clone(), new.clone(), old], Class::Internal)), ["chain-extra@3 info"]);
    let ended = expired(authority("Root")).sign(&ca, &root);
    assert_eq!(found(&judged(&[leaf, ended, new], Class::Internal)), ["chain-extra@2 info"]);
}

#[test]
fn authorities_that_sign_each_other_end_the_path_all_the_same() {
    let [key, a, b, _] = keys();
    let leaf = leaf().sign(&key, &a);
    let a_by_b = authority("B").sign(&a, &b);
    let b_by_a = named(authority("CA"), "B").sign(&b, &a);
    let audited = judged(&[leaf, a_by_b, b_by_a], Class::Internal);
    assert_eq!(found(&audited), [""; 0]);
    // It signed itself under another's name: no anchor, and no issuer but by name.
    let loop_of_one = authority("CA").with(|draft| draft.subject = name(UTF8, b"Loop"));
    let _ = judged(&[loop_of_one.sign(&a, &a)], Class::Public);
}

#[test]
fn a_self_signed_leaf_whose_signature_was_changed_is_told_for_it() {
    let [key, ..] = keys();
    let own = named(leaf(), "CA");
    let mut changed = own.sign(&key, &key);
    assert_eq!(found(&judged(&[changed.clone()], Class::Internal)), ["self-signed-leaf@1 warn"]);
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(found(&judged(&[changed], Class::Internal)), ["sig-invalid@1 error"]);
}

#[test]
fn an_issuer_is_found_by_its_signature_although_its_name_is_written_otherwise() {
    let [key, ca, root, _] = keys();
    let leaf = leaf().sign(&key, &ca);
    let printable = authority("Root").with(|draft| draft.subject = name(PRINTABLE, b"CA")).sign(&ca, &root);
    assert_eq!(found(&judged(&[leaf, printable], Class::Public))[0], "issuer-name-mismatch@2 error");
}

#[test]
fn a_root_that_the_path_does_not_reach_shows_that_something_is_missing() {
    let [key, ca, root, stranger] = keys();
    let (leaf, issuer) = (leaf().sign(&key, &ca), authority("Middle").sign(&ca, &root));
    let root = named(authority("Root"), "Root").sign(&stranger, &stranger);
    let audited = judged(&[leaf.clone(), issuer.clone(), root], Class::Internal);
    assert_eq!(found(&audited), ["chain-incomplete@2 warn", "chain-extra@3 info"]);
    assert_eq!(found(&judged(&[leaf, issuer], Class::Internal)), [""; 0]);
}

#[test]
fn a_root_that_an_alternate_reaches_shows_that_nothing_is_missing() {
    let [key, ca, root, other] = keys();
    let (by_other, by_root) = (authority("Other").sign(&ca, &other), authority("Root").sign(&ca, &root));
    let root = named(authority("Root"), "Root").sign(&root, &root);
    let audited = judged(&[leaf().sign(&key, &ca), by_other, by_root, root], Class::Internal);
    assert_eq!(found(&audited), ["chain-cross-signed@3 info", "chain-extra@4 info"]);
}

/// One good chain, as text.
fn good() -> String {
    std::fs::read_to_string(certs("localhost.pem")).unwrap()
}

#[test]
fn a_file_is_read_however_it_is_wrapped_and_nothing_in_it_is_dropped_silently() {
    let good = good();
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("lines that end as on Windows", good.replace('\n', "\r\n"), &[]),
        ("text around the blocks", format!("subject=CN = x\n\n{good}\ntrailing words"), &[]),
        ("blanks behind each line", good.replace('\n', "  \n"), &[]),
        ("no newline at its end", good.trim_end().to_owned(), &[]),
        ("comments in front", format!("# chain of www\n{good}"), &[]),
        ("lines of one length", long_lines(&good), &[]),
        ("an indented block", good.replacen("-----BEGIN", "  -----BEGIN", 1), &["pem-malformed@1 deny"]),
        ("words before a BEGIN", good.replacen("-----BEGIN", "x -----BEGIN", 1), &["pem-malformed@1 deny"]),
        (
            "END of another label",
            good.replacen("END CERTIFICATE", "END CERTIFICATES", 1),
            &["pem-malformed@1 deny", "chain-incomplete@1 warn"],
        ),
        ("small letters", good.to_lowercase(), &["pem-no-cert@file deny"]),
        ("nothing", String::new(), &["pem-no-cert@file deny"]),
    ];
    for (what, text, expected) in cases {
        let material = Material::from_pem(Path::new("odd.pem"), text.as_bytes(), None);
        let findings = found(&audit(&material, &subject(Class::Internal), &Policy::default()));
        let malformed = |all: &[String]| all.iter().any(|finding| finding.starts_with("pem-"));
        if expected.is_empty() {
            assert_eq!(findings, expected, "{what}");
        } else {
            assert!(malformed(&findings) && findings[0].ends_with("deny"), "{what}: {findings:?}");
        }
    }
}

#[test]
fn a_key_is_not_held_against_the_issuer_of_a_leaf_that_cannot_be_read() {
    let [chain, key] = ["pem", "key"].map(|kind| std::fs::read_to_string(certs(&format!("localhost.{kind}"))).unwrap());
    let broken = chain.replacen("END CERTIFICATE", "END CERTIFICATES", 1);
    let key = (Path::new("odd.key"), key.as_bytes());
    let material = Material::from_pem(Path::new("odd.pem"), broken.as_bytes(), Some(key));
    let findings = found(&audit(&material, &subject(Class::Internal), &Policy::default()));
    assert_eq!(findings[0], "pem-malformed@1 deny");
    assert!(!findings.iter().any(|finding| finding.starts_with("key-mismatch")), "{findings:?}");
}

/// Each block's base64 on one line.
fn long_lines(pem: &str) -> String {
    let mut out = String::new();
    for line in pem.lines() {
        out.push_str(line);
        if line.starts_with('-') || line.len() < 64 {
            out.push('\n');
        }
    }
    out
}

#[test]
fn keys_are_read_in_each_of_their_forms_and_refused_where_they_are_sealed_or_several() {
    use std::process::Command;
    let openssl = |args: &[&str], key: &str| {
        let output = Command::new("openssl").args(args).arg("-in").arg(certs(key)).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (pkcs8, rsa) = (std::fs::read_to_string(certs("localhost.key")).unwrap(), "localhost-rsa");
    let sec1 = openssl(&["ec"], "localhost.key");
    let params = openssl(&["ecparam", "-name", "prime256v1"], "localhost.key");
    let legacy = openssl(&["rsa", "-traditional", "-aes128", "-passout", "pass:x"], "localhost-rsa.key");
    let sealed = &["key-unusable@file deny"][..];
    let cases: Vec<(&str, &str, String, &[&str])> = vec![
        ("PKCS#8", "localhost", pkcs8.clone(), &[]),
        ("PKCS#8 with text and Windows lines", "localhost", format!("key:\r\n{}", pkcs8.replace('\n', "\r\n")), &[]),
        ("SEC 1", "localhost", sec1.clone(), &[]),
        ("SEC 1 behind its parameters", "localhost", format!("{params}{sec1}"), &[]),
        ("PKCS#1", rsa, openssl(&["rsa", "-traditional"], "localhost-rsa.key"), &[]),
        ("PKCS#1, sealed", rsa, legacy, sealed),
        ("two keys", "localhost", format!("{pkcs8}{sec1}"), sealed),
        ("a key under another's label", "localhost", pkcs8.replace("PRIVATE", "RSA PRIVATE"), sealed),
        ("a key in SEC 1 under PKCS#8's label", "localhost", sec1.replace("EC PRIVATE", "PRIVATE"), sealed),
        ("noise", "localhost", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(), sealed),
        ("a public key", "localhost", openssl(&["pkey", "-pubout"], "localhost.key"), sealed),
        (
            "the issuer's",
            "localhost",
            std::fs::read_to_string(certs("ca-issuing.key")).unwrap(),
            &["key-mismatch@1 deny"],
        ),
    ];
    for (what, chain, key, expected) in cases {
        let chain = std::fs::read(certs(&format!("{chain}.pem"))).unwrap();
        let material = Material::from_pem(Path::new("odd.pem"), &chain, Some((Path::new("odd.key"), key.as_bytes())));
        let findings = found(&audit(&material, &subject(Class::Internal), &Policy::default()));
        assert_eq!(findings, expected, "{what}");
    }
}

#[test]
fn many_certificates_are_read_and_told_in_bounded_words() {
    let [key, ca, root, _] = keys();
    let mut chain = vec![leaf().sign(&key, &ca), authority("Root").sign(&ca, &root)];
    chain.extend((0..1000).map(|number: u32| {
        let stranger = named(authority("Elsewhere"), &format!("Stranger {number}"));
        stranger.with(|draft| draft.serial = [&[1], &number.to_be_bytes()[..]].concat()).sign(&root, &root)
    }));
    let audited = judged(&chain, Class::Internal);
    assert_eq!(audited.report.certificates.len(), 1002);
    assert!(found(&audited).contains(&"chain-too-large@file deny".to_owned()));
    assert!(audited.report.findings.len() < 50, "{:?}", found(&audited));
}
