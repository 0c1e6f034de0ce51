//! Client certificates: who vouches for them, which are revoked, and which are let in.
//!
//! Owns reading the CA bundle and the revocation lists, and the allow-list. Made by `plan`; `server_config` turns it
//! into the verifier that rustls asks.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use time::OffsetDateTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use super::server_config::provider;
use crate::config::{ClientAuthConfig, ClientAuthMode};

/// A checked `client_auth` table.
#[derive(Debug)]
pub struct ClientAuth {
    verifier: Arc<dyn ClientCertVerifier>,
    allow: Vec<Allowed>,
    crls: Vec<Crl>,
}

/// A file of revocation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// The file.
    pub file: String,
    /// When the first of its lists becomes stale; from then on clients are refused. `None` where none says.
    pub next_update: Option<OffsetDateTime>,
}

impl ClientAuth {
    /// Reads what the table names; relative paths are relative to `directory`.
    ///
    /// # Errors
    /// Every fault as the key to blame and a sentence that names the file.
    pub fn read(config: &ClientAuthConfig, directory: &Path) -> Result<Self, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let allow = config
            .allow
            .iter()
            .filter_map(|entry| Allowed::parse(entry).map_err(|why| faults.push(("allow", why))).ok());
        let allow: Vec<_> = allow.collect();
        let roots = roots(&directory.join(&config.ca)).map_err(|why| faults.push(("ca", why))).ok();
        let revoked = crls(config, directory).map_err(|why| faults.push(("crl", why))).ok();
        let (Some(roots), Some((crls, lists)), true) = (roots, revoked, faults.is_empty()) else { return Err(faults) };
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        if !lists.is_empty() {
            // A list that has run out says nothing of what was revoked since (RFC 5280, section 6.3.3).
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        if config.mode == ClientAuthMode::Optional {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|e| vec![("ca", e.to_string())])?;
        Ok(Self { verifier, allow, crls })
    }

    /// The files of revocation lists, in the order in which they are named.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// The verifier that rustls asks.
    pub(super) fn into_verifier(self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier { inner: self.verifier, allow: self.allow })
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in read_all::<CertificateDer<'static>>(path, "CERTIFICATE")?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|e| format!("{}, certificate {}: cannot be an authority: {e}", path.display(), index + 1))?;
    }
    Ok(roots)
}

/// The files, and every list in them.
fn crls(
    config: &ClientAuthConfig,
    directory: &Path,
) -> Result<(Vec<Crl>, Vec<CertificateRevocationListDer<'static>>), String> {
    let (mut files, mut all) = (Vec::new(), Vec::new());
    for path in &config.crl {
        let path = directory.join(path);
        let lists: Vec<CertificateRevocationListDer<'static>> = read_all(&path, "X509 CRL")?;
        let next_update = lists.iter().filter_map(|list| next_update(list)).min();
        files.push(Crl { file: path.display().to_string(), next_update });
        all.extend(lists);
    }
    Ok((files, all))
}

/// When a list becomes stale (RFC 5280, section 5.1.2.5). What cannot be parsed here is refused by webpki, in words.
fn next_update(list: &[u8]) -> Option<OffsetDateTime> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    list.next_update().map(|time| time.to_datetime())
}

/// Every block of one kind in a PEM file; none is an error, since a file was named for what it should hold.
fn read_all<T: PemObject>(path: &Path, label: &str) -> Result<Vec<T>, String> {
    let blocks: Result<Vec<T>, _> = T::pem_file_iter(path).and_then(Iterator::collect);
    match blocks {
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(none) if none.is_empty() => Err(format!("{}: it has no {label} block", path.display())),
        Ok(blocks) => Ok(blocks),
    }
}

/// One entry of the allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    Dns(String),
    Uri(String),
    Email(String),
    CommonName(String),
}

