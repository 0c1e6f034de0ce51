//! From findings to what is served: which chains, in which order, instead of which others, or why none.
//!
//! `plan` calls [`decide`] for each endpoint and obeys. [`super::explain`] tells the same story to people.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::finding::Finding;
use super::names::covers;
use super::rules::Level;
use super::{Audited, AuditedChain};
use crate::config::OnUnfit;

/// What an endpoint serves.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It can serve.
    Serve {
        /// What may be served, the best first: by validity, by verdict, then as listed. Never empty.
        candidates: Vec<Arc<AuditedChain>>,
        /// Which chains were replaced by others.
        fallbacks: Vec<Fallback>,
    },
    /// It cannot.
    Refuse {
        /// Why: a sentence for each reason, with file, certificate, rule and remedy.
        reasons: Vec<String>,
    },
}

/// A chain that is not served, and the one that is in its place. Its `Display` is a full sentence.
#[derive(Clone, Debug, Serialize)]
pub struct Fallback {
    /// The chain that is not served.
    pub unfit: String,
    /// The rules that it fell by.
    pub rules: Vec<&'static str>,
    /// The chain that is served in its place.
    pub by: String,
    /// The names that the endpoint needs from it; empty where they are not known.
    pub names: Vec<String>,
    /// The first finding that it fell by, as a sentence.
    pub reason: String,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; until then {} is served in its place", self.reason, self.by)?;
        if !self.names.is_empty() {
            write!(f, " for {}", self.names.join(", "))?;
        }
        Ok(())
    }
}

/// Decides what an endpoint serves, from its chains in the order in which they are listed.
///
/// A denied chain is replaced by the best fit chain that covers every name that the endpoint needs from it; where there
/// is none the endpoint is refused, and so it is with `on_unfit = "refuse"` as soon as any chain is denied. A chain at
/// `error` is replaced where a better one covers its names, and served where none does.
#[must_use]
pub fn decide(audited: &[Audited], on_unfit: OnUnfit, server_names: &[String]) -> Decision {
    let ranked = ranked(audited);
    let (mut fallbacks, mut reasons, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
    for (index, chain) in audited.iter().enumerate() {
        let needed = needed(chain, server_names);
        let better = ranked.iter().copied().find(|other| {
            *other != index && audited[*other].servable.is_some() && can_replace(&audited[*other], chain, &needed)
        });
        match (&chain.servable, better) {
            (None, _) if on_unfit == OnUnfit::Refuse => reasons.extend(sentences(chain)),
            (None, None) => reasons.extend(unreplaced(chain, &needed)),
            (Some(_), None) => {}
            (None | Some(_), Some(by)) => {
                replaced.push(index);
                fallbacks.push(fallback(chain, &audited[by], needed));
            }
        }
    }
    let candidates: Vec<_> = ranked
        .iter()
        .filter(|index| !replaced.contains(index))
        .filter_map(|index| audited[*index].servable.clone())
        .collect();
    if reasons.is_empty() && !candidates.is_empty() {
        Decision::Serve { candidates, fallbacks }
    } else {
        if reasons.is_empty() {
            reasons.push("no certificate chain is listed; name one with its key".to_owned());
        }
        Decision::Refuse { reasons }
    }
}

/// All chains, best first: valid before expired, then by verdict, then as listed. Chains that cannot be served are last.
pub(super) fn ranked(audited: &[Audited]) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..audited.len()).collect();
    ranked.sort_by_key(|index| rank(&audited[*index]));
    ranked
}

fn rank(chain: &Audited) -> (bool, bool, u8) {
    (chain.servable.is_none(), chain.out_of_time, chain.report.verdict.rank())
}

/// The names that the endpoint needs from this chain: what its leaf and the endpoint's server names have in common, or
/// all of the leaf's, or where the leaf cannot be read, all of the endpoint's.
fn needed(chain: &Audited, server_names: &[String]) -> Vec<String> {
    match (chain.names.is_empty(), server_names.is_empty()) {
        (true, _) => server_names.to_vec(),
        (false, true) => chain.names.clone(),
        (false, false) => server_names.iter().filter(|name| covers(&chain.names, name)).cloned().collect(),
    }
}

/// Whether `other` takes the place of `chain`: it covers the names, and is fit, where `chain` is not.
fn can_replace(other: &Audited, chain: &Audited, needed: &[String]) -> bool {
    let worse = match &chain.servable {
        None => true,
        Some(_) => rank(other) < rank(chain) && chain.report.verdict.0 == Some(Level::Error) && !is_bad(other),
    };
    worse && needed.iter().all(|name| covers(&other.names, name))
}

fn is_bad(chain: &Audited) -> bool {
    chain.report.verdict.0 >= Some(Level::Error)
}

/// The findings that a chain fell by: those at its verdict.
fn worst(chain: &Audited) -> impl Iterator<Item = &Finding> {
    let verdict = chain.report.verdict.0;
    chain.report.findings.iter().filter(move |finding| finding.counts() && Some(finding.level) == verdict)
}

fn sentences(chain: &Audited) -> Vec<String> {
    let found: Vec<String> = worst(chain).map(ToString::to_string).collect();
    if chain.servable.is_none() && !chain.report.verdict.is_denied() {
        return vec![format!("{}: has no private key; name its key file", chain.report.file)];
    }
    found
}

fn unreplaced(chain: &Audited, needed: &[String]) -> Vec<String> {
    let lack = match needed {
        [] => "no other chain of this endpoint is fit".to_owned(),
        names => format!("no other fit chain of this endpoint covers {}", names.join(", ")),
    };
    sentences(chain).into_iter().map(|sentence| format!("{sentence}; {lack}")).collect()
}

fn fallback(chain: &Audited, by: &Audited, names: Vec<String>) -> Fallback {
    let mut rules: Vec<&'static str> = worst(chain).map(|finding| finding.rule).collect();
    rules.dedup();
    Fallback {
        unfit: chain.report.file.clone(),
        rules,
        by: by.report.file.clone(),
        names,
        reason: sentences(chain).into_iter().next().unwrap_or_else(|| format!("{}: is not fit", chain.report.file)),
    }
}
