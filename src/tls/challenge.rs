//! The answers to ACME's challenges that are live now: HTTP-01 by token, TLS-ALPN-01 by name.
//!
//! `acme` puts them in while an order waits for its validation; `handler::http` and `connection` take them out when somebody
//! asks. One for the whole gateway. Its lock is taken for requests and handshakes that ask for a challenge, and for no others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::server_config::{challenge_config, provider};

/// The application protocol of TLS-ALPN-01 (RFC 8737, section 6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The live answers.
#[derive(Debug, Default)]
pub struct Challenges {
    live: RwLock<Live>,
}

#[derive(Debug, Default)]
struct Live {
    /// Key authorizations by token.
    http: HashMap<String, Bytes>,
    /// Configurations with the challenge's certificate, by name in lower case.
    tls: HashMap<String, Arc<ServerConfig>>,
}

impl Challenges {
    /// What a live token is answered with (RFC 8555, section 8.3).
    #[must_use]
    pub fn key_authorization(&self, token: &str) -> Option<Bytes> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).http.get(token).cloned()
    }

    /// The configuration that answers this hello, if it asks for a live challenge: `acme-tls/1` and nothing else, for a name
    /// that is being validated (RFC 8737, section 3).
    #[must_use]
    pub fn server_config(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        if (protocols.next(), protocols.next()) != (Some(ACME_TLS), None) {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.live.read().unwrap_or_else(PoisonError::into_inner).tls.get(&name).cloned()
    }

    /// Answers HTTP-01 for a token until what is returned is dropped.
    #[must_use]
    pub fn offer_http(self: &Arc<Self>, token: &str, key_authorization: &str) -> Offered {
        self.change(|live| live.http.insert(token.to_owned(), key_authorization.to_owned().into()));
        Offered { challenges: Arc::clone(self), token: Some(token.to_owned()), name: None }
    }

    /// Answers TLS-ALPN-01 for a name until what is returned is dropped. `digest` is the SHA-256 of the key authorization.
    ///
    /// # Errors
    /// The challenge's certificate could not be made.
    pub fn offer_tls(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Offered, String> {
        let key = certificate(name, digest).map_err(|error| format!("the certificate of the challenge: {error}"))?;
        let config = challenge_config(key, ACME_TLS).map_err(|error| error.to_string())?;
        self.change(|live| live.tls.insert(name.to_owned(), Arc::new(config)));
        Ok(Offered { challenges: Arc::clone(self), token: None, name: Some(name.to_owned()) })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Live) -> T) {
        change(&mut self.live.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// An answer that is live until this is dropped.
#[derive(Debug)]
pub struct Offered {
    challenges: Arc<Challenges>,
    token: Option<String>,
    name: Option<String>,
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.challenges.change(|live| {
            self.token.as_ref().and_then(|token| live.http.remove(token));
            self.name.as_ref().and_then(|name| live.tls.remove(name));
        });
    }
}

/// A self-signed certificate for the one name, with the digest in a critical `acmeIdentifier` (RFC 8737, section 3).
fn certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let leaf = params.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    // Not `from_der`, which would refuse the critical extension that this is about.
    Ok(CertifiedKey::new(vec![leaf.der().clone()], provider().key_provider.load_private_key(key.into())?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lives_as_long_as_what_was_offered() {
        let challenges = Arc::new(Challenges::default());
        let offered = challenges.offer_http("token", "token.thumbprint");
        assert_eq!(challenges.key_authorization("token").unwrap(), "token.thumbprint");
        assert_eq!(challenges.key_authorization("other"), None);
        drop(offered);
        assert_eq!(challenges.key_authorization("token"), None);
        let offered = challenges.offer_tls("www.example.com", &[7; 32]).unwrap();
        assert_eq!(challenges.live.read().unwrap().tls["www.example.com"].alpn_protocols, [ACME_TLS]);
        drop(offered);
        assert!(challenges.live.read().unwrap().tls.is_empty());
    }
}
