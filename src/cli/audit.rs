//! `portcullis audit`: start-up's audit, on files or on a configuration.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use super::args::{AuditArgs, FailOn, Format};
use super::check::plan;
use super::report::Terminal;
use crate::config::AuditConfig;
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::report::Report;
use crate::tls::audit::rules::Level;
use crate::tls::audit::{Subject, audit};
use crate::tls::collect::collect;

/// The status of an audit that could not look at what it was asked to.
const UNREADABLE: u8 = 2;

/// Audits, prints, and tells by the status whether anything at or above `--fail-on` was found.
pub(super) fn run(args: &AuditArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let planned = match args.config.as_deref().map(plan).transpose() {
        Ok(planned) => planned,
        Err(problems) => {
            terminal.problems(&problems);
            return Ok(UNREADABLE.into());
        }
    };
    let endpoints = planned.iter().flat_map(|(_, plan)| &plan.endpoints);
    let mut chains: Vec<ChainReport> = endpoints.flat_map(|e| e.certificates.reports().cloned()).collect();
    // Files beside a configuration are judged by its policy too.
    let policy = planned.map_or_else(AuditConfig::default, |(_, plan)| plan.config.audit);
    let Ok(policy) = Policy::new(&policy) else { return Ok(UNREADABLE.into()) };
    chains.extend(of_files(args, &policy));
    let report =
        Report { profile: args.config.is_none().then(|| args.profile.into()), chains: chains.iter().collect() };
    match args.format {
        Format::Table => write!(out, "{}", report.table(terminal.colours_stdout(), args.fail_on == FailOn::Warn))?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(ExitCode::from(u8::from(report.fails(args.fail_on.into()))))
}

fn of_files(args: &AuditArgs, policy: &Policy) -> Vec<ChainReport> {
    let subject = Subject {
        profile: args.profile.into(),
        endpoint: None,
        server_names: &args.names,
        listen_ips: &[],
        now: SystemTime::now(),
    };
    let materials = collect(&args.paths, args.key.as_deref());
    materials.iter().map(|material| audit(material, &subject, policy).report).collect()
}

impl From<FailOn> for Level {
    fn from(level: FailOn) -> Self {
        match level {
            FailOn::Deny => Self::Deny,
            FailOn::Error => Self::Error,
            FailOn::Warn => Self::Warn,
        }
    }
}
