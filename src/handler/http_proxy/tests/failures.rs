//! Servers that hang, die or speak nonsense.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{Gateway, Origin, SHORT, head, timeouts};
use crate::metrics::UpstreamFailure;
use crate::upstream::UpstreamTimeouts;

/// A server that answers with `start` and then neither goes on nor closes.
async fn hanging_after(start: &'static str) -> Origin {
    Origin::start(move |mut stream, _| async move {
        head(&mut stream).await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let _ = stream.read_u8().await; // until the gateway closes
    })
    .await
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_after_the_response_deadline() {
    for start in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let origin = hanging_after(start).await;
        let short = UpstreamTimeouts { response: SHORT, ..timeouts() };
        let gateway = Gateway::with(&[origin.address], short, vec![]).await;
        let answer = gateway.get().await;
        assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("error=http_response_timeout"), "{answer}");
        assert_eq!(gateway.failures(UpstreamFailure::ResponseTimeout), 1);
        assert_eq!(gateway.metrics().sum(|c| c.active.get()), 0);
    }
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut_off_after_the_body_deadline() {
    let origin = hanging_after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    let short = UpstreamTimeouts { body: SHORT, ..timeouts() };
    let gateway = Gateway::with(&[origin.address], short, vec![]).await;
    let answer = gateway.get().await;
    assert!(answer.contains("part") && !answer.contains("0\r\n\r\n"), "{answer}");
    assert_eq!(gateway.failures(UpstreamFailure::BodyTimeout), 1);
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_given_up_after_the_body_deadline() {
    let origin = Origin::start(|mut stream, _| async move {
        head(&mut stream).await;
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let short = UpstreamTimeouts { body: SHORT, ..timeouts() };
    let gateway = Gateway::with(&[origin.address], short, vec![]).await;
    let mut client = gateway.client().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    // The gateway answers and closes; the reset for what it did not read may overtake its answer.
    while client.write_all(chunk.as_bytes()).await.is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 32 << 20, "{sent} bytes are held"); // the sockets' buffers hold nearly all of it
    assert_eq!(gateway.failures(UpstreamFailure::BodyTimeout), 1);
}

#[tokio::test]
async fn a_server_that_dies_before_or_within_its_head_is_a_bad_gateway() {
    for (start, name, counted) in [
        ("", "connection_terminated", UpstreamFailure::Closed),
        ("HTTP/1.1 200 OK\r\nContent-", "http_response_incomplete", UpstreamFailure::Truncated),
    ] {
        let origin = Origin::closing_after(start).await;
        let gateway = Gateway::before(&[origin.address]).await;
        let answer = gateway.get().await;
        assert!(answer.starts_with("HTTP/1.1 502") && answer.contains(&format!("error={name};")), "{answer}");
        assert_eq!(gateway.failures(counted), 1);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_complete() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npart",
    ] {
        let origin = Origin::closing_after(start).await;
        let gateway = Gateway::before(&[origin.address]).await;
        let answer = gateway.get().await;
        // Either the head was on its way already, or nothing is.
        let unfinished = answer.contains("content-length: 9") || answer.contains("transfer-encoding: chunked");
        assert!(answer.is_empty() || (unfinished && !answer.ends_with("0\r\n\r\n")), "{answer}");
        assert_eq!(gateway.failures(UpstreamFailure::Truncated), 1, "{start}");
    }
}

#[tokio::test]
async fn a_response_that_could_be_read_in_two_ways_is_not_passed_on() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: +2\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let origin = Origin::closing_after(answer).await;
        let gateway = Gateway::before(&[origin.address]).await;
        let got = gateway.get().await;
        assert!(got.starts_with("HTTP/1.1 502") && got.contains("error=http_protocol_error"), "{answer} gave {got}");
        assert_eq!(gateway.failures(UpstreamFailure::Protocol), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_head_beyond_every_bound_is_not_passed_on() {
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101));
    for answer in [long, many] {
        let origin = Origin::closing_after(answer.leak()).await;
        let gateway = Gateway::before(&[origin.address]).await;
        let got = gateway.get().await;
        assert!(got.starts_with("HTTP/1.1 502") && got.contains("http_response_header_section_size"), "{got}");
    }
}
