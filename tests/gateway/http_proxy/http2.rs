//! HTTP/2 with prior knowledge on a plain endpoint, by real clients and by single frames.

use std::io::{Read, Write};
use std::process::Command;

use hyper::{HeaderMap, Request};

use crate::support::client::{curl, read_to_end};
use crate::support::h2::{self, Client, DATA, GOAWAY, HEADERS, RST_STREAM};
use crate::support::h2_upstream;
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Folder, Gateway, PATIENCE, http_proxy};

use super::{LARGE, OK, nginx, noise};

#[test]
fn curl_uploads_and_downloads_a_large_body_over_http_2() {
    let nginx = nginx();
    let gateway = Gateway::start(&http_proxy(&[nginx.address], ""));
    let sent = noise(LARGE / 4);
    let file = gateway.folder.write("sent", &sent);
    let back = gateway.folder.path().join("back");
    let url = format!("http://{}/file", gateway.address("front"));
    let version = ["--http2-prior-knowledge", "--fail", "--write-out", "%{http_version}"];
    assert_eq!(curl(&[&version[..], &["--upload-file", file.to_str().unwrap(), &url]].concat()), "2");
    assert!(std::fs::read(nginx.folder.path().join("file")).unwrap() == sent);
    assert_eq!(curl(&[&version[..], &["--output", back.to_str().unwrap(), &url]].concat()), "2");
    assert!(std::fs::read(back).unwrap() == sent);
}

#[test]
fn h2load_sees_every_request_succeed() {
    let nginx = nginx();
    let gateway = Gateway::start(&http_proxy(&[nginx.address], ""));
    let url = format!("http://{}/small.txt", gateway.address("front"));
    let output = Command::new("h2load").args(["-n", "2000", "-c", "8", "-m", "32", &url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(said.contains("status codes: 2000 2xx"), "{said}");
}

#[test]
fn nghttp_gets_a_page() {
    let nginx = nginx();
    let gateway = Gateway::start(&http_proxy(&[nginx.address], ""));
    let url = format!("http://{}/small.txt", gateway.address("front"));
    let output = Command::new("nghttp").arg(url).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "small\n");
}

#[test]
fn the_upstream_sees_a_request_over_http_2_as_one_in_http_1() {
    let (upstream, heads) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = Client::connect(gateway.address("front"));
    let head = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "www.example.com"),
        (":path", "/p?q"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("forwarded", "for=6.6.6.6"),
    ];
    client.request(1, h2::END_STREAM, &head);
    client.next_of(&[DATA]);
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get /p?q http/1.1\r\n") && head.contains("\r\nhost: www.example.com\r\n"), "{head}");
    assert!(head.contains("\r\ncookie: a=1; b=2\r\n") && head.contains("\r\nvia: 2 portcullis-"), "{head}");
    assert!(head.contains("by=_front") && !head.contains("6.6.6.6"), "{head}");
}

#[test]
fn a_body_that_the_upstream_breaks_off_is_reset_and_never_ended() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let upstream = Upstream::start(move |mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(text.as_bytes());
        });
        let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
        let mut client = Client::connect(gateway.address("front"));
        client.get(1, "/");
        loop {
            let frame = client.next_of(&[HEADERS, DATA, RST_STREAM]);
            assert!(!frame.ends_stream(), "{frame:?}");
            if frame.kind == RST_STREAM {
                assert_ne!(frame.error_code(), 0, "an error, not the end");
                break;
            }
        }
        // The connection is none the worse for it.
        client.get(3, "/");
        assert_eq!(client.next_of(&[HEADERS, RST_STREAM]).stream, 3);
    }
}

#[test]
fn an_answers_trailers_come_without_those_that_must_not_come_late() {
    let (upstream, _) = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
         Content-Length: 9\r\nSet-Cookie: a=b\r\nX-Sum: 1\r\nTrailer: x\r\n\r\n",
    );
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let request = Request::get("http://a/").body(()).unwrap();
    let (_, body, trailers) = h2_upstream::ask(gateway.address("front"), request, &[], HeaderMap::new()).unwrap();
    assert_eq!(body, b"ok");
    assert_eq!(
        trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect::<Vec<_>>(),
        [("x-sum", &b"1"[..])]
    );
}

#[test]
fn a_stream_that_the_client_resets_ends_its_request_to_the_upstream() {
    let (told, ended) = std::sync::mpsc::sync_channel(1);
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
        told.send(read_to_end(&mut stream)).unwrap();
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = Client::connect(gateway.address("front"));
    client.get(1, "/");
    client.next_of(&[HEADERS]);
    client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    ended.recv_timeout(PATIENCE).expect("the gateway leaves the upstream");
}

