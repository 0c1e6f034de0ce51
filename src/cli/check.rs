//! `portcullis check`: everything that start-up does, without opening a port.

use std::path::Path;
use std::process::ExitCode;

use super::args::CheckArgs;
use super::report::Terminal;
use crate::config::{Config, Problem, Source};

/// Checks a configuration and reports every error.
pub(super) fn check(args: &CheckArgs, terminal: &mut Terminal) -> ExitCode {
    match load(&args.config) {
        Ok(_) => terminal.absent("check more than the file's shape"),
        Err(problems) => terminal.problems(&problems),
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
