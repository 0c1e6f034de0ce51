//! `[tracing]` from its words: whose traces are believed, how many are recorded, and where spans go.
//!
//! Called by `plan`, which reports the faults, and by `gateway`, which starts `otlp` by it.

use std::path::PathBuf;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use tokio::sync::mpsc::Receiver;

use super::Inputs;
use crate::config::{Config, Problems, TraceTrust, TracingConfig};
use crate::tls::roots;
use crate::trace::{Span, Terms, Tracer, Trust};
use crate::units;

/// Traces, ready to be made.
#[derive(Clone, Debug)]
pub struct TracingPlan {
    /// Whose are believed, and which are recorded.
    pub terms: Terms,
    /// Where they are sent; `None`: nowhere.
    pub collector: Option<Collector>,
}

/// Where spans are sent.
#[derive(Clone, Debug)]
pub struct Collector {
    /// The URL, http or https.
    pub url: Uri,
    /// What it wants with every request.
    pub fields: HeaderMap,
    /// The roots that its server is verified by; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// What the gateway is called.
    pub service: String,
}

/// Makes traces, and what they come out of; none where there is no table, or a wrong one, which `plan` reports.
#[must_use]
pub fn tracer(config: &Config) -> (Tracer, Option<Receiver<Vec<Span>>>) {
    let table = config.tracing.as_ref();
    match table.and_then(|table| Some((table, units::share(&table.sampling).ok()?))) {
        Some((table, sampling)) => Tracer::new(Terms { trust: trust(table), sampling }, table.otlp.is_some()),
        None => (Tracer::off(), None),
    }
}

/// Reads the table, and reports everything that is wrong with it.
pub(super) fn plan(inputs: &Inputs<'_>, problems: &mut Problems) -> Option<TracingPlan> {
    let config = inputs.config.tracing.as_ref()?;
    let sampling = problems.take(&["tracing", "sampling"], units::share(&config.sampling));
    if config.service.trim().is_empty() {
        problems.push(&["tracing", "service"], "there is no name", Some("leave it out for \"portcullis\"".into()));
    }
    let fields = fields(config, problems);
    let url = config.otlp.as_deref().map(|text| problems.take(&["tracing", "otlp"], url(text)));
    let ca = config.ca.as_ref().map(|file| inputs.directory.join(file));
    if let Some(file) = &ca {
        problems.take(&["tracing", "ca"], roots::trusted(Some(file)).map(drop));
    }
    if config.otlp.is_none() && (config.ca.is_some() || !config.otlp_headers.is_empty()) {
        problems.push(
            &["tracing"],
            "nothing is sent anywhere",
            Some("add otlp, or leave ca and otlp_headers out".into()),
        );
    }
    let collector = match url {
        None => None,
        Some(url) => Some(Collector { url: url?, fields, ca, service: config.service.clone() }),
    };
    Some(TracingPlan { terms: Terms { trust: trust(config), sampling: sampling? }, collector })
}

fn trust(config: &TracingConfig) -> Trust {
    match config.trust {
        TraceTrust::Internal => Trust::Internal,
        TraceTrust::All => Trust::All,
        TraceTrust::None => Trust::None,
    }
}

fn url(text: &str) -> Result<Uri, String> {
    let example = "write such as \"http://127.0.0.1:4318/v1/traces\"";
    let uri: Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}; {example}"))?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.host().is_none_or(str::is_empty) {
        return Err(format!("{text:?} is no http or https URL; {example}"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a URL with a password in it would be logged; use otlp_headers".into());
    }
    Ok(uri)
}

fn fields(config: &TracingConfig, problems: &mut Problems) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in &config.otlp_headers {
        let path = ["tracing", "otlp_headers", name];
        let read_name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no field name"));
        // The value may be a secret, so the error does not repeat it.
        let read_value = HeaderValue::from_str(value.trim()).map_err(|_| "it has a control character".to_owned());
        if let (Some(name), Some(mut value)) = (problems.take(&path, read_name), problems.take(&path, read_value)) {
            value.set_sensitive(true);
            fields.insert(name, value);
        }
    }
    fields
}
