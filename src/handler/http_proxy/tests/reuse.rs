//! Connections to servers: kept, replaced, moved to the next server.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::harness::{Gateway, Origin, closed_port, head, timeouts};
use crate::metrics::UpstreamFailure;
use crate::upstream::{Answer, Outgoing, Sending, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const OK_CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    for answer in [OK, OK_CHUNKED, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n"] {
        let origin = Origin::answering(answer).await;
        let gateway = Gateway::before(&[origin.address]).await;
        for _ in 0..3 {
            gateway.get().await;
        }
        assert_eq!(origin.accepted(), 1, "{answer}");
        let count = |read: fn(&crate::metrics::ServerCounters) -> u64| gateway.metrics().sum(read);
        assert_eq!([count(|c| c.requests.get()), count(|c| c.connects.get()), count(|c| c.active.get())], [3, 1, 1]);
        gateway.upstream.close_idle();
        assert_eq!(gateway.metrics().sum(|c| c.active.get()), 0);
    }
}

#[tokio::test]
async fn a_head_response_with_a_length_leaves_the_connection_usable() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    let gateway = Gateway::before(&[origin.address]).await;
    for _ in 0..2 {
        let answer = gateway.ask("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("content-length: 1234") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_means_to_close_is_not_kept() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = Gateway::before(&[origin.address]).await;
    gateway.get().await;
    gateway.get().await;
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn a_connection_that_idled_too_long_is_replaced_and_swept() {
    let origin = Origin::answering(OK).await;
    let idle = Duration::ZERO;
    let gateway =
        Gateway::with(&[origin.address], crate::upstream::UpstreamTimeouts { idle, ..timeouts() }, vec![]).await;
    gateway.get().await;
    gateway.get().await;
    assert_eq!(origin.accepted(), 2);
    gateway.upstream.sweep();
    assert_eq!(gateway.metrics().sum(|c| c.active.get()), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_never_taken_for_one() {
    let origin = Origin::closing_after(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    )
    .await;
    let gateway = Gateway::before(&[origin.address]).await;
    for _ in 0..2 {
        assert!(gateway.get().await.ends_with("ok"));
    }
    assert_eq!(origin.accepted(), 2);
}

/// Answers once on its first connection, then closes it when the next request comes.
async fn stale_origin() -> Origin {
    Origin::start(|mut stream, number| async move {
        head(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        head(&mut stream).await;
        if number > 0 {
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_proves_closed_is_replaced_once_for_an_idempotent_request() {
    let origin = stale_origin().await;
    let gateway = Gateway::before(&[origin.address]).await;
    assert!(gateway.get().await.ends_with("ok"));
    assert!(gateway.get().await.ends_with("ok"));
    assert_eq!(origin.accepted(), 2);
    assert_eq!(gateway.failures(UpstreamFailure::Closed), 0);
}

#[tokio::test]
async fn a_post_is_not_sent_twice() {
    let origin = stale_origin().await;
    let gateway = Gateway::before(&[origin.address]).await;
    gateway.get().await;
    let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("error=connection_terminated"), "{answer}");
    assert_eq!(origin.accepted(), 1);
    assert_eq!(gateway.failures(UpstreamFailure::Closed), 1);
}

#[tokio::test]
async fn a_server_that_refuses_is_passed_over_with_the_body_untouched() {
    let origin = Origin::start(|mut stream, _| async move {
        head(&mut stream).await;
        let mut body = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
        assert_eq!(&body, b"hi");
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let gateway = Gateway::before(&[closed_port().await, origin.address]).await;
    let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").await;
    assert!(answer.ends_with("ok"), "{answer}");
    assert_eq!(gateway.failures(UpstreamFailure::Connect), 1);
}

#[tokio::test]
async fn when_every_server_refuses_each_was_tried_once() {
    let gateway = Gateway::before(&[closed_port().await, closed_port().await]).await;
    let answer = gateway.get().await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway"), "{answer}");
    let last = gateway.upstream.members().list[1].server.name.clone();
    let status = format!("proxy-status: portcullis; error=connection_refused; next-hop=\"{last}\"");
    assert!(answer.contains(&status), "{answer}");
    assert!(answer.ends_with("502 Bad Gateway: connection refused\n"), "{answer}");
    assert_eq!(gateway.failures(UpstreamFailure::Connect), 2);
}

/// Counts how often a task is woken, and wakes it.
struct Counting {
    wakes: AtomicUsize,
    task: Waker,
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Relaxed);
        self.task.wake_by_ref();
    }
}

async fn exchange(upstream: &Upstream) -> usize {
    let (mut head, body) = hyper::Request::get("/").header("host", "a").body(Outgoing::default()).unwrap().into_parts();
    let Answer::Response(response) =
        upstream.exchange(Sending::new(&mut head, body, |_| {}), None, Instant::now(), &|_| {}).await.unwrap().answer
    else {
        panic!("it switched")
    };
    response.into_body().collect().await.unwrap().to_bytes().len()
}

#[tokio::test]
async fn an_exchange_over_a_kept_connection_wakes_its_task_once() {
    for answer in [OK, OK_CHUNKED] {
        let origin = Origin::answering(answer).await;
        let gateway = Gateway::before(&[origin.address]).await;
        exchange(&gateway.upstream).await;
        let task = poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
        let counting = Arc::new(Counting { wakes: AtomicUsize::new(0), task });
        let waker = Waker::from(Arc::clone(&counting));
        let mut exchange = pin!(exchange(&gateway.upstream));
        let read = poll_fn(|_| exchange.as_mut().poll(&mut Context::from_waker(&waker))).await;
        assert_eq!((read, counting.wakes.load(Relaxed), origin.accepted()), (2, 1, 1), "{answer}");
    }
}
