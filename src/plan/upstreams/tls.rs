//! TLS to an upstream's servers, from its words and files.
//!
//! The files are read here, by way of `tls/client_config`; what is wrong with them stops start-up, since without them
//! nothing can be passed on.

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::super::{Inputs, files};
use crate::config::{Problems, UpstreamConfig};
use crate::tls::client_config::{ClientTerms, client_config};
use crate::upstream::{Protocol, UpstreamTls};

/// `None` where there is none to be, or its words or files are wrong, which is then among the problems.
pub(super) fn plan(
    inputs: &Inputs<'_>,
    name: &str,
    config: &UpstreamConfig,
    protocol: Protocol,
    problems: &mut Problems,
) -> Option<UpstreamTls> {
    let (table, directory) = (config.tls.as_ref()?, inputs.directory);
    let at = |key| ["upstreams", name, "tls", key];
    let server_name = table.server_name.as_ref().map(|text| {
        let parsed =
            ServerName::try_from(text.clone()).map_err(|_| format!("{text:?} is neither a name nor an address"));
        problems.take(&at("server_name"), parsed)
    });
    let own = match (&table.chain, &table.key) {
        (None, None) => None,
        (Some(chain), Some(key)) => Some((directory.join(chain), directory.join(key))),
        (Some(_), None) => {
            problems.push(&at("chain"), "it has no key", Some("add `key`".into()));
            return None;
        }
        (None, Some(_)) => {
            problems.push(&at("key"), "it has no chain", Some("add `chain`".into()));
            return None;
        }
    };
    // Before the files are read for use: one that changes in between looks different at the next reload.
    let (made_from, files) = made_from(inputs, config);
    let terms = ClientTerms { ca: directory.join(&table.ca), own, min_version: table.min_version };
    match client_config(&terms) {
        Ok(made) => Some(UpstreamTls::new(made, protocol, server_name.flatten(), made_from, files)),
        Err(faults) => {
            faults.into_iter().for_each(|(key, message)| problems.push(&at(key), message, None));
            None
        }
    }
}

/// The words and what the files hold, and which they are.
fn made_from(inputs: &Inputs<'_>, config: &UpstreamConfig) -> (String, Vec<PathBuf>) {
    let contents = files::look(files::of_upstream(config), inputs.directory, None, inputs.now);
    let digests: Vec<_> = contents.keys().map(|file| files::digest_of(&contents, file)).collect();
    (format!("{:?} {digests:?}", config.tls), contents.into_keys().collect())
}
