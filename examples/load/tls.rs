//! What the load offers in a TLS handshake, and what came of it.
//!
//! Every gateway is offered the same: TLS 1.3 only, rustls' default cipher suites, and its default groups with key
//! shares for both X25519MLKEM768 and X25519. So nobody is sent back for another key share, and a gateway that can do
//! the post-quantum exchange does it, at its own expense; the report says which group it was.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Result;

/// The name that is asked for and verified.
const SERVER_NAME: &str = "localhost";

/// A client configuration that believes the certificates in `ca` alone.
pub(crate) fn client_config(ca: &Path, alpn: &str) -> Result<ClientConfig> {
    let unreadable = |error| format!("{}: {error}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?)?;
    }
    #[expect(clippy::disallowed_methods, reason = "the load trusts the file that it is given")]
    let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Shakes hands, and insists on the application protocol that was offered.
pub(crate) async fn connect(config: Arc<ClientConfig>, tcp: TcpStream) -> Result<TlsStream<TcpStream>> {
    let offered = config.alpn_protocols.first().cloned();
    let stream = TlsConnector::from(config).connect(ServerName::try_from(SERVER_NAME)?, tcp).await?;
    if stream.get_ref().1.alpn_protocol() != offered.as_deref() {
        return Err("the gateway did not choose the application protocol that was offered".into());
    }
    Ok(stream)
}

/// What a handshake settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Settled {
    group: String,
    cipher: String,
    /// Whether a session was resumed.
    pub(crate) resumed: bool,
}

impl Settled {
    /// Reads it off a connection whose handshake is done.
    pub(crate) fn of(stream: &TlsStream<TcpStream>) -> Result<Self> {
        let connection = stream.get_ref().1;
        let group = connection.negotiated_key_exchange_group().map(|group| group.name());
        let cipher = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        Ok(Self {
            group: group.map(|name| format!("{name:?}")).ok_or("no key exchange took place")?,
            cipher: cipher.map(|suite| format!("{suite:?}")).ok_or("no cipher suite was settled")?,
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}

/// One connection's session tickets: at most one to spend, and the last one that came.
///
/// A tray belongs to one connection, so that a ticket's arrival says something about that connection: a
/// TLS 1.3 server sends its tickets after it has verified the client's Finished (RFC 9846, section 4.6.1), and the client
/// learns of the end of the handshake in no other way.
#[derive(Debug)]
pub(crate) struct TicketTray {
    spend: Mutex<Option<Tls13ClientSessionValue>>,
    received: Mutex<Option<Tls13ClientSessionValue>>,
    arrival: Notify,
}

impl TicketTray {
    /// A tray with a ticket to spend, or none for a full handshake.
    pub(crate) fn new(spend: Option<Tls13ClientSessionValue>) -> Arc<Self> {
        Arc::new(Self { spend: Mutex::new(spend), received: Mutex::new(None), arrival: Notify::new() })
    }

    /// Resolves once a ticket has come.
    pub(crate) async fn arrival(&self) {
        self.arrival.notified().await;
    }

    /// Takes the ticket that came.
    pub(crate) fn take_received(&self) -> Option<Tls13ClientSessionValue> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientSessionStore for TicketTray {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    /// None: every connection offers what a first one does.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        *self.received.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
        self.arrival.notify_one();
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.spend.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
