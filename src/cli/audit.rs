//! `portcullis audit`: start-up's audit, on files, on running servers, or on a configuration.

mod sources;

use std::io::{self, Write};
use std::process::ExitCode;

use self::sources::Sources;
use super::args::{AuditArgs, FailOn, Format};
use super::check::plan;
use super::progress::Progress;
use super::report::Terminal;
use crate::config::AuditConfig;
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::report::{Report, Stream, Tally, server_table, table};
use crate::tls::audit::rules::Level;
use crate::tls::audit::sarif;
use crate::tls::probe::Server;

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
    let sources = match Sources::new(args) {
        Ok(sources) => sources,
        Err(why) => {
            terminal.fault(&why);
            return Ok(UNREADABLE.into());
        }
    };
    let planned_chains = planned.iter().flat_map(|(_, plan)| plan.reports().cloned()).collect::<Vec<_>>();
    // Files beside a configuration are judged by its policy too.
    let policy = planned.map_or_else(AuditConfig::default, |(_, plan)| plan.config.audit);
    let Ok(policy) = Policy::new(&policy) else { return Ok(UNREADABLE.into()) };
    let progress = Progress::new(sources.files());
    let named = sources.reports(&policy, || progress.tick());
    let chains = planned_chains.into_iter().chain(named).inspect(|_| progress.clear());
    let tally = write(args, &sources.servers, chains, out, terminal)?;
    progress.clear();
    Ok(ExitCode::from(u8::from(tally.fails(args.fail_on.into()))))
}

/// Writes every chain as it comes: there may be very many.
fn write(
    args: &AuditArgs,
    servers: &[Server],
    chains: impl Iterator<Item = ChainReport>,
    out: &mut dyn Write,
    terminal: &Terminal,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut out = io::BufWriter::new(out);
    let mut chains = chains.inspect(|chain| tally.add(chain));
    match args.format {
        Format::Table => {
            let (colour, details) = (terminal.colours_stdout(), args.fail_on == FailOn::Warn);
            servers.iter().try_for_each(|server| writeln!(out, "{}", server_table(server)))?;
            chains.try_for_each(|chain| writeln!(out, "{}", table(&chain, colour, details)))?;
            writeln!(out, "{}", tally.line())?;
        }
        Format::Json => {
            let profile = args.config.is_none().then(|| args.profile.into());
            let report = Report { profile, servers: servers.to_vec(), chains: Stream::new(chains) };
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
        Format::Sarif => {
            let directory = std::env::current_dir()?;
            serde_json::to_writer_pretty(&mut out, &sarif::log(chains, &directory))?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(tally)
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
