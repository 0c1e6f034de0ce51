//! Turns a client's request into the one that the upstream is sent.
//!
//! Owns the target (`Target`), the fields that are taken away, and those that say who asks: `Forwarded` (RFC 7239) with
//! its older cousins, `Portcullis-Endpoint`, `Client-Cert` (RFC 9440) and `Via`. Called by `http_proxy`.

use std::io::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Uri, Version};

use super::client_cert::ClientCert;
use super::{path, via};
use crate::fields::{self, has_token};
use crate::handler::http::hop;
use crate::identity::{ConnectionInfo, EndpointName};
use crate::upstream::{self, KeySource, OwnFields};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORTCULLIS_ENDPOINT: HeaderName = HeaderName::from_static("portcullis-endpoint");
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// Where a request is meant to go.
#[derive(Debug)]
pub(super) struct Target {
    /// Host and port, as the upstream is to see them in `Host`.
    authority: HeaderValue,
    /// That is what `Host` says already.
    is_host: bool,
    /// The path's normal form, where it differs from what was sent.
    normal: Option<String>,
}

impl Target {
    /// Reads a request's target.
    ///
    /// # Errors
    /// In a few words, why it is refused as a bad request.
    pub(super) fn of(head: &Parts) -> Result<Self, &'static str> {
        let sent = head.uri.path();
        let normal = if sent == "*" {
            if head.method != Method::OPTIONS {
                return Err("only OPTIONS has the target *");
            }
            None
        } else {
            let normal = path::normal(sent)?;
            (normal != sent || has_no_path(&head.uri)).then(|| normal.into_owned())
        };
        let (authority, is_host) = authority(head)?;
        Ok(Self { authority, is_host, normal })
    }

    /// The host, without the port.
    pub(super) fn host(&self) -> &str {
        let authority = self.authority.to_str().unwrap_or_default();
        match authority.rfind(':') {
            Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
            _ => authority,
        }
    }

    /// The path that routes decide on: the one that the upstream is sent. `OPTIONS *` is about all of them.
    pub(super) fn path<'a>(&'a self, head: &'a Parts) -> &'a str {
        match (&self.normal, head.uri.path()) {
            (Some(normal), _) => normal,
            (None, "*") => "/",
            (None, sent) => sent,
        }
    }

    /// Puts another prefix in the place of the path's first `length` bytes, which are whole segments.
    ///
    /// # Errors
    /// What is left begins with an empty segment, which some would take for a host.
    pub(super) fn replace_prefix(&mut self, head: &Parts, length: usize, by: &str) -> Result<(), &'static str> {
        if head.uri.path() == "*" {
            return Ok(());
        }
        let rest = self.path(head).get(length..).unwrap_or_default();
        let path = if by.is_empty() && rest.is_empty() { "/".to_owned() } else { format!("{by}{rest}") };
        if path.starts_with("//") {
            return Err("the path could be read in two ways");
        }
        self.normal = Some(path);
        Ok(())
    }

    /// The request line's target: origin form, or `*` (RFC 9112, section 3.2).
    fn origin_form(&self, uri: &Uri) -> Result<Option<Uri>, &'static str> {
        let sent = uri.path_and_query();
        let Some(normal) = &self.normal else {
            let as_it_is = uri.authority().is_none() && uri.scheme().is_none();
            return Ok((!as_it_is).then(|| sent.cloned().map_or_else(Uri::default, Uri::from)));
        };
        let target = match sent.and_then(PathAndQuery::query) {
            Some(query) => format!("{normal}?{query}"),
            None => normal.clone(),
        };
        let target = PathAndQuery::from_maybe_shared(Bytes::from(target));
        target.map(|target| Some(Uri::from(target))).map_err(|_| "the target is malformed")
    }
}

/// Whether the path is empty, as in `http://a?b`. It stands for the root, and a request line has to say so (RFC 9112, section
/// 3.2.1).
fn has_no_path(uri: &Uri) -> bool {
    uri.path_and_query().is_some_and(|target| target.as_str().starts_with('?'))
}

