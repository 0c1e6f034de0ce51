//! Picks the chain for a client: by the name that it asks for, and by what it can verify.
//!
//! Made by `server_config` from the endpoint's audited chains; rustls asks it at every handshake.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{CipherSuite, Error, SignatureAlgorithm, SignatureScheme};

use super::audit::{AuditedChain, Staple};
use super::notes::{self, Notes};
use crate::server_names::ServerNames;

/// Picks a chain: of those that cover the name, else of all, the first whose key the client can verify. A chain without
/// a grave fault comes first, then one that has the name itself before one that has a wildcard, then the best.
#[derive(Debug)]
pub(super) struct ByName {
    chains: Vec<Served>,
    names: ServerNames<Vec<usize>>,
}

impl ByName {
    /// Of chains, best first.
    pub(super) fn new(audited: &[Arc<AuditedChain>]) -> Self {
        let mut names = ServerNames::<Vec<usize>>::default();
        for (index, chain) in audited.iter().enumerate() {
            for name in chain.dns_names() {
                names.entry(name, Vec::new).push(index);
            }
        }
        Self { chains: audited.iter().map(|chain| Served::new(chain)).collect(), names }
    }

    /// Whether a chain covers this name.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.names.get(name).is_some()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |chain: &&Served| can_verify(&hello, &chain.plain);
        match hello.server_name().filter(|name| self.covers(name)) {
            Some(name) => {
                let covering = self.names.all(name).flatten().map(|index| &self.chains[*index]);
                let mut sound = covering.clone().filter(|chain| chain.sound);
                sound.find(usable).or_else(|| covering.filter(|chain| !chain.sound).find(usable))
            }
            None => self.chains.iter().find(usable),
        }
        .map(Served::now)
    }
}

/// One chain, with its stapled status and without.
#[derive(Debug)]
struct Served {
    plain: Arc<CertifiedKey>,
    stapled: Option<(Arc<CertifiedKey>, Staple)>,
    sound: bool,
}

impl Served {
    fn new(chain: &AuditedChain) -> Self {
        let plain = noting(chain.certified_key());
        let stapled = chain.staple().map(|staple| {
            let stapled = CertifiedKey { ocsp: Some(staple.der.to_vec()), ..plain.clone() };
            (Arc::new(stapled), staple.clone())
        });
        Self { plain: Arc::new(plain), stapled, sound: chain.is_sound() }
    }

    /// A status that has run out since is not handed out: a client may take it for a sign of an attack.
    fn now(&self) -> Arc<CertifiedKey> {
        let stapled = self.stapled.as_ref().filter(|(_, staple)| staple.is_fresh_at(SystemTime::now()));
        Arc::clone(stapled.map_or(&self.plain, |(stapled, _)| stapled))
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

/// The same chain, with a key that notes what it signs with.
fn noting(certified: &CertifiedKey) -> CertifiedKey {
    CertifiedKey::new(certified.cert.clone(), Arc::new(Noting(Arc::clone(&certified.key))))
}

/// A key that notes what it signs with.
#[derive(Debug)]
struct Noting(Arc<dyn SigningKey>);

impl SigningKey for Noting {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(NotingSigner(self.0.choose_scheme(offered)?)))
    }

    fn public_key(&self) -> Option<rustls::pki_types::SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct NotingSigner(Box<dyn Signer>);

impl Signer for NotingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        // Only a full handshake is signed, so what a ticket that was declined had said no longer counts.
        notes::with(|notes| *notes = Notes { signed: Some(self.0.scheme()), ..Notes::default() });
        self.0.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}
