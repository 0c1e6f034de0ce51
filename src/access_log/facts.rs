//! What every line of a connection says of it, written once: the TLS handshake, and who the client proved to be.
//!
//! Kept beside the connection by whoever writes its lines.

use std::fmt::Write as _;
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::json::Object;
use super::text::Plain;
use crate::identity::{ClientCertificate, ConnectionInfo, Signature, TlsInfo};

/// A part of a line; empty until the first is written.
#[derive(Debug, Default)]
pub struct Facts(OnceLock<Box<str>>);

impl Facts {
    pub(super) fn text(&self, info: &ConnectionInfo) -> &str {
        self.0.get_or_init(|| {
            let mut line = String::new();
            match (&info.tls, &info.asked) {
                (Some(tls), _) => text(&mut line, tls),
                (None, Some(asked)) => drop(write!(line, " sni={}", Plain(asked))),
                (None, None) => {}
            }
            line.into()
        })
    }

    /// Members of an object, each with a comma before it.
    pub(super) fn json(&self, info: &ConnectionInfo) -> &str {
        self.0.get_or_init(|| {
            let mut line = String::new();
            match (&info.tls, &info.asked) {
                (Some(tls), _) => json(&mut line, tls),
                (None, Some(asked)) => Object::going_on(&mut line).text("server_name", asked),
                (None, None) => {}
            }
            line.into()
        })
    }
}

// Writing to a String cannot fail, so the results are dropped, here and below.
fn text(line: &mut String, tls: &TlsInfo) {
    let _ = write!(line, " tls={} cipher={} group={}", tls.version, tls.cipher, tls.group);
    let _ = write!(line, " resumed={}", tls.resumed);
    if let Some(alpn) = &tls.alpn {
        let _ = write!(line, " alpn={}", Plain(alpn.as_str()));
    }
    if let Some(name) = &tls.server_name {
        let _ = write!(line, " sni={}", Plain(name));
    }
    if let Some(certificate) = tls.client_certificate.as_deref() {
        if let Some(cn) = &certificate.common_name {
            let _ = write!(line, " client_cn={cn:?}");
        }
        let _ = write!(line, " client_subject={:?}", subject(certificate));
        let _ = write!(line, " client_certificate={}", fingerprint(certificate));
    }
}

fn json(line: &mut String, tls: &TlsInfo) {
    let certificate = tls.client_certificate.as_deref();
    Object::going_on(line).object("tls", |object| {
        object.text("version", tls.version.as_str());
        object.text("cipher", tls.cipher);
        object.text("group", tls.group.as_str());
        object.maybe("signature", tls.signature.map(Signature::as_str));
        object.maybe("alpn", tls.alpn.as_ref().map(|alpn| alpn.as_str()));
        object.maybe("server_name", tls.server_name.as_deref());
        object.value("resumed", tls.resumed);
        object.maybe("client_cn", certificate.and_then(|certificate| certificate.common_name.as_deref()));
        object.maybe("client_subject", certificate.map(subject).as_deref());
        object.maybe("client_certificate", certificate.map(fingerprint).as_deref());
    });
}

/// As RFC 4514 writes it, more or less; empty where it cannot be read, which the verifier would not have let pass.
fn subject(certificate: &ClientCertificate) -> String {
    X509Certificate::from_der(&certificate.leaf).map(|(_, read)| read.subject().to_string()).unwrap_or_default()
}

/// The SHA-256 of the certificate, as the audit and its waivers write it.
fn fingerprint(certificate: &ClientCertificate) -> String {
    let digest = digest(&SHA256, &certificate.leaf);
    digest.as_ref().iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
