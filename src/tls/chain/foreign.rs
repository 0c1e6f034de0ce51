//! Says what a file is that holds no certificate, or no key, and which command makes it into one that does.
//!
//! `chain` asks, where it finds nothing to read.

use std::path::Path;

use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use crate::tls::der;
use crate::tls::pem::Block;

/// What the file holds instead of a certificate, and the remedy.
pub(super) fn instead_of_a_certificate(file: &Path, bytes: &[u8], blocks: &[Block]) -> (String, Option<String>) {
    if bytes.trim_ascii().is_empty() {
        return ("is empty".into(), None);
    }
    if let Some(block) = blocks.iter().find(|block| block.label == "CERTIFICATE") {
        let seen =
            format!("the only certificate {}, where PEM readers do not see it", block.hidden.unwrap_or_default());
        return (seen, Some(format!("openssl x509 -in {} -out {}", shown(file), renamed(file))));
    }
    if let Some(block) = blocks.iter().find(|block| block.promises_certificates()) {
        let seen = format!("its block is labelled {}, which PEM readers pass over", block.label);
        return (seen, relabel(file, &block.label));
    }
    if let Some(block) = blocks.first() {
        return instead_of_a_block(file, block);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let fix = format!("iconv -f UTF-16 -t UTF-8 {} > {}", shown(file), renamed(file));
        return ("is UTF-16 text".into(), Some(fix));
    }
    let (what, command) = match binary(bytes) {
        Some(Binary::Certificate) => ("a certificate in DER", "openssl x509 -inform DER -in {in} -out {out}"),
        Some(Binary::Pkcs7) => ("a PKCS#7 bundle in DER", "openssl pkcs7 -inform DER -print_certs -in {in} -out {out}"),
        Some(Binary::Pkcs12) => ("a PKCS#12 bundle", PKCS12),
        Some(Binary::Request) => return (request("a certificate request in DER"), Some(SIGN.into())),
        Some(Binary::Key) => return ("is a private key in DER, not a certificate".into(), Some(SWAPPED.into())),
        None => return ("holds no CERTIFICATE block".into(), None),
    };
    (format!("is {what}, not PEM"), Some(command.replace("{in}", &shown(file)).replace("{out}", &renamed(file))))
}

const PKCS12: &str = "openssl pkcs12 -nokeys -in {in} -out {out} (or audit it as it is, with --password-file)";
const SIGN: &str = "have the request signed, and name the certificate that comes back";
const SWAPPED: &str = "name the certificate file here; chain and key may be swapped";

fn request(what: &str) -> String {
    format!("is {what}, not a certificate")
}

fn instead_of_a_block(file: &Path, block: &Block) -> (String, Option<String>) {
    match block.label.as_str() {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => (request("a certificate request"), Some(SIGN.into())),
        "PKCS12" => {
            let fix = format!("openssl pkcs12 -nokeys -in {} -out {}", shown(file), renamed(file));
            ("is a PKCS#12 bundle, not a certificate".into(), Some(fix))
        }
        _ if block.promises_key() => ("is a private key, not a certificate".into(), Some(SWAPPED.into())),
        other => (format!("holds a {other} block and no CERTIFICATE block"), None),
    }
}

/// The remedy for a block under a label that readers pass over.
pub(super) fn relabel(file: &Path, label: &str) -> Option<String> {
    let command = if label.ends_with("CERTIFICATE") { "x509" } else { "pkcs7 -print_certs" };
    Some(format!("openssl {command} -in {} -out {}", shown(file), renamed(file)))
}

