//! `portcullis reload`, `drain`, `renew`, `log` and `status`: what a running gateway is asked through its control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{ControlArgs, DrainArgs, LogArgs, ReloadArgs, RenewArgs};
use super::report::{Terminal, errors};
use crate::config::{Problem, Source};
use crate::reload::{Change, Failure};

/// How long the gateway may take to answer: a reload reads and audits every chain.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Has the gateway reload; prints what changed, or every error.
pub(super) fn reload(args: &ReloadArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let target = if args.dry_run { "/reload?dry_run=true" } else { "/reload" };
    let (status, body) = match asked(&args.control, "POST", target) {
        Ok(answer) => answer,
        Err(problems) => return Ok(terminal.problems(&problems)),
    };
    if let (200, Some(change)) = (status, parse::<Change>(&body)) {
        writeln!(out, "{change}")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(match parse::<Failure>(&body) {
        Some(failure) if args.dry_run => terminal.list(&failure.errors, "a reload would fail"),
        Some(failure) => {
            let number = errors(failure.errors.len());
            terminal.list(&failure.errors, &format!("{number}: not reloaded; the plan before is served"))
        }
        None => terminal.fault(&unexpected(status, &body)),
    })
}

/// Has the gateway drain and end, or one of its endpoints drain.
pub(super) fn drain(args: &DrainArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let target = match &args.endpoint {
        Some(name) if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => {
            return Ok(terminal.fault(&format!("there is no endpoint {name:?}")));
        }
        Some(name) => format!("/endpoints/{name}/drain"),
        None => "/drain".to_owned(),
    };
    match asked(&args.control, "POST", &target) {
        Ok((202, _)) => {
            let what = args.endpoint.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            writeln!(out, "draining{what}: nothing new is accepted, and what is in flight may end")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((status, body)) => Ok(terminal.fault(&unexpected(status, &body))),
        Err(problems) => Ok(terminal.problems(&problems)),
    }
}

/// Changes what the gateway logs.
pub(super) fn log(args: &LogArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    match asked(&args.control, "POST", &format!("/log?level={}", args.level)) {
        Ok((200, _)) => {
            writeln!(out, "the log's level is {} until the gateway starts again", args.level)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((status, body)) => Ok(terminal.fault(&unexpected(status, &body))),
        Err(problems) => Ok(terminal.problems(&problems)),
    }
}

/// Has the gateway renew a certificate; prints what was done, or why nothing was.
pub(super) fn renew(args: &RenewArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let name = &args.name;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) {
        return Ok(terminal.fault(&format!("{name:?} is no name of a certificate; write such as \"www.example.com\"")));
    }
    let revoke = args.revoke.map(|reason| format!("&revoke={}", reason.as_str())).unwrap_or_default();
    let (status, body) = match asked(&args.control, "POST", &format!("/renew?certificate={name}{revoke}")) {
        Ok(answer) => answer,
        Err(problems) => return Ok(terminal.problems(&problems)),
    };
    Ok(match (status, parse::<Value>(&body), parse::<Failure>(&body)) {
        (200, Some(done), _) => {
            writeln!(out, "{}", text(&done["done"]))?;
            ExitCode::SUCCESS
        }
        (_, _, Some(failure)) => terminal.list(&failure.errors, "not done"),
        _ => terminal.fault(&unexpected(status, &body)),
    })
}

/// Has the gateway start its successor, and waits until that serves.
pub(super) fn upgrade(args: &ControlArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let (status, body) = match asked(args, "POST", "/upgrade") {
        Ok(answer) => answer,
        Err(problems) => return Ok(terminal.problems(&problems)),
    };
    Ok(match (status, parse::<Failure>(&body)) {
        (200, _) => {
            writeln!(out, "upgraded: the new process serves, and the old one drains")?;
            ExitCode::SUCCESS
        }
        (_, Some(failure)) => terminal.list(&failure.errors, "not upgraded; the old process serves on"),
        (_, None) => terminal.fault(&unexpected(status, &body)),
    })
}

/// Prints how the gateway and each endpoint is.
pub(super) fn status(args: &ControlArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let mut views = Vec::new();
    for path in ["/stats", "/endpoints", "/upstreams"] {
        match asked(args, "GET", path) {
            Ok((200, body)) => views.extend(parse::<Value>(&body)),
            Ok((status, body)) => return Ok(terminal.fault(&unexpected(status, &body))),
            Err(problems) => return Ok(terminal.problems(&problems)),
        }
    }
    let [stats, endpoints, upstreams] = views.as_slice() else {
        return Ok(terminal.fault("the gateway's answer is not JSON"));
    };
    let up = Duration::from_secs(stats["uptime_seconds"].as_f64().unwrap_or_default() as u64);
    writeln!(out, "{}, up {}", text(&stats["lifecycle"]), humantime::format_duration(up))?;
    out.write_all(table(&rows(stats, endpoints)).as_bytes())?;
    let upstreams = upstream_rows(upstreams);
    if upstreams.len() > 1 {
        writeln!(out)?;
        out.write_all(table(&upstreams).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the gateway that the arguments mean: the status and body of its answer.
fn asked(args: &ControlArgs, method: &str, target: &str) -> Result<(u16, String), Vec<Problem>> {
    let problem = |message: String, remedy: Option<&str>| {
        vec![Problem { place: None, item: String::new(), message, remedy: remedy.map(Into::into) }]
    };
    let path = match (&args.control, &args.config) {
        (Some(path), _) => path.clone(),
        (None, Some(config)) => socket_of(config)?,
        (None, None) => {
            return Err(problem("no gateway is named".into(), Some("give --control PATH or --config FILE")));
        }
    };
    ask(&path, method, target).map_err(|error| {
        let remedy = "see that the gateway runs, with admin.control set, and that the file is yours";
        problem(format!("{}: cannot ask the gateway: {error}", path.display()), Some(remedy))
    })
}

/// The control socket that a configuration names. What else is wrong with it is for the gateway to say.
fn socket_of(config: &Path) -> Result<PathBuf, Vec<Problem>> {
    let source = Source::read(config).map_err(|problem| vec![problem])?;
    let table: toml::Table = match source.text().parse() {
        Ok(table) => table,
        Err(_) => return Err(source.parse().err().unwrap_or_default()),
    };
    let control = table.get("admin").and_then(|admin| admin.get("control")).and_then(toml::Value::as_str);
    control.map(|path| source.directory().join(path)).ok_or_else(|| {
        vec![Problem {
            place: source.locate(&["admin"]),
            item: "admin.control".into(),
            message: "this configuration names no control socket".into(),
            remedy: Some("set it, or give --control PATH".into()),
        }]
    })
}

fn ask(path: &Path, method: &str, target: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    let parts = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
}

fn parse<T: DeserializeOwned>(body: &str) -> Option<T> {
    serde_json::from_str(body).ok()
}

fn unexpected(status: u16, body: &str) -> String {
    format!("the gateway answered {status}: {}", body.trim())
}

/// The table's rows, its head first.
fn rows(stats: &Value, endpoints: &Value) -> Vec<[String; 7]> {
    let head = ["ENDPOINT", "CLASS", "STATE", "ACTIVE", "ACCEPTED", "REQUESTS", "LISTENS ON"];
    let mut rows = vec![head.map(str::to_owned)];
    for endpoint in endpoints["endpoints"].as_array().into_iter().flatten() {
        let name = text(&endpoint["name"]);
        let numbers = &stats["endpoints"][&name];
        let addresses = endpoint["addresses"].as_array().into_iter().flatten().map(text);
        let listens: Vec<String> = addresses.collect();
        rows.push([
            name,
            text(&endpoint["class"]),
            text(&endpoint["state"]),
            numbers["connections"]["active"].to_string(),
            numbers["connections"]["accepted"].to_string(),
            numbers["requests"]["total"].to_string(),
            listens.join(", "),
        ]);
    }
    rows
}

/// The rows of the upstreams' table, its head first.
fn upstream_rows(upstreams: &Value) -> Vec<[String; 5]> {
    let mut rows = vec![["UPSTREAM", "SERVERS UP", "IN WORK", "WAITING", "REFUSED"].map(str::to_owned)];
    for upstream in upstreams["upstreams"].as_array().into_iter().flatten() {
        let queue = &upstream["queue"];
        rows.push([
            text(&upstream["name"]),
            format!("{} of {}", upstream["servers_usable"], upstream["servers_total"]),
            upstream["requests_active"].to_string(),
            queue["waiting"].to_string(),
            queue["refused"].to_string(),
        ]);
    }
    rows
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Rows with their columns aligned, two spaces between them.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tables_are_aligned_and_show_each_endpoint_and_upstream() {
        let stats = json!({ "endpoints": { "a": {
            "connections": { "active": 1, "accepted": 12345 }, "requests": { "total": 7 } } } });
        let endpoints = json!({ "endpoints": [{ "name": "a", "class": "public", "state": "ready",
            "addresses": ["127.0.0.1:443", "[::1]:443"] }] });
        let expected = "ENDPOINT  CLASS   STATE  ACTIVE  ACCEPTED  REQUESTS  LISTENS ON\n\
                        a         public  ready  1       12345     7         127.0.0.1:443, [::1]:443\n";
        assert_eq!(table(&rows(&stats, &endpoints)), expected);
        let upstreams = json!({ "upstreams": [{ "name": "app", "servers_usable": 2, "servers_total": 3,
            "requests_active": 4, "queue": { "waiting": 0, "refused": 9 } }] });
        let expected = "UPSTREAM  SERVERS UP  IN WORK  WAITING  REFUSED\n\
                        app       2 of 3      4        0        9\n";
        assert_eq!(table(&upstream_rows(&upstreams)), expected);
    }
}
