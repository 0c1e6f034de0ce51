//! What the audit found out about an endpoint's chains, in the words in which the admin port shows it.
//!
//! Filled in by `gateway` from a plan's audit, once per plan; read by the views, the metrics and the dashboard. The
//! JSON of a [`ChainFacts`] is that of `portcullis audit --format json`.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::identity::EndpointName;

/// A TLS endpoint's chains and what became of them.
#[derive(Clone, Debug, Default)]
pub struct TlsFacts {
    /// Every chain that the endpoint lists, in that order.
    pub chains: Vec<ChainFacts>,
    /// Chains that are served in the place of unfit ones.
    pub fallbacks: Vec<FallbackFacts>,
    /// The revocation lists that its clients are checked against.
    pub crls: Vec<CrlFacts>,
}

/// One chain: what is in its file, and what the audit says of it.
#[derive(Clone, Debug, Serialize)]
pub struct ChainFacts {
    /// The chain's file, as written in the configuration.
    pub file: String,
    /// The key's file; `None` where none is named.
    pub key: Option<String>,
    /// The endpoint that lists it.
    pub endpoint: EndpointName,
    /// The worst level among the findings that are not waived, or `ok`.
    pub verdict: &'static str,
    /// The certificates in the file, in its order.
    pub certificates: Vec<CertificateFacts>,
    /// What the audit found.
    pub findings: Vec<FindingFacts>,
    /// The position of the leaf, from 1; `None` where the file could not be read so far.
    #[serde(skip)]
    pub leaf: Option<usize>,
    /// Whether it is among the chains that the endpoint serves.
    #[serde(skip)]
    pub served: bool,
}

impl ChainFacts {
    /// The certificate that speaks for the endpoint.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateFacts> {
        self.certificates.iter().find(|certificate| Some(certificate.position) == self.leaf)
    }
}

/// One certificate of a chain's file.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateFacts {
    /// Its place in the file, from 1.
    pub position: usize,
    /// Whom it speaks for.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// The SHA-256 of its DER, in hexadecimal.
    pub sha256: String,
    /// What it was signed with.
    pub signature_algorithm: String,
    /// Its key's type and size.
    #[serde(rename = "key")]
    pub key_type: String,
    /// When it begins.
    #[serde(serialize_with = "rfc3339")]
    pub not_before: OffsetDateTime,
    /// When it ends.
    #[serde(serialize_with = "rfc3339")]
    pub not_after: OffsetDateTime,
    /// The DNS names and addresses that it covers.
    pub names: Vec<String>,
}

/// One finding about a chain.
#[derive(Clone, Debug, Serialize)]
pub struct FindingFacts {
    /// The rule's id.
    pub rule: &'static str,
    /// How it weighs: `deny`, `error`, `warn` or `info`.
    pub level: &'static str,
    /// The file that it is about.
    pub file: String,
    /// The certificate that it is about, from 1; `None` for the file as a whole.
    pub position: Option<usize>,
    /// That certificate's subject.
    pub subject: Option<String>,
    /// That certificate's fingerprint.
    pub sha256: Option<String>,
    /// What was seen.
    pub seen: String,
    /// Why it matters, with the source.
    pub why: String,
    /// What to do.
    pub fix: String,
    /// The last day of the waiver that accepts it, if one does.
    pub waived_until: Option<String>,
}

/// A chain that is served in another's place.
#[derive(Clone, Debug, Serialize)]
pub struct FallbackFacts {
    /// The chain that is unfit.
    pub unfit: String,
    /// The rules that say so.
    pub rules: Vec<String>,
    /// The chain that is served instead.
    pub by: String,
    /// The names that this is about.
    pub names: Vec<String>,
}

/// A revocation list.
#[derive(Clone, Debug)]
pub struct CrlFacts {
    /// Its file, as written in the configuration.
    pub file: String,
    /// When it becomes stale; `None` where it does not say.
    pub next_update: Option<OffsetDateTime>,
}

fn rfc3339<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.format(&Rfc3339).map_err(serde::ser::Error::custom)?)
}
