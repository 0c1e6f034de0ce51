//! What a reload changed, or why it changed nothing: for the answer of the control socket, and for people.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::difference::Difference;
use crate::plan::{EndpointPlan, Plan};

/// What a reload changed, by the endpoints' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Whether it was only tried: nothing was opened, closed or swapped.
    pub dry_run: bool,
    /// Endpoints that were not there before.
    pub added: Vec<String>,
    /// Endpoints that are there no more.
    pub removed: Vec<String>,
    /// Endpoints whose words, files, handler or upstreams changed.
    pub changed: Vec<String>,
    /// Endpoints that go on as they were, sessions included.
    pub unchanged: Vec<String>,
    /// Whether other traces are made, or sent elsewhere. It holds for requests that begin from then on, at every endpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tracing: bool,
    /// Where it was only tried: what would be different, for each endpoint that is added, removed or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

impl Change {
    /// What is different in `next`.
    pub(super) fn between(running: &Plan, next: &Plan, dry_run: bool) -> Self {
        let mut change = Self { dry_run, tracing: running.tracing != next.tracing, ..Self::default() };
        for endpoint in &next.endpoints {
            let name = name(endpoint);
            let list = match running.endpoint(&name) {
                None => &mut change.added,
                Some(before) if before.basis == endpoint.basis => &mut change.unchanged,
                Some(_) => &mut change.changed,
            };
            list.push(name);
        }
        let gone = running.endpoints.iter().map(name).filter(|name| next.endpoint(name).is_none());
        change.removed = gone.collect();
        if dry_run {
            let touched = change.added.iter().chain(&change.removed).chain(&change.changed);
            let differences = touched.map(|name| Difference::of(name, running, next));
            change.differences = differences.filter(Difference::tells).collect();
        }
        change
    }
}

fn name(endpoint: &Arc<EndpointPlan>) -> String {
    endpoint.endpoint.name.to_string()
}

impl Change {
    /// One line, such as `reloaded: added api; changed internet; 3 unchanged`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = String::from(if self.dry_run { "a reload would do this: " } else { "reloaded: " });
        for (what, names) in [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)] {
            if !names.is_empty() {
                line.push_str(&format!("{what} {}; ", names.join(", ")));
            }
        }
        if self.tracing {
            line.push_str("changed [tracing]; ");
        }
        line + &format!("{} unchanged", self.unchanged.len())
    }
}

/// The line; what was only tried goes on over several lines.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())?;
        self.differences.iter().try_for_each(|difference| difference.fmt(f))
    }
}

/// Why a reload changed nothing: every error, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The errors.
    pub errors: Vec<String>,
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { errors: vec![error.into()] }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.errors.join("\n"))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_as_one_line() {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let change =
            Change { added: list(&["a", "b"]), changed: list(&["c"]), unchanged: list(&["d"]), ..Change::default() };
        assert_eq!(change.to_string(), "reloaded: added a, b; changed c; 1 unchanged");
        let traces = Change { tracing: true, unchanged: list(&["d"]), ..Change::default() };
        assert_eq!(traces.to_string(), "reloaded: changed [tracing]; 1 unchanged");
        assert_eq!(Change { dry_run: true, ..Change::default() }.to_string(), "a reload would do this: 0 unchanged");
    }
}
