//! Client certificates: who vouches for them, which are revoked, and which are let in.
//!
//! Owns reading the CA bundle, and the verifier that rustls asks at a handshake and `tickets` before a session is
//! resumed. Made by `plan`; `allow` holds the allow-list, `crl` the revocation lists.

mod allow;
mod crl;

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertRevocationListError, CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::allow::Allowed;
pub use self::crl::Crl;
use self::crl::Lists;
use super::server_config::provider;
use super::{notes, roots};
use crate::config::{ClientAuthConfig, ClientAuthMode};

/// A checked `client_auth` table.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    verifier: Arc<Verifier>,
    crls: Vec<Crl>,
    digest: [u8; 32],
}

impl ClientAuth {
    /// Reads what the table names; relative paths are relative to `directory`.
    ///
    /// # Errors
    /// Every fault as the key to blame and a sentence that names the file.
    pub fn read(config: &ClientAuthConfig, directory: &Path) -> Result<Self, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let allow = config.allow.iter();
        let allow: Vec<_> =
            allow.filter_map(|entry| Allowed::parse(entry).map_err(|why| faults.push(("allow", why))).ok()).collect();
        let ca = directory.join(&config.ca);
        let authorities = roots::authorities(&ca).map_err(|why| faults.push(("ca", why))).ok();
        let lists = Lists::read(&config.crl, directory);
        let lists = lists.map_err(|whys| faults.extend(whys.into_iter().map(|why| ("crl", why)))).ok();
        let (Some(authorities), Some(lists), true) = (authorities, lists, faults.is_empty()) else {
            return Err(faults);
        };
        let digest = settings_digest(config, &authorities);
        let roots = roots::store(&ca, authorities).map_err(|why| vec![("ca", why)])?;
        let (roots, mut inner) = (Arc::new(roots), Vec::new());
        // Without a list there is one way to verify; with some, one for each set of them.
        let sets = if lists.sets.is_empty() { vec![Vec::new()] } else { lists.sets };
        for set in sets {
            let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
            if !set.is_empty() {
                // A list that has run out says nothing of what was revoked since (RFC 5280, section 6.3.3).
                builder = builder.with_crls(set).enforce_revocation_expiration();
            }
            if config.mode == ClientAuthMode::Optional {
                builder = builder.allow_unauthenticated();
            }
            inner.push(builder.build().map_err(|e| vec![("crl", e.to_string())])?);
        }
        Ok(Self { verifier: Arc::new(Verifier { inner, allow }), crls: lists.files, digest })
    }

    /// The files of revocation lists, in the order in which they are named.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// What tells these settings from others: whom they ask, who vouches, who is let in. Not the revocation lists, which
    /// change by the day and are looked at again before a session is resumed.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The verifier that rustls asks.
    pub(super) fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }
}

fn settings_digest(config: &ClientAuthConfig, authorities: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut parts: Vec<Vec<u8>> =
        authorities.iter().map(|der| digest::digest(&digest::SHA256, der).as_ref().to_vec()).collect();
    parts.extend(config.allow.iter().map(|entry| entry.as_bytes().to_vec()));
    parts.push(format!("{:?}, revocation checked: {}", config.mode, !config.crl.is_empty()).into_bytes());
    parts.sort();
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(&part);
    }
    let mut settings = [0; 32];
    settings.copy_from_slice(context.finish().as_ref());
    settings
}

/// Asks webpki first and the allow-list after it.
#[derive(Debug)]
pub(super) struct Verifier {
    /// One for each set of revocation lists; at least one.
    inner: Vec<Arc<dyn ClientCertVerifier>>,
    allow: Vec<Allowed>,
}

impl Verifier {
    /// Verifies a client's chain, leaf first, as of `now`; at a handshake, and again before its session is resumed.
    ///
    /// # Errors
    /// What is wrong with it, as rustls says it: from this the client's alert is made.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertVerified, Error> {
        let (leaf, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let mut verified = Err(Error::NoCertificatesPresented);
        for inner in &self.inner {
            verified = inner.verify_client_cert(leaf, intermediates, now);
            // Where two keys have one name, the list was the other one's, or the authority that webpki tried last was: the
            // next set may have the right list. Nothing is let in or taken for revoked without a list of its issuer's key.
            let of_another_key = matches!(
                verified,
                Err(Error::InvalidCertRevocationList(CertRevocationListError::BadSignature)
                    | Error::InvalidCertificate(CertificateError::BadSignature))
            );
            if !of_another_key {
                break;
            }
        }
        let verified = verified?;
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
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.inner[0].offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner[0].client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner[0].root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        let verified = self.verify(&chain, now)?;
        notes::set_client_chain(chain);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner[0].verify_tls12_signature(message, certificate, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner[0].verify_tls13_signature(message, certificate, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner[0].supported_verify_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn of_certs(name: &str) -> String {
        format!("{}/certs/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn config() -> ClientAuthConfig {
        ClientAuthConfig {
            mode: ClientAuthMode::Required,
            ca: of_certs("clients-ca.pem").into(),
            crl: vec![of_certs("clients.crl").into()],
            allow: Vec::new(),
        }
    }

    #[test]
    fn a_revocation_list_tells_when_it_becomes_stale() {
        let auth = ClientAuth::read(&config(), Path::new("")).unwrap();
        let [crl] = auth.crls() else { panic!("one file was named") };
        assert_eq!(crl.file, of_certs("clients.crl"));
        assert!(crl.next_update.unwrap() > OffsetDateTime::now_utc());
    }

    #[test]
    fn settings_have_one_digest_whatever_their_order_and_others_have_another() {
        let digest = |config: &ClientAuthConfig| *ClientAuth::read(config, Path::new("")).unwrap().digest();
        let with = |change: fn(&mut ClientAuthConfig)| {
            let mut config = config();
            change(&mut config);
            digest(&config)
        };
        let listed = |config: &mut ClientAuthConfig| config.allow = vec!["cn:a".into(), "cn:b".into()];
        assert_eq!(with(listed), with(|config| config.allow = vec!["cn:b".into(), "cn:a".into()]));
        let all = [
            digest(&config()),
            with(listed),
            with(|config| config.allow = vec!["cn:ab".into()]),
            with(|config| config.mode = ClientAuthMode::Optional),
            with(|config| config.crl.clear()),
            with(|config| config.ca = of_certs("ca.pem").into()),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
