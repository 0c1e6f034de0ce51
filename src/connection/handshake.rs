//! The TLS handshake: its deadline, what it settled, and a name for every way in which it can fail.
//!
//! Called by `connection`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{
    AlertDescription, CertificateError, HandshakeKind, NamedGroup, PeerIncompatible, ProtocolVersion, ServerConnection,
};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Alpn, ClientCertificate, Group, TlsInfo, TlsVersion};
use crate::metrics::{HandshakeFailure, Method};
use crate::stream::{Socket, Stream};

/// What a plain HTTP client is told at a TLS port.
const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 48\r\nConnection: close\r\n\r\nThis port speaks TLS; use https:// to reach it.\n";

/// A handshake that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: HandshakeFailure,
    pub(super) message: String,
}

impl Failed {
    fn new(reason: HandshakeFailure, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Completes the handshake within `deadline`.
pub(super) async fn accept(
    acceptor: &TlsAcceptor,
    mut socket: Socket,
    deadline: Duration,
) -> Result<(Stream, TlsInfo), Failed> {
    socket.expect_tls();
    let late = || Failed::new(HandshakeFailure::Timeout, format!("not complete within {deadline:?}"));
    match timeout(deadline, acceptor.accept(socket).into_fallible()).await {
        Err(_) => Err(late()),
        Ok(Ok(stream)) => {
            let info = settled(stream.get_ref().1);
            Ok((Stream::tls(stream), info))
        }
        Ok(Err((error, mut socket))) => {
            let failed = classify(&error, &socket);
            if failed.reason == HandshakeFailure::PlainHttp {
                // A courtesy to a person with a browser; if it cannot be written at once, it is not owed.
                let _ = timeout(Duration::from_secs(1), socket.write_all(PLAIN_HTTP_ANSWER)).await;
                let _ = socket.shutdown().await;
            }
            Err(failed)
        }
    }
}

fn settled(connection: &ServerConnection) -> TlsInfo {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => TlsVersion::V12,
        _ => TlsVersion::V13,
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("unknown");
    TlsInfo {
        version,
        cipher,
        group: connection.negotiated_key_exchange_group().map_or(Group::None, |g| group(g.name())),
        alpn: connection.alpn_protocol().and_then(|id| std::str::from_utf8(id).ok()).map(Alpn::new),
        server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        client_certificate: connection.peer_certificates().and_then(|c| c.first()).map(|leaf| {
            Arc::new(ClientCertificate { leaf: leaf.clone().into_owned(), common_name: common_name(leaf) })
        }),
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

fn common_name(leaf: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

fn classify(error: &io::Error, socket: &Socket) -> Failed {
    use HandshakeFailure as F;
    let first = socket.first_bytes();
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
