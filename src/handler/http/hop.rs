//! Fields that belong to one connection and end at the gateway, in either direction (RFC 9110, section 7.6.1).
//!
//! Used by `http_proxy` for what it passes on, where what the gateway adds is added after this, so that no message can have
//! it taken away; and by `http2` for what a service answers, since HTTP/2 has no such fields (RFC 9113, section 8.2.2).

use hyper::HeaderMap;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue};

use crate::fields::{remove, tokens};

/// Removes `Connection`, what it names, the fields that are known to end at each hop, and what `also` names.
pub(crate) fn strip(fields: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let ends_here = |name: &HeaderName| is_hop_by_hop(name) || also(name);
    if !fields.keys().any(ends_here) {
        return; // `Connection` is not there either, and nothing that it could name
    }
    strip_nominees(fields);
    remove(fields, ends_here);
}

fn strip_nominees(fields: &mut HeaderMap) {
    let harmless = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    };
    if fields.get_all(CONNECTION).iter().all(harmless) {
        return; // as nearly always, so nothing is copied
    }
    let lines: Vec<HeaderValue> = fields.get_all(CONNECTION).iter().cloned().collect();
    for nominee in lines.iter().flat_map(tokens).filter_map(|token| HeaderName::from_bytes(token).ok()) {
        // A message without these would be another message; naming them is a fault (RFC 9110, section 7.6.1).
        if nominee != HOST && nominee != CONTENT_LENGTH {
            fields.remove(nominee);
        }
    }
}

pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut fields = HeaderMap::new();
        lines.for_each(|(name, value)| {
            fields.append(name, value);
        });
        fields
    }

    #[test]
    fn what_connection_names_goes_with_it_from_every_line() {
        let mut fields = fields(&[
            ("connection", "close, X-One"),
            ("connection", "x-two,,not a name"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
        ]);
        strip(&mut fields, |_| false);
        assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-three"]);
    }

    #[test]
    fn a_message_keeps_its_host_and_length_whatever_connection_names() {
        let mut fields = fields(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "5")]);
        strip(&mut fields, |_| false);
        assert_eq!(fields.len(), 2);
    }
}
