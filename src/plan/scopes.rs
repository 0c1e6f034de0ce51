//! Which client authentication each of an endpoint's names needs.
//!
//! Called by `certificates`. The settings in one certificate's table belong to that chain's names, not to the chain: what
//! stands in for it when it is unfit, and what covers the same names with another kind of key, asks for them too.

use super::certificates::Subject;
use crate::config::{ClientAuthConfig, Problems};
use crate::scope::Scopes;
use crate::server_names::ServerNames;
use crate::tls::audit::Audited;
use crate::units;

/// An endpoint's settings of client authentication, without repetition, and the names that need them.
pub(super) struct Scoped<'a> {
    /// Each with the path of the table that it stands in; `None`: no certificate is asked for.
    pub(super) settings: Vec<Option<(Vec<String>, &'a ClientAuthConfig)>>,
    pub(super) scopes: Scopes,
    /// Why the endpoint cannot be served: the names of a chain with settings of its own could not be read.
    pub(super) refused: Vec<String>,
}

/// Finds out; what contradicts itself is among the problems. `places` says where each audited chain is listed.
pub(super) fn scoped<'a>(
    subject: &Subject<'a>,
    audited: &[Audited],
    places: &[usize],
    problems: &mut Problems,
) -> Scoped<'a> {
    let config = subject.config;
    let endpoint = subject.endpoint.name.as_str();
    let mut settings = Vec::new();
    let whole = config.client_auth.as_ref();
    let whole = index(&mut settings, path(endpoint, None), whole);
    let mut names = ServerNames::<Claim>::default();
    let (mut refused, mut first, mut claimed) = (Vec::new(), whole, Vec::new());
    for (position, certificate) in config.certificates.iter().enumerate() {
        let Some(own) = &certificate.client_auth else { continue };
        let scope = index(&mut settings, path(endpoint, Some(position)), Some(own));
        if position == 0 {
            first = scope; // a client that asks for no name gets the first chain, and what comes with it
        }
        let chain = places.binary_search(&position).ok().and_then(|at| audited.get(at));
        // What ACME brings is for these names, whether or not it is there yet.
        let ordered = certificate.names.iter().filter_map(|name| units::dns_name(name).ok());
        let claims: Vec<String> = chain.iter().flat_map(|chain| chain.names.iter().cloned()).chain(ordered).collect();
        if let Some(chain) = chain.filter(|_| claims.is_empty()) {
            refused.push(format!(
                "{}: it has client authentication of its own, and for which names cannot be read; mend the file",
                chain.report.file
            ));
        }
        for name in &claims {
            let claim = *names.entry(name, || Claim { scope, position });
            if claim.scope != scope {
                let message =
                    format!("{name} is in this chain and in number {}, with other settings", claim.position + 1);
                let remedy = "give both the same settings, or a client could choose by its signature algorithms";
                let path = path(endpoint, Some(position));
                problems.push(&path.iter().map(String::as_str).collect::<Vec<_>>(), message, Some(remedy.into()));
            }
            claimed.push((name.clone(), claim.scope));
        }
    }
    Scoped { settings, scopes: Scopes::new(everything(audited, claimed, whole), first), refused }
}

/// Who said first what a name needs.
#[derive(Clone, Copy)]
struct Claim {
    scope: usize,
    /// The certificate's, from 0.
    position: usize,
}

/// Every name of every chain with what it needs: where no table of its own says, what the whole endpoint does.
fn everything(audited: &[Audited], claimed: Vec<(String, usize)>, whole: usize) -> ServerNames<usize> {
    let mut names = ServerNames::default();
    let rest = audited.iter().flat_map(|chain| chain.names.iter()).map(|name| (name.clone(), whole));
    for (name, scope) in claimed.into_iter().chain(rest) {
        names.entry(&name, || scope);
    }
    names
}

/// The place of these settings among all; they are added where they are new.
fn index<'a>(
    all: &mut Vec<Option<(Vec<String>, &'a ClientAuthConfig)>>,
    path: Vec<String>,
    settings: Option<&'a ClientAuthConfig>,
) -> usize {
    let same = |other: &Option<(_, &ClientAuthConfig)>| other.as_ref().map(|(_, config)| *config) == settings;
    all.iter().position(same).unwrap_or_else(|| {
        all.push(settings.map(|config| (path, config)));
        all.len() - 1
    })
}

/// The path of a `client_auth` table: one certificate's, or the endpoint's.
fn path(endpoint: &str, certificate: Option<usize>) -> Vec<String> {
    let mut path = vec!["endpoints".to_owned(), endpoint.to_owned(), "tls".to_owned()];
    path.extend(certificate.into_iter().flat_map(|position| ["certificates".to_owned(), position.to_string()]));
    path.push("client_auth".to_owned());
    path
}
