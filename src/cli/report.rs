//! What a command tells the person at the terminal.
//!
//! Owns colour: only on a terminal, and only where NO_COLOR is not set (no-color.org). Used by every command.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::config::Problem;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

/// Standard error, or in tests what stands in for it. What cannot be written to it is lost: there is nowhere to say so.
pub(super) struct Terminal {
    stream: Box<dyn Write>,
    colour: bool,
}

impl Terminal {
    /// Standard error.
    pub(super) fn stderr() -> Self {
        let colour = colour(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
        Self { stream: Box::new(io::stderr()), colour }
    }

    /// Whether what goes to standard output may be coloured.
    pub(super) fn colours_stdout(&self) -> bool {
        colour(io::stdout().is_terminal(), std::env::var_os("NO_COLOR").as_deref())
    }

    /// Reports problems, a line each and their number, and fails.
    pub(super) fn problems(&mut self, problems: &[Problem]) -> ExitCode {
        for problem in problems {
            let line = problem.to_string();
            let place = problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
            let rest = line.strip_prefix(&place).unwrap_or(&line);
            let (on, off) = if self.colour { (BOLD, PLAIN) } else { ("", "") };
            let _ = writeln!(self.stream, "{on}{place}{off}{rest}");
        }
        self.fault(&errors(problems.len()))
    }

    /// Says why the command cannot do what it was asked, and fails.
    pub(super) fn fault(&mut self, why: &str) -> ExitCode {
        let (on, off) = if self.colour { (RED, PLAIN) } else { ("", "") };
        let _ = writeln!(self.stream, "{on}portcullis:{off} {why}");
        ExitCode::FAILURE
    }

    /// Reports faults, a line each, then what they mean, and fails.
    pub(super) fn list(&mut self, faults: &[String], meaning: &str) -> ExitCode {
        for fault in faults {
            let _ = writeln!(self.stream, "{fault}");
        }
        self.fault(meaning)
    }
}

/// "1 error", "2 errors".
pub(super) fn errors(number: usize) -> String {
    format!("{number} {}", if number == 1 { "error" } else { "errors" })
}

/// Whether to colour: on a terminal, unless NO_COLOR is set and not empty.
fn colour(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::written::Written;
    use crate::config::Source;

    fn reported(colour: bool) -> String {
        let problems = Source::new("a.toml", "[log]\nlevl = \"info\"\n").parse().unwrap_err();
        let written = Written::default();
        let status = Terminal { stream: Box::new(written.clone()), colour }.problems(&problems);
        assert_eq!(status, ExitCode::FAILURE);
        written.text()
    }

    #[test]
    fn a_problem_is_a_line_that_editors_can_jump_to() {
        assert_eq!(
            reported(false),
            "a.toml:2:1: log.levl: unknown key; did you mean \"level\"?\nportcullis: 1 error\n"
        );
        assert!(reported(true).starts_with("\x1b[1ma.toml:2:1\x1b[0m: log.levl"));
    }

    #[test]
    fn colour_is_for_terminals_that_do_not_refuse_it() {
        assert!(colour(true, None) && colour(true, Some(OsStr::new(""))));
        assert!(!colour(false, None) && !colour(true, Some(OsStr::new("1"))));
    }
}
