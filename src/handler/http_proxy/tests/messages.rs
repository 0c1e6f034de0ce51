//! What the upstream sees of a request, and the client of a response.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{self, Gateway, Origin, timeouts};
use crate::config::{RouteConfig, RouteRespondConfig};

async fn seen(request: &str) -> String {
    let origin = Origin::mirroring().await;
    Gateway::before(&[origin.address]).await.ask(request).await.to_ascii_lowercase()
}

#[tokio::test]
async fn what_the_client_says_of_itself_or_its_connection_does_not_reach_the_upstream() {
    let seen = seen(
        "GET / HTTP/1.1\r\nHost: example.com:8443\r\nConnection: close, X-Nominee, Portcullis-Endpoint\r\n\
         X-Nominee: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nProxy: x\r\n\
         Forwarded: for=evil\r\nX-Forwarded-For: evil\r\nX_Forwarded_For: evil\r\nX-Forwarded-Proto: evil\r\n\
         Portcullis-Endpoint: evil\r\nPortcullis_Endpoint: evil\r\nClient-Cert: evil\r\nClient-Cert-Chain: evil\r\n\
         Expect: 100-continue\r\nX-Kept: 1\r\n\r\n",
    )
    .await;
    let (_, seen) = seen.split_once("\r\n\r\n").unwrap(); // the mirrored head
    for absent in ["evil", "nominee", "keep-alive", "te: gzip", "proxy", "client-cert", "expect", "connection"] {
        assert!(!seen.contains(&format!("\r\n{absent}")) && !seen.contains("evil"), "{absent} in {seen}");
    }
    for present in [
        "x-kept: 1",
        "host: example.com:8443",
        "forwarded: for=127.0.0.1;proto=http;host=\"example.com:8443\";by=_internet",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: example.com:8443",
        "portcullis-endpoint: internet",
    ] {
        assert_eq!(seen.matches(&format!("\r\n{present}\r\n")).count(), 1, "{present} in {seen}");
    }
    assert_eq!(seen.matches("\r\nvia: 1.1 portcullis-").count(), 1, "{seen}");
}

#[tokio::test]
async fn the_upstream_is_sent_the_normal_form_in_origin_form() {
    for (target, expected) in [
        ("/a/../b%7e?x=%7e/../", "/b~?x=%7e/../"),
        ("http://example.com/p?q", "/p?q"),
        ("http://example.com", "/"),
        ("http://example.com/%41", "/a"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
        let seen = seen(&request).await;
        assert!(seen.contains(&format!("\r\n\r\nget {expected} http/1.1\r\n")), "{target} in {seen}");
    }
    let seen = seen("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(seen.contains("\r\n\r\noptions * http/1.1\r\n"), "{seen}");
}

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_it() {
    let seen =
        seen("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert!(seen.contains("\r\ntransfer-encoding: chunked\r\n"), "{seen}");
}

#[tokio::test]
async fn trailers_are_welcome_where_the_client_welcomes_them() {
    let seen = seen("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n").await;
    assert!(seen.contains("\r\nte: trailers\r\n") && seen.contains("\r\nconnection: te\r\n"), "{seen}");
}

#[tokio::test]
async fn a_request_that_cannot_be_passed_on_safely_is_refused() {
    for (head, status) in [
        ("GET /a\\b HTTP/1.1\r\nHost: a", 400),
        ("GET /..;/x HTTP/1.1\r\nHost: a", 400),
        ("GET * HTTP/1.1\r\nHost: a", 400),
        ("GET / HTTP/1.1\r\nHost: a\"b", 400),
        ("GET / HTTP/1.1\r\nHost: user@a", 400),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: +1", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1", 501),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi", 501),
        ("GET /a%252Fb HTTP/1.1\r\nHost: a", 400),
        ("GET /a/%252e%252e/b HTTP/1.1\r\nHost: a", 400),
    ] {
        let answer = seen(&format!("{head}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{head} gave {answer}");
        assert!(answer.contains("proxy-status: portcullis; error=http_request_error"), "{answer}");
    }
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_ends_here_at_zero() {
    let options =
        |left: u32| format!("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {left}\r\nConnection: close\r\n\r\n");
    assert!(seen(&options(2)).await.contains("max-forwards: 1"));
    assert!(seen(&options(0)).await.starts_with("http/1.1 204"));
}

#[tokio::test]
async fn a_response_loses_what_belongs_to_the_upstream_connection_and_keeps_the_rest() {
    let origin = Origin::closing_after(
        "HTTP/1.1 200 Fine\r\nConnection: close, X-Nominee\r\nX-Nominee: 1\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\n\
         Proxy-Status: other\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let answer = Gateway::before(&[origin.address]).await.get().await.to_ascii_lowercase();
    for absent in ["x-nominee", "keep-alive"] {
        assert!(!answer.contains(absent), "{absent} in {answer}");
    }
    for present in [
        "via: 1.1 portcullis",
        "proxy-status: other",
        "date: sat, 21 nov 2026 00:00:00 gmt",
        "set-cookie: a\r\nset-cookie: b",
    ] {
        assert!(answer.contains(present), "{present} in {answer}");
    }
}

#[tokio::test]
async fn a_response_of_http_1_0_that_ends_with_its_connection_is_passed_on() {
    let origin = Origin::closing_after("HTTP/1.0 200 OK\r\n\r\nto the end").await;
    let answer = Gateway::before(&[origin.address]).await.get().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("to the end"), "{answer}");
    assert!(answer.contains("via: 1.0 portcullis") && answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_route_answers_here_and_what_could_slip_past_it_is_refused() {
    let origin = Origin::mirroring().await;
    let forbidden = RouteConfig {
        path: Some("/private/".into()),
        endpoints: vec!["internet".into()],
        respond: Some(RouteRespondConfig { status: 403, body: "no".into() }),
        ..RouteConfig::default()
    };
    let gateway = Gateway::with(&[origin.address], timeouts(), vec![forbidden]).await;
    let status = async |target: &str| {
        let answer = gateway.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        answer.get(9..12).unwrap_or_default().to_owned()
    };
    for target in ["/private", "/private/x", "/%70rivate/x", "/a/../private/", "http://a/private/"] {
        assert_eq!(status(target).await, "403", "{target}");
    }
    for target in ["//private/x", "/private%2fx", "/private;a/x"] {
        assert_eq!(status(target).await, "400", "{target}");
    }
    assert_eq!(status("/public").await, "200");
}

#[tokio::test]
async fn declared_trailers_pass_both_ways() {
    let origin = Origin::start(|mut stream, _| async move {
        harness::head(&mut stream).await;
        let mut body = String::new();
        while !body.ends_with("\r\n\r\n") {
            body.push(char::from(stream.read_u8().await.unwrap()));
        }
        assert!(body.contains("X-Sum: 1") || body.contains("x-sum: 1"), "{body}");
        let answer =
            "HTTP/1.1 200 OK\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: 1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let answer = Gateway::before(&[origin.address])
        .await
        .ask(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
        .await;
    assert!(answer.to_ascii_lowercase().ends_with("0\r\nx-end: 1\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn heads_that_come_byte_by_byte_are_read_an_interim_one_first() {
    let origin = Origin::start(|mut stream, _| async move {
        harness::head(&mut stream).await;
        let answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        for byte in answer {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await; // the gateway, in the same thread, has read it before this goes on
        }
    })
    .await;
    let gateway = Gateway::before(&[origin.address]).await;
    let answer = gateway.get().await;
    assert!(answer.starts_with("HTTP/1.1 103 ") && answer.contains("\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
}
