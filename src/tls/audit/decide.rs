//! From findings to what is served: which chains, in which order, instead of which others, or why none.
//!
//! `plan` calls [`decide`] for each endpoint and obeys. [`super::explain`] tells the same story to people.

use std::collections::HashSet;
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
/// `error`, or about to end, is replaced where a better one covers its names, and served where none does.
#[must_use]
pub fn decide(audited: &[Audited], on_unfit: OnUnfit, server_names: &[String]) -> Decision {
    let ranked = ranked(audited);
    let (mut fallbacks, mut reasons, mut replaced) = (Vec::new(), Vec::new(), HashSet::new());
    // A chain without a fault is never replaced; asking that of each first spares looking at all for each.
    let faulty = audited.iter().enumerate().filter(|(_, chain)| may_be_replaced(chain));
    for (index, chain) in faulty {
        let needed = needed(chain, server_names);
        let better = ranked.iter().copied().find(|other| {
            *other != index && audited[*other].servable.is_some() && can_replace(&audited[*other], chain, &needed)
        });
        match (&chain.servable, better) {
            (None, _) if on_unfit == OnUnfit::Refuse => reasons.extend(sentences(chain)),
            (None, None) => reasons.extend(unreplaced(chain, &needed)),
            (Some(_), None) => {}
            (None | Some(_), Some(by)) => {
                replaced.insert(index);
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
        (false, true) => chain.names.to_vec(),
        (false, false) => server_names.iter().filter(|name| covers(&chain.names, name)).cloned().collect(),
    }
}

/// Whether anything speaks against a chain that another one might do better.
fn may_be_replaced(chain: &Audited) -> bool {
    chain.servable.is_none() || chain.out_of_time || is_bad(chain)
}

/// Whether `other` takes the place of `chain`: it covers the names, and is fit, where `chain` is not.
fn can_replace(other: &Audited, chain: &Audited, needed: &[String]) -> bool {
    let worse = match &chain.servable {
        None => true,
        Some(_) => rank(other) < rank(chain) && !is_bad(other) && !other.out_of_time,
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

/// Why a chain is no better than it is: each finding at its verdict, as a sentence.
pub(crate) fn sentences(chain: &Audited) -> Vec<String> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::{Decision, decide};
    use crate::config::OnUnfit;
    use crate::tls::audit::tests::endpoint;

    /// The files that are served, best first, and which file replaces which; or how many reasons there are against it.
    fn outcome(
        chains: &[&str],
        on_unfit: OnUnfit,
        server_names: &[&str],
    ) -> Result<(Vec<String>, Vec<String>), Vec<String>> {
        let names: Vec<String> = server_names.iter().map(ToString::to_string).collect();
        let stem = |file: &str| file.rsplit('/').next().unwrap().trim_end_matches(".pem").to_owned();
        match decide(&endpoint(chains, &names), on_unfit, &names) {
            Decision::Serve { candidates, fallbacks } => Ok((
                candidates.iter().map(|chain| stem(&chain.file().display().to_string())).collect(),
                fallbacks.iter().map(|fallback| format!("{}->{}", stem(&fallback.unfit), stem(&fallback.by))).collect(),
            )),
            Decision::Refuse { reasons } => Err(reasons),
        }
    }

    fn served(chains: &[&str], server_names: &[&str]) -> (Vec<String>, Vec<String>) {
        outcome(chains, OnUnfit::Fallback, server_names).unwrap_or_else(|reasons| panic!("refused: {reasons:?}"))
    }

    fn refused(chains: &[&str], on_unfit: OnUnfit, server_names: &[&str]) -> Vec<String> {
        outcome(chains, on_unfit, server_names).unwrap_err()
    }

    #[test]
    fn fit_chains_are_served_in_the_order_in_which_they_are_listed() {
        assert_eq!(served(&["www-rsa", "www"], &[]).0, ["www-rsa", "www"]);
        assert_eq!(served(&["www", "www-rsa"], &[]).0, ["www", "www-rsa"]);
    }

    #[test]
    fn a_denied_chain_is_replaced_by_a_fit_one_that_covers_its_names() {
        assert_eq!(
            served(&["md5-www", "localhost", "www"], &[]),
            (vec!["localhost".into(), "www".into()], vec!["md5-www->www".into()])
        );
        assert_eq!(served(&["www", "md5-www"], &[]).1, ["md5-www->www"]);
    }

    #[test]
    fn only_the_names_that_the_endpoint_needs_must_be_covered() {
        // The wildcard covers www.example.com and not example.com, which the denied chain has too.
        assert_eq!(served(&["md5-www", "wildcard"], &["www.example.com"]).1, ["md5-www->wildcard"]);
        let reasons = refused(&["md5-www", "wildcard"], OnUnfit::Fallback, &[]);
        assert!(
            reasons[0].contains("no other fit chain of this endpoint covers www.example.com, example.com"),
            "{reasons:?}"
        );
    }

    #[test]
    fn without_a_replacement_the_endpoint_is_refused_with_file_position_rule_and_remedy() {
        let reasons = refused(&["md5-intermediate"], OnUnfit::Fallback, &[]);
        assert_eq!(reasons.len(), 1);
        for part in
            ["endpoint \"test\"", "md5-intermediate.pem, certificate 2 of 2", "(rule sig-md5)", "ask the CA to reissue"]
        {
            assert!(reasons[0].contains(part), "{reasons:?}");
        }
    }

    #[test]
    fn with_refuse_any_denied_chain_refuses_the_endpoint() {
        assert_eq!(refused(&["www", "md5-www"], OnUnfit::Refuse, &[]).len(), 1);
        assert!(outcome(&["www"], OnUnfit::Refuse, &[]).is_ok());
    }

    #[test]
    fn a_chain_that_cannot_be_read_needs_the_endpoints_names_covered_or_any_fit_chain() {
        assert_eq!(served(&["missing", "www"], &["www.example.com"]).1, ["missing->www"]);
        assert_eq!(served(&["missing", "localhost"], &[]).1, ["missing->localhost"]);
        assert_eq!(refused(&["missing", "wildcard"], OnUnfit::Fallback, &["www.example.com", "example.com"]).len(), 1);
    }

    #[test]
    fn an_expired_chain_is_replaced_by_a_valid_one_and_served_where_there_is_none() {
        assert_eq!(served(&["www-expired", "www"], &[]), (vec!["www".into()], vec!["www-expired->www".into()]));
        assert_eq!(served(&["www-expired"], &[]).0, ["www-expired"]);
        assert_eq!(served(&["www-expired", "localhost"], &[]).0, ["localhost", "www-expired"]);
    }

    #[test]
    fn every_reason_of_every_denied_chain_is_given() {
        let reasons = refused(&["md5", "missing"], OnUnfit::Fallback, &[]);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
    }

    #[test]
    fn an_endpoint_without_chains_is_refused() {
        assert_eq!(refused(&[], OnUnfit::Fallback, &[]).len(), 1);
    }
}
