//! HTTP/2 with prior knowledge, by hyper's own client.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::harness::Client;
use crate::handler::Timeouts;
use crate::metrics::RequestFailure;
use crate::metrics::RequestRefusal::{HeadTooLarge, Host, Malformed};

type Sender = SendRequest<Full<Bytes>>;

/// Speaks HTTP/2 over a client's socket; the task is the connection's.
async fn speak(socket: TcpStream) -> (Sender, JoinHandle<()>) {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    (sender, tokio::spawn(async { connection.await.unwrap_or(()) }))
}

/// The same, by h2 itself: what hyper's client would not send, or not show.
async fn speak_frames(socket: TcpStream) -> h2::client::SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

#[tokio::test]
async fn requests_and_bodies_pass_over_one_connection() {
    let Client { socket, serving, metrics, .. } = Client::connect().await;
    let (mut sender, connection) = speak(socket).await;
    let first = sender.send_request(get("http://x/a"));
    let body = Bytes::from(vec![b'x'; 2 << 20]);
    let echo = Request::post("http://x/echo").body(Full::new(body.clone())).unwrap();
    let second = sender.send_request(echo);
    assert_eq!(text(first.await.unwrap()).await, "GET http://x/a 0");
    assert_eq!(second.await.unwrap().into_body().collect().await.unwrap().to_bytes(), body);
    drop(sender);
    connection.await.unwrap();
    serving.await.unwrap().unwrap();
    assert_eq!(metrics.sum(|counters| counters.requests.iter().map(|(_, n)| n).sum()), 2);
}

#[tokio::test]
async fn an_answer_has_nothing_of_a_connection() {
    let (mut sender, _connection) = speak(Client::connect().await.socket).await;
    let response = sender.send_request(get("http://x/hop")).await.unwrap();
    let names: BTreeSet<_> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["content-length", "date", "x-other"]);
    assert_eq!(text(response).await, "hop");
}

#[tokio::test]
async fn a_status_that_is_no_answer_becomes_500() {
    let (mut sender, _connection) = speak(Client::connect().await.socket).await;
    for path in ["/early", "/switch"] {
        let response = sender.send_request(get(&format!("http://x{path}"))).await.unwrap();
        assert_eq!(response.status(), 500, "{path}");
    }
    assert_eq!(text(sender.send_request(get("http://x/next")).await.unwrap()).await, "GET http://x/next 0");
}

#[tokio::test]
async fn an_answer_that_is_shorter_than_its_head_says_is_broken_off() {
    let client = Client::connect().await;
    let metrics = client.metrics.clone();
    let mut h2 = speak_frames(client.socket).await;
    let (response, _) = h2.send_request(Request::get("http://x/short").body(()).unwrap(), true).unwrap();
    let reset = match response.await {
        Ok(response) => {
            let mut body = response.into_body();
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => panic!("it looks whole"),
                }
            }
        }
        Err(error) => error,
    };
    assert!(reset.is_remote() && reset.is_reset(), "{reset:?}");
    let incomplete = RequestFailure::HttpResponseIncomplete as usize;
    while metrics.sum(|counters| counters.failures[incomplete].get()) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_length_that_is_said_twice_is_sent_once() {
    let (mut sender, _connection) = speak(Client::connect().await.socket).await;
    let response = sender.send_request(get("http://x/twice")).await.unwrap();
    let lengths: Vec<_> = response.headers().get_all(CONTENT_LENGTH).iter().collect();
    assert_eq!(lengths, ["5"]);
    assert_eq!(text(response).await, "twice");
}

#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_refused_and_the_connection_goes_on() {
    let client = Client::connect().await;
    let metrics = client.metrics.clone();
    let (mut sender, _connection) = speak(client.socket).await;
    let mut request = get("http://a/");
    request.headers_mut().insert(HOST, "b".parse().unwrap());
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.headers().contains_key("proxy-status"));
    let mut request = get("http://a/");
    for i in 0..101 {
        request
            .headers_mut()
            .append(format!("x-{i}").parse::<hyper::header::HeaderName>().unwrap(), "1".parse().unwrap());
    }
    assert_eq!(sender.send_request(request).await.unwrap().status(), 431);
    assert_eq!(text(sender.send_request(get("http://a/next")).await.unwrap()).await, "GET http://a/next 0");
    let count = |reason: crate::metrics::RequestRefusal| metrics.sum(|c| c.requests_refused[reason as usize].get());
    assert_eq!((count(Host), count(HeadTooLarge)), (1, 1));
}