/// The target's authority wins over `Host` (RFC 9112, section 3.2.2); the engine has seen that they agree, and that there
/// is one `Host` at most. True where it is what `Host` says.
fn authority(head: &Parts) -> Result<(HeaderValue, bool), &'static str> {
    let host = fields::first(&head.headers, &HOST);
    let authority = match (head.uri.authority(), host) {
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| "the host is malformed")?,
        (None, Some(host)) => host.clone(),
        (None, None) => HeaderValue::from_static(""),
    };
    // RFC 3986, section 3.2.2, without user information (RFC 9110, section 4.2.4); so it needs no escape in quotes.
    if !authority.as_bytes().iter().all(|b| MAY_NAME[usize::from(*b)]) {
        return Err("the host is malformed");
    }
    let is_host = head.uri.authority().is_none() && host.is_some();
    Ok((authority, is_host))
}

/// What a host and its port are written with.
static MAY_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        let c = b as u8;
        table[b] = c.is_ascii_alphanumeric()
            || matches!(c, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'[' | b']')
            || matches!(c, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        b += 1;
    }
    table
};

/// What one endpoint says of itself in every request.
#[derive(Debug)]
pub(super) struct Signature {
    endpoint: HeaderValue,
    via: via::Name,
    /// The end of `Forwarded`, from the quotation mark that closes the host.
    by: String,
    client_cert: ClientCert,
}

/// What was said in a connection's first request; copies, so that they do not keep its head in memory.
#[derive(Debug)]
struct Signed {
    received: Version,
    authority: Box<[u8]>,
    fields: Box<[u8]>,
}

/// What a request asks of its connection, besides an answer.
#[derive(Debug)]
pub(super) struct Asks {
    /// The protocol that it wants to switch to, by the value of `Upgrade`.
    pub(super) switch: Option<HeaderValue>,
    /// Whether a body follows, and its length where it is known.
    pub(super) body: Option<Option<u64>>,
}

impl Signature {
    pub(super) fn new(endpoint: &EndpointName, via: via::Name) -> Self {
        // The name's alphabet is within both a field's and a node's; `EndpointName` sees to it.
        let value = HeaderValue::from_str(endpoint.as_str()).unwrap_or(HeaderValue::from_static("unknown"));
        let by = format!("\";by=_{endpoint}");
        Self { endpoint: value, via, by, client_cert: ClientCert::default() }
    }

    /// What `Via` calls this endpoint.
    pub(super) fn via(&self) -> &via::Name {
        &self.via
    }

    /// Adds what the gateway says of itself and of the client. `received` is the version that the client spoke.
    ///
    /// Nothing of it changes from one request of a connection to the next but the host, which seldom does.
    pub(super) fn sign(&self, fields: &mut OwnFields, received: Version, target: &Target, info: &ConnectionInfo) {
        let kept = info.kept.get_or_init(|| {
            let mut fields = OwnFields::default();
            self.write(&mut fields, received, target, info);
            Signed { received, authority: target.authority.as_bytes().into(), fields: fields.into_lines() }
        });
        let is_for_this =
            |signed: &&Signed| signed.received == received && *signed.authority == *target.authority.as_bytes();
        if !kept.filter(is_for_this).is_some_and(|signed| fields.add_lines(&signed.fields)) {
            self.write(fields, received, target, info);
        }
    }

    fn write(&self, fields: &mut OwnFields, received: Version, target: &Target, info: &ConnectionInfo) {
        let (host, scheme) = (target.authority.as_bytes(), info.scheme().as_bytes());
        let ip = info.client.0.ip().to_canonical();
        let mut space = [0; LONGEST_ADDRESS];
        let client = address(&mut space, ip);
        let (open, close): (&[u8], &[u8]) = if ip.is_ipv6() { (b"\"[", b"]\"") } else { (b"", b"") };
        fields.add(&VIA, &[via::received_in(received).as_bytes(), b" ", self.via.own().as_bytes()]);
        // `for=192.0.2.1;proto=https;host="example.com";by=_internet`
        let by = self.by.as_bytes();
        fields.add(&FORWARDED, &[b"for=", open, client, close, b";proto=", scheme, b";host=\"", host, by]);
        fields.add(&X_FORWARDED_FOR, &[client]);
        fields.add(&X_FORWARDED_PROTO, &[scheme]);
        fields.add(&X_FORWARDED_HOST, &[host]);
        fields.add(&PORTCULLIS_ENDPOINT, &[self.endpoint.as_bytes()]);
        let certificate = info.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref());
        if let Some(value) = certificate.and_then(|certificate| self.client_cert.value(certificate)) {
            fields.add(&CLIENT_CERT, &[value.as_bytes()]);
        }
    }
}

