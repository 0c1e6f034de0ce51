//! `portcullis schema`, `completions`, `man` and `version`: what is made from the program's own definitions.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Cli;
use crate::config::json_schema;

/// Prints the configuration's JSON Schema.
pub(super) fn schema(out: &mut dyn Write) -> io::Result<ExitCode> {
    writeln!(out, "{:#}", json_schema())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a shell's completions.
pub(super) fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<ExitCode> {
    // The generator panics where it cannot write, so it writes to memory, which never fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the man page of the whole, or of one command.
pub(super) fn man(command: Option<&str>, out: &mut dyn Write) -> io::Result<ExitCode> {
    let mut whole = Cli::command();
    whole.build();
    let page = command.and_then(|name| whole.find_subcommand(name)).unwrap_or(&whole).clone();
    Man::new(page).manual("Portcullis").render(out)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints name and version.
pub(super) fn version(out: &mut dyn Write) -> io::Result<ExitCode> {
    writeln!(out, "portcullis {}", env!("CARGO_PKG_VERSION"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn printed(command: impl FnOnce(&mut dyn Write) -> io::Result<ExitCode>) -> String {
        let mut out = Vec::new();
        assert_eq!(command(&mut out).unwrap(), ExitCode::SUCCESS);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_schema_is_json() {
        let schema: serde_json::Value = serde_json::from_str(&printed(schema)).unwrap();
        assert_eq!(schema, json_schema());
    }

    #[test]
    fn every_shell_has_completions_with_every_command() {
        for shell in Shell::value_variants() {
            let script = printed(|out| completions(*shell, out));
            assert!(script.contains("explain") && script.contains("fail-on"), "{shell}");
        }
    }

    #[test]
    fn man_pages_are_of_the_whole_or_of_one_command() {
        let whole = printed(|out| man(None, out));
        assert!(whole.contains(".TH portcullis 1") && whole.contains("SIGTERM") && whole.contains("PORTCULLIS_CONFIG"));
        let audit = printed(|out| man(Some("audit"), out));
        assert!(audit.contains(".TH portcullis-audit 1") && audit.contains("fail\\-on"), "{audit}");
    }

    #[test]
    fn the_version_is_the_packages() {
        assert_eq!(printed(version), format!("portcullis {}\n", env!("CARGO_PKG_VERSION")));
    }
}
