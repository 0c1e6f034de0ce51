//! Makes the one thing that can be served: an [`AuditedChain`], from a chain that nothing denies and its key.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::{CertifiedKey, SigningKey};

use super::finding::Verdict;
use super::{AuditedChain, Staple, View};

/// The chain as it is served, or `None` if it must not be, or has no key.
pub(super) fn issue(
    view: &View<'_>,
    key: Option<Arc<dyn SigningKey>>,
    verdict: Verdict,
    sound: bool,
    staple: Option<Staple>,
) -> Option<Arc<AuditedChain>> {
    let key = key.filter(|_| !verdict.is_denied())?;
    let leaf = view.leaf();
    let alternates = view.path.alternates.iter().map(|index| view.at(*index));
    let chain = view.served().chain(alternates).map(|certificate| certificate.der.clone()).collect();
    Some(Arc::new(AuditedChain {
        certified: Arc::new(CertifiedKey::new(chain, key)),
        file: view.material.file.clone(),
        key_file: view.material.key_file.clone()?,
        names: leaf.names(),
        dns_names: leaf.extensions.dns_names.clone(),
        ip_addresses: leaf.extensions.ip_addresses.clone(),
        verdict,
        sound,
        not_before: view
            .members()
            .map(|certificate| certificate.not_before.into())
            .max()
            .unwrap_or(SystemTime::UNIX_EPOCH),
        not_after: view
            .members()
            .map(|certificate| certificate.not_after.into())
            .min()
            .unwrap_or(SystemTime::UNIX_EPOCH),
        sha256: leaf.sha256.clone(),
        key_type: leaf.key.to_string(),
        staple,
    }))
}