/// What the file holds instead of a key, and the remedy.
pub(super) fn instead_of_a_key(file: &Path, bytes: &[u8]) -> (String, Option<String>) {
    if bytes.trim_ascii().is_empty() {
        return ("is empty".into(), None);
    }
    match binary(bytes) {
        Some(Binary::Key) => {
            let fix = format!("openssl pkey -inform DER -in {} -out {}", shown(file), renamed(file));
            ("is a private key in DER, not PEM".into(), Some(fix))
        }
        Some(Binary::Pkcs12) => {
            let fix = format!("openssl pkcs12 -nocerts -noenc -in {} -out {}", shown(file), renamed(file));
            ("is a PKCS#12 bundle, not a PEM key".into(), Some(fix))
        }
        _ if memchr::memmem::find(bytes, b"CERTIFICATE-----").is_some() => (
            "holds a certificate and no private key".into(),
            Some("name the key file; chain and key may be swapped".into()),
        ),
        _ => ("holds no private key".into(), None),
    }
}

/// The remedy for a revocation list that is not PEM.
pub(in crate::tls) fn list_as_pem(file: &Path) -> String {
    format!("openssl crl -inform DER -in {} -out {}", shown(file), renamed(file))
}

/// The remedy for an encrypted key.
pub(super) fn decrypt(file: &Path) -> String {
    format!("openssl pkey -in {} -out {}", shown(file), renamed(file))
}

/// The remedy for a key under a label that cannot be read.
pub(super) fn convert_key(file: &Path, label: &str) -> Option<String> {
    Some(match label {
        "OPENSSH PRIVATE KEY" => format!("ssh-keygen -p -m PKCS8 -f {}", shown(file)),
        "DSA PRIVATE KEY" => "have a certificate issued for an ECDSA P-256 or RSA 2048 key; TLS 1.3 has no DSA".into(),
        _ => decrypt(file),
    })
}

/// The name of the file that a remedy writes: beside the one that it reads, so that nothing is overwritten.
fn renamed(file: &Path) -> String {
    let new = file.with_extension("pem");
    shown(&if new == file { file.with_extension("new.pem") } else { new })
}

/// A path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%".contains(c);
    if !text.is_empty() && text.chars().all(safe) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// What a file without PEM is.
enum Binary {
    Certificate,
    Pkcs7,
    Pkcs12,
    Request,
    Key,
}

/// signedData (RFC 2315, section 14).
const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";

fn binary(bytes: &[u8]) -> Option<Binary> {
    let (content, _) = der::take(der::SEQUENCE, bytes)?;
    let (first, rest) = der::split(content)?;
    if X509Certificate::from_der(bytes).is_ok() {
        return Some(Binary::Certificate);
    }
    if X509CertificationRequest::from_der(bytes).is_ok() {
        return Some(Binary::Request);
    }
    match first.tag {
        der::OID if der::dotted(first.content) == SIGNED_DATA => Some(Binary::Pkcs7),
        // A PFX is version 3 and a SEQUENCE (RFC 7292, section 4); PKCS#8 is 0 or 1 and a SEQUENCE, PKCS#1 0 and an
        // INTEGER, SEC 1 1 and an OCTET STRING.
        der::INTEGER if first.content == [3] => Some(Binary::Pkcs12),
        der::INTEGER if matches!(first.content, [0 | 1]) => {
            let next = der::split(rest)?.0.tag;
            [der::SEQUENCE, der::INTEGER, der::OCTET_STRING].contains(&next).then_some(Binary::Key)
        }
        _ => None,
    }
}

/// Whether a file is a PKCS#12 bundle.
pub(super) fn is_pkcs12(bytes: &[u8]) -> bool {
    // Not by its whole: a broken one is a broken bundle.
    let outline = |bytes| Some(der::split(der::split(bytes)?.0.content)?.0);
    matches!(outline(bytes), Some(first) if first.tag == der::INTEGER && first.content == [3])
        || (bytes.starts_with(&[0x30, 0x80, 2, 1, 3, 0x30]))
}

/// Whether a file without PEM holds a certificate all the same.
pub(in crate::tls) fn holds_a_certificate(bytes: &[u8]) -> bool {
    matches!(binary(bytes), Some(Binary::Certificate | Binary::Pkcs7 | Binary::Pkcs12))
}
