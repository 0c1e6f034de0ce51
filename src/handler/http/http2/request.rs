//! What h2 does not check of a request: the authority, the target, the number of fields, the method.
//!
//! Called by `turn`. An HTTP/2 request goes on as HTTP/1.1 as often as not, so it is judged as strictly (RFC 9113, section
//! 10.3).

use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri};

use super::super::fault::Fault;
use super::super::field::{MAX_FIELDS, is_padded};
use super::super::{authority, head};

/// Checks a request.
///
/// A request that names its authority by `Host` alone gets it into its URI, so that services look in one place.
pub(super) fn check<B>(request: &mut Request<B>, scheme: &str) -> Result<(), Fault> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Fault::METHOD);
    }
    if request.headers().len() > usize::from(MAX_FIELDS) {
        return Err(Fault::too_large("the request has more than 100 fields"));
    }
    // h2 sees to the characters in a value, and not to where they stand.
    if request.headers().values().any(|value| is_padded(value.as_bytes())) {
        return Err(Fault::malformed("white space stands around a field value"));
    }
    // As strictly as in HTTP/1: the target may go on in a request line (RFC 9113, section 10.3).
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    if !head::is_visible(target.as_bytes()) {
        return Err(Fault::malformed("the request target has a character that is not allowed"));
    }
    // RFC 9113, section 8.3.1.
    if !target.starts_with('/') && (target != "*" || *request.method() != Method::OPTIONS) {
        return Err(Fault::malformed("the request target is not a path"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Fault::host("Host is repeated"));
    }
    match (request.uri().authority(), host) {
        (None, None) => Err(Fault::host("the request names no authority")),
        (Some(authority), _) if !authority::is_valid(authority.as_str().as_bytes()) => {
            Err(Fault::host("the authority is not a host and port"))
        }
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(Fault::host("Host differs from the authority")) // RFC 9113, section 8.3.1
        }
        (Some(_), _) => Ok(()),
        (None, Some(host)) => {
            let uri = with_authority(request.uri(), host, scheme).ok_or(Fault::host("Host is not a host and port"))?;
            *request.uri_mut() = uri;
            Ok(())
        }
    }
}

fn with_authority(uri: &Uri, host: &HeaderValue, scheme: &str) -> Option<Uri> {
    if !authority::is_valid(host.as_bytes()) {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    parts.scheme = Some(Scheme::try_from(scheme).ok()?);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).ok()
}
