//! Bodies both ways: streamed, early answers, clients that die, and what follows a 101.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::harness::{Gateway, LONG, Origin, SHORT, head};

/// Far more than the sockets' buffers and the gateway's hold.
const BIG: usize = 64 << 20;
/// Less than this may be under way when nobody reads.
const HELD: usize = 32 << 20;

/// Writes `BIG` bytes, counting into `written` as they are taken.
async fn write_big(stream: &mut (impl tokio::io::AsyncWrite + Unpin), written: &AtomicUsize) {
    let piece = vec![b'x'; 1 << 16];
    while written.load(Relaxed) < BIG {
        stream.write_all(&piece).await.unwrap();
        written.fetch_add(piece.len(), Relaxed);
    }
}

/// Where `written` stands still: nothing tells of an absence but time.
async fn stalled_at(written: &AtomicUsize) -> usize {
    loop {
        let before = written.load(Relaxed);
        let _ = timeout(SHORT, std::future::pending::<()>()).await;
        if before > 0 && written.load(Relaxed) == before {
            return before;
        }
    }
}

#[tokio::test]
async fn a_big_response_goes_no_faster_than_the_client_reads() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let origin = Origin::start(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            head(&mut stream).await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n").as_bytes()).await.unwrap();
            write_big(&mut stream, &count).await;
        }
    })
    .await;
    let gateway = Gateway::before(&[origin.address]).await;
    let mut client = gateway.client().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(stalled_at(&written).await < HELD);
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let copied = tokio::io::copy(&mut client, &mut tokio::io::sink()).await.unwrap();
    assert_eq!(copied, BIG as u64);
}

#[tokio::test]
async fn a_big_request_arrives_whole() {
    let origin = Origin::start(|mut stream, _| async move {
        head(&mut stream).await;
        let copied = tokio::io::copy(&mut (&mut stream).take(BIG as u64), &mut tokio::io::sink()).await.unwrap();
        assert_eq!(copied, BIG as u64);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let gateway = Gateway::before(&[origin.address]).await;
    let mut client = gateway.client().await;
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BIG}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    write_big(&mut client, &AtomicUsize::new(0)).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok"), "{answer}");
}

#[tokio::test]
async fn an_early_answer_is_passed_on_and_its_connection_not_kept() {
    let origin = Origin::start(|mut stream, _| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let gateway = Gateway::before(&[origin.address]).await;
    let mut client = gateway.client().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await.unwrap();
    let answer = timeout(LONG, head(&mut client)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let mut body = [0; 3];
    client.read_exact(&mut body).await.unwrap();
    assert_eq!(gateway.metrics().sum(|c| c.active.get()), 0);
}

#[tokio::test]
async fn a_body_goes_on_while_an_early_answer_comes_back() {
    let origin = Origin::start(|mut stream, _| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await.unwrap();
        for _ in 0..2 {
            let mut piece = [0; 2];
            stream.read_exact(&mut piece).await.unwrap();
            stream.write_all(&piece).await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::before(&[origin.address]).await;
    let mut client = gateway.client().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    for piece in [b"ab", b"cd"] {
        client.write_all(piece).await.unwrap();
        let mut echo = [0; 2];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, piece);
    }
}

#[tokio::test]
async fn a_request_whose_client_dies_is_aborted_not_completed() {
    for (request, sent) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npart", "part"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", "4\r\npart\r\n"),
    ] {
        let (done, seen) = oneshot::channel();
        let done = Arc::new(std::sync::Mutex::new(Some(done)));
        let origin = Origin::start(move |mut stream, _| {
            let done = done.lock().unwrap().take().unwrap();
            async move {
                head(&mut stream).await;
                let mut body = Vec::new();
                let _ = stream.read_to_end(&mut body).await;
                done.send(String::from_utf8(body).unwrap()).unwrap();
            }
        })
        .await;
        let gateway = Gateway::before(&[origin.address]).await;
        let mut client = gateway.client().await;
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(timeout(LONG, seen).await.unwrap().unwrap(), sent);
        assert_eq!(gateway.metrics().slots().flat_map(|c| &c.failures).map(|c| c.get()).sum::<u64>(), 0);
    }
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";

async fn switching_origin(protocol: &'static str) -> Origin {
    Origin::start(move |mut stream, _| async move {
        let head = head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("connection: upgrade\r\n") == head.contains("upgrade: websocket\r\n"), "{head}");
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\nfirst");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

async fn says(stream: &mut TcpStream, expected: &str) {
    let mut got = vec![0; expected.len()];
    timeout(LONG, stream.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), expected);
}

#[tokio::test]
async fn after_a_101_bytes_pass_both_ways_until_both_ends_close() {
    let origin = switching_origin("websocket").await;
    let gateway = Gateway::before(&[origin.address]).await;
    let mut client = gateway.client().await;
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("connection: upgrade\r\n") && answer.contains("upgrade: websocket\r\n"), "{answer}");
    says(&mut client, "first").await;
    client.write_all(b"hello").await.unwrap();
    says(&mut client, "hello").await;
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_101_that_was_not_asked_for_is_a_bad_gateway() {
    let origin = switching_origin("websocket").await;
    let gateway = Gateway::before(&[origin.address]).await;
    let answer = gateway.get().await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("error=http_upgrade_failed"), "{answer}");
    let other = Gateway::before(&[switching_origin("other").await.address]).await;
    let answer = other.ask(&UPGRADE.replace("keep-alive", "close")).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("error=http_upgrade_failed"), "{answer}");
}

#[tokio::test]
async fn only_101_switches_and_a_refused_upgrade_is_not_kept() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = Gateway::before(&[origin.address]).await;
    let mut client = gateway.client().await;
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("upgrade"), "{answer}");
    says(&mut client, "ok").await;
    gateway.get().await;
    assert_eq!(origin.accepted(), 2);
}
