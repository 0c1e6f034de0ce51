//! What a library user brings, and the handler that answers by itself.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use tower_service::Service;

use super::harness::{Client, endpoint};
use crate::config::RespondConfig;
use crate::handler::http::{HttpHandler, HyperService, RequestBody, TowerService};
use crate::handler::respond::Respond;
use crate::handler::{Handler, Settings, Timeouts};
use crate::identity::ConnectionInfo;

/// A tower service that says by which endpoint the request came, and fails where the path says so.
#[derive(Clone)]
struct Greet;

impl Service<Request<RequestBody>> for Greet {
    type Response = Response<Full<Bytes>>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        if request.uri().path() == "/fail" {
            return ready(Err("as the test asks"));
        }
        let info = request.extensions().get::<Arc<ConnectionInfo>>().unwrap();
        ready(Ok(Response::new(format!("hello by way of {}", info.endpoint.name).into())))
    }
}

#[tokio::test]
async fn a_tower_service_knows_the_endpoint_and_its_errors_are_answered_500() {
    let handler = HttpHandler::new(|_, _| Ok(TowerService::new(Greet)));
    assert_eq!(handler.protocols(), ["h2", "http/1.1"]);
    let instance = handler.start(&endpoint(), &Settings::new()).unwrap();
    let mut client = Client::connect_to(instance, Timeouts::default()).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("hello by way of test").await;
    client.send("GET /fail HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.read_until("500 Internal Server Error\n").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
}

#[tokio::test]
async fn a_hyper_service_is_served_as_well() {
    let handler = HttpHandler::new(|endpoint, _| {
        let name = endpoint.name.clone();
        Ok(HyperService::new(hyper::service::service_fn(move |_: Request<RequestBody>| {
            ready(Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(format!("by {name}")))))
        })))
    });
    let instance = handler.start(&endpoint(), &Settings::new()).unwrap();
    let mut client = Client::connect_to(instance, Timeouts::default()).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("by test").await;
}

#[tokio::test]
async fn respond_answers_with_its_status_fields_and_filled_in_body() {
    let config = RespondConfig {
        status: 418,
        body: "{endpoint} {method} {path} {settings.banner}".into(),
        headers: [("x-a".to_owned(), "b".to_owned())].into(),
    };
    let settings: Settings = "banner = \"hi\"".parse().unwrap();
    let instance = Respond::new(&config).unwrap().start(&endpoint(), &settings).unwrap();
    let mut client = Client::connect_to(instance, Timeouts::default()).await;
    client.send("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.read_until("test GET /a hi").await;
    assert!(answer.starts_with("HTTP/1.1 418") && answer.contains("x-a: b"), "{answer}");
    assert!(answer.contains("content-type: text/plain; charset=utf-8"), "{answer}");
    assert!(answer.contains("date: ") && !answer.contains("server: "), "{answer}");
}
