//! HTTPS to an authority: one client for an attempt, in which every wait has a deadline and every answer a bound.
//!
//! Called by `account`, which gives it to the client library. Keeps what the library does not pass on: the status of the last
//! answer, and until when the authority asks not to be asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::time::timeout;

use super::failure::Failure;
use crate::metrics::AcmeFailure;
use crate::plan::acme::Authority;
use crate::tls::client_config::trusting;
use crate::tls::roots;

/// How long one answer may take, from dialling to its last byte.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer, in bytes; a chain with its issuers has a tenth of it.
const LARGEST: usize = 256 * 1024;
/// No authority's wish to be left alone is believed for longer.
const LONGEST_REST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What the last answer said besides its body.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) status: Option<u16>,
    /// Not to be asked before this (RFC 9110, section 10.2.3), where the status is an error.
    pub(super) retry_after: Option<SystemTime>,
}

/// The client of one authority.
#[derive(Clone)]
pub(super) struct Https {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    noted: Arc<Mutex<Noted>>,
}

impl Https {
    /// A client that trusts the authority's `ca`, or the system's roots.
    pub(super) fn new(authority: &Authority) -> Result<Self, Failure> {
        let blamed = if authority.ca.is_some() { AcmeFailure::Storage } else { AcmeFailure::Unreachable };
        let roots = roots::trusted(authority.ca.as_deref()).map_err(|error| Failure::new(blamed, error))?;
        let config = trusting(roots).map_err(|error| Failure::new(AcmeFailure::Unreachable, error))?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), noted: Arc::default() })
    }

    /// What the last answer said.
    pub(super) fn noted(&self) -> Noted {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        // RFC 8555, section 6.1: a client says who it is.
        const NAME: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(NAME));
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let (answer, noted) = (self.client.request(request), Arc::clone(&self.noted));
        *noted.lock().unwrap_or_else(PoisonError::into_inner) = Noted::default();
        Box::pin(async move {
            let whole = async {
                let (parts, body) = answer.await.map_err(|error| chain(&error))?.into_parts();
                let body = Limited::new(body, LARGEST).collect().await.map_err(|error| error.to_string())?;
                Ok::<_, String>(Response::from_parts(parts, body.to_bytes()))
            };
            let late = |_| Error::Other(format!("{host} did not answer within {ANSWER:?}").into());
            let whole = timeout(ANSWER, whole).await.map_err(late)?;
            let (parts, body) = whole.map_err(|error| Error::Other(format!("{host}: {error}").into()))?.into_parts();
            let status = parts.status.as_u16();
            let retry_after = parts.headers.get(RETRY_AFTER).filter(|_| status >= 400);
            let retry_after = retry_after.and_then(|value| rest(value.to_str().ok()?, SystemTime::now()));
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Noted { status: Some(status), retry_after };
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// An error with its causes: the first alone says "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// When the rest ends that an authority asks for: in seconds, or by its date.
fn rest(value: &str, now: SystemTime) -> Option<SystemTime> {
    let end = match value.trim().parse() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds))?,
        Err(_) => httpdate::parse_http_date(value.trim()).ok()?,
    };
    Some(end.min(now + LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_asked_for_in_seconds_or_by_a_date_and_has_a_bound() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(rest("120", now), Some(now + Duration::from_secs(120)));
        assert_eq!(rest("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(now + Duration::from_secs(60)));
        assert_eq!(rest("99999999", now), Some(now + LONGEST_REST));
        assert_eq!((rest("soon", now), rest("-1", now), rest("18446744073709551615", now)), (None, None, None));
    }
}
