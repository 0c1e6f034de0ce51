//! `[tracing]`: whose traces requests belong to, and where their spans are sent.
//!
//! The words alone; `plan/traces.rs` reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[tracing]`: traces (W3C Trace Context). Without this table, `traceparent` is passed on like any other field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    /// Where spans are sent by OTLP over HTTP, as JSON, such as "http://127.0.0.1:4318/v1/traces"; left out: nowhere, and only
    /// `traceparent` is made or gone on with.
    pub otlp: Option<String>,
    /// Fields that the collector wants with every request, such as a key. They are not shown.
    pub otlp_headers: BTreeMap<String, String>,
    /// PEM file: the roots that the collector's server is verified by, instead of the system's.
    pub ca: Option<PathBuf>,
    /// What the gateway is called in traces (`service.name`).
    pub service: String,
    /// How many of the traces that begin here are recorded, such as "10%". A client's decision counts where its trace does.
    pub sampling: String,
    /// Whose `traceparent` is gone on with: that of clients of internal endpoints, of all, or of none.
    pub trust: TraceTrust,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            otlp: None,
            otlp_headers: BTreeMap::new(),
            ca: None,
            service: "portcullis".into(),
            sampling: "100%".into(),
            trust: TraceTrust::default(),
        }
    }
}

/// Whose `traceparent` is gone on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TraceTrust {
    /// That of clients of internal endpoints. A stranger's would let him choose which of his requests are recorded.
    #[default]
    Internal,
    /// Everybody's.
    All,
    /// Nobody's: every request begins a trace.
    None,
}
