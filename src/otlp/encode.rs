//! Spans as an `ExportTraceServiceRequest` in JSON: ids in hexadecimal, 64-bit numbers as text, enums as numbers.
//!
//! Pure. Called by `otlp`.

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::trace::{Kind, Span, SpanId, Value};

/// What all spans of this process have in common.
pub(super) struct Resource(Vec<Attribute>);

#[derive(Clone, Debug, Serialize)]
struct Attribute {
    key: &'static str,
    value: serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    status: serde_json::Value,
}

impl Resource {
    /// This process, as the service of this name.
    pub(super) fn of(service: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let attributes: [(&'static str, Value); 5] = [
            ("service.name", service.to_owned().into()),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
            ("service.instance.id", format!("{host}-{}-{}", std::process::id(), SpanId::random()).into()),
            ("host.name", host.into()),
            ("process.pid", u64::from(std::process::id()).into()),
        ];
        Self(attributes.iter().map(attribute).collect())
    }
}

/// One request's body.
pub(super) fn request(resource: &Resource, spans: &[Span]) -> Bytes {
    let spans: Vec<Written<'_>> = spans.iter().map(written).collect();
    let scope = json!({ "name": "portcullis", "version": env!("CARGO_PKG_VERSION") });
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": resource.0 },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] });
    body.to_string().into()
}

fn written(span: &Span) -> Written<'_> {
    Written {
        trace_id: span.trace.to_string(),
        span_id: span.id.to_string(),
        parent_span_id: span.parent.map(|parent| parent.to_string()),
        name: &span.name,
        kind: match span.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: span.begun.to_string(),
        end_time_unix_nano: span.ended.to_string(),
        attributes: span.attributes.iter().map(attribute).collect(),
        // 2 is ERROR. That a span went well is for whoever asked to say, so it is left unset.
        status: if span.failed { json!({ "code": 2 }) } else { json!({}) },
    }
}

fn attribute((key, value): &(&'static str, Value)) -> Attribute {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Name(name) => json!({ "stringValue": &**name }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Fraction(number) => json!({ "doubleValue": number }),
        Value::Flag(flag) => json!({ "boolValue": flag }),
    };
    Attribute { key, value }
}