/// Rewrites the head: target, version and the client's fields as the upstream is to see them.
///
/// # Errors
/// In a few words, why the request is refused as a bad one.
pub(super) fn rewrite(head: &mut Parts, target: &Target, asks: &Asks) -> Result<(), &'static str> {
    check_length(&head.headers, asks)?;
    if let Some(uri) = target.origin_form(&head.uri)? {
        head.uri = uri;
    }
    let wants_trailers = has_token(&head.headers, &TE, "trailers");
    hop::strip(&mut head.headers, is_not_the_clients_to_say);
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    head.version = Version::HTTP_11;
    set_connection(&mut head.headers, asks, wants_trailers);
    if !target.is_host {
        head.headers.insert(HOST, target.authority.clone());
    }
    Ok(())
}

/// What a request's server is chosen by; `None` where the request does not say.
pub(super) fn key(source: &KeySource, head: &Parts, info: &ConnectionInfo) -> Option<u64> {
    match source {
        KeySource::ClientAddress => Some(upstream::address_key(info.client.0.ip())),
        KeySource::Header(name) => head.headers.get(name).map(|value| upstream::hash(value.as_bytes())),
        KeySource::Cookie(name) => {
            let lines = head.headers.get_all(COOKIE).iter();
            let pairs = lines.flat_map(|line| line.as_bytes().split(|b| *b == b';').map(<[u8]>::trim_ascii));
            let mut values = pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            values.next().map(upstream::hash)
        }
    }
}

/// As long as an address is when it is written out: eight groups of four digits, or an IPv4 address behind six of them.
const LONGEST_ADDRESS: usize = 45;

/// An address as text. That of IPv4 by hand: every request has one, and formatting costs more than the rest.
fn address(space: &mut [u8; LONGEST_ADDRESS], ip: IpAddr) -> &[u8] {
    let mut left = &mut space[..];
    match ip {
        IpAddr::V4(ip) => {
            let mut text = [0; 16];
            let mut end = 0;
            for octet in ip.octets() {
                for (divisor, is_needed) in [(100, octet >= 100), (10, octet >= 10), (1, true)] {
                    if is_needed {
                        text[end] = b'0' + octet / divisor % 10;
                        end += 1;
                    }
                }
                text[end] = b'.';
                end += 1;
            }
            let _ = left.write_all(&text[..end - 1]);
        }
        IpAddr::V6(_) => drop(write!(left, "{ip}")), // neither can fail: the space is long enough
    }
    let free = left.len();
    &space[..LONGEST_ADDRESS - free]
}

/// The length that is declared is passed on, so it must be the one that the engine has read by.
fn check_length(fields: &HeaderMap, asks: &Asks) -> Result<(), &'static str> {
    let Some(first) = fields::first(fields, &CONTENT_LENGTH) else { return Ok(()) };
    let length = fields::number(first.as_bytes());
    let actual = asks.body.unwrap_or(Some(0));
    if !fields::is_repeated(fields, &CONTENT_LENGTH) && length.is_some() && length == actual {
        Ok(())
    } else {
        Err("the body's length is not the one declared")
    }
}