#[tokio::test]
async fn a_target_that_http_1_would_refuse_is_refused() {
    let (mut sender, _connection) = speak(Client::connect().await.socket).await;
    for target in ["/é", "/a?b=é", "/\""] {
        let request = get(&format!("http://a{target}"));
        assert_eq!(sender.send_request(request).await.unwrap().status(), 400, "{target:?}");
    }
    assert_eq!(sender.send_request(get("http://a/%C3%A9?`{|}")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_value_with_white_space_around_it_is_refused() {
    let client = Client::connect().await;
    let metrics = client.metrics.clone();
    let (mut sender, _connection) = speak(client.socket).await;
    for (value, status) in [(" a", 400), ("a\t", 400), (" ", 400), ("a b", 200), ("", 200)] {
        let mut request = get("http://x/a");
        request.headers_mut().insert("x-a", HeaderValue::from_static(value));
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{value:?}");
    }
    assert_eq!(metrics.sum(|c| c.requests_refused[Malformed as usize].get()), 3);
}

#[tokio::test]
async fn a_target_is_a_path_or_for_options_an_asterisk() {
    let client = Client::connect().await;
    let metrics = client.metrics.clone();
    let mut h2 = speak_frames(client.socket).await;
    for (method, target, status) in [("GET", "*", 400), ("GET", "?a", 400), ("OPTIONS", "*", 200), ("GET", "/?a", 200)]
    {
        let target = PathAndQuery::from_static(target);
        let uri = Uri::builder().scheme("http").authority("x").path_and_query(target.clone()).build().unwrap();
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let (response, _) = h2.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{method} {target}");
    }
    assert_eq!(metrics.sum(|c| c.requests_refused[Malformed as usize].get()), 2);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_when_its_body_is_wanted() {
    let mut h2 = speak_frames(Client::connect().await.socket).await;
    let put = |path: &str| {
        let request = Request::put(format!("http://x{path}")).header("expect", "100-Continue");
        request.header(CONTENT_LENGTH, "3").body(()).unwrap()
    };
    // The service may read in a task of its own.
    for (path, shown) in [("/a", "PUT http://x/a 3"), ("/spawned", "PUT http://x/spawned 3")] {
        let (mut response, mut body) = h2.send_request(put(path), false).unwrap();
        let told = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(told.status(), 100, "{path}");
        body.send_data("abc".into(), true).unwrap();
        let mut answer = response.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), shown);
    }
    // Whoever did not wait, or is not read, is not told.
    let (mut response, mut body) = h2.send_request(put("/unread"), false).unwrap();
    let told = poll_fn(|cx| match Pin::new(&mut response).poll(cx) {
        Poll::Ready(answer) => Poll::Ready(answer.unwrap().status()),
        Poll::Pending => response.poll_informational(cx).map(|head| head.unwrap().unwrap().status()),
    });
    assert_eq!(told.await, 200);
    let _ = body.send_data("abc".into(), true); // the stream may be over
}

#[tokio::test]
async fn a_trailer_that_http_1_would_refuse_breaks_the_body() {
    let client = Client::connect().await;
    let metrics = client.metrics.clone();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client.socket)).await.unwrap();
    tokio::spawn(connection);
    for (name, value, passes) in
        [("authorization", "1", false), ("x-forwarded-for", "1", false), ("x-sum", " 1", false), ("x-sum", "1", true)]
    {
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert(name, HeaderValue::from_static(value));
        let body = Full::new(Bytes::from_static(b"abc")).with_trailers(std::future::ready(Some(Ok(trailers))));
        let response = sender.send_request(Request::post("http://a/echo").body(body).unwrap()).await;
        let collected = match response {
            Ok(response) => response.into_body().collect().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert_eq!(collected.is_ok(), passes, "{name}: {collected:?}");
    }
    let count = metrics.sum(|c| c.requests_refused[crate::metrics::RequestRefusal::Chunk as usize].get());
    assert_eq!(count, 3);
    while metrics.sum(|counters| counters.requests.iter().map(|(_, n)| n).sum()) < 4 {
        tokio::task::yield_now().await;
    }
    let failures = metrics.sum(|counters| counters.failures.iter().map(|failure| failure.get()).sum());
    assert_eq!(failures, 0, "the client's fault is not the service's");
}

#[tokio::test]
async fn a_tunnel_is_not_made() {
    let client = Client::connect().await;
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client.socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::connect("x:443").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 501);
}

// The clock runs in these: while it is stopped, the replies to pings always come too late.

#[tokio::test]
async fn a_connection_without_streams_is_told_to_go_away() {
    let timeouts = Timeouts { idle: Duration::from_millis(200), ..Timeouts::default() };
    let Client { socket, serving, .. } = Client::connect_with(timeouts).await;
    let (mut sender, connection) = speak(socket).await;
    let since = Instant::now();
    text(sender.send_request(get("http://x/a")).await.unwrap()).await;
    connection.await.unwrap();
    serving.await.unwrap().unwrap();
    assert!(since.elapsed() >= Duration::from_millis(199), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_drain_lets_streams_finish() {
    let Client { socket, serving, drain, .. } = Client::connect().await;
    let (mut sender, connection) = speak(socket).await;
    let response = sender.send_request(get("http://x/big")).await.unwrap();
    drain.begin();
    assert_eq!(text(response).await.len(), 8 << 20);
    connection.await.unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_whose_answer_is_not_taken_is_reset_and_others_go_on() {
    let timeouts = Timeouts { body: Duration::from_millis(200), ..Timeouts::default() };
    let client = Client::connect_with(timeouts).await;
    let metrics = client.metrics.clone();
    let (mut sender, _connection) = speak(client.socket).await;
    let stalled = sender.send_request(get("http://x/big")).await.unwrap();
    while metrics.sum(|counters| counters.requests.iter().map(|(_, n)| n).sum()) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(stalled.into_body().collect().await.is_err());
    assert_eq!(text(sender.send_request(get("http://x/next")).await.unwrap()).await, "GET http://x/next 0");
}
