//! The TLS handshake: its deadline, what it settled, and a name for every way in which it can fail.
//!
//! Called by `connection`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{
    AlertDescription, CertificateError, HandshakeKind, NamedGroup, PeerIncompatible, ProtocolVersion, ServerConnection,
    SignatureScheme,
};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Alpn, ClientCertificate, Group, Signature, TlsInfo, TlsVersion};
use crate::metrics::{HandshakeFailure, Method};
use crate::plan::TlsTerms;
use crate::scope::Scope;
use crate::stream::{Socket, Stream};
use crate::tls::notes;

/// What a plain HTTP client is told at a TLS port.
const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 48\r\nConnection: close\r\n\r\nThis port speaks TLS; use https:// to reach it.\n";

/// A handshake that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: HandshakeFailure,
    pub(super) message: String,
    /// The name that the client asked for (SNI), if it came as far.
    pub(super) server_name: Option<Arc<str>>,
}

impl Failed {
    pub(super) fn new(reason: HandshakeFailure, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), server_name: None }
    }
}

/// Completes the handshake within `deadline`; `None` where it answered an ACME challenge, after which nothing follows.
pub(super) async fn accept(
    terms: &TlsTerms,
    mut socket: Socket,
    deadline: Duration,
) -> Result<Option<(Stream, TlsInfo)>, Failed> {
    socket.expect_tls();
    let mut asked = Asked::default();
    let failed = match timeout(deadline, notes::taking(shake_hands(terms, socket, &mut asked))).await {
        Err(_) => Failed::new(HandshakeFailure::Timeout, format!("not complete within {deadline:?}")),
        Ok((Ok(None), _)) => return Ok(None),
        Ok((Ok(Some(stream)), notes)) => {
            let info = settled(stream.get_ref().1, asked, notes.signed);
            return Ok(Some((Stream::tls(stream), info)));
        }
        Ok((Err((error, socket)), _)) => {
            let failed = classify(&error, socket.as_ref());
            if let (HandshakeFailure::PlainHttp, Some(mut socket)) = (failed.reason, socket) {
                // A courtesy to a person with a browser; if it cannot be written at once, it is not owed.
                let _ = timeout(Duration::from_secs(1), socket.write_all(PLAIN_HTTP_ANSWER)).await;
                let _ = socket.shutdown().await;
            }
            failed
        }
    };
    Err(Failed { server_name: asked.server_name, ..failed })
}

/// What the client asked for in its hello, and what answers it.
#[derive(Default)]
struct Asked {
    server_name: Option<Arc<str>>,
    scope: Option<Scope>,
}

/// Reads the client's hello, and goes on with the configuration for the name that it asks for; `None` after a challenge. What
/// failed comes back with the socket, for a last word.
async fn shake_hands(
    terms: &TlsTerms,
    socket: Socket,
    asked: &mut Asked,
) -> Result<Option<TlsStream<Socket>>, (io::Error, Option<Socket>)> {
    let mut hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket);
    let start = match (&mut hello).await {
        Ok(start) => start,
        Err(error) => return Err((error, hello.take_io())),
    };
    let server_name = start.client_hello().server_name().map(|name| Arc::from(name.to_ascii_lowercase()));
    if let Some(config) = terms.challenges.as_ref().and_then(|live| live.server_config(&start.client_hello())) {
        let answered = start.into_stream(config).into_fallible().await;
        let mut stream = answered.map_err(|(error, socket)| (error, Some(socket)))?;
        // The authority has seen what it came for, whether or not it stays for our farewell.
        let _ = stream.shutdown().await;
        return Ok(None);
    }
    let chosen = terms.acceptor.choose(server_name.as_deref());
    if chosen.unknown_name {
        start.io.count_unknown_name();
    }
    *asked = Asked { server_name, scope: chosen.scope };
    start.into_stream(chosen.config).into_fallible().await.map(Some).map_err(|(error, socket)| (error, Some(socket)))
}

fn settled(connection: &ServerConnection, asked: Asked, signed: Option<SignatureScheme>) -> TlsInfo {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => TlsVersion::V12,
        _ => TlsVersion::V13,
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("unknown");
    TlsInfo {
        version,
        cipher,
        group: connection.negotiated_key_exchange_group().map_or(Group::None, |g| group(g.name())),
        signature: signed.map(signature),
        alpn: connection.alpn_protocol().and_then(|id| std::str::from_utf8(id).ok()).map(Alpn::new),
        server_name: asked.server_name,
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        handshake: Duration::ZERO, // whoever began the clock says
        client_certificate: connection.peer_certificates().and_then(|c| c.first()).map(|leaf| {
            Arc::new(ClientCertificate { leaf: leaf.clone().into_owned(), common_name: common_name(leaf) })
        }),
        scope: asked.scope,
    }
}

