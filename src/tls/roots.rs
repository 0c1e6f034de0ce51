//! Authorities: the one reader of files that name them, those of the system, and whether a chain verifies under some.
//!
//! `client_auth` and `client_config` read theirs here, and so do `acme` and `otlp`. The command line's `audit` asks whether a chain
//! verifies, where it is told to: the audit itself knows no roots.

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

/// The certificates of a PEM file of authorities, in its order; at least one. What cannot be read is an error here: whoever
/// named the file means all of it.
///
/// # Errors
/// A sentence that names the file.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let material = chain::read_roots(file);
    match material.faults.first() {
        Some(fault) if fault.rule == RuleId::PemNoCert && fault.fix.is_none() => {
            Err(format!("{}: {}; name a PEM file of authorities", file.display(), fault.seen))
        }
        Some(fault) => Err(fault.sentence()),
        None => Ok(material.certificates.into_iter().map(|certificate| certificate.der).collect()),
    }
}

/// What verifies under authorities, which are those of this file.
///
/// # Errors
/// A sentence that names the file, and which of them cannot be one.
pub fn store(file: &Path, authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in authorities.into_iter().enumerate() {
        let added = roots.add(certificate);
        added.map_err(|e| format!("{}, certificate {}: cannot be an authority: {e}", file.display(), index + 1))?;
    }
    Ok(roots)
}

/// The authorities of a PEM file, or without one those that this system trusts.
///
/// # Errors
/// A sentence that names the file, or says that the system has none.
pub fn trusted(file: Option<&Path>) -> Result<RootCertStore, String> {
    if let Some(file) = file {
        return store(file, authorities(file)?);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no root certificates; install ca-certificates, or name a file with ca".into());
    }
    Ok(roots)
}

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
