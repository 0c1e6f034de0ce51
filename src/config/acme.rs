//! `[acme.NAME]`: an authority that issues certificates by ACME (RFC 8555).
//!
//! The words alone; `plan/acme.rs` says what they mean together with the certificates that name the authority.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[acme.NAME]`: an authority that issues certificates, for `[[endpoints.NAME.tls.certificates]]` that name it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// The authority's directory (RFC 8555, section 7.1.1), such as `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory: String,
    /// That you agree to the authority's terms of service; it makes no account for those who do not.
    pub terms_of_service_agreed: bool,
    /// Where the authority may reach you, such as "mailto:ops@example.com".
    #[serde(default)]
    pub contact: Vec<String>,
    /// The folder for the account and the certificates. The gateway makes it, for its own user alone.
    #[serde(default = "default_storage")]
    pub storage: PathBuf,
    /// How the authority finds out that the names are yours.
    #[serde(default)]
    pub challenge: ChallengeConfig,
    /// PEM file: the roots that the authority's own server is verified by, instead of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// One of the authority's certificate profiles; left out: its default.
    #[serde(default)]
    pub profile: Option<String>,
    /// The account with the authority that the gateway's account is bound to (RFC 8555, section 7.3.4).
    #[serde(default)]
    pub external_account: Option<ExternalAccountConfig>,
}

fn default_storage() -> PathBuf {
    "acme".into()
}

/// How the authority finds out that a name is yours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ChallengeConfig {
    /// It shakes hands on port 443 (RFC 8737); the endpoint that serves the certificate answers.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// It asks over HTTP on port 80 (RFC 8555, section 8.3); every plain HTTP endpoint answers.
    #[serde(rename = "http-01")]
    Http01,
}

impl ChallengeConfig {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

/// `[acme.NAME.external_account]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccountConfig {
    /// The key identifier that the authority gave you.
    pub key_id: String,
    /// A file whose first line is the HMAC key that it gave you, in base64url.
    pub hmac_key_file: PathBuf,
}