fn group(name: NamedGroup) -> Group {
    match name {
        NamedGroup::X25519MLKEM768 => Group::X25519MlKem768,
        NamedGroup::secp256r1MLKEM768 => Group::Secp256r1MlKem768,
        NamedGroup::X25519 => Group::X25519,
        NamedGroup::secp256r1 => Group::Secp256r1,
        NamedGroup::secp384r1 => Group::Secp384r1,
        NamedGroup::secp521r1 => Group::Secp521r1,
        _ => Group::Other,
    }
}

fn signature(scheme: SignatureScheme) -> Signature {
    match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => Signature::EcdsaP256,
        SignatureScheme::ECDSA_NISTP384_SHA384 => Signature::EcdsaP384,
        SignatureScheme::ECDSA_NISTP521_SHA512 => Signature::EcdsaP521,
        SignatureScheme::ED25519 => Signature::Ed25519,
        SignatureScheme::RSA_PSS_SHA256 => Signature::RsaPssSha256,
        SignatureScheme::RSA_PSS_SHA384 => Signature::RsaPssSha384,
        SignatureScheme::RSA_PSS_SHA512 => Signature::RsaPssSha512,
        SignatureScheme::RSA_PKCS1_SHA256 => Signature::RsaPkcs1Sha256,
        SignatureScheme::RSA_PKCS1_SHA384 => Signature::RsaPkcs1Sha384,
        SignatureScheme::RSA_PKCS1_SHA512 => Signature::RsaPkcs1Sha512,
        _ => Signature::Other,
    }
}

fn common_name(leaf: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

fn classify(error: &io::Error, socket: Option<&Socket>) -> Failed {
    use HandshakeFailure as F;
    let first = socket.map(Socket::first_bytes).unwrap_or_default();
    if let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return Failed::new(reason(tls), tls.to_string());
    }
    match first {
        _ if begins_like_http(first) => Failed::new(F::PlainHttp, "plain HTTP on a TLS port"),
        [other, ..] if *other != Socket::TLS_HANDSHAKE => Failed::new(F::NotTls, "the first bytes are not TLS"),
        _ => Failed::new(F::ClientClosed, format!("the client went away: {error}")),
    }
}

/// Whether a registered method stands first, or the preface of HTTP/2. The longest of them fill the first bytes.
fn begins_like_http(first: &[u8]) -> bool {
    let Some(space) = first.iter().position(|byte| *byte == b' ') else { return false };
    let word = &first[..space];
    word == b"PRI" || Method::ALL.iter().any(|method| method.as_str().as_bytes() == word)
}

fn reason(error: &rustls::Error) -> HandshakeFailure {
    use HandshakeFailure as F;
    match error {
        rustls::Error::InvalidMessage(_) => F::Protocol,
        rustls::Error::NoCertificatesPresented => F::ClientCertificateMissing,
        rustls::Error::NoApplicationProtocol => F::Alpn,
        rustls::Error::AlertReceived(alert) => client_alert(*alert),
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => F::ClientCertificateRevoked,
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            F::ClientCertificateNotAllowed
        }
        rustls::Error::InvalidCertificate(_) => F::ClientCertificateInvalid,
        rustls::Error::PeerIncompatible(why) => match why {
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            // What TLS 1.1 and older lack, and the first thing that rustls misses of theirs.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired => F::Version,
            _ => F::NoCommonAlgorithm,
        },
        // Our resolver found no chain whose key this client can verify.
        rustls::Error::General(message) if message.contains("no server certificate chain") => F::NoCommonAlgorithm,
        _ => F::Protocol,
    }
}

fn client_alert(alert: AlertDescription) -> HandshakeFailure {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        // OpenSSL's answer to a certificate whose signature it cannot check.
        | AlertDescription::DecryptError => HandshakeFailure::ClientRefusedCertificate,
        AlertDescription::ProtocolVersion => HandshakeFailure::Version,
        AlertDescription::HandshakeFailure => HandshakeFailure::NoCommonAlgorithm,
        _ => HandshakeFailure::ClientAlert,
    }
}
