//! An answer of the admin port, and what every answer carries.
//!
//! Made by `guard`, `routes` and the views; `admin` sends it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// What a browser may do with an answer: show its own style, and nothing else. No script runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// `Content-Type` of JSON.
pub(crate) const JSON: &str = "application/json";
/// `Content-Type` of the dashboard.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// What is sent back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
    /// One field more, where the status asks for it.
    pub(crate) field: Option<(HeaderName, &'static str)>,
}

impl Answer {
    /// A good answer.
    pub(crate) fn ok(content_type: &'static str, body: String) -> Self {
        Self { status: StatusCode::OK, content_type, body, field: None }
    }

    /// An answer in JSON, laid out for people too.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(body) {
            Ok(body) => Self { status, content_type: JSON, body: body + "\n", field: None },
            // Only a map whose keys are not text ends here, and there is none; the text is fixed, so this cannot recur.
            Err(error) => Self::refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot be written: {error}")),
        }
    }

    /// An answer that says what is wrong and what to do.
    pub(crate) fn refuse(status: StatusCode, error: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": error }))
    }

    /// The same answer with one field more.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.field = Some((name, value));
        self
    }

    /// The response as hyper sends it. hyper leaves the body of a response to HEAD away, but not its length.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let common = [
            (header::CONTENT_TYPE, self.content_type),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        for (name, value) in common.into_iter().chain(self.field) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
