//! `portcullis run`: serve until told to stop.
//!
//! Owns where events are logged. Everything else is `gateway`'s.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::net::TcpListener;
use std::process::ExitCode;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

use super::args::RunArgs;
use super::check::load;
use super::report::Terminal;
use crate::config::{Config, LogConfig, LogFormat, LogLevel, Source};
use crate::gateway::{BuildError, Gateway, Running, Signals};

/// Serves; the status is 0 after a clean drain, 1 if it did not start.
pub(super) fn run(args: &RunArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let loaded = match &args.config {
        Some(path) => load(path),
        None => demo(),
    };
    let (source, config) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return Ok(terminal.problems(&problems)),
    };
    log_to_stderr(&config.log);
    let mut builder = Gateway::builder(config).directory(source.directory());
    builder = match &args.config {
        Some(file) => builder.reload_from(file),
        None => builder.development_certificate(),
    };
    builder = match passed_sockets() {
        Ok(sockets) => builder.sockets(sockets),
        Err(fault) => return Ok(terminal.fault(&fault)),
    };
    if let Some(control) = &args.take_over {
        builder = builder.take_over(control);
    }
    if let (Some(file), Ok(program)) = (&args.config, std::env::current_exe()) {
        let arguments = ["run".as_ref(), "--config".as_ref(), file.as_os_str(), "--take-over".as_ref()];
        builder = builder.successor(program, arguments.map(OsStr::to_owned));
    }
    let signals = Signals::watch()?;
    let running = match builder.start() {
        Ok(running) => running,
        Err(error) => return Ok(refused(error, &source, terminal)),
    };
    if args.config.is_none() {
        say_what_to_try(&running, out)?;
    }
    running.serve_until(signals)?;
    Ok(ExitCode::SUCCESS)
}

/// The sockets that systemd opened (sd_listen_fds(3)).
fn passed_sockets() -> Result<Vec<TcpListener>, String> {
    let passed = sd_listen_fds::get().map_err(|error| format!("LISTEN_FDS: {error}"))?;
    Ok(passed.into_iter().map(|(_, descriptor)| descriptor.into()).collect())
}

fn demo() -> Result<(Source, Config), Vec<crate::config::Problem>> {
    let source = Source::demo();
    let config = source.parse()?;
    Ok((source, config))
}

fn refused(error: BuildError, source: &Source, terminal: &mut Terminal) -> ExitCode {
    match error {
        BuildError::Plan(problems) => terminal.problems(&problems.placed(Some(source))),
        BuildError::Refused(reasons) => terminal.list(&reasons, "no endpoint may start without its certificates"),
        BuildError::Listen(faults) => terminal.list(&faults, "not every port could be opened, so none is"),
        BuildError::Io(error) => terminal.fault(&format!("cannot start: {error}")),
    }
}

fn say_what_to_try(running: &Running, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Portcullis serves its demo: one handler behind two endpoints. Try")?;
    for (endpoint, command) in [("internal", "curl http://"), ("internet", "curl -k https://")] {
        for address in running.addresses(endpoint) {
            writeln!(out, "  {:<40} # endpoint {endpoint:?}", format!("{command}{address}/"))?;
        }
    }
    if let Some(admin) = running.admin_address() {
        for (path, what) in [("", "the dashboard"), ("metrics", "for Prometheus"), ("audit", "what the audit found")] {
            writeln!(out, "  {:<40} # {what}", format!("curl http://{admin}/{path}"))?;
        }
    }
    writeln!(out, "Ctrl-C stops it. Serve your own: portcullis run --config FILE; examples are in config/.")?;
    out.flush()
}

/// Events go to standard error; standard output is the access log's.
fn log_to_stderr(config: &LogConfig) {
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // h2 warns of single frames: a client could fill the log with them, and they name no endpoint.
    let is_ours = move |event: &Metadata<'_>| level >= LevelFilter::DEBUG || !event.target().starts_with("h2::");
    let writer = io::stderr.with_filter(is_ours);
    let events = tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_target(false);
    // Installing fails only where there is one already, as in a test.
    let _ = match config.format {
        LogFormat::Text => tracing::subscriber::set_global_default(events.with_ansi(colour).finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(events.json().flatten_event(true).finish()),
    };
}
