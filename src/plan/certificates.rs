//! An endpoint's TLS: its chains decided upon, and a server configuration for what is fit.
//!
//! Called by `endpoints`; `chains` reads and audits. What is wrong with a chain or key file never stops start-up: it is a
//! finding, and at worst the endpoint is refused. What is wrong with the settings does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::chains::{Chains, chains};
use super::scopes::{Scoped, scoped};
use super::{Basis, Certificates, EndpointPlan, Inputs, TlsTerms};
use crate::config::{ChallengeConfig, ClientAuthConfig, Problems, TlsConfig};
use crate::identity::Endpoint;
use crate::metrics::EndpointMetrics;
use crate::scope::Scopes;
use crate::tls::audit::decide::{Decision, decide};
use crate::tls::audit::policy::Policy;
use crate::tls::audit::trust::{Trust, of_clients};
use crate::tls::audit::{self, Audited, AuditedChain, Span};
use crate::tls::client_auth::{ClientAuth, Crl};
use crate::tls::server_config::{Acceptor, Offer, Terms};
use crate::tls::tickets::key_file::KeyFile;
use crate::tls::tickets::{self, Tickets};
use crate::units;

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
    server_names(&subject, problems);
    let Chains { audited, places, sources, held, missing } = chains(&subject, problems)?;
    let Scoped { settings, scopes, refused } = scoped(&subject, &audited, &places, problems);
    let client_auth = client_auth(&subject, &settings, problems);
    let tickets = tickets(&subject, client_auth.as_deref(), problems);
    let crls = crls(client_auth.as_deref().unwrap_or_default());
    let Trust { reports: trust, span: trusted } = trust(&subject, &settings);
    let span = span(subject.inputs.now, &audited, &crls).and(trusted);
    let found = Certificates { audited, sources, held, crls, trust, span, ..Certificates::default() };
    let config = subject.config;
    let certificates = match decide(&found.audited, config.on_unfit, &config.server_names) {
        Decision::Serve { candidates, fallbacks } if refused.is_empty() => {
            Certificates { candidates, fallbacks, ..found }
        }
        Decision::Serve { .. } => return Some(Outcome::Refuse(refused, found)),
        // What ACME will bring cannot come where nobody answers its challenges.
        Decision::Refuse { reasons } if refused.is_empty() && is_managed(config) => {
            let reasons = if found.audited.is_empty() { Vec::new() } else { reasons };
            Certificates { waiting: reasons.into_iter().chain(missing).collect(), ..found }
        }
        Decision::Refuse { reasons } => {
            return Some(Outcome::Refuse(reasons.into_iter().chain(refused).collect(), found));
        }
    };
    let (client_auth, tickets) = (client_auth?, tickets?);
    if let Some(terms) = running_terms(&subject, &certificates, &scopes) {
        return Some(Outcome::Serve(Box::new(terms), certificates));
    }
    let terms =
        Terms { min_version: config.min_version, alpn: alpn.clone(), client_auth, scopes, tickets: tickets.clone() };
    let path = ["endpoints", subject.endpoint.name.as_str(), "tls"];
    let acceptor = Acceptor::new(&certificates.candidates, terms).map_err(|e| e.to_string());
    let acceptor = problems.take(&path, acceptor)?;
    let challenges = is_challenged(&subject).then(|| Arc::clone(&subject.inputs.challenges));
    let terms = TlsTerms { acceptor, offer: Offer::new(config.min_version), alpn, tickets, challenges };
    Some(Outcome::Serve(Box::new(terms), certificates))
}

/// Whether ACME brings one of the chains.
fn is_managed(config: &TlsConfig) -> bool {
    config.certificates.iter().any(|listed| listed.acme.is_some())
}

/// Whether an authority asks this endpoint by TLS-ALPN-01.
fn is_challenged(subject: &Subject<'_>) -> bool {
    let named = subject.config.certificates.iter().filter_map(|listed| listed.acme.as_ref());
    let mut authorities = named.filter_map(|name| subject.inputs.config.acme.get(name));
    authorities.any(|authority| authority.challenge == ChallengeConfig::TlsAlpn01)
}

/// What the running endpoint serves with, where the next one would serve the same: its sessions can then be resumed.
fn running_terms(subject: &Subject<'_>, next: &Certificates, scopes: &Scopes) -> Option<TlsTerms> {
    let running = subject.running.filter(|running| running.basis.has_others_of(subject.basis))?;
    let same = |(a, b): (&Arc<AuditedChain>, &Arc<AuditedChain>)| {
        a.chain() == b.chain() && a.staple() == b.staple() && a.is_sound() == b.is_sound()
    };
    let (before, after) = (&running.certificates.candidates, &next.candidates);
    let all_same = before.len() == after.len() && before.iter().zip(after).all(same);
    running.tls.clone().filter(|terms| all_same && terms.acceptor.has_scopes(scopes))
}

