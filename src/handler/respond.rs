//! The `respond` handler: answers every request itself, from the configuration.
//!
//! Owns the answer's status, fields and body template. Made by `plan`; served by the engine in `http`.

mod template;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::MapErr;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::{HeaderMap, Request, Response, StatusCode};

use self::template::Template;
use super::http::{BoxError, HttpInstance, HttpService, Interim, PROTOCOLS, Reply, RequestBody, never};
use super::{Handler, Instance, Settings, StartError};
use crate::config::RespondConfig;
use crate::identity::{ConnectionInfo, Endpoint};

/// The `respond` handler: the same answer for everyone, but for what its body's template fills in.
#[derive(Clone, Debug)]
pub struct Respond {
    status: StatusCode,
    headers: HeaderMap,
    body: Template,
}

impl Respond {
    /// Checks and compiles a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its key within the handler's table, such as `headers.X-A`.
    pub fn new(config: &RespondConfig) -> Result<Self, Vec<(String, String)>> {
        let mut errors = Vec::new();
        let status = check_status(config.status).unwrap_or_else(|message| {
            errors.push(("status".into(), message));
            StatusCode::OK
        });
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            match field(name, value) {
                Ok((name, value)) => drop(headers.insert(name, value)),
                Err(message) => errors.push((format!("headers.{name}"), message)),
            }
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
        let body = Template::compile(&config.body).unwrap_or_else(|message| {
            errors.push(("body".into(), message));
            Template::default()
        });
        if errors.is_empty() { Ok(Self { status, headers, body }) } else { Err(errors) }
    }
}

fn check_status(status: u16) -> Result<StatusCode, String> {
    match StatusCode::from_u16(status) {
        Ok(code) if (200..=599).contains(&status) => Ok(code),
        _ => Err(format!("{status} is not the status of an answer; take one from 200 to 599")),
    }
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{name:?} is not a field name; it is made of letters, digits and hyphens"))?;
    // RFC 9110, sections 7.6.1 and 8.6: these are the engine's to set.
    if [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE].contains(&name) {
        return Err(format!("{name} frames the message and is set by the gateway; remove it"));
    }
    let value =
        HeaderValue::from_str(value).map_err(|_| format!("the value of {name} has a control character; remove it"))?;
    Ok((name, value))
}

impl Handler for Respond {
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        let body = self.body.bind(endpoint, settings)?;
        Ok(Arc::new(HttpInstance::new(Answering { status: self.status, headers: self.headers.clone(), body })))
    }

    fn protocols(&self) -> &'static [&'static str] {
        PROTOCOLS
    }
}

/// [`Respond`] as one endpoint's service.
#[derive(Debug)]
struct Answering {
    status: StatusCode,
    headers: HeaderMap,
    body: Template,
}

impl HttpService for Answering {
    type Body = MapErr<Full<Bytes>, fn(Infallible) -> BoxError>;

    async fn call(&self, request: Request<RequestBody>, info: &Arc<ConnectionInfo>, _: &Interim) -> Reply<Self::Body> {
        let body = Full::new(self.body.fill(&request, info));
        let mut response = Response::new(body.map_err(never as fn(_) -> _));
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        response.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Respond;
    use crate::config::RespondConfig;

    #[test]
    fn every_error_of_a_configuration_is_told_with_its_key() {
        let config = RespondConfig {
            status: 101,
            body: "{endpoit}".into(),
            headers: [("a b", "1"), ("x", "\n"), ("Content-Length", "3"), ("y", "2")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        };
        let errors = Respond::new(&config).unwrap_err();
        let keys: Vec<_> = errors.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["status", "headers.Content-Length", "headers.a b", "headers.x", "body"]);
        assert!(errors[4].1.contains("{endpoint}"), "{}", errors[4].1);
    }

    #[test]
    fn the_default_is_an_empty_plain_text() {
        let respond = Respond::new(&RespondConfig::default()).unwrap();
        assert_eq!(respond.headers["content-type"], "text/plain; charset=utf-8");
    }
}
