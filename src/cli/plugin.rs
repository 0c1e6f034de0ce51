//! `portcullis plugin inspect`: what a plugin offers, and how the negotiation with this gateway would end.

use std::io::{self, Write};
use std::process::ExitCode;

use super::args::PluginCommand;
use super::report::Terminal;
use crate::plugin::inspect::inspect;

/// Prints what was found; the status is 1 where the plugin cannot be used.
pub(super) fn run(command: &PluginCommand, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let PluginCommand::Inspect { file, settings } = command;
    if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(settings) {
        return Ok(terminal.fault(&format!("--settings is no JSON object: {error}")));
    }
    match inspect(file, settings) {
        Ok(found) => {
            write!(out, "{found}")?;
            Ok(if found.is_usable() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(why) => Ok(terminal.fault(&why)),
    }
}