/// For how long this is what the audit finds, and what clients' revocation lists allow.
fn span(now: SystemTime, audited: &[Audited], crls: &[Crl]) -> Span {
    let chains = audited.iter().map(|chain| chain.span).fold(Span::endless(now), Span::and);
    let updates = crls.iter().filter_map(|crl| crl.next_update);
    updates.fold(chains, |span, update| span.ending_at(update.into()))
}

/// Holds each name that must be served against what a name can be: no certificate covers any other.
fn server_names(subject: &Subject<'_>, problems: &mut Problems) {
    for (index, name) in subject.config.server_names.iter().enumerate() {
        let path = ["endpoints", subject.endpoint.name.as_str(), "tls", "server_names", &index.to_string()];
        problems.take(&path, units::server_name(name));
    }
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

/// Every scope's client authentication; `None` where a table is wrong.
fn client_auth(
    subject: &Subject<'_>,
    settings: &[Option<(Vec<String>, &ClientAuthConfig)>],
    problems: &mut Problems,
) -> Option<Vec<Option<ClientAuth>>> {
    let read = |settings: &Option<(Vec<String>, &ClientAuthConfig)>| {
        let Some((table, config)) = settings else { return Some(None) };
        let faults = match ClientAuth::read(config, subject.inputs.directory) {
            Ok(auth) => return Some(Some(auth)),
            Err(faults) => faults,
        };
        for (key, message) in faults {
            let path: Vec<&str> = table.iter().map(String::as_str).chain([key]).collect();
            problems.push(&path, message, None);
        }
        None
    };
    // Not `collect` at once: the faults of every table are told, not the first one's alone.
    let all: Vec<_> = settings.iter().map(read).collect();
    all.into_iter().collect()
}

/// What seals the endpoint's session tickets; `None` where the table is wrong.
fn tickets(
    subject: &Subject<'_>,
    scopes: Option<&[Option<ClientAuth>]>,
    problems: &mut Problems,
) -> Option<Arc<Tickets>> {
    let (config, name) = (&subject.config.tickets, &subject.endpoint.name);
    let path = |key| ["endpoints", name.as_str(), "tls", "tickets", key];
    let lifetime = units::duration(&config.lifetime).and_then(|lifetime| match lifetime {
        fit if (tickets::SHORTEST..=tickets::LONGEST).contains(&fit) => Ok(fit),
        _ => Err("a session can be resumed for a minute at least and 7 days at most".to_owned()),
    });
    let lifetime = problems.take(&path("lifetime"), lifetime);
    let file = config.keys.as_ref().map(|file| KeyFile::read(&subject.inputs.directory.join(file)));
    let file = match file {
        None => None,
        Some(read) => Some(problems.take(&path("keys"), read)?),
    };
    let made = Tickets::new(name.clone(), scopes?, file.as_ref(), lifetime?, Arc::clone(&subject.metrics));
    let made = problems.take(&path("keys"), made.map_err(|e| e.to_string()))?;
    // Keys of its own are gone with the endpoint that made them, and with them every session: the next one takes them over.
    let running = subject.inputs.previous.and_then(|plan| plan.endpoint(name.as_str())?.tls.as_ref());
    let fitting = running.map(|terms| &terms.tickets).filter(|running| running.can_go_on_as(&made));
    Some(fitting.cloned().unwrap_or_else(|| Arc::new(made)))
}

/// What the audit says of the files that vouch for clients, in every scope.
fn trust(subject: &Subject<'_>, settings: &[Option<(Vec<String>, &ClientAuthConfig)>]) -> Trust {
    let judged = audit::Subject {
        profile: subject.endpoint.class,
        endpoint: Some(subject.endpoint.name.clone()),
        server_names: &[],
        listen_ips: &[],
        now: subject.inputs.now,
    };
    let place = |file: &PathBuf| subject.inputs.directory.join(file);
    let of = |(_, config): &(Vec<String>, &ClientAuthConfig)| {
        let crls: Vec<PathBuf> = config.crl.iter().map(place).collect();
        of_clients(&place(&config.ca), &crls, &judged, subject.policy)
    };
    let nothing = Trust { span: Span::endless(subject.inputs.now), ..Trust::default() };
    settings.iter().flatten().map(of).fold(nothing, Trust::and)
}

/// The revocation lists of every scope, each file once.
fn crls(scopes: &[Option<ClientAuth>]) -> Vec<Crl> {
    let mut crls: Vec<Crl> = Vec::new();
    for crl in scopes.iter().flatten().flat_map(ClientAuth::crls) {
        if !crls.iter().any(|known| known.file == crl.file) {
            crls.push(crl.clone());
        }
    }
    crls
}
