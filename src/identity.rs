//! Who a connection is: the endpoint it came in by, the client at its other end, and what TLS told us.
//!
//! Owns the words that every other layer speaks. Made once by `plan` (endpoints) and once per connection by
//! `connection`; read by handlers, logs, metrics and the admin port.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde::Serialize;

use crate::labels::labels;
use crate::scope::Scope;

/// The name of an endpoint: its key in the configuration's `[endpoints]` table.
///
/// At most 64 characters of `A-Z a-z 0-9 . _ -`, so that it is at once a metric label, a header value and an
/// obfuscated node of `Forwarded` (RFC 7239, section 6.3).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct EndpointName(Arc<str>);

impl EndpointName {
    /// The longest name, in bytes.
    pub const MAX: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    /// A sentence that says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.len() > Self::MAX {
            return Err(format!("a name has 1 to {} characters", Self::MAX));
        }
        if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
            return Err(format!("a name is made of A-Z a-z 0-9 . _ -; {bad:?} is none of them"));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whom an endpoint faces: chooses the audit profile, and is a label everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Anyone: browsers and public certification authorities.
    Public,
    /// One's own network: private certification authorities.
    Internal,
}

impl Class {
    /// The class as the configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An endpoint's identity, made once from the configuration and shared by all of its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The key of its table.
    pub name: EndpointName,
    /// Whom it faces.
    pub class: Class,
    /// Whether it terminates TLS.
    pub tls: bool,
}

/// The far end of something: `Remote<SocketAddr>` is the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Remote<T>(pub T);

/// Our end of something: `Local<SocketAddr>` is the address that the client dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Local<T>(pub T);

/// What is known of a connection when its handler gets it.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The endpoint that it came in by.
    pub endpoint: Arc<Endpoint>,
    /// The client: the socket's peer, or what a trusted PROXY header said.
    pub client: Remote<SocketAddr>,
    /// The address that the client dialled: the socket's own, or what a trusted PROXY header said.
    pub local: Local<SocketAddr>,
    /// What the handshake settled; `None` on a plain endpoint, and where TLS is passed on unterminated.
    pub tls: Option<TlsInfo>,
    /// The name that the client asks for (SNI), lower case, where TLS is passed on unterminated.
    pub asked: Option<Arc<str>>,
    /// What the handler has worked out for this connection.
    pub kept: Kept,
}

/// A place for what a handler works out once for a connection, to have it at hand for every request; empty at first.
#[derive(Clone, Debug, Default)]
pub struct Kept(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Kept {
    /// What is kept, made now if nothing is; `None` if it is of another type.
    pub fn get_or_init<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Arc::new(make())).downcast_ref()
    }
}

impl ConnectionInfo {
    /// Whether a request for `authority` (with or without a port) may come by this connection: the host needs the client
    /// authentication that the connection had. If not, it is misdirected (RFC 9110, section 15.5.20).
    #[must_use]
    pub fn admits<'a>(&self, authority: impl FnOnce() -> Option<&'a str>) -> bool {
        let scope = self.tls.as_ref().and_then(|tls| tls.scope.as_ref());
        scope.is_none_or(|scope| scope.admits(authority()))
    }

    /// `https` or `http`, by whether this connection is TLS.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

labels! {
    /// A TLS version that the gateway speaks.
    TlsVersion {
        /// TLS 1.2 (RFC 5246).
        V12 = "1.2",
        /// TLS 1.3 (RFC 9846).
        V13 = "1.3",
    }
}

labels! {
    /// A key-exchange group, by its IANA name.
    Group {
        /// X25519 with ML-KEM-768: safe against a later quantum computer.
        X25519MlKem768 = "X25519MLKEM768",
        /// P-256 with ML-KEM-768.
        Secp256r1MlKem768 = "SecP256r1MLKEM768",
        /// X25519.
        X25519 = "x25519",
        /// P-256.
        Secp256r1 = "secp256r1",
        /// P-384.
        Secp384r1 = "secp384r1",
        /// P-521.
        Secp521r1 = "secp521r1",
        /// No exchange took place: a TLS 1.2 session was resumed.
        None = "none",
        /// Any other.
        Other = "other",
    }
}

labels! {
    /// A scheme that a handshake is signed with, by its IANA name.
    Signature {
        /// ECDSA over P-256 with SHA-256.
        EcdsaP256 = "ecdsa_secp256r1_sha256",
        /// ECDSA over P-384 with SHA-384.
        EcdsaP384 = "ecdsa_secp384r1_sha384",
        /// ECDSA over P-521 with SHA-512.
        EcdsaP521 = "ecdsa_secp521r1_sha512",
        /// Ed25519.
        Ed25519 = "ed25519",
        /// RSA-PSS with SHA-256.
        RsaPssSha256 = "rsa_pss_rsae_sha256",
        /// RSA-PSS with SHA-384.
        RsaPssSha384 = "rsa_pss_rsae_sha384",
        /// RSA-PSS with SHA-512.
        RsaPssSha512 = "rsa_pss_rsae_sha512",
        /// RSA PKCS #1 with SHA-256; in TLS 1.2 alone.
        RsaPkcs1Sha256 = "rsa_pkcs1_sha256",
        /// RSA PKCS #1 with SHA-384.
        RsaPkcs1Sha384 = "rsa_pkcs1_sha384",
        /// RSA PKCS #1 with SHA-512.
        RsaPkcs1Sha512 = "rsa_pkcs1_sha512",
        /// Any other.
        Other = "other",
    }
}

/// What a TLS handshake settled.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// The protocol version.
    pub version: TlsVersion,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// The key-exchange group.
    pub group: Group,
    /// The scheme that the gateway signed it with; `None` where a session was resumed.
    pub signature: Option<Signature>,
    /// The protocol that ALPN chose, if any.
    pub alpn: Option<Alpn>,
    /// The name that the client asked for (SNI), lower case.
    pub server_name: Option<Arc<str>>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The client's certificate, verified and allowed.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// How long the handshake took.
    pub handshake: Duration,
    /// The client authentication that this connection had, where the endpoint's names do not all need the same.
    pub scope: Option<Scope>,
}

/// A client certificate that the endpoint's CA vouches for and its allow-list admits.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The leaf, as DER.
    pub leaf: CertificateDer<'static>,
    /// Its subject's common name, if it has one.
    pub common_name: Option<String>,
}

/// An application protocol that an endpoint can speak after the handshake (RFC 7301).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/2 (RFC 9113).
    H2,
    /// HTTP/1.1 (RFC 9112).
    Http11,
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// A protocol that the configuration names and the gateway only passes on.
    Other(Arc<str>),
}

impl Alpn {
    /// What a protocol identifier means to the gateway.
    #[must_use]
    pub fn new(id: &str) -> Self {
        match id {
            "h2" => Self::H2,
            "http/1.1" => Self::Http11,
            "http/1.0" => Self::Http10,
            other => Self::Other(other.into()),
        }
    }

    /// The identifier as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::H2 => "h2",
            Self::Http11 => "http/1.1",
            Self::Http10 => "http/1.0",
            Self::Other(id) => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EndpointName;

    #[test]
    fn a_name_is_safe_as_label_header_and_forwarded_node() {
        assert!(EndpointName::new("internet-1.eu_west").is_ok());
        for bad in ["", "a b", "a\"", "ü", "a\n", &"x".repeat(65)] {
            assert!(EndpointName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
