//! The only place that makes a `rustls::ServerConfig`, and what serves clients takes nothing but audited chains.
//!
//! Owns protocol versions, suites and ALPN, and the choice of a configuration by the name that a client asks for. Called
//! by `plan`; the result is used by `connection`. `by_name` picks the chain, `tickets` resumes sessions.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};

use super::audit::AuditedChain;
use super::by_name::ByName;
use super::client_auth::ClientAuth;
use super::tickets::Tickets;
use crate::config::MinVersion;
use crate::scope::{Scope, Scopes};

/// What an endpoint's TLS settings ask for, besides its chains.
#[derive(Debug)]
pub struct Terms {
    /// The lowest protocol version.
    pub min_version: MinVersion,
    /// Application protocols, most preferred first; empty: ALPN is not used.
    pub alpn: Vec<String>,
    /// Who may connect by certificate, for each scope; `None`: no certificate is asked for.
    pub client_auth: Vec<Option<ClientAuth>>,
    /// Which of them a name needs.
    pub scopes: Scopes,
    /// What seals session tickets.
    pub tickets: Arc<Tickets>,
}

/// An endpoint's server configurations: one for each set of client-authentication settings.
#[derive(Clone, Debug)]
pub struct Acceptor {
    configs: Vec<Arc<ServerConfig>>,
    scopes: Arc<Scopes>,
    chains: Arc<ByName>,
}

/// What answers one client.
#[derive(Debug)]
pub struct Chosen {
    /// The configuration.
    pub config: Arc<ServerConfig>,
    /// The client authentication that comes with it, where the endpoint has more than one.
    pub scope: Option<Scope>,
    /// Whether the client asked for a name that no chain covers.
    pub unknown_name: bool,
}

impl Acceptor {
    /// Makes the configurations of one endpoint, whose chains are given best first.
    ///
    /// # Errors
    /// The provider refuses the settings.
    pub fn new(chains: &[Arc<AuditedChain>], terms: Terms) -> Result<Self, rustls::Error> {
        let chains = Arc::new(ByName::new(chains));
        let configs = terms.client_auth.iter().enumerate();
        let configs = configs.map(|(scope, auth)| server_config(&chains, &terms, scope, auth.as_ref()).map(Arc::new));
        let configs = configs.collect::<Result<_, _>>()?;
        Ok(Self { configs, scopes: Arc::new(terms.scopes), chains })
    }

    /// Whether each name needs the client authentication that these say.
    #[must_use]
    pub fn has_scopes(&self, scopes: &Scopes) -> bool {
        *self.scopes == *scopes
    }

    /// Whether both are one: made once, and taken over from plan to plan.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chains, &other.chains)
    }

    /// What answers a client that asks for this name (SNI).
    #[must_use]
    pub fn choose(&self, server_name: Option<&str>) -> Chosen {
        let own = self.scopes.of_name(server_name);
        Chosen {
            config: Arc::clone(&self.configs[own]),
            scope: (self.configs.len() > 1).then(|| Scope::new(Arc::clone(&self.scopes), own)),
            unknown_name: server_name.is_some_and(|name| !self.chains.covers(name)),
        }
    }
}

fn server_config(
    chains: &Arc<ByName>,
    terms: &Terms,
    scope: usize,
    auth: Option<&ClientAuth>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match terms.min_version {
        MinVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::V13 => &[&rustls::version::TLS13],
    };
    #[expect(clippy::disallowed_methods, reason = "this is the one place, and it has an audited chain")]
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let builder = match auth {
        None => builder.with_no_client_auth(),
        Some(auth) => builder.with_client_cert_verifier(auth.verifier().clone()),
    };
    let mut config = builder.with_cert_resolver(chains.clone());
    config.alpn_protocols = terms.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // Our order of suites, not the client's: clients list AES-256 first out of habit.
    config.ignore_client_order = true;
    // Sessions live in tickets alone: no memory per client, and nothing shared between workers but the keys.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(terms.tickets.of_scope(scope, auth));
    Ok(config)
}

/// Makes a server configuration that shakes hands for one ACME challenge, by its application protocol alone. Not a byte is
/// served over it, so its certificate is the one that needs no audit: the authority alone looks at it (RFC 8737).
///
/// # Errors
/// The provider refuses the settings.
pub fn challenge_config(key: CertifiedKey, protocol: &[u8]) -> Result<ServerConfig, rustls::Error> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place, and nothing is served by it")]
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The cryptography that everything here uses: aws-lc-rs, with X25519MLKEM768 first.
///
/// AES-128 comes before AES-256 in each kind of suite. Both are out of reach, with a quantum computer too (NIST's
/// category 1), and the hash that comes with AES-256 is SHA-384, which no processor computes in hardware and which is a
/// seventh of a handshake's cost.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 2,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => 3,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 4,
        _ => 5,
    });
    Arc::new(provider)
}

/// What an endpoint offers, for the summary at start-up.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Offer {
    /// Protocol versions, lowest first.
    pub versions: Vec<&'static str>,
    /// Cipher suites, by their IANA names.
    pub cipher_suites: Vec<&'static str>,
    /// Key-exchange groups, by their IANA names.
    pub groups: Vec<&'static str>,
}

impl Offer {
    /// What is offered from `min_version` on.
    #[must_use]
    pub fn new(min_version: MinVersion) -> Self {
        let provider = provider();
        let tls12 = min_version == MinVersion::V12;
        let suites = provider.cipher_suites.iter().filter(|s| tls12 || matches!(s, SupportedCipherSuite::Tls13(_)));
        Self {
            versions: if tls12 { vec!["1.2", "1.3"] } else { vec!["1.3"] },
            cipher_suites: suites.filter_map(|s| s.suite().as_str()).collect(),
            groups: provider.kx_groups.iter().filter_map(|g| g.name().as_str()).collect(),
        }
    }
}
