//! What an endpoint was made from: the words, the files and what the audit said of them.
//!
//! `endpoints` compares it with that of the running plan's endpoint of the same name. What is equal is taken over from the
//! running one, so that its sessions can still be resumed and "unchanged" is literal.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::files::{self, Contents, Digest};
use super::{Certificates, Inputs};
use crate::config::{AcmeConfig, EndpointConfig, HandlerConfig};
use crate::upstream::Upstream;

/// What an endpoint was made from. Equal bases make equal endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The tables of the endpoint, its handlers and the audit.
    words: String,
    /// The upstreams that the handler names, as resolved.
    upstreams: Vec<String>,
    /// Its chain and key files.
    chains: Contents,
    /// Every other file that is named.
    others: Contents,
    /// What the audit found and chose: the clock changes it too.
    verdict: Vec<String>,
}

impl Basis {
    /// Takes note of words and files. Call it before the files are read for use: a file that changes in between then
    /// looks different at the next reload, and not the same for ever.
    /// `fingerprint` is the handler's.
    pub(super) fn new(
        inputs: &Inputs<'_>,
        name: &str,
        config: &EndpointConfig,
        upstreams: &[Arc<Upstream>],
        fingerprint: &str,
    ) -> Self {
        let passed = config.passthrough.iter().filter_map(|rule| rule.handler.as_ref());
        let handlers = std::iter::once(&config.handler).chain(passed);
        let handlers: Vec<_> = handlers.map(|name| inputs.config.handlers.get(name)).collect();
        let named: Vec<&str> = handlers.iter().flatten().flat_map(|handler| named_upstreams(handler)).collect();
        let used = upstreams.iter().filter(|upstream| named.contains(&&*upstream.name));
        let before = inputs.previous.and_then(|plan| plan.endpoint(name)).map(|running| &running.basis);
        Self {
            words: json!([config, handlers, fingerprint, inputs.config.audit, authorities(inputs, config)]).to_string(),
            upstreams: used.map(|upstream| upstream.description()).collect(),
            chains: files::look(
                files::of_chains(inputs.config, config),
                inputs.directory,
                before.map(|before| &before.chains),
                inputs.now,
            ),
            others: files::look(
                files::others(config),
                inputs.directory,
                before.map(|before| &before.others),
                inputs.now,
            ),
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

    /// Whether the same was written for both.
    pub(super) fn has_words_of(&self, other: &Self) -> bool {
        self.words == other.words && self.upstreams == other.upstreams
    }

    /// Whether both were made from the same files, besides chains and keys.
    pub(super) fn has_others_of(&self, other: &Self) -> bool {
        self.others == other.others
    }

    /// Whether both were made from the same words and files.
    pub(super) fn has_inputs_of(&self, other: &Self) -> bool {
        self.has_words_of(other) && self.has_others_of(other) && self.chains == other.chains
    }

    /// What a chain or key file held; `None` where it could not be read.
    pub(super) fn digest(&self, path: &Path) -> Option<Digest> {
        files::digest_of(&self.chains, path)
    }

    /// Every file.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.chains.keys().chain(self.others.keys()).map(|path| path.as_path())
    }
}

/// The upstreams that a handler's table names.
pub(super) fn named_upstreams(config: &HandlerConfig) -> Vec<&str> {
    match config {
        HandlerConfig::HttpProxy(config) => {
            let routes = config.routes.iter().filter_map(|route| route.upstream.as_deref());
            config.upstream.as_deref().into_iter().chain(routes).collect()
        }
        HandlerConfig::TcpProxy(config) => vec![&config.upstream],
        HandlerConfig::Respond(_) | HandlerConfig::Echo(_) | HandlerConfig::Plugin(_) | HandlerConfig::Wasm(_) => {
            Vec::new()
        }
    }
}

/// The ACME authorities that an endpoint's table names.
fn authorities<'a>(inputs: &Inputs<'a>, config: &EndpointConfig) -> Vec<Option<&'a AcmeConfig>> {
    let named = config.tls.iter().flat_map(|tls| &tls.certificates).filter_map(|listed| listed.acme.as_ref());
    named.map(|name| inputs.config.acme.get(name)).collect()
}
