//! The only place that makes a `rustls::ClientConfig`: whom the gateway trusts as a client, and who it says it is.
//!
//! Called by `plan` for upstreams, which shake hands by it, and by `acme`. A server's certificate is always verified: there is no
//! setting that turns that off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::server_config::provider;
use super::{chain, roots};
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
    let own = terms.own.as_ref().map(|(chain, key)| {
        let chain = chain_of(chain).map_err(|why| faults.push(("chain", why)));
        let key = key_of(key).map_err(|why| faults.push(("key", why)));
        (chain, key)
    });
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
        Some((Ok(chain), Ok(key))) => {
            builder.with_client_auth_cert(chain, key).map_err(|e| vec![("key", format!("it cannot be used: {e}"))])
        }
        Some(_) => Err(faults),
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

fn chain_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let blocks: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match blocks {
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(none) if none.is_empty() => Err(format!("{}: it has no CERTIFICATE block", path.display())),
        Ok(chain) => Ok(chain),
    }
}

fn key_of(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    chain::read_file(path).map_err(|why| format!("{}: {why}", path.display()))
}
