//! What an endpoint was made from: the words, the files and what the audit said of them.
//!
//! `endpoints` compares it with that of the running plan's endpoint of the same name. Where they are equal, the running one
//! is taken over whole, so that its sessions can still be resumed and "unchanged" is literal.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::json;

use super::{Certificates, Inputs};
use crate::config::{EndpointConfig, HandlerConfig};
use crate::upstream::Upstream;

/// What an endpoint was made from. Equal bases make equal endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The tables of the endpoint, its handler and the audit.
    words: String,
    /// The upstreams that the handler names, as resolved.
    upstreams: Vec<String>,
    /// A digest of every file that is named; `None` for what cannot be read.
    files: Vec<Option<Vec<u8>>>,
    /// What the audit found and chose: the clock changes it too.
    verdict: Vec<String>,
}

impl Basis {
    /// Takes note of words and files. Call it before the files are read for use: a file that changes in between then
    /// looks different at the next reload, and not the same for ever.
    pub(super) fn new(inputs: &Inputs<'_>, config: &EndpointConfig, upstreams: &[Arc<Upstream>]) -> Self {
        let handler = inputs.config.handlers.get(&config.handler);
        let named = handler.map(named_upstreams).unwrap_or_default();
        let used = upstreams.iter().filter(|upstream| named.contains(&&*upstream.name));
        Self {
            words: json!([config, handler, inputs.config.audit]).to_string(),
            upstreams: used.map(|upstream| upstream.description()).collect(),
            files: files(config).map(|file| digest(&inputs.directory.join(file)).ok()).collect(),
            verdict: Vec::new(),
        }
    }

    /// Takes note of what the audit found and chose.
    pub(super) fn note_verdict(&mut self, certificates: &Certificates) {
        for report in certificates.reports() {
            for finding in &report.findings {
                let (rule, level, counts) = (finding.rule, finding.level, finding.counts());
                self.verdict.push(format!("{} {rule} {level} {:?} {counts}", report.file, finding.position));
            }
        }
        self.verdict.extend(certificates.candidates.iter().map(|chain| format!("serve {}", chain.file().display())));
    }
}

/// The upstreams that a handler's table names.
fn named_upstreams(config: &HandlerConfig) -> Vec<&str> {
    match config {
        HandlerConfig::HttpProxy(config) => {
            let routes = config.routes.iter().filter_map(|route| route.upstream.as_deref());
            config.upstream.as_deref().into_iter().chain(routes).collect()
        }
        HandlerConfig::TcpProxy(config) => vec![&config.upstream],
        HandlerConfig::Respond(_) | HandlerConfig::Echo(_) => Vec::new(),
    }
}

/// Every file that an endpoint's table names.
fn files(config: &EndpointConfig) -> impl Iterator<Item = &Path> {
    let pairs = config.tls.iter().flat_map(|tls| &tls.certificates);
    let trust = config.tls.iter().filter_map(|tls| tls.client_auth.as_ref());
    let trust = trust.flat_map(|auth| std::iter::once(&auth.ca).chain(&auth.crl));
    pairs.flat_map(|pair| [&pair.chain, &pair.key]).chain(trust).map(|path| path.as_path())
}

/// The SHA-256 digest of a regular file; a pipe could make us wait for ever.
fn digest(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = [0; 8192];
    // Bounded by the file, whose pieces are forgotten one by one.
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(context.finish().as_ref().to_vec()),
            n => context.update(&buffer[..n]),
        }
    }
}
