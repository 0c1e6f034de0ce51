//! What may be typed.
//!
//! Owns the one definition that parsing, help, shell completions and man pages all come from. Read by `cli.rs`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::acme::wish::Reason;
use crate::identity::Class;

const AFTER_HELP: &str = "\
Signals: SIGTERM and SIGINT let what is in flight end, then exit; a second one exits at once. SIGHUP reloads.

Environment: PORTCULLIS_CONFIG names the configuration where --config does not; PORTCULLIS_PASSWORD is the
password of PKCS#12 bundles that `audit` opens; NO_COLOR turns colour off.

Exit status: 0 done, 1 refused or found wanting, 2 typed wrongly or (audit) could not read.";

/// A TLS-terminating gateway with many doors and one keeper.
///
/// One process opens many endpoints, each plain or TLS; one handler serves them all and is told, for every connection,
/// which endpoint it came in by; every certificate is audited before a byte is served with it.
///
/// Without a command, it runs.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

impl Cli {
    /// The command that was meant: without one, `run`.
    pub(super) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// A command, with what was typed behind it.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve. Without a configuration: a demo on loopback, which prints what to try
    Run(RunArgs),
    /// Do all that start-up does, without opening a port, and report every error
    Check(CheckArgs),
    /// Audit certificate chains as start-up does
    ///
    /// Exit status: 0 clean, 1 findings at or above --fail-on, 2 could not read.
    Audit(AuditArgs),
    /// Say which certificate an endpoint would serve, and why not each other one
    Explain(ExplainArgs),
    /// Have a running gateway read its configuration and files again, and say what changed
    ///
    /// Connections stay. Where anything is wrong, nothing changes, every error is printed, and the exit status is 1.
    Reload(ReloadArgs),
    /// Have a running gateway let what is in flight end, then exit
    Drain(DrainArgs),
    /// Change the least severe event that a running gateway logs, until it starts again
    Log(LogArgs),
    /// Have a running gateway start the program that is installed now, and hand every listening socket over to it
    ///
    /// No connection is refused: the old process drains once the new one serves. If that does not start, nothing changes and
    /// the exit status is 1.
    Upgrade(ControlArgs),
    /// Have a running gateway renew a certificate by ACME now
    ///
    /// Waits until it is served. Where that fails, the one before is kept and the exit status is 1.
    Renew(RenewArgs),
    /// Print how a running gateway and its endpoints are
    Status(ControlArgs),
    /// Look at plugins
    Plugin {
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Print the configuration's JSON Schema
    Schema,
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page of the whole, or of one command
    Man {
        /// The command
        #[arg(value_parser = COMMANDS)]
        command: Option<String>,
    },
    /// Print the version
    Version,
}

/// What is done about a plugin.
#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Show what a plugin offers, and how the negotiation with this gateway would end
    ///
    /// Loads the library, which runs its code: one start-up and one cleanup.
    Inspect {
        /// The shared library
        file: PathBuf,
        /// The settings that its start-up is given, as a JSON object
        #[arg(long, value_name = "JSON", default_value = "{}")]
        settings: String,
    },
}

/// The commands by name, for `man`.
const COMMANDS: [&str; 15] = [
    "run",
    "check",
    "audit",
    "explain",
    "reload",
    "drain",
    "log",
    "upgrade",
    "renew",
    "status",
    "plugin",
    "schema",
    "completions",
    "man",
    "version",
];

/// What `run` is told.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Take the listening sockets of the gateway behind this control socket; it drains once this one serves
    #[arg(long, value_name = "SOCKET")]
    pub(super) take_over: Option<PathBuf>,
}

/// What `check` is told.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub(super) config: PathBuf,
}

