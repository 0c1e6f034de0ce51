//! What the audit says: findings, and the report of one chain, in the shape that every view of it shares.
//!
//! `audit` makes them; the command line, the log and the admin port show them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::identity::EndpointName;
use crate::tls::audit::rules::Level;
use crate::tls::audit::trust::Role;
use crate::tls::certificate::Certificate;

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Finding {
    /// The rule's id.
    #[schemars(with = "String")]
    pub rule: &'static str,
    /// How it weighs, by the profile and the policy.
    pub level: Level,
    /// The file.
    pub file: String,
    /// Which of the file's certificates, from 1; `None` for the file as a whole.
    pub position: Option<usize>,
    /// That certificate's subject.
    pub subject: Option<String>,
    /// That certificate's SHA-256 fingerprint, in hex.
    pub sha256: Option<String>,
    /// What was seen, in words that follow the certificate's or the file's name.
    pub seen: String,
    /// Why it matters, with its source.
    pub why: String,
    /// What to do.
    pub fix: String,
    /// The last day of the waiver that accepts it, if one does: it then does not count.
    pub waived_until: Option<String>,
    /// The endpoint that the chain is for.
    #[serde(skip)]
    pub endpoint: Option<EndpointName>,
    /// The certificate's serial number, in hex.
    #[serde(skip)]
    pub serial: Option<String>,
    /// How many certificates the file has.
    #[serde(skip)]
    pub of: usize,
    /// The line of the file that the certificate begins on, from 1.
    #[serde(skip)]
    pub line: Option<usize>,
    /// Why the waiver accepts it.
    #[serde(skip)]
    pub waiver: Option<String>,
}

impl Finding {
    /// Whether it counts: no waiver accepts it.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.waived_until.is_none()
    }
}

/// One line: where, what, the rule, and what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(endpoint) = &self.endpoint {
            write!(f, "endpoint \"{endpoint}\": ")?;
        }
        match (self.position, &self.subject) {
            (Some(position), Some(subject)) => {
                write!(f, "{}, certificate {position} of {} ({subject}): {}", self.file, self.of, self.seen)?;
            }
            (Some(position), None) => write!(f, "{}, certificate {position} of {}: {}", self.file, self.of, self.seen)?,
            (None, _) => write!(f, "{}: {}", self.file, self.seen)?,
        }
        write!(f, " (rule {}); {}", self.rule, self.fix)?;
        match &self.waived_until {
            Some(day) => write!(f, " (waived until {day})"),
            None => Ok(()),
        }
    }
}

/// The worst level among what counts, or none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict(pub Option<Level>);

impl Verdict {
    /// The verdict that these findings add up to.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        Self(findings.iter().filter(|finding| finding.counts()).map(|finding| finding.level).max())
    }

    /// The verdict as reports spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0.map_or("ok", Level::as_str)
    }

    /// Whether the chain must not be served.
    #[must_use]
    pub fn is_denied(self) -> bool {
        self.0 == Some(Level::Deny)
    }

    /// How chains are ranked: what is only `info` is as good as nothing.
    #[must_use]
    pub fn rank(self) -> u8 {
        match self.0 {
            None | Some(Level::Info) => 0,
            Some(Level::Warn) => 1,
            Some(Level::Error) => 2,
            Some(Level::Deny) => 3,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Everything the audit says of one chain.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChainReport {
    /// What the file is for; left out for a server's chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The chain file.
    pub file: String,
    /// The key file, where one is named.
    pub key: Option<String>,
    /// The endpoint that it is for.
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<EndpointName>,
    /// The worst level among what counts, or "ok".
    #[schemars(with = "String")]
    pub verdict: Verdict,
    /// The certificates that could be read, in the file's order.
    pub certificates: Vec<CertificateView>,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// The leaf's position in the file, from 1; `None` where no certificate could be read.
    #[serde(skip)]
    pub leaf: Option<usize>,
    /// Whether a server presented it: then `file` is where the server is.
    #[serde(skip)]
    pub remote: bool,
}

impl ChainReport {
    /// The certificate that speaks for the server.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateView> {
        self.certificates.iter().find(|certificate| Some(certificate.position) == self.leaf)
    }
}

/// A certificate, for people and machines to read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CertificateView {
    /// Where it stands in the file, from 1.
    pub position: usize,
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// Its serial number, in upper-case hex.
    pub serial: String,
    /// Its SHA-256 fingerprint, in lower-case hex.
    pub sha256: String,
    /// How it is signed.
    pub signature_algorithm: String,
    /// Its key, such as "RSA 2048".
    pub key: String,
    /// When it becomes valid.
    #[schemars(with = "String")]
    pub not_before: Moment,
    /// The last second that it is valid in.
    #[schemars(with = "String")]
    pub not_after: Moment,
    /// The names and addresses to connect to it by.
    pub names: Vec<String>,
}

impl From<&Certificate> for CertificateView {
    fn from(certificate: &Certificate) -> Self {
        Self {
            position: certificate.position,
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            serial: certificate.serial.clone(),
            sha256: certificate.sha256.clone(),
            signature_algorithm: certificate.signature.to_string(),
            key: certificate.key.to_string(),
            not_before: Moment(certificate.not_before),
            not_after: Moment(certificate.not_after),
            names: certificate.names(),
        }
    }
}

/// A moment, shown as RFC 3339 writes it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub OffsetDateTime);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&rfc3339(self.0))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A moment as RFC 3339 writes it, in UTC.
pub(super) fn rfc3339(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}
