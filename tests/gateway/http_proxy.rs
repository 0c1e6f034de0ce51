//! The `http-proxy` handler between real clients and real upstreams: bodies, fields, routes, kept connections.

mod failures;
mod http2;
mod interim;
mod loops;
mod upgrade;

use std::io::{Read, Write};

use crate::support::client::{self, ask, connect, curl, curl_command, read_head, read_response, read_to_end};
use crate::support::peers::Peer;
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Folder, Gateway, http_proxy};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// More than every buffer on the way, by far.
const LARGE: usize = 64 * 1024 * 1024;

/// nginx as an upstream that serves, and takes by PUT, the files of its folder.
fn nginx() -> Peer {
    let folder = Folder::new();
    folder.write("small.txt", "small\n");
    Peer::nginx(
        folder,
        "gzip on; gzip_proxied any; gzip_min_length 1; gzip_types *; dav_methods PUT;
         location = /empty { return 204; } location = /echo { return 200 $request_method; }",
    )
}

/// Bytes that no buffer can be mistaken about: none repeats at a distance that a buffer could have.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn get_head_post_204_and_304_come_back_as_nginx_gave_them() {
    let nginx = nginx();
    let gateway = Gateway::start(&http_proxy(&[nginx.address], ""));
    let mut stream = connect(gateway.address("front"));
    let get = ask(&mut stream, "GET /small.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((get.status, get.body.as_str()), (200, "small\n"));
    assert_eq!(get.field("via"), Some("1.1 portcullis"));

    stream.write_all(b"HEAD /small.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = read_head(&mut stream);
    assert_eq!((head.status, head.field("content-length")), (200, Some("6")));

    let post = ask(&mut stream, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((post.status, post.body.as_str()), (200, "POST"));

    stream.write_all(b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut stream).status, 204);

    let since = get.field("last-modified").unwrap();
    write!(stream, "GET /small.txt HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: {since}\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut stream).status, 304);

    let last = ask(&mut stream, "GET /missing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(last.status, 404, "the connection is still in step after bodiless answers");
}

#[test]
fn a_large_body_arrives_byte_for_byte_both_ways_with_a_length_and_in_chunks() {
    let nginx = nginx();
    let gateway = Gateway::start(&http_proxy(&[nginx.address], ""));
    let sent = noise(LARGE);
    let file = gateway.folder.write("sent", &sent);
    let file = file.to_str().unwrap();
    let url = format!("http://{}", gateway.address("front"));

    curl(&["--fail", "--upload-file", file, &format!("{url}/length")]);
    curl(&["--fail", "--header", "Transfer-Encoding: chunked", "--upload-file", file, &format!("{url}/chunks")]);
    for name in ["length", "chunks"] {
        let got = std::fs::read(nginx.folder.path().join(name)).unwrap();
        assert!(got == sent, "{name}: nginx got {} bytes that differ", got.len());
    }
    for options in [&["--head"][..], &["--head", "--compressed"]] {
        let head = curl(&[options, &["--request", "GET", &format!("{url}/length")]].concat()).to_lowercase();
        assert_eq!(head.contains("transfer-encoding: chunked"), options.len() == 2, "{head}");
    }
    let back = gateway.folder.path().join("back");
    for options in [&[][..], &["--compressed"]] {
        curl(&[options, &["--fail", "--output", back.to_str().unwrap(), &format!("{url}/length")]].concat());
        assert!(std::fs::read(&back).unwrap() == sent, "curl {options:?} got bytes that differ");
    }
}

#[test]
fn many_requests_share_one_connection_to_the_upstream() {
    let (upstream, _) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], "[gateway]\nworkers = 1"));
    let mut kept = connect(gateway.address("front"));
    for _ in 0..50 {
        assert_eq!(ask(&mut kept, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    for _ in 0..10 {
        assert_eq!(client::get(gateway.address("front"), "/").status, 200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|mut stream| {
        while let Some(head) = read_request(&mut stream) {
            let path = head.split(' ').nth(1).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()).unwrap();
        }
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    let requests: String = (0..20).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    stream.write_all(requests.as_bytes()).unwrap();
    for i in 0..20 {
        assert_eq!(read_response(&mut stream).body, format!("/{i}"));
    }
}

#[test]
fn the_upstream_is_told_by_the_gateway_alone_who_asks_and_by_which_endpoint() {
    let (upstream, heads) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let lies = "Forwarded: for=6.6.6.6\r\nforwarded: for=6.6.6.7\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: evil\r\nX_Forwarded_For: 6.6.6.6\r\nPortcullis-Endpoint: vault\r\nPortcullis_Endpoint: vault\r\n\
        Client-Cert: :AAAA:\r\nClient-Cert-Chain: :AAAA:\r\nProxy: evil\r\n";
    let request = format!("GET /p?q=1 HTTP/1.1\r\nHost: www.example.com\r\n{lies}X-Mine: kept\r\n\r\n");
    assert_eq!(ask(&mut connect(gateway.address("front")), request).status, 200);
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /p?q=1 HTTP/1.1\r\n"), "{head}");
    let mut fields: Vec<String> = head.trim_end().lines().skip(1).map(str::to_lowercase).collect();
    fields.sort();
    let via = fields.remove(fields.iter().position(|field| field.starts_with("via: ")).unwrap());
    assert!(via.starts_with("via: 1.1 portcullis-"), "{via}");
    let expected = [
        "forwarded: for=127.0.0.1;proto=http;host=\"www.example.com\";by=_front",
        "host: www.example.com",
        "portcullis-endpoint: front",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: www.example.com",
        "x-forwarded-proto: http",
        "x-mine: kept",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn fields_that_connection_names_end_at_the_gateway_in_both_directions() {
    let (upstream, heads) = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-secret, keep-alive\r\nX-Secret: 1\r\nX-Open: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\r\nok",
    );
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, Forwarded, Portcullis-Endpoint, Host\r\n\
        Connection: x-other\r\nX-Hop: 1\r\nX-Other: 1\r\nX-Open: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
        Proxy-Authorization: Basic eA==\r\nTE: gzip\r\nHTTP2-Settings: AAMA\r\n\r\n";
    let answer = ask(&mut connect(gateway.address("front")), request);
    let head = heads.recv().unwrap().to_lowercase();
    for gone in ["x-hop", "x-other", "keep-alive", "proxy-", "\r\nte:", "http2-settings", "\r\nconnection:"] {
        assert!(!head.contains(gone), "{gone} went on: {head}");
    }
    for kept in ["\r\nx-open: 1", "\r\nforwarded: for=", "\r\nportcullis-endpoint: front", "\r\nhost: a"] {
        assert!(head.contains(kept), "{kept} is missing: {head}");
    }
    for gone in ["x-secret", "keep-alive", "proxy-connection", "upgrade", "connection"] {
        assert_eq!(answer.field(gone), None, "{answer:?}");
    }
    assert_eq!(answer.field("x-open"), Some("1"));
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on_and_the_upstream_sees_no_expect() {
    let (upstream, heads) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut stream).status, 100);
    assert_eq!(ask(&mut stream, "body").status, 200);
    assert!(!heads.recv().unwrap().to_lowercase().contains("expect"));

    let url = format!("http://{}/", gateway.address("front"));
    let file = gateway.folder.write("body", noise(100_000));
    let output = curl_command(&["--verbose", "--fail", "--header", "Expect: 100-continue", "--upload-file"])
        .args([file.to_str().unwrap(), &url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("< HTTP/1.1 100 Continue"), "{said}");
}

#[test]
fn an_answer_that_comes_before_the_request_is_whole_reaches_the_client() {
    let upstream = Upstream::start(|mut stream| {
        let mut some = [0; 1024];
        assert!(stream.read(&mut some).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        let _ = read_to_end(&mut stream);
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly this").unwrap();
    assert_eq!(read_head(&mut stream).status, 413);
}

#[test]
fn an_http_1_0_client_gets_a_body_that_ends_with_the_connection_and_no_chunks() {
    let upstream = chunked_upstream();
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let answer = client::parse(&client::exchange(gateway.address("front"), "GET / HTTP/1.0\r\nHost: a\r\n\r\n"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello world"));
    assert_eq!(answer.field("transfer-encoding"), None);
}

#[test]
fn trailers_reach_the_client_that_asks_for_them() {
    let upstream = chunked_upstream();
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te, close\r\n\r\n";
    let text = client::exchange(gateway.address("front"), request);
    assert!(text.ends_with("0\r\nx-sum: 11\r\n\r\n"), "{text}");
}

/// Answers in two chunks with a trailer.
fn chunked_upstream() -> Upstream {
    Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         6\r\nhello \r\n5\r\nworld\r\n0\r\nx-sum: 11\r\n\r\n",
    )
    .0
}

#[test]
fn an_unread_request_body_is_never_taken_for_a_request() {
    let (upstream, heads) = Upstream::answering(OK);
    let routes = "[[handlers.site.routes]]\npath = \"/private\"\nrespond = { status = 403 }";
    let gateway = Gateway::start(&http_proxy(&[upstream.address], routes));
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    for framing in [format!("Content-Length: {}\r\n\r\n{inner}", inner.len()), {
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len())
    }] {
        let request = format!("POST /private/x HTTP/1.1\r\nHost: a\r\n{framing}");
        let mut stream = connect(gateway.address("front"));
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, 403);
        let _ = stream.write_all(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let _ = read_to_end(&mut stream);
    }
    // Whether the connection goes on behind a body that is skipped is the gateway's choice; what it takes for a
    // request is not.
    client::get(gateway.address("front"), "/end");
    let paths: Vec<String> = heads.try_iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert!(paths.ends_with(&["/end".into()]) && !paths.contains(&"/inner".into()), "{paths:?}");
}

#[test]
fn an_answer_to_a_request_whose_body_never_comes_is_sent_at_once_and_the_connection_ends() {
    let routes = "[[handlers.site.routes]]\npath = \"/private\"\nrespond = { status = 403 }";
    let (upstream, _) = Upstream::answering(OK);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], routes));
    let request = "POST /private/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let text = client::exchange(gateway.address("front"), request);
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
}

#[test]
fn routes_choose_by_host_path_and_endpoint_and_the_first_match_wins() {
    let named = |name: &str| Upstream::answering(&OK.replace("ok", name)).0;
    let (app, api, old) = (named("ap"), named("v1"), named("ol"));
    let config = format!(
        "[endpoints.inside]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"site\"\n\
         [endpoints.outside]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"site\"\n\
         [upstreams.app]\nservers = [\"{}\"]\n[upstreams.api]\nservers = [\"{}\"]\n[upstreams.old]\nservers = [\"{}\"]\n\
         [handlers.site]\ntype = \"http-proxy\"\nupstream = \"app\"\n\
         [[handlers.site.routes]]\npath = \"/private\"\nendpoints = [\"outside\"]\nrespond = {{ status = 403, body = \"no\" }}\n\
         [[handlers.site.routes]]\nhost = \"api.example.com\"\npath = \"/v1\"\nupstream = \"api\"\n\
         [[handlers.site.routes]]\nhost = \"*.example.org\"\nupstream = \"old\"\n",
        app.address, api.address, old.address
    );
    let gateway = Gateway::start(&config);
    let ask = |endpoint: &str, host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        ask(&mut connect(gateway.address(endpoint)), request).body
    };
    assert_eq!(ask("outside", "a", "/private/x"), "no");
    assert_eq!(ask("outside", "a", "/a/../private/x"), "no");
    assert_eq!(ask("outside", "a", "/%70rivate/x"), "no");
    assert_eq!(ask("inside", "a", "/private/x"), "ap");
    assert_eq!(ask("outside", "a", "/privateer"), "ap");
    assert_eq!(ask("inside", "API.example.com:80", "/v1/x"), "v1");
    assert_eq!(ask("inside", "api.example.com", "/v10"), "ap");
    assert_eq!(ask("inside", "a.example.org", "/"), "ol");
    assert_eq!(ask("inside", "a.b.example.org", "/"), "ap");
}

#[test]
fn each_request_has_its_line_in_the_access_log_with_endpoint_and_upstream() {
    let (upstream, _) = Upstream::answering(OK);
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    client::get(gateway.address("front"), "/logged?secret=1");
    let line = gateway.wait_for_access("/logged");
    for part in [" front 127.0.0.1:", " GET http://", "/logged HTTP/1.1 200 ", " in=0 out=2 "] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    assert!(line.contains(&format!(" upstream=app server={}", upstream.address)) && !line.contains("secret"), "{line}");
}

#[test]
fn a_kept_connection_that_the_upstream_closed_is_replaced_without_the_client_noticing() {
    let upstream = Upstream::start(|mut stream| {
        // Says that it would keep the connection, and closes it.
        if read_request(&mut stream).is_some() {
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    let gateway = Gateway::start(&http_proxy(&[upstream.address], "[gateway]\nworkers = 1"));
    let mut stream = connect(gateway.address("front"));
    for _ in 0..20 {
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    assert_eq!(upstream.connections(), 20);
}
