//! The only place that makes a `rustls::ClientConfig`: whom the gateway trusts as a client, and who it says it is.
//!
//! Called by `plan` for upstreams, which shake hands by it, and by `acme`. A server's certificate is always verified: there is no
//! setting that turns that off.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::audit::rules::RuleId;
use super::chain::{self, Fault};
use super::server_config::provider;
use super::{audit, roots};
use crate::config::MinVersion;

/// What an upstream's TLS settings ask for. Paths are as they can be opened.
#[derive(Debug)]
pub struct ClientTerms {
    /// PEM file: the authorities that vouch for servers.
    pub ca: PathBuf,
    /// PEM files: the gateway's own chain and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The lowest protocol version.
    pub min_version: MinVersion,
}

/// Reads the files, and makes the configuration.
///
/// # Errors
/// Every fault as the key to blame and a sentence that names the file.
pub fn client_config(terms: &ClientTerms) -> Result<ClientConfig, Vec<(&'static str, String)>> {
    let mut faults = Vec::new();
    let roots = roots::trusted(Some(&terms.ca)).map_err(|why| faults.push(("ca", why))).ok();
    let own = terms.own.as_ref().map(|(chain, key)| own(chain, key, &mut faults));
    let Some(roots) = roots else { return Err(faults) };
    let versions: &[_] = match terms.min_version {
        MinVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::V13 => &[&rustls::version::TLS13],
    };
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(|e| vec![("min_version", e.to_string())])?.with_root_certificates(Arc::new(roots));
    match own {
        None => Ok(builder.with_no_client_auth()),
        // The key is checked against the leaf.
        Some(Some((chain, key))) => {
            builder.with_client_auth_cert(chain, key).map_err(|e| vec![("key", format!("it cannot be used: {e}"))])
        }
        Some(None) => Err(faults),
    }
}

/// A client that trusts these authorities, and says nothing of itself.
///
/// # Errors
/// The provider has no protocol version in common with us; never seen.
pub fn trusting(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The gateway's own chain, as the audit would have it served, and its key; `None` where the files are wrong.
fn own(
    chain: &Path,
    key: &Path,
    faults: &mut Vec<(&'static str, String)>,
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let material = chain::read(chain, Some(key));
    let of = |fault: &Fault| if fault.rule == RuleId::KeyUnusable { "key" } else { "chain" };
    faults.extend(material.faults.iter().map(|fault| (of(fault), fault.sentence())));
    let shown = audit::in_order_of_path(&material, SystemTime::now());
    material.key.filter(|_| material.faults.is_empty()).map(|key| (shown, key))
}
