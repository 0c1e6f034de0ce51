//! How upstreams are used: which server is chosen, what becomes of those that fail, and of more than they can bear.

mod balance;
mod failing;
mod health;
mod http2;
mod limits;
mod names;
mod tls;
mod views;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::Gateway;
use crate::support::client::{Answer, ask, connect};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
/// One worker, so that turns are those of one list.
const ONE_WORKER: &str = "[gateway]\nworkers = 1";

/// The answers to a request, sent so often over one connection.
fn answers(gateway: &Gateway, request: &str, times: usize) -> Vec<Answer> {
    let mut stream = connect(gateway.address("front"));
    (0..times).map(|_| ask(&mut stream, request)).collect()
}

/// How often each body, or status where it is no 200, came.
fn tally(answers: &[Answer]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        let what = if answer.status == 200 { answer.body.clone() } else { answer.status.to_string() };
        *tally.entry(what).or_default() += 1;
    }
    tally
}

fn counted(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(what, n)| ((*what).to_owned(), *n)).collect()
}

/// A series about one server of `app`.
fn of_server(metric: &str, server: SocketAddr) -> String {
    format!("portcullis_upstream_{metric}{{upstream=\"app\",server=\"{server}\"}}")
}

/// A series about `app` as a whole.
fn of_app(metric: &str) -> String {
    format!("portcullis_upstream_{metric}{{upstream=\"app\"}}")
}

/// The series of retries for one reason.
fn retries(reason: &str) -> String {
    format!("portcullis_upstream_retries_total{{upstream=\"app\",reason=\"{reason}\"}}")
}