/// What `audit` is told.
// PORTCULLIS_CONFIG does not count here: who audits a file does not mean the gateway of this machine.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Chain files (PEM or PKCS#12), folders in which each file with a certificate is a chain, or running servers
    #[arg(value_name = "PATH|HOST:PORT", required_unless_present = "config")]
    pub(super) paths: Vec<PathBuf>,
    /// Audit the chains of this configuration, by its own policy
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The private key of the one PATH
    #[arg(long, value_name = "FILE", requires = "paths")]
    pub(super) key: Option<PathBuf>,
    /// A file whose first line is the password of PKCS#12 bundles; PORTCULLIS_PASSWORD may hold it instead
    #[arg(long, value_name = "FILE", requires = "paths")]
    pub(super) password_file: Option<PathBuf>,
    /// A name that the chains must cover, and the first that a server is asked for; may be given again
    #[arg(long = "name", value_name = "HOST")]
    pub(super) names: Vec<String>,
    /// A file of roots that the chains must verify under, such as /etc/ssl/certs/ca-certificates.crt
    #[arg(long, value_name = "FILE", requires = "paths")]
    pub(super) roots: Option<PathBuf>,
    /// Whom the chains are for; an endpoint's chains go by its class
    #[arg(long, value_enum, default_value_t)]
    pub(super) profile: Profile,
    /// How the findings are printed
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// The least level of a finding that makes the exit status 1
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    pub(super) fail_on: FailOn,
}

/// Which running gateway is meant.
#[derive(Debug, Args)]
pub(super) struct ControlArgs {
    /// Its configuration file, which names its control socket
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Its control socket, whatever the configuration says
    #[arg(long, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,
}

/// What `reload` is told.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,
    /// Only say what a reload would change, or why it would fail
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What `drain` is told.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,
    /// Only have this endpoint take no more connections and let those that it has end; the gateway goes on
    #[arg(long, value_name = "NAME")]
    pub(super) endpoint: Option<String>,
}

/// What `log` is told.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// The level
    #[arg(value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub(super) level: String,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

/// What `renew` is told.
#[derive(Debug, Args)]
pub(super) struct RenewArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,
    /// The first of the certificate's names; where several authorities issue for it, AUTHORITY/NAME
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// Have the authority revoke the one before once the new one is served
    #[arg(long, value_enum, value_name = "REASON")]
    pub(super) revoke: Option<Reason>,
}

/// What `explain` is told.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub(super) config: PathBuf,
    /// The endpoint's name
    #[arg(long, value_name = "NAME")]
    pub(super) endpoint: String,
    /// The name that a client asks for; left out: a client that names none
    #[arg(long, value_name = "HOST")]
    pub(super) sni: Option<String>,
}

/// Whom a chain is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    /// Browsers and public certification authorities
    #[default]
    Public,
    /// One's own network and private certification authorities
    Internal,
}

impl From<Profile> for Class {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Public => Self::Public,
            Profile::Internal => Self::Internal,
        }
    }
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For machines: one object, as the admin port's /audit
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
}

/// The least level of a finding that fails an audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// Never served
    Deny,
    /// Clients fail with it, or a careful one does
    #[default]
    Error,
    /// Reported
    Warn,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn typed(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(Cli::into_command)
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_runs() {
        let Ok(Command::Run(args)) = typed("portcullis --config a.toml") else { panic!() };
        assert_eq!(args.config, Some("a.toml".into()));
        assert!(matches!(typed("portcullis run --config a.toml"), Ok(Command::Run(_))));
        assert!(typed("portcullis --config a.toml check --config b.toml").is_err());
    }

    #[test]
    fn an_audit_needs_something_to_look_at() {
        assert!(typed("portcullis audit").is_err());
        assert!(typed("portcullis audit --config a.toml --key k.pem").is_err());
        assert!(typed("portcullis audit --config a.toml").is_ok());
        let Ok(Command::Audit(args)) = typed("portcullis audit a.pem --key a.key --name a.example --name b.example")
        else {
            panic!()
        };
        assert_eq!((args.paths, args.key), (vec!["a.pem".into()], Some("a.key".into())));
        assert_eq!(args.names, ["a.example", "b.example"]);
        assert_eq!((args.profile, args.format, args.fail_on), (Profile::Public, Format::Table, FailOn::Error));
    }

    #[test]
    fn what_is_typed_wrongly_exits_with_2() {
        for line in
            ["portcullis audit --fail-on info a.pem", "portcullis serve", "portcullis explain --endpoint a --sni"]
        {
            assert_eq!(typed(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_command_has_a_man_page() {
        let command = Cli::command();
        assert_eq!(command.get_subcommands().map(clap::Command::get_name).collect::<Vec<_>>(), COMMANDS);
    }
}
