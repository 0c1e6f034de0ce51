//! TLS to an upstream's servers: which name each must prove, and the handshake.
//!
//! The configuration is made by `tls/client_config`; `dial` shakes hands by it. A server that speaks before the handshake
//! fails it: rustls takes nothing but TLS records.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::Use;
use super::{Protocol, Server};

/// What an upstream's connections need for TLS.
#[derive(Clone)]
pub struct UpstreamTls {
    /// For requests; its ALPN names the upstream's protocol.
    requests: Arc<ClientConfig>,
    /// For sessions: without ALPN.
    bytes: Arc<ClientConfig>,
    protocol: Protocol,
    /// The name that every server must prove; `None`: each its own.
    server_name: Option<ServerName<'static>>,
    /// What it was made from, in words that are equal where that is.
    made_from: String,
    /// The files that it was made from.
    pub(super) files: Vec<PathBuf>,
}

impl UpstreamTls {
    /// TLS by `config`, made from `files`. `made_from` tells apart configurations that differ.
    #[must_use]
    pub fn new(
        config: ClientConfig,
        protocol: Protocol,
        server_name: Option<ServerName<'static>>,
        made_from: String,
        files: Vec<PathBuf>,
    ) -> Self {
        let bytes = Arc::new(config.clone());
        let mut requests = config;
        requests.alpn_protocols = vec![protocol.alpn().to_vec()];
        Self { requests: Arc::new(requests), bytes, protocol, server_name, made_from, files }
    }

    /// The name that a server must prove.
    ///
    /// # Errors
    /// A server whose own name is no host's.
    pub fn name_of(&self, server: &str) -> io::Result<ServerName<'static>> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
        ServerName::try_from(host.to_owned()).map_err(io::Error::other)
    }

    /// The name that every server must prove, where the configuration gives one.
    pub(super) fn common_name(&self) -> Option<String> {
        self.server_name.as_ref().map(|name| name.to_str().into_owned())
    }

    pub(super) async fn shake_hands(
        &self,
        server: &Server,
        tcp: TcpStream,
        for_: Use,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = if for_ == Use::Requests { &self.requests } else { &self.bytes };
        let name = self.name_of(&server.name)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
        // HTTP/1.1 is what a server speaks that knows nothing of ALPN.
        let agreed = stream.get_ref().1.alpn_protocol();
        if for_ == Use::Requests && self.protocol == Protocol::Http2 && agreed != Some(self.protocol.alpn()) {
            return Err(io::Error::other("it did not agree to speak h2 (ALPN)"));
        }
        Ok(stream)
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.made_from)
    }
}