impl Allowed {
    fn parse(entry: &str) -> Result<Self, String> {
        let expected = r#"expected "dns:…", "uri:…", "email:…" or "cn:…""#;
        let (kind, pattern) = entry.split_once(':').ok_or_else(|| format!("{entry:?}: {expected}"))?;
        if pattern.is_empty() {
            return Err(format!("{entry:?}: nothing stands behind the colon"));
        }
        match kind {
            "dns" => Ok(Self::Dns(pattern.to_ascii_lowercase())),
            "uri" => Ok(Self::Uri(pattern.to_owned())),
            "email" => Ok(Self::Email(pattern.to_owned())),
            "cn" => Ok(Self::CommonName(pattern.to_owned())),
            _ => Err(format!("{entry:?}: {expected}")),
        }
    }

    fn admits(&self, leaf: &X509Certificate<'_>) -> bool {
        let names = || {
            let extension = leaf.subject_alternative_name().ok().flatten();
            extension.map(|san| san.value.general_names.iter()).into_iter().flatten()
        };
        match self {
            // A NUL inside a name is refused by the comparison itself: no pattern holds one (CVE-2025-66220).
            Self::Dns(pattern) => names().any(|name| match name {
                GeneralName::DNSName(dns) => glob(pattern, &dns.to_ascii_lowercase(), '.'),
                _ => false,
            }),
            Self::Uri(pattern) => names().any(|name| match name {
                GeneralName::URI(uri) => glob(pattern, uri, '/'),
                _ => false,
            }),
            Self::Email(pattern) => names().any(|name| match name {
                GeneralName::RFC822Name(email) => glob(pattern, email, '@'),
                _ => false,
            }),
            Self::CommonName(pattern) => {
                let mut names = leaf.subject().iter_common_name();
                // More than one common name is a doubt, and a doubt refuses.
                match (names.next(), names.next()) {
                    (Some(name), None) => name.as_str().is_ok_and(|name| name == pattern),
                    _ => false,
                }
            }
        }
    }
}

/// Whether `text` matches `pattern`, whose parts between separators may each be `*` for any one part.
fn glob(pattern: &str, text: &str, separator: char) -> bool {
    let (mut pattern, mut text) = (pattern.split(separator), text.split(separator));
    loop {
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(wanted), Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
}

/// Asks webpki first and the allow-list after it.
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    allow: Vec<Allowed>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        if self.allow.is_empty() {
            return Ok(verified);
        }
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        if self.allow.iter().any(|allowed| allowed.admits(&certificate)) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_exactly_one_part() {
        assert!(glob("*.clients.example.org", "a.clients.example.org", '.'));
        assert!(!glob("*.clients.example.org", "clients.example.org", '.'));
        assert!(!glob("*.clients.example.org", "a.b.clients.example.org", '.'));
        assert!(!glob("*.clients.example.org", ".clients.example.org", '.'));
        assert!(!glob("a.example.org", "a.example.org\0.evil.org", '.'));
        assert!(glob("spiffe://example.org/*", "spiffe://example.org/billing", '/'));
        assert!(!glob("spiffe://example.org/*", "spiffe://example.org/billing/x", '/'));
    }

    #[test]
    fn an_entry_without_a_known_kind_is_refused_with_what_was_expected() {
        for bad in ["ops", "ip:1.2.3.4", "cn:"] {
            assert!(Allowed::parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_revocation_list_tells_when_it_becomes_stale() {
        let list = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/clients.crl");
        let config = ClientAuthConfig {
            mode: ClientAuthMode::Required,
            ca: concat!(env!("CARGO_MANIFEST_DIR"), "/certs/clients-ca.pem").into(),
            crl: vec![list.into()],
            allow: Vec::new(),
        };
        let auth = ClientAuth::read(&config, Path::new("")).unwrap();
        let [crl] = auth.crls() else { panic!("one file was named") };
        assert_eq!(crl.file, list);
        assert!(crl.next_update.unwrap() > OffsetDateTime::now_utc());
    }
}
