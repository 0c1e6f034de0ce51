//! The only place that makes a `rustls::ServerConfig`, and it takes nothing but audited chains.
//!
//! Owns the choice of a chain by SNI and by what the client can verify, session tickets, protocol versions and ALPN.
//! Called by `plan`; the result is used by `connection`.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SignatureAlgorithm, SupportedCipherSuite};

use super::audit::AuditedChain;
use super::client_auth::ClientAuth;
use crate::config::MinVersion;
use crate::metrics::EndpointMetrics;

/// What an endpoint's TLS settings ask for, besides its chains.
#[derive(Debug)]
pub struct Terms {
    /// The lowest protocol version.
    pub min_version: MinVersion,
    /// Application protocols, most preferred first; empty: ALPN is not used.
    pub alpn: Vec<String>,
    /// Who may connect by certificate; `None`: no certificate is asked for.
    pub client_auth: Option<ClientAuth>,
}

/// Makes the server configuration of one endpoint.
///
/// Tickets are encrypted with keys of this configuration's own, so no session is resumed at another endpoint, or past
/// other client-authentication settings (CVE-2025-23419).
///
/// # Errors
/// The provider refuses the settings, or no random bytes could be had.
pub fn server_config(
    chains: &[Arc<AuditedChain>],
    terms: Terms,
    metrics: Arc<EndpointMetrics>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match terms.min_version {
        MinVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::V13 => &[&rustls::version::TLS13],
    };
    #[expect(clippy::disallowed_methods, reason = "this is the one place, and it has an audited chain")]
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let builder = match terms.client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => builder.with_client_cert_verifier(auth.into_verifier()),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(chains, metrics)));
    config.alpn_protocols = terms.alpn.into_iter().map(String::into_bytes).collect();
    // Our order of suites, not the client's: clients list AES-256 first out of habit.
    config.ignore_client_order = true;
    // Sessions live in tickets alone: no memory per client, and nothing shared between workers but the keys.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
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

/// Picks a chain: by the exact name, then by wildcard, then the first; among those for a name, the first whose key
/// the client can verify.
#[derive(Debug)]
struct ByName {
    chains: Vec<Arc<CertifiedKey>>,
    exact: HashMap<String, Vec<usize>>,
    /// By what follows the "*.".
    wildcard: HashMap<String, Vec<usize>>,
    metrics: Arc<EndpointMetrics>,
}

impl ByName {
    fn new(audited: &[Arc<AuditedChain>], metrics: Arc<EndpointMetrics>) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (index, chain) in audited.iter().enumerate() {
            for name in chain.dns_names() {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(index),
                    None => exact.entry(name).or_default().push(index),
                }
            }
        }
        let chains = audited.iter().map(|chain| Arc::clone(chain.certified_key())).collect();
        Self { chains, exact, wildcard, metrics }
    }

    /// The chains for a name, best first, if any covers it.
    fn for_name(&self, name: &str) -> Option<&[usize]> {
        // rustls hands the name over as the client wrote it.
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let by_parent = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(by_parent).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().map(|name| self.for_name(name));
        if named == Some(None) {
            self.metrics.here().unknown_server_names.add(1);
        }
        let usable = |key: &&Arc<CertifiedKey>| can_verify(&hello, key);
        match named.flatten() {
            Some(indices) => indices.iter().map(|i| &self.chains[*i]).find(usable).cloned(),
            None => self.chains.iter().find(usable).cloned(),
        }
    }
}

/// Whether the client can verify this key's signatures with the suites that it offers.
fn can_verify(hello: &ClientHello<'_>, key: &CertifiedKey) -> bool {
    if key.key.choose_scheme(hello.signature_schemes()).is_none() {
        return false;
    }
    // A TLS 1.2 suite names the kind of key; a TLS 1.3 suite does not.
    let rsa = key.key.algorithm() == SignatureAlgorithm::RSA;
    hello.cipher_suites().iter().any(|suite| match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => true,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => rsa,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => !rsa,
        _ => false,
    })
}
