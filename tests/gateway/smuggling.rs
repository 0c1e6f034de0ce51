//! Hostile requests against an upstream that records every byte: nothing that two parsers could read differently
//! reaches it (RFC 9112, section 11.2), the connection ends, and the next client does not notice.

use std::io::{Read, Write};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use crate::support::client::{connect, exchange, get, parse, read_response, read_to_end};
use crate::support::upstream::Upstream;
use crate::support::{Gateway, PATIENCE, http_proxy};

/// A request that must get this status and go nowhere.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    status: u16,
}

fn case(what: &'static str, status: u16, bytes: impl AsRef<[u8]>) -> Case {
    Case { what, bytes: bytes.as_ref().to_vec(), status }
}

/// An upstream that remembers what came, over all connections, and answers whatever ends a head.
struct Recorder {
    upstream: Upstream,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    fn start() -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let record = Arc::clone(&bytes);
        let upstream = Upstream::start(move |mut stream| {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                let mut all = record.lock().unwrap();
                all.extend(&buffer[..n]);
                let is_head = all.ends_with(b"\r\n\r\n");
                drop(all);
                if is_head && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
        });
        Self { upstream, bytes }
    }

    /// What came since this was last asked.
    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.bytes.lock().unwrap())).into_owned()
    }
}

/// Behind every hostile request: what a smuggler would have the upstream see.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends each case on a connection of its own, with a smuggled request behind it.
fn none_goes_on(cases: Vec<Case>) {
    let recorder = Recorder::start();
    let gateway = Gateway::start(&http_proxy(&[recorder.upstream.address], "[gateway]\nworkers = 1"));
    let mut bystander = connect(gateway.address("front"));
    for Case { what, bytes, status } in cases {
        // To the end of the connection, so this also sees that it ends.
        let text = exchange(gateway.address("front"), [&bytes, SMUGGLED.as_bytes()].concat());
        let answer = parse(&text);
        assert_eq!(answer.status, status, "{what}: {text}");
        let length = answer.field("content-length").and_then(|length| length.parse().ok());
        assert_eq!(length, Some(answer.body.len()), "{what} got more than one answer: {text}");
        assert_eq!(answer.field("connection"), Some("close"), "{what}: {text}");
        bystander.write_all(b"GET /bystander HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut bystander).status, 200, "after {what}");
        let seen = recorder.take();
        assert!(seen.starts_with("GET /bystander HTTP/1.1\r\n"), "{what} reached the upstream: {seen}");
        assert_eq!(seen.matches("HTTP/1.1\r\n").count(), 1, "{what} reached the upstream: {seen}");
    }
    assert_eq!(recorder.take(), "");
}

#[test]
fn a_body_whose_length_could_be_read_in_two_ways_goes_nowhere() {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let chunks = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
    let mut cases = vec![
        case("CL.TE", 400, chunks("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        case("TE.CL", 400, chunks("Transfer-Encoding: chunked\r\nContent-Length: 5")),
        case("two equal lengths", 400, post("Content-Length: 0\r\nContent-Length: 0")),
        case("two lengths", 400, post("Content-Length: 0\r\nContent-Length: 36")),
        case("two lengths in another case", 400, post("Content-Length: 0\r\ncontent-length: 36")),
        case("chunked twice", 400, chunks("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        case("chunked and another", 400, chunks("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
        case("another and chunked", 501, chunks("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")),
        case("HTTP/1.0 in chunks", 400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        case("a space before the colon", 400, chunks("Transfer-Encoding : chunked")),
        case("a tab before the colon", 400, chunks("Transfer-Encoding\t: chunked")),
        case("a space before the length's colon", 400, post("Content-Length : 36")),
        case("a folded coding, whose first line is empty", 501, chunks("Transfer-Encoding:\r\n chunked")),
        case("a folded field", 400, post("X-A: 1\r\n X-B: 2\r\nContent-Length: 0")),
        case("a first field that is folded", 400, "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"),
        case("a coding behind a bare CR", 400, chunks("X-A: 1\rTransfer-Encoding: chunked")),
        case("a coding behind a bare LF", 400, chunks("X-A: 1\nTransfer-Encoding: chunked")),
        case("a coding behind a NUL", 400, chunks("X-A: 1\0\r\nTransfer-Encoding: chunked")),
        case("a coding with a vertical tab", 400, chunks("Transfer-Encoding:\x0bchunked")),
        case("a coding that is a control character off", 400, chunks("Transfer-Encoding: \x01chunked")),
    ];
    for length in
        ["+5", "-1", " ", "0x5", "5 5", "5,5", "5, 5", "1e1", "5;", "18446744073709551616", "99999999999999999999"]
    {
        cases.push(case("a length that is no number", 400, post(&format!("Content-Length: {length}"))));
    }
    for coding in [
        "gzip",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        ", chunked",
        "identity",
        "",
    ] {
        cases.push(case("a coding other than chunked", 501, chunks(&format!("Transfer-Encoding: {coding}"))));
    }
    none_goes_on(cases);
}

#[test]
fn a_head_that_breaks_the_grammar_goes_nowhere() {
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let field = |field: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    none_goes_on(vec![
        case("lines that end in LF", 400, "GET / HTTP/1.1\nHost: a\n\n"),
        case("one line that ends in LF", 400, "GET / HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n"),
        case("an empty line that ends in LF", 400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        case("a CR within a line", 400, field("X-A: 1\r2")),
        case("an empty field name", 400, field(": 1")),
        case("a line without a colon", 400, field("X-A")),
        case("a space within a name", 400, field("X A: 1")),
        case("a NUL within a name", 400, field("X\0A: 1")),
        case("a byte beyond ASCII within a name", 400, field("X\u{e9}: 1")),
        case("a DEL within a value", 400, field("X-A: \x7f")),
        case("a slash within a name", 400, field("X/A: 1")),
        case("HTTP/0.9", 400, "GET /\r\n\r\n"),
        case("HTTP/1.2", 505, line("GET / HTTP/1.2")),
        case("HTTP/2.0 in words", 505, line("GET / HTTP/2.0")),
        case("HTTP/3.0 in words", 505, line("GET / HTTP/3.0")),
        case("a version in lower case", 400, line("GET / http/1.1")),
        case("a version with more digits", 400, line("GET / HTTP/1.10")),
        case("two spaces", 400, line("GET  / HTTP/1.1")),
        case("a tab for a space", 400, line("GET\t/ HTTP/1.1")),
        case("a space within the target", 400, line("GET /a b HTTP/1.1")),
        case("a space behind the version", 400, line("GET / HTTP/1.1 ")),
        case("a space before the method", 400, line(" GET / HTTP/1.1")),
        case("a NUL within the target", 400, line("GET /\0 HTTP/1.1")),
        case("a fragment", 400, line("GET /#a HTTP/1.1")),
        case("a byte beyond ASCII within the target", 400, line("GET /\u{e9} HTTP/1.1")),
        case("a target without a slash", 400, line("GET a HTTP/1.1")),
        case("a method that is no token", 400, line("G(T / HTTP/1.1")),
        case("an asterisk for GET", 400, line("GET * HTTP/1.1")),
        case("CONNECT", 501, line("CONNECT a:443 HTTP/1.1")),
        case("two empty lines first", 400, format!("\r\n\r\n{}", line("GET / HTTP/1.1"))),
        case("a TLS hello", 400, [b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".as_slice(), &[0; 32]].concat()),
        case("an HTTP/2 preface that goes wrong", 505, "PRI * HTTP/2.0\r\nHost: a\r\n\r\n"),
    ]);
}

#[test]
fn a_host_that_is_missing_repeated_or_malformed_goes_nowhere() {
    let host = |hosts: &str| format!("GET / HTTP/1.1\r\n{hosts}\r\n");
    none_goes_on(vec![
        case("no host", 400, host("X-A: 1\r\n")),
        case("two hosts", 400, host("Host: a\r\nHost: b\r\n")),
        case("two equal hosts", 400, host("Host: a\r\nHost: a\r\n")),
        case("an empty host", 400, host("Host:\r\n")),
        case("a host with a path", 400, host("Host: a/b\r\n")),
        case("a host with user information", 400, host("Host: u@a\r\n")),
        case("two hosts in one", 400, host("Host: a, b c\r\n")),
        case("a port that is no number", 400, host("Host: a:8x\r\n")),
        case("a port that is too large", 400, host("Host: a:65536\r\n")),
        case("a host that differs from the target's", 400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        case("a target with user information", 400, "GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        case("a target of another scheme", 400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]);
}

#[test]
fn what_is_larger_than_allowed_goes_nowhere() {
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    none_goes_on(vec![
        case("a long target", 414, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000))),
        case("a method without an end", 414, "A".repeat(20_000)),
        case("a long field", 431, head(&format!("X-A: {}\r\n", "a".repeat(17_000)))),
        case("many fields", 431, head(&"X-A: 1\r\n".repeat(200))),
        case("a long name", 431, head(&"A".repeat(17_000))),
    ]);
}

#[test]
fn a_body_that_breaks_the_chunked_coding_never_completes() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(300));
    none_completes(&[
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n00\n\r\n",
        &long,
    ]);
}

#[test]
fn a_body_with_a_trailer_that_must_not_come_late_never_completes() {
    none_completes(&[
        "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
        "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\nForwarded: for=6.6.6.6\r\n\r\n",
        "5\r\nhello\r\n0\r\nHost: b\r\n\r\n",
    ]);
}

#[test]
fn a_body_whose_trailers_break_the_grammar_never_completes() {
    let large = format!("5\r\nhello\r\n0\r\nX-A: {}\r\n\r\n", "a".repeat(20_000));
    none_completes(&[
        "5\r\nhello\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n",
        "5\r\nhello\r\n0\r\n: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\n X-A: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-A : 1\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        &large,
    ]);
}

/// Sends each body, in chunks, with a smuggled request behind it: all get 400, and the upstream never an end.
fn none_completes(bodies: &[&str]) {
    let (told, ended) = sync_channel(100);
    // Never answers: a server may wait for the whole request.
    let upstream = Upstream::start(move |mut stream| drop(told.send(read_to_end(&mut stream).0)));
    let gateway = Gateway::start(&http_proxy(&[upstream.address], "[gateway]\nworkers = 1"));
    for body in bodies {
        let mut stream = connect(gateway.address("front"));
        let _ = write!(stream, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}");
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap_or_else(|e| panic!("{body:?}: {e} after {text:?}"));
        let answer = parse(&text);
        assert_eq!(answer.status, 400, "{body:?}: {text}");
        let length = answer.field("content-length").and_then(|length| length.parse().ok());
        assert_eq!(length, Some(answer.body.len()), "{body:?} got more than one answer: {text}");
    }
    drop(gateway);
    for _ in 0..upstream.connections() {
        let got = ended.recv_timeout(PATIENCE).unwrap();
        let got = String::from_utf8_lossy(&got);
        assert!(!got.ends_with("0\r\n\r\n") && !got.contains("/smuggled"), "{got:?}");
    }
}

#[test]
fn a_chunk_is_passed_on_only_as_far_as_it_has_come() {
    // CVE-2026-90678: a size that is credited before its bytes are there lets what follows be read as content.
    let (told, ended) = sync_channel(1);
    let upstream = Upstream::start(move |mut stream| told.send(read_to_end(&mut stream).0).unwrap());
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nhello").unwrap();
    drop(stream);
    let got = ended.recv_timeout(PATIENCE).unwrap();
    let got = String::from_utf8_lossy(&got);
    let body = got.split_once("\r\n\r\n").unwrap_or_default().1;
    assert!(body.is_empty() || body == "5\r\nhello\r\n", "{got:?}");
}

#[test]
fn one_normal_form_of_a_path_is_decided_on_and_sent() {
    let recorder = Recorder::start();
    let routes = "[gateway]\nworkers = 1\n[[handlers.site.routes]]\npath = \"/private\"\nrespond = { status = 403 }";
    let gateway = Gateway::start(&http_proxy(&[recorder.upstream.address], routes));
    for path in [
        "/private",
        "/private/",
        "/./private",
        "/x/../private",
        "/x/%2e%2e/private",
        "/x/.%2E/private",
        "/%70rivate",
        "//private",
        "/x/..//private",
        "/private;a=b",
        "/x/..;/private",
        "/private%2fx",
        "/x%2f..%2fprivate",
        "/x/..%2fprivate",
        "/%2e/private",
        "http://a/private",
        "/..%5cprivate",
        "/\\private",
        "/x/..\\private",
    ] {
        let text =
            exchange(gateway.address("front"), format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let status = parse(&text).status;
        assert!(matches!(status, 400 | 403), "{path}: {text}");
        assert_eq!(recorder.take(), "", "{path} reached the upstream");
    }
    assert_eq!(get(gateway.address("front"), "/x/../open/%7euser?q=/../private").status, 200);
    assert!(recorder.take().starts_with("GET /open/~user?q=/../private HTTP/1.1\r\n"));
}