/// Fields that the gateway sets or that would mislead the upstream, in the spellings of CGI and its heirs too, where `_`
/// and `-` are one, and with some every other character that is neither letter nor digit. `Expect` is answered by the engine; `Proxy` would name a proxy to CGI programs.
pub(super) fn is_not_the_clients_to_say(name: &HeaderName) -> bool {
    let ours = |name: &str| {
        // Those that we do not send are taken away too: an upstream that believes one would believe the client.
        name.starts_with("x-forwarded-")
            || matches!(
                name,
                "forwarded" | "x-real-ip" | "portcullis-endpoint" | "client-cert" | "client-cert-chain" | "proxy"
            )
    };
    let name_text = name.as_str();
    // What they all begin with: most names are none of them at the first look.
    if !name_text.starts_with(['c', 'e', 'f', 'p', 'x']) {
        return false;
    }
    let odd = |c: char| c != '-' && !c.is_ascii_alphanumeric();
    *name == EXPECT || ours(name_text) || (name_text.contains(odd) && ours(&name_text.replace(odd, "-")))
}

/// HTTP/2 may split `Cookie`, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..]))) {
        fields.insert(COOKIE, joined);
    }
}

/// The fields of the connection to the upstream: what to switch to, whether trailers are welcome, and the framing that
/// tells the upstream where the body ends.
fn set_connection(fields: &mut HeaderMap, asks: &Asks, wants_trailers: bool) {
    if let Some(protocol) = &asks.switch {
        fields.insert(UPGRADE, protocol.clone());
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else if wants_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
        fields.insert(CONNECTION, HeaderValue::from_static("te")); // RFC 9110, section 10.1.4
    }
    match asks.body {
        None => {}
        Some(None) => drop(fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
        Some(Some(length)) => drop(fields.insert(CONTENT_LENGTH, length.into())),
    }
}

/// Takes out of a request's trailers what its head could not say either.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    hop::strip(trailers, |name| is_not_the_clients_to_say(name) || *name == HOST || *name == CONTENT_LENGTH);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use hyper::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::{Class, ClientCertificate, Endpoint, Group, Kept, Local, Remote, TlsInfo, TlsVersion};

    fn info(client: &str, certificate: Option<&'static [u8]>) -> ConnectionInfo {
        let client_certificate =
            certificate.map(|der| Arc::new(ClientCertificate { leaf: der.into(), common_name: None }));
        let (version, group) = (TlsVersion::V13, Group::X25519);
        let tls = TlsInfo {
            version,
            cipher: "",
            group,
            signature: None,
            alpn: None,
            server_name: None,
            resumed: false,
            handshake: std::time::Duration::ZERO,
            client_certificate,
            scope: None,
        };
        let endpoint = Endpoint { name: EndpointName::new("internet").unwrap(), class: Class::Public, tls: true };
        let address = client.parse().unwrap();
        ConnectionInfo {
            endpoint: endpoint.into(),
            client: Remote(address),
            local: Local(address),
            tls: Some(tls),
            asked: None,
            kept: Kept::default(),
        }
    }

    fn rewritten(request: hyper::http::request::Builder, info: &ConnectionInfo) -> Result<Parts, &'static str> {
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let target = Target::of(&head)?;
        let asks = Asks { switch: None, body: None };
        let received = head.version;
        rewrite(&mut head, &target, &asks)?;
        let mut own = OwnFields::default();
        Signature::new(&info.endpoint.name, via::Name::new(via::DEFAULT)).sign(&mut own, received, &target, info);
        for line in own.as_str().lines() {
            let (name, value) = line.split_once(": ").unwrap();
            head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Ok(head)
    }

    fn get(uri: &str) -> hyper::http::request::Builder {
        Request::builder().uri(uri)
    }

    #[test]
    fn an_http_2_request_becomes_one_of_http_1_1() {
        let request = get("https://example.com:8443/a?b").version(Version::HTTP_2);
        let request = request.header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
        let head = rewritten(request, &info("[2001:db8::1]:5", None)).unwrap();
        assert_eq!((head.version, head.uri.to_string().as_str()), (Version::HTTP_11, "/a?b"));
        assert_eq!(head.headers["host"], "example.com:8443");
        assert_eq!(head.headers["cookie"], "a=1; b=2; c=3");
        assert!(head.headers["via"].to_str().unwrap().starts_with("2 portcullis-"));
        let forwarded = "for=\"[2001:db8::1]\";proto=https;host=\"example.com:8443\";by=_internet";
        assert_eq!(head.headers["forwarded"], forwarded);
        assert_eq!(head.headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(head.headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn a_target_with_a_query_and_no_path_gets_one() {
        let head = rewritten(get("http://a?b=c"), &info("192.0.2.1:5", None)).unwrap();
        assert_eq!(head.uri, "/?b=c");
    }

    #[test]
    fn a_mapped_address_is_written_as_the_one_it_stands_for() {
        let head = rewritten(get("/").header("host", "a"), &info("[::ffff:192.0.2.1]:5", None)).unwrap();
        assert_eq!(head.headers["x-forwarded-for"], "192.0.2.1");
    }

    #[test]
    fn a_verified_client_certificate_is_passed_on_and_an_asserted_one_is_not() {
        let request = || get("/").header("host", "a").header("client-cert", ":ZXZpbA==:");
        let head = rewritten(request(), &info("192.0.2.1:5", Some(b"foo"))).unwrap();
        assert_eq!(head.headers.get_all("client-cert").iter().collect::<Vec<_>>(), [":Zm9v:"]);
        assert!(!rewritten(request(), &info("192.0.2.1:5", None)).unwrap().headers.contains_key("client-cert"));
    }

    #[test]
    fn a_length_that_is_not_the_bodys_is_refused() {
        let info = info("192.0.2.1:5", None);
        for length in ["5", "+0", "", "0, 0"] {
            assert!(
                rewritten(get("/").header("host", "a").header("content-length", length), &info).is_err(),
                "{length}"
            );
        }
        assert!(rewritten(get("/").header("host", "a").header("content-length", "0"), &info).is_ok());
    }

    #[test]
    fn the_host_that_routes_see_has_no_port() {
        for (authority, host) in [("a.b:1", "a.b"), ("a.b", "a.b"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            let (head, ()) = get("/").header("host", authority).body(()).unwrap().into_parts();
            assert_eq!(Target::of(&head).unwrap().host(), host);
        }
    }

    #[test]
    fn the_key_of_a_cookie_is_its_value_wherever_it_stands() {
        let key_of = |lines: &[&str]| {
            let request = lines.iter().fold(get("/"), |request, line| request.header("cookie", *line));
            key(&KeySource::Cookie("sid".into()), &request.body(()).unwrap().into_parts().0, &info("192.0.2.1:5", None))
        };
        let expected = Some(upstream::hash(b"x=1"));
        for lines in [&["sid=x=1"][..], &["a=b; sid=x=1;c=d"], &["a=b", "  sid=x=1  "]] {
            assert_eq!(key_of(lines), expected, "{lines:?}");
        }
        for lines in [&[][..], &["sidx=1"], &["a=sid=x=1"], &["SID=x=1"]] {
            assert_eq!(key_of(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn trailers_cannot_say_what_the_head_could_not() {
        let mut trailers = HeaderMap::new();
        for name in [
            "forwarded",
            "client_cert",
            "x.forwarded_for",
            "host",
            "content-length",
            "transfer-encoding",
            "grpc-status",
        ] {
            trailers.insert(name, HeaderValue::from_static("x"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["grpc-status"]);
    }

    proptest! {
        /// They are written as they are; nothing in them may end a line, or a target, early.
        #[test]
        fn no_part_of_a_request_line_or_field_can_hold_what_would_end_it(bytes in prop::collection::vec(any::<u8>(), 1..20)) {
            let ends_early = |b: &u8| matches!(b, b'\r' | b'\n' | 0);
            let splits = |b: &u8| ends_early(b) || *b == b' ';
            if bytes.iter().any(splits) {
                prop_assert!(Method::from_bytes(&bytes).is_err());
                prop_assert!(HeaderName::from_bytes(&bytes).is_err());
                let target = [b"/", &bytes[..]].concat();
                // What follows a fragment's mark is dropped, unread.
                let written = PathAndQuery::from_maybe_shared(Bytes::from(target)).map(|t| t.as_str().to_owned());
                prop_assert!(!written.is_ok_and(|text| text.as_bytes().iter().any(splits)));
            }
            if bytes.iter().any(ends_early) {
                prop_assert!(HeaderValue::from_bytes(&bytes).is_err());
            }
        }
    }
}
