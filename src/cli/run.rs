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
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

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
    let set_level = log_to_stderr(&config.log);
    let mut builder = Gateway::builder(config).directory(source.directory()).log_level(set_level);
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

/// Events go to standard error; standard output is the access log's. What changes their level while the gateway runs.
fn log_to_stderr(config: &LogConfig) -> impl Fn(LogLevel) + Send + Sync + 'static {
    let (level, set) = reload::Layer::new(filter(config.level));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // h2 warns of single frames: a client could fill the log with them, and they name no endpoint.
    let is_ours =
        |event: &Metadata<'_>| LevelFilter::current() >= LevelFilter::DEBUG || !event.target().starts_with("h2::");
    let events = fmt::layer().with_writer(io::stderr.with_filter(is_ours)).with_target(false);
    let events = match config.format {
        LogFormat::Text => events.with_ansi(colour).boxed(),
        LogFormat::Json => events.json().flatten_event(true).boxed(),
    };
    // Installing fails only where there is one already, as in a test.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(level).with(events));
    move |level| {
        // It fails only where the log is gone, and then there is nobody to tell.
        let _ = set.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
