//! The command line: from what was typed to an exit status.
//!
//! Called by `main` alone. What may be typed is in `cli/args.rs`; each command has a file of its own, and writes to the
//! streams that it is handed.

mod args;
mod audit;
mod check;
mod control;
mod explain;
mod generate;
mod password;
mod plugin;
mod progress;
mod report;
mod run;
#[cfg(test)]
mod written;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use args::{Cli, Command};
use report::Terminal;

/// How long plugins may take to be cleaned up at the end.
const CLEANUP: Duration = Duration::from_secs(10);

/// Runs the command that the process was started with.
///
/// What was typed wrongly ends the process with status 2, and `--help` and `--version` with 0.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().into_command();
    // Not locked: while a command runs, others write here too, such as the access log.
    let mut out = io::stdout();
    let done = dispatch(command, &mut out).and_then(|status| out.flush().map(|()| status));
    // A command that planned has started plugins, and dropped them.
    crate::plugin::settle(CLEANUP);
    match done {
        Ok(status) => status,
        // Whoever reads has read enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => Terminal::stderr().fault(&format!("cannot write: {error}")),
    }
}

fn dispatch(command: Command, out: &mut dyn Write) -> io::Result<ExitCode> {
    match command {
        Command::Check(args) => check::check(&args, out, &mut Terminal::stderr()),
        Command::Plugin { command } => plugin::run(&command, out, &mut Terminal::stderr()),
        Command::Schema => generate::schema(out),
        Command::Completions { shell } => generate::completions(shell, out),
        Command::Man { command } => generate::man(command.as_deref(), out),
        Command::Version => generate::version(out),
        Command::Run(args) => run::run(&args, out, &mut Terminal::stderr()),
        Command::Reload(args) => control::reload(&args, out, &mut Terminal::stderr()),
        Command::Drain(args) => control::drain(&args, out, &mut Terminal::stderr()),
        Command::Log(args) => control::log(&args, out, &mut Terminal::stderr()),
        Command::Upgrade(args) => control::upgrade(&args, out, &mut Terminal::stderr()),
        Command::Renew(args) => control::renew(&args, out, &mut Terminal::stderr()),
        Command::Status(args) => control::status(&args, out, &mut Terminal::stderr()),
        Command::Audit(args) => audit::run(&args, out, &mut Terminal::stderr()),
        Command::Explain(args) => explain::run(&args, out, &mut Terminal::stderr()),
    }
}
