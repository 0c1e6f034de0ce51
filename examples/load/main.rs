//! The benchmark's other side: the load that is put on a gateway, and the upstream behind it.
//!
//! Run by `scripts/bench`, which pins it to a core of its own. Every mode but `serve` first warms the gateway up, says
//! `ready` on standard output, waits for a line on standard input, does its work, and prints what it did as one line of
//! JSON; then it keeps its connections until standard input ends, so that the caller can look at the gateway while they
//! are open. An operation that fails in any way ends the run with exit status 1: a number for work that was not
//! done is worse than none.
//!
//! `handshakes`, `requests` and `idle` are files of the same names, `serve` is the upstream, `tls` says what the
//! client offers and `http` opens connections.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool: what it prints is its product")]

mod handshakes;
mod http;
mod idle;
mod requests;
mod serve;
mod tls;

use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, channel};

/// What goes wrong is a sentence for the person who runs the benchmark.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How long one operation may take. Generous, for a busy machine: it ends runs that hang, it measures nothing.
const OPERATION_DEADLINE: Duration = Duration::from_secs(30);

/// Load for a gateway under measurement, and the upstream behind it.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Be the upstream until standard input ends.
    Serve(serve::Options),
    /// Open TLS 1.3 connections, full or resumed, and close each at once.
    Handshakes(handshakes::Options),
    /// Send GET requests over kept connections: HTTP/1.1 or HTTP/2, TLS or plain, small bodies or large.
    Requests(requests::Options),
    /// Open connections, one request on each, and hold them.
    Idle(idle::Options),
}

/// What a run did: the line of JSON.
#[derive(Serialize)]
struct Report {
    /// Operations done, each checked.
    operations: usize,
    /// Body bytes received.
    bytes: u64,
    /// Wall time that they took.
    seconds: f64,
    /// What the handshakes settled; nothing on plain connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<tls::Settled>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(arguments.mode)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mode: Mode) -> Result<()> {
    let mut caller = Caller::new();
    match mode {
        Mode::Serve(options) => serve::run(options, &mut caller).await,
        Mode::Handshakes(options) => handshakes::run(options, &mut caller).await,
        Mode::Requests(options) => requests::run(options, &mut caller).await,
        Mode::Idle(options) => idle::run(options, &mut caller).await,
    }
}

/// Whoever started this process and speaks with it over standard input and output.
struct Caller {
    lines: Receiver<String>,
}

impl Caller {
    /// Reads standard input on a thread of its own, since reading it would hold the runtime up. The thread ends with
    /// standard input or with the process.
    fn new() -> Self {
        let (line, lines) = channel(1);
        std::thread::spawn(move || {
            for text in std::io::stdin().lines().map_while(std::result::Result::ok) {
                if line.blocking_send(text).is_err() {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// Says that the gateway is warm, and waits for a line.
    async fn wait_for_go(&mut self) -> Result<()> {
        say("ready")?;
        self.lines.recv().await.map(drop).ok_or_else(|| "standard input ended before the word to begin".into())
    }

    /// Hands over the report and waits until standard input ends.
    async fn report(&mut self, report: &impl Serialize) -> Result<()> {
        say(&serde_json::to_string(report)?)?;
        while self.lines.recv().await.is_some() {}
        Ok(())
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Gives an operation its deadline.
async fn in_time<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(OPERATION_DEADLINE, operation)
        .await
        .unwrap_or_else(|_| Err(format!("an operation took longer than {OPERATION_DEADLINE:?}").into()))
}