#[test]
fn rapid_resets_end_the_connection_and_leave_other_clients_alone() {
    let (upstream, _) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], "[gateway]\nworkers = 1"));
    let mut client = Client::connect(gateway.address("front"));
    let ended = (1..4000).step_by(2).try_for_each(|stream| {
        client.try_get(stream, "/")?;
        client.try_send(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
    });
    if ended.is_ok() {
        assert_eq!(client.next_of(&[GOAWAY]).error_code(), 11, "ENHANCE_YOUR_CALM");
    }
    let url = format!("http://{}/", gateway.address("front"));
    assert_eq!(curl(&["--http2-prior-knowledge", &url]), "ok");
}

#[test]
fn what_http_2_forbids_is_refused_before_the_upstream_sees_it() {
    let (upstream, heads) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let good = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let with = |extra: &[(&'static str, &'static str)]| [&good[..], extra].concat();
    let instead = |name: &str, value: &'static str| {
        good.iter().map(|(n, v)| (*n, if *n == name { value } else { *v })).collect::<Vec<_>>()
    };
    let cases = [
        ("a target with a line break", instead(":path", "/ HTTP/1.1\r\nHost: b")),
        ("a target with a space", instead(":path", "/a b")),
        ("a method with a space", instead(":method", "GET / HTTP/1.1")),
        ("an authority with a path", instead(":authority", "a/b")),
        ("an authority with user information", instead(":authority", "u@a")),
        ("a value with a line break", with(&[("x-a", "1\r\nx-b: 2")])),
        ("a value with a NUL", with(&[("x-a", "1\0x")])),
        ("a name with a line break", with(&[("x-a\r\nx-b", "1")])),
        ("an upper-case name", with(&[("X-A", "1")])),
        ("a transfer coding", with(&[("transfer-encoding", "chunked")])),
        ("a connection field", with(&[("connection", "x-a")])),
        ("another host", with(&[("host", "b")])),
        ("a length without a body", with(&[("content-length", "5")])),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "5")])),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "a:443")]),
        ("no authority", good.iter().filter(|(n, _)| *n != ":authority").copied().collect()),
    ];
    for (what, head) in cases {
        let mut client = Client::connect(gateway.address("front"));
        client.request(1, h2::END_STREAM, &head);
        let frame = client.next_of(&[HEADERS, RST_STREAM, GOAWAY]);
        let refused = match frame.kind {
            HEADERS => frame.status() >= 400,
            _ => frame.error_code() != 0,
        };
        assert!(refused, "{what}: {frame:?}");
        assert_eq!(heads.try_iter().count(), 0, "{what} reached the upstream");
    }
    let mut client = Client::connect(gateway.address("front"));
    client.get(1, "/");
    assert_eq!(client.next_of(&[HEADERS]).status(), 200);
}

#[test]
fn data_beyond_the_declared_length_never_completes_a_request() {
    let (told, ended) = std::sync::mpsc::sync_channel(10);
    let upstream = Upstream::start(move |mut stream| told.send(read_to_end(&mut stream).0).unwrap());
    for (declared, body) in [("3", &b"four"[..]), ("9", b"four")] {
        let gateway = Gateway::start_in(Folder::new(), &http_proxy(&[upstream.address], ""));
        let mut client = Client::connect(gateway.address("front"));
        let head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("content-length", declared),
        ];
        client.request(1, 0, &head);
        client.send(DATA, h2::END_STREAM, 1, body);
        let frame = client.next_of(&[HEADERS, RST_STREAM, GOAWAY]);
        assert!(frame.kind != HEADERS || frame.status() >= 400, "{frame:?}");
        drop(client);
        drop(gateway);
        while let Ok(got) = ended.try_recv() {
            let got = String::from_utf8_lossy(&got).into_owned();
            let body = got.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            assert!(body.len() < declared.parse().unwrap(), "declared {declared}: {got}");
        }
    }
}

#[test]
fn a_body_that_the_client_resets_never_looks_whole_to_the_upstream() {
    const NO_ERROR: u32 = 0;
    const CANCEL: u32 = 8;
    let (told, tells) = std::sync::mpsc::sync_channel(2);
    let upstream = Upstream::start(move |mut stream| {
        let mut sent = String::new();
        while !sent.contains("abc") {
            let mut piece = [0; 256];
            let n = stream.read(&mut piece).unwrap();
            sent.push_str(std::str::from_utf8(&piece[..n]).unwrap());
        }
        told.send(String::new()).unwrap();
        sent.push_str(&String::from_utf8(read_to_end(&mut stream).0).unwrap());
        told.send(sent).unwrap();
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    for code in [NO_ERROR, CANCEL] {
        let mut client = Client::connect(gateway.address("front"));
        let post = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        client.request(1, 0, &post);
        client.send(DATA, 0, 1, b"abc");
        tells.recv_timeout(PATIENCE).unwrap();
        client.send(RST_STREAM, 0, 1, &code.to_be_bytes());
        let sent = tells.recv_timeout(PATIENCE).unwrap();
        assert!(sent.ends_with("3\r\nabc\r\n"), "{code}: {sent}");
    }
}
