//! Requests that the engine refuses, and how.

use super::harness::Client;
use crate::metrics::RequestRefusal::{self, Chunk, Framing, HeadTooLarge, Host, Malformed, TargetTooLong};
use crate::metrics::RequestRefusal::{Method, TransferCoding, Version};

/// Sends a request and another behind it: the first is refused with this status, and the second never served.
async fn refused(request: &str, status: u16, reason: RequestRefusal) {
    let mut client = Client::connect().await;
    client.send(request).await;
    client.send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.read_to_end().await;
    let shown = &request[..request.len().min(200)];
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} got {answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains("proxy-status: portcullis; error=http_request_error; details=\""), "{answer}");
    assert!(!answer.contains("smuggled"), "{answer}");
    assert_eq!((client.refused(reason), client.requests()), (1, 1), "{shown:?}");
}

#[tokio::test]
async fn what_two_parsers_could_frame_differently_is_refused() {
    let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        refused(&head(fields), 400, Framing).await;
    }
    for coding in
        ["gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1", "\"chunked\"", ""]
    {
        refused(&head(&format!("Transfer-Encoding: {coding}")), 501, TransferCoding).await;
    }
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, Framing).await;
}

#[tokio::test]
async fn what_breaks_the_grammar_of_a_head_is_refused() {
    for request in [
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA(: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        "GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / http/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/11.1\r\nHost: x\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02",
    ] {
        refused(request, 400, Malformed).await;
    }
}

#[tokio::test]
async fn a_host_that_is_missing_or_doubtful_is_refused() {
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET http:/// HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        refused(request, 400, Host).await;
    }
}

#[tokio::test]
async fn a_head_request_is_refused_without_a_body() {
    for request in ["HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n", "HEAD / HTTP/1.2\r\n\r\n"] {
        let mut client = Client::connect().await;
        client.send(request).await;
        let answer = client.read_to_end().await;
        assert!(answer.contains("content-length: ") && answer.ends_with("\r\n\r\n"), "{request:?} got {answer}");
    }
}

#[tokio::test]
async fn versions_methods_and_sizes_have_statuses_of_their_own() {
    refused("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, Version).await;
    refused("GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505, Version).await;
    refused("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 501, Method).await;
    refused(&format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000)), 414, TargetTooLong).await;
    refused(&format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(16 * 1024)), 431, HeadTooLarge).await;
    refused(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100)), 431, HeadTooLarge).await;
}

#[tokio::test]
async fn a_head_of_many_small_pieces_up_to_the_limits_is_served() {
    let mut client = Client::connect().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(99))).await;
    client.read_until("GET / 0").await;
    client.send(&format!("GET /1 HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(16_000))).await;
    client.read_until("GET /1 0").await;
}

#[tokio::test]
async fn a_refusal_waits_for_the_answers_before_it() {
    let mut client = Client::connect().await;
    client.send("GET /good HTTP/1.1\r\nHost: x\r\n\r\nGET /bad HTTP/1.1\r\n\r\n").await;
    let answers = client.read_to_end().await;
    let (good, bad) = (answers.find("GET /good 0").unwrap(), answers.find("HTTP/1.1 400").unwrap());
    assert!(good < bad, "{answers}");
}

#[tokio::test]
async fn a_broken_chunk_breaks_the_body_and_ends_the_connection() {
    for body in [
        "5\r\nab",
        "g\r\n",
        "\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3;\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a=\"b\r\nabc\r\n0\r\n\r\n",
        "00000000000000003\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
        "3\r\nabc\r\n0\r\nA : b\r\n\r\n",
        "3\r\nabc\r\n0\r\nA: b\n\r\n",
    ] {
        let mut client = Client::connect().await;
        client.send("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.send(body).await;
        if body == "5\r\nab" {
            client.send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
        }
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("POST"), "{body:?} got {answer}");
        assert!(answer.contains("connection: close") && answer.contains("proxy-status: portcullis; "), "{answer}");
        assert_eq!(client.refused(Chunk), 1, "{body:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_never_taken_for_whole() {
    use tokio::io::AsyncWriteExt;
    for request in [
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        let mut client = Client::connect().await;
        client.send(request).await;
        client.socket.shutdown().await.unwrap();
        let answer = client.read_to_end().await;
        assert!(!answer.contains("POST /a"), "{answer}");
    }
}
