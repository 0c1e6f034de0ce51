//! Whether a chain verifies under roots that someone named, as rustls clients verify it. The command line's `audit`
//! asks, where it is told to: the audit itself knows no roots.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;

use crate::tls::audit;
use crate::tls::audit::rules::RuleId;
use crate::tls::chain::{self, Material};

/// Roots that clients have.
pub struct Roots {
    file: PathBuf,
    store: RootCertStore,
}

impl Roots {
    /// Reads every certificate of a file; one that cannot be a root is passed over, as clients do.
    ///
    /// # Errors
    /// The file holds no root, in words.
    pub fn read(file: &Path) -> Result<Self, String> {
        let material = chain::read_roots(file);
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(material.certificates.iter().map(|certificate| certificate.der.clone()));
        if store.is_empty() {
            let why = material.faults.first().map_or("holds no root", |fault| fault.seen.as_str());
            return Err(format!("{}: {why}", file.display()));
        }
        Ok(Self { file: file.to_owned(), store })
    }

    /// Adds a finding to a chain that does not verify under these roots at this time.
    pub fn check(&self, material: &mut Material, now: SystemTime) {
        let Some(leaf) = audit::leaf_of(material) else { return };
        let others = material.certificates.iter().filter(|certificate| certificate.position != leaf.position);
        let others: Vec<CertificateDer<'static>> = others.map(|certificate| certificate.der.clone()).collect();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let verified = ParsedCertificate::try_from(&leaf.der).and_then(|leaf| {
            let algorithms = default_provider().signature_verification_algorithms.all;
            let now = UnixTime::since_unix_epoch(seconds);
            verify_server_cert_signed_by_trust_anchor(&leaf, &self.store, &others, now, algorithms)
        });
        if let Err(error) = verified {
            let seen = format!("does not verify under the roots in {}: {error}", self.file.display());
            material.note(RuleId::ChainUntrusted, seen);
        }
    }
}
