//! A TLS 1.3 handshake by rustls that takes whatever certificate comes, and remembers it: it is the audit that judges.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Handshake, Kind, Link};
use crate::tls::key::PublicKey;

/// Shakes hands, verifying one kind of key.
pub(super) fn handshake(mut link: Link, name: Option<&str>, host: &str, kind: Kind) -> io::Result<Handshake> {
    let seen = Arc::new(Recorder::new(kind));
    let provider = Arc::new(default_provider());
    #[expect(clippy::disallowed_methods, reason = "it looks at what is presented, and trusts nothing")]
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(io::Error::other)?.dangerous();
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&seen) as _;
    let mut config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(name.unwrap_or(host).to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        if let (0, 0) = connection.complete_io(&mut link)? {
            return Err(io::Error::other("the connection ends in the handshake"));
        }
    }
    let presented = std::mem::take(&mut *seen.presented.lock().unwrap_or_else(PoisonError::into_inner));
    connection.send_close_notify();
    let _ = connection.write_tls(&mut link);
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    Ok(Handshake {
        version: "1.3",
        key: kind.name(),
        cipher_suite: suite.unwrap_or("unknown").to_owned(),
        group: connection
            .negotiated_key_exchange_group()
            .and_then(|group| group.name().as_str())
            .map(ToOwned::to_owned),
        alpn: connection.alpn_protocol().map(|protocol| protocol.escape_ascii().to_string()),
        stapled: presented.stapled,
        chain: presented.chain,
        proven: presented.proven,
    })
}

/// What a server presents.
#[derive(Debug, Default)]
struct Presented {
    chain: Vec<CertificateDer<'static>>,
    stapled: bool,
    proven: Option<bool>,
}

/// Takes every certificate, and checks no more than that the server has the key of the one it sent.
#[derive(Debug)]
struct Recorder {
    algorithms: WebPkiSupportedAlgorithms,
    kind: Kind,
    presented: Mutex<Presented>,
}

impl Recorder {
    fn new(kind: Kind) -> Self {
        let algorithms = default_provider().signature_verification_algorithms;
        Self { algorithms, kind, presented: Mutex::default() }
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::iter::once(leaf).chain(intermediates);
        presented.chain = all.map(|certificate| certificate.clone().into_owned()).collect();
        presented.stapled = !ocsp.is_empty();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 was offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // By the key alone: an odd certificate around it is the audit's matter.
        let proven = X509Certificate::from_der(leaf).ok().and_then(|(_, leaf)| {
            let spki = leaf.public_key().raw;
            let key = SubjectPublicKeyInfoDer::from(spki);
            match verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms) {
                Ok(_) => Some(true),
                // What the provider does not compute says nothing.
                Err(_) if PublicKey::read(spki).is_none_or(|key| (1..2048).contains(&key.rsa_bits())) => None,
                Err(_) => Some(false),
            }
        });
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).proven = proven;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self.kind {
            Kind::Ecdsa => vec![
                SignatureScheme::ECDSA_NISTP256_SHA256,
                SignatureScheme::ECDSA_NISTP384_SHA384,
                SignatureScheme::ECDSA_NISTP521_SHA512,
                SignatureScheme::ED25519,
            ],
            Kind::Rsa => vec![
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
                SignatureScheme::RSA_PKCS1_SHA256,
                SignatureScheme::RSA_PKCS1_SHA384,
                SignatureScheme::RSA_PKCS1_SHA512,
            ],
        }
    }
}
