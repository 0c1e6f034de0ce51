//! `portcullis check`: everything that start-up does, without opening a port.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::args::CheckArgs;
use super::report::Terminal;
use crate::config::{Config, Problem, Source};
use crate::gateway::Gateway;
use crate::plan::{Plan, refusal};
use crate::telemetry::Telemetry;
use crate::tls::audit::rules::Level;

/// Checks a configuration and reports every error; without one, tells what would be served.
pub(super) fn check(args: &CheckArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let (source, plan) = match plan(&args.config) {
        Ok(planned) => planned,
        Err(problems) => return Ok(terminal.problems(&problems)),
    };
    for endpoint in &plan.endpoints {
        writeln!(out, "{}: {}", endpoint.endpoint.name, endpoint.summary(&[]))?;
    }
    if let Some(summary) = plan.upstream_summary() {
        writeln!(out, "{summary}")?;
    }
    out.flush()?;
    let faults = faults(&plan);
    if faults.is_empty() {
        writeln!(out, "{}: no error", source.file())?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(terminal
        .list(&faults, &format!("{}: {} of its certificates", source.file(), super::report::errors(faults.len()))))
}

/// What is wrong with chains and keys: refusals, and every other finding that clients would trip over.
fn faults(plan: &Plan) -> Vec<String> {
    let mut faults: Vec<String> = plan.refusals().collect();
    let findings = plan.reports().flat_map(|report| &report.findings);
    for finding in findings.filter(|finding| finding.counts() && finding.level >= Level::Error) {
        let sentence = finding.to_string();
        let refusal = finding.endpoint.as_ref().map(|endpoint| refusal(endpoint, &sentence));
        if !refusal.is_some_and(|refusal| faults.iter().any(|fault| fault.starts_with(&refusal))) {
            faults.push(sentence);
        }
    }
    faults
}

/// Reads a configuration file and plans it, as start-up does.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn plan(path: &Path) -> Result<(Source, Plan), Vec<Problem>> {
    let (source, config) = load(path)?;
    match Gateway::builder(config).directory(source.directory()).plan(Telemetry::default()) {
        Ok(plan) => Ok((source, plan)),
        Err(problems) => Err(problems.placed(Some(&source))),
    }
}

/// Reads and parses a configuration file.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn load(path: &Path) -> Result<(Source, Config), Vec<Problem>> {
    let source = Source::read(path).map_err(|problem| vec![problem])?;
    let config = source.parse()?;
    Ok((source, config))
}
