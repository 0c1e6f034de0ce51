//! `[tracing]` from its words: whose traces are believed, how many are recorded, and where spans go.
//!
//! Called by `plan`, which reports the faults; `otlp/exports` has them traced and sent.

use std::path::PathBuf;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use rustls::RootCertStore;
use rustls::pki_types::TrustAnchor;

use super::Inputs;
use crate::config::{Problems, TraceTrust, TracingConfig};
use crate::tls::roots;
use crate::trace::{Terms, Trust};
use crate::units;

/// Traces, ready to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingPlan {
    /// Whose are believed, and which are recorded.
    pub terms: Terms,
    /// Where they are sent; `None`: nowhere.
    pub collector: Option<Collector>,
}

/// Where spans are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    /// The URL, http or https.
    pub url: Uri,
    /// What it wants with every request.
    pub fields: HeaderMap,
    /// The file of the roots that its server is verified by; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Those roots; none where it is not reached by TLS.
    pub roots: Vec<TrustAnchor<'static>>,
    /// What the gateway is called.
    pub service: String,
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
    let is_https = url.as_ref().is_some_and(|url| url.as_ref().is_some_and(|url| url.scheme_str() == Some("https")));
    let roots = if ca.is_some() || is_https { roots::trusted(ca.as_deref()) } else { Ok(RootCertStore::empty()) };
    let roots = problems.take(&["tracing", "ca"], roots);
    if config.otlp.is_none() && (config.ca.is_some() || !config.otlp_headers.is_empty()) {
        problems.push(
            &["tracing"],
            "nothing is sent anywhere",
            Some("add otlp, or leave ca and otlp_headers out".into()),
        );
    }
    let collector = match url {
        None => None,
        Some(url) => Some(Collector { url: url?, fields, ca, roots: roots?.roots, service: config.service.clone() }),
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
