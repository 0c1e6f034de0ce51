//! What a reload would make of one endpoint: its chains, its findings, and whom it would touch. For whoever tries one first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::level;
use crate::plan::{EndpointPlan, Plan};
use crate::tls::audit::finding::Moment;

/// How many of a list are told one by one.
const MOST: usize = 100;

/// What would be different about an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The endpoint.
    pub endpoint: String,
    /// How many connections it has now. Those of an endpoint that goes are asked to end; those of one that changes end as
    /// they began.
    pub connections: u64,
    /// Whether the endpoint goes.
    pub removed: bool,
    /// Each chain that comes, goes, is another, or is served where it was not, or the other way round.
    pub chains: Vec<String>,
    /// What the audit would find that it does not find now.
    pub new_findings: Vec<String>,
    /// What it would not find any more.
    pub gone_findings: Vec<String>,
}

impl Difference {
    /// What is different about an endpoint in `next`.
    pub(super) fn of(endpoint: &str, running: &Plan, next: &Plan) -> Self {
        let (before, after) = (running.endpoint(endpoint), next.endpoint(endpoint));
        let findings = |plan: Option<&EndpointPlan>| {
            let all = plan.into_iter().flat_map(|plan| plan.certificates.reports()).flat_map(|report| &report.findings);
            all.map(ToString::to_string).collect::<BTreeSet<_>>()
        };
        let (found, finds) = (findings(before.map(AsRef::as_ref)), findings(after.map(AsRef::as_ref)));
        Self {
            endpoint: endpoint.to_owned(),
            connections: before.map_or(0, |plan| level(plan.context.metrics.sum(|counters| counters.active.get()))),
            removed: after.is_none(),
            chains: bounded(chains(before.map(AsRef::as_ref), after.map(AsRef::as_ref)).into_iter()),
            new_findings: bounded(finds.difference(&found).cloned()),
            gone_findings: bounded(found.difference(&finds).cloned()),
        }
    }

    /// Whether there is more to say than the endpoint's name.
    pub(super) fn tells(&self) -> bool {
        let lists = [&self.chains, &self.new_findings, &self.gone_findings];
        self.connections > 0 || lists.iter().any(|list| !list.is_empty())
    }
}

/// One chain of an endpoint: whose, until when, and whether it is served.
#[derive(PartialEq, Eq)]
struct Chain {
    sha256: Option<String>,
    until: String,
    served: bool,
}

/// The chains by their files.
fn by_file(plan: Option<&EndpointPlan>) -> BTreeMap<String, Chain> {
    let Some(plan) = plan else { return BTreeMap::new() };
    let served: BTreeSet<&str> = plan.certificates.candidates.iter().map(|chain| chain.sha256()).collect();
    let chains = plan.certificates.reports().map(|report| {
        let leaf = report.leaf();
        let sha256 = leaf.map(|leaf| leaf.sha256.clone());
        let served = sha256.as_deref().is_some_and(|sha256| served.contains(sha256));
        let until = leaf.map_or("unreadable".to_owned(), |leaf| format!("until {}", Moment(leaf.not_after.0)));
        (report.file.clone(), Chain { sha256, until, served })
    });
    chains.collect()
}

fn chains(before: Option<&EndpointPlan>, after: Option<&EndpointPlan>) -> Vec<String> {
    let (before, after) = (by_file(before), by_file(after));
    let word = |served| if served { "served" } else { "not served" };
    let gone = before.keys().filter(|file| !after.contains_key(*file)).map(|file| format!("{file}: goes"));
    let here = after.iter().filter_map(|(file, now)| match before.get(file) {
        None => Some(format!("{file}: comes, {}, {}", now.until, word(now.served))),
        Some(was) if was == now => None,
        Some(was) if was.sha256 == now.sha256 => {
            Some(format!("{file}: {} instead of {}", word(now.served), word(was.served)))
        }
        Some(was) => Some(format!("{file}: is another, {} (before: {}), {}", now.until, was.until, word(now.served))),
    });
    gone.chain(here).collect()
}

fn bounded(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    if lines.len() > MOST {
        let more = lines.split_off(MOST).len();
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Lines of their own, each after a line break.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = if self.removed { "are asked to end" } else { "end as they began" };
        write!(f, "\n{}: connections now: {}, which {fate}", self.endpoint, self.connections)?;
        let lists = [("chain", &self.chains), ("found", &self.new_findings), ("found no more", &self.gone_findings)];
        for (what, lines) in lists {
            lines.iter().try_for_each(|line| write!(f, "\n  {what}  {line}"))?;
        }
        Ok(())
    }
}
