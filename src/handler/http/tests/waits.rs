//! Deadlines, with the clock stopped: it jumps whenever everything waits.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::Client;
use crate::metrics::RequestRefusal::{BodyTimeout, BodyTooSlow, HeadTimeout};

fn about(since: Instant, seconds: u64) -> bool {
    let took = since.elapsed();
    took >= Duration::from_secs(seconds) && took < Duration::from_millis(seconds * 1000 + 100)
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed_silently() {
    let mut client = Client::connect().await;
    let since = Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert!(about(since, 60), "{:?}", since.elapsed());
    client.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_without_another_request_is_closed_silently() {
    let mut client = Client::connect().await;
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("GET /a 0").await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    client.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n").await; // it was taken apart in between
    client.read_until("GET /b 0").await;
    let since = Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert!(about(since, 60), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_answered_408() {
    let mut client = Client::connect().await;
    let since = Instant::now();
    client.send("GET /a HTTP/1.1\r\nHo").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    client.send("st: x\r\n").await; // one more byte buys no more time
    let answer = client.read_until("in time\n").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(about(since, 10), "{:?}", since.elapsed());
    assert_eq!(client.refused(HeadTimeout), 1);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_body_may_pause_but_not_stop() {
    let mut client = Client::connect().await;
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 30009\r\n\r\n").await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        client.send(&"a".repeat(10_000)).await;
    }
    let since = Instant::now();
    let answer = client.read_until("in time\n").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    assert!(about(since, 30), "{:?}", since.elapsed());
    assert_eq!(client.refused(BodyTimeout), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_answered_408() {
    let mut client = Client::connect().await;
    let since = Instant::now();
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..5 {
        client.send("5\r\nabcde\r\n").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let answer = client.read_until("too slowly\n").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    assert!(about(since, 30), "{:?}", since.elapsed());
    assert_eq!(client.refused(BodyTooSlow), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_service_is_not_the_clients_fault() {
    let mut client = Client::connect().await;
    client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("slow").await;
    let since = Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert!(about(since, 60), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_dropped() {
    let mut client = Client::connect().await;
    let since = Instant::now();
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!((&mut client.serving).await.unwrap().is_err());
    assert!(about(since, 30), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_could_become_a_preface_is_waited_for_no_longer_than_a_head_and_answered_408() {
    for beginning in ["P", "PRI * HTTP/2"] {
        let mut client = Client::connect().await;
        let since = Instant::now();
        client.send(beginning).await;
        let answer = client.read_until("in time\n").await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(about(since, 10), "{:?}", since.elapsed());
        assert_eq!(client.refused(HeadTimeout), 1);
    }
    // What turns out to be none is timed from its first byte, too.
    let mut client = Client::connect().await;
    let since = Instant::now();
    client.send("P").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    client.send("OST").await;
    assert!(client.read_until("in time\n").await.starts_with("HTTP/1.1 408"));
    assert!(about(since, 10), "{:?}", since.elapsed());
}
