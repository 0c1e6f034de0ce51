//! An endpoint's TLS: its chains decided upon, and a server configuration for what is fit.
//!
//! Called by `endpoints`; `chains` reads and audits. What is wrong with a chain or key file never stops start-up: it is a finding, and at worst the
//! endpoint is refused. What is wrong with the settings does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;

use super::chains::{Chains, chains};
use super::{Basis, Certificates, EndpointPlan, Inputs, TlsTerms};
use crate::config::{Problems, TlsConfig};
use crate::identity::Endpoint;
use crate::metrics::EndpointMetrics;
use crate::tls::audit::decide::{Decision, decide};
use crate::tls::audit::policy::Policy;
use crate::tls::audit::{Audited, AuditedChain, Span};
use crate::tls::client_auth::{ClientAuth, Crl};
use crate::tls::server_config::{Offer, Terms, server_config};

/// Whose TLS is planned.
pub(super) struct Subject<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) listen: &'a [SocketAddr],
    pub(super) config: &'a TlsConfig,
    pub(super) policy: &'a Policy,
    /// What the handler speaks.
    pub(super) protocols: &'static [&'static str],
    pub(super) metrics: Arc<EndpointMetrics>,
    /// What it is made from.
    pub(super) basis: &'a Basis,
    /// The running endpoint, where it was made from the same words.
    pub(super) running: Option<&'a EndpointPlan>,
}

/// What became of it.
pub(super) enum Outcome {
    Serve(Box<TlsTerms>, Certificates),
    Refuse(Vec<String>, Certificates),
}

/// Plans an endpoint's TLS; `None` where the settings are wrong, which is then among the problems.
pub(super) fn plan(subject: Subject<'_>, problems: &mut Problems) -> Option<Outcome> {
    let alpn = alpn(&subject, problems);
    let client_auth = client_auth(&subject, problems);
    let Chains { audited, sources, held } = chains(&subject, problems)?;
    let crls: Vec<Crl> = client_auth.iter().flatten().flat_map(ClientAuth::crls).cloned().collect();
    let span = span(subject.inputs.now, &audited, &crls);
    let found = Certificates { audited, sources, held, crls, span, ..Certificates::default() };
    let config = subject.config;
    let certificates = match decide(&found.audited, config.on_unfit, &config.server_names) {
        Decision::Serve { candidates, fallbacks } => Certificates { candidates, fallbacks, ..found },
        Decision::Refuse { reasons } => return Some(Outcome::Refuse(reasons, found)),
    };
    if let Some(terms) = running_terms(&subject, &certificates) {
        return Some(Outcome::Serve(Box::new(terms), certificates));
    }
    let terms = Terms { min_version: config.min_version, alpn: alpn.clone(), client_auth: client_auth? };
    let path = ["endpoints", subject.endpoint.name.as_str(), "tls"];
    let made = server_config(&certificates.candidates, terms, subject.metrics).map_err(|e| e.to_string());
    let acceptor = TlsAcceptor::from(Arc::new(problems.take(&path, made)?));
    let terms = TlsTerms { acceptor, offer: Offer::new(config.min_version), alpn };
    Some(Outcome::Serve(Box::new(terms), certificates))
}

/// What the running endpoint serves with, where the next one would serve the same: its sessions can then be resumed.
fn running_terms(subject: &Subject<'_>, next: &Certificates) -> Option<TlsTerms> {
    let running = subject.running.filter(|running| running.basis.has_others_of(subject.basis))?;
    let same = |(a, b): (&Arc<AuditedChain>, &Arc<AuditedChain>)| a.chain() == b.chain();
    let (before, after) = (&running.certificates.candidates, &next.candidates);
    let all_same = before.len() == after.len() && before.iter().zip(after).all(same);
    running.tls.clone().filter(|_| all_same)
}

/// For how long this is what the audit finds, and what clients' revocation lists allow.
fn span(now: SystemTime, audited: &[Audited], crls: &[Crl]) -> Span {
    let chains = audited.iter().map(|chain| chain.span).fold(Span::endless(now), Span::and);
    let updates = crls.iter().filter_map(|crl| crl.next_update);
    updates.fold(chains, |span, update| span.ending_at(update.into()))
}

/// What the configuration says, else what the handler speaks.
fn alpn(subject: &Subject<'_>, problems: &mut Problems) -> Vec<String> {
    let Some(configured) = &subject.config.alpn else {
        return subject.protocols.iter().map(ToString::to_string).collect();
    };
    let name = subject.endpoint.name.as_str();
    for (index, protocol) in configured.iter().enumerate() {
        let path = ["endpoints", name, "tls", "alpn", &index.to_string()];
        // RFC 7301, section 3.1: 1 to 255 bytes.
        if protocol.is_empty() || protocol.len() > 255 {
            problems.push(&path, "a protocol's name has 1 to 255 bytes", Some(r#"write "h2" or "http/1.1""#.into()));
        } else if !subject.protocols.is_empty() && !subject.protocols.contains(&protocol.as_str()) {
            let known = subject.protocols.join(", ");
            problems.push(
                &path,
                format!("the handler does not speak {protocol:?}"),
                Some(format!("it speaks {known}")),
            );
        }
    }
    configured.clone()
}

/// `None` where the table is wrong; `Some(None)` where there is none.
#[allow(clippy::option_option, reason = "both levels have a meaning, and one caller")]
fn client_auth(subject: &Subject<'_>, problems: &mut Problems) -> Option<Option<ClientAuth>> {
    let Some(config) = &subject.config.client_auth else { return Some(None) };
    match ClientAuth::read(config, subject.inputs.directory) {
        Ok(auth) => Some(Some(auth)),
        Err(faults) => {
            for (key, message) in faults {
                let path = ["endpoints", subject.endpoint.name.as_str(), "tls", "client_auth", key];
                problems.push(&path, message, None);
            }
            None
        }
    }
}
