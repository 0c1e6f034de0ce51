//! `portcullis audit`: start-up's audit, on files or on a configuration.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use super::args::{AuditArgs, FailOn, Format};
use super::check::plan;
use super::password;
use super::progress::Progress;
use super::report::Terminal;
use crate::config::AuditConfig;
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::report::{Report, Stream, Tally, table};
use crate::tls::audit::rules::Level;
use crate::tls::audit::sarif;
use crate::tls::audit::{Subject, audit};
use crate::tls::collect::{Place, give_key, list};
use crate::tls::parallel::in_order;

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
    let of_endpoints: Vec<ChainReport> = endpoints.flat_map(|e| e.certificates.reports().cloned()).collect();
    // Files beside a configuration are judged by its policy too.
    let policy = planned.map_or_else(AuditConfig::default, |(_, plan)| plan.config.audit);
    let Ok(policy) = Policy::new(&policy) else { return Ok(UNREADABLE.into()) };
    let places = places(args);
    let password = match password::find(args.password_file.as_deref(), || places.iter().any(Place::needs_password)) {
        Ok(password) => password,
        Err(why) => {
            terminal.fault(&why);
            return Ok(UNREADABLE.into());
        }
    };
    let progress = Progress::new(places.len());
    let subject = subject(args);
    let of_files = in_order(&places, |place| {
        let material = place.read(password.as_deref());
        let report = material.map(|material| Arc::unwrap_or_clone(audit(&material, &subject, &policy).report));
        progress.tick();
        report
    });
    let chains = of_endpoints.into_iter().chain(of_files.flatten()).inspect(|_| progress.clear());
    let tally = write(args, chains, out, terminal)?;
    progress.clear();
    Ok(ExitCode::from(u8::from(tally.fails(args.fail_on.into()))))
}

fn places(args: &AuditArgs) -> Vec<Place> {
    let mut places = list(&args.paths);
    if let Some(key) = &args.key {
        give_key(&mut places, key);
    }
    places
}

fn subject(args: &AuditArgs) -> Subject<'_> {
    Subject {
        profile: args.profile.into(),
        endpoint: None,
        server_names: &args.names,
        listen_ips: &[],
        now: SystemTime::now(),
    }
}

/// Writes every chain as it comes: there may be very many.
fn write(
    args: &AuditArgs,
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
            chains.try_for_each(|chain| writeln!(out, "{}", table(&chain, colour, details)))?;
            writeln!(out, "{}", tally.line())?;
        }
        Format::Json => {
            let profile = args.config.is_none().then(|| args.profile.into());
            serde_json::to_writer_pretty(&mut out, &Report { profile, chains: Stream::new(chains) })?;
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
