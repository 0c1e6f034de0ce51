//! One request to the collector and its answer, within a deadline and a size.
//!
//! Called by `otlp`.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use serde_json::Value;
use tokio::time::timeout;

use crate::plan::traces::Collector;
use crate::tls::client_config::trusting;

/// How long one answer may take, from dialling to its last byte.
const ANSWER: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const LARGEST: usize = 64 * 1024;
/// No collector's wish to be left alone is heeded for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Client {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    collector: Collector,
}

/// Why spans were not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    /// It may take them later.
    pub(super) may_be_repeated: bool,
    /// When, if it says so.
    pub(super) pause: Option<Duration>,
}

impl Client {
    pub(super) fn new(collector: &Collector) -> Result<Self, rustls::Error> {
        let config = trusting(RootCertStore { roots: collector.roots.clone() })?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let client = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        Ok(Self { client, collector: collector.clone() })
    }

    pub(super) fn url(&self) -> &Uri {
        &self.collector.url
    }

    /// Sends an export request; how many of its spans the collector rejects.
    pub(super) async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        let answered = timeout(ANSWER, self.ask(body)).await;
        answered.unwrap_or_else(|_| Err(Refused::later(format!("no answer within {ANSWER:?}"))))
    }

    async fn ask(&self, body: Bytes) -> Result<u64, Refused> {
        const NAME: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.collector.url.clone();
        let fields = request.headers_mut();
        fields.insert(USER_AGENT, HeaderValue::from_static(NAME));
        fields.extend(self.collector.fields.clone());
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.client.request(request).await.map_err(|error| Refused::later(self.in_words(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        if head.status.is_success() {
            // What cannot be read says nothing of single spans.
            return Ok(body.map(|body| rejected(&body.to_bytes())).unwrap_or_default());
        }
        let pause = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Err(Refused {
            why: format!("it answers {}", head.status),
            may_be_repeated: is_temporary(head.status),
            pause: pause.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE)),
        })
    }
}

impl Client {
    /// An error with its causes; where it is the collector's certificate, with what that was verified by.
    fn in_words(&self, error: &legacy::Error) -> String {
        let said = chain(error);
        if !causes(error).any(is_of_certificate) {
            return said;
        }
        match &self.collector.ca {
            Some(file) => format!("{said}; tracing.ca names {}", file.display()),
            None => format!("{said}; it was verified by the system's roots, name others by tracing.ca"),
        }
    }
}

impl Refused {
    fn later(why: String) -> Self {
        Self { why, may_be_repeated: true, pause: None }
    }
}

/// The statuses after which OTLP lets a client try again.
fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// `partialSuccess.rejectedSpans`: a 64-bit number, which JSON of protobuf writes as text; numbers are read too.
fn rejected(body: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let number = &answer["partialSuccess"]["rejectedSpans"];
    number.as_str().and_then(|text| text.parse().ok()).or_else(|| number.as_u64()).unwrap_or_default()
}

/// An error with its causes: the first alone says "client error (Connect)".
fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |error: &&'a (dyn Error + 'static)| (**error).source())
}

/// Whether TLS refused the collector's certificate. An `io::Error` is no source of the error that it wraps.
fn is_of_certificate(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<io::Error>() {
        Some(wrapping) => wrapping.get_ref().is_some_and(|inner| is_of_certificate(inner)),
        None => matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))),
    }
}

#[cfg(test)]
mod tests {
    use super::rejected;

    #[test]
    fn rejected_spans_are_read_as_text_or_number_and_everything_else_is_none() {
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"7","errorMessage":"no"}}"#), 7);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":3}}"#), 3);
        for nothing in [&b""[..], b"{}", b"{\"partialSuccess\":{}}", b"[1]", b"\xff"] {
            assert_eq!(rejected(nothing), 0);
        }
    }
}
