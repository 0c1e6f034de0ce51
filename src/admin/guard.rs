//! Who may ask the admin port: not a foreign page in an operator's browser, and nobody without the token where one is
//! configured.
//!
//! A page cannot forge `Host`, `Origin` or `Sec-Fetch-Site`. DNS rebinding, which makes a foreign name resolve to
//! 127.0.0.1, leaves that name in `Host`; a plain cross-origin request names its origin.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode, Version};
use subtle::ConstantTimeEq;

use crate::admin::answer::Answer;
use crate::admin::state::Snapshot;

/// Lets a request through, or says why not.
pub(crate) fn admit<B>(request: &Request<B>, running: &Snapshot) -> Result<(), Answer> {
    let Some(plan) = &running.plan.admin else {
        // A reload switched the port off; whoever still holds a connection gets nothing more, token or not.
        let gone = "the running configuration has no admin port (admin.listen = \"off\")";
        return Err(Answer::refuse(StatusCode::SERVICE_UNAVAILABLE, gone));
    };
    let host = check_host(request, &running.plan.config.admin.listen)?;
    check_origin(request.headers(), host)?;
    plan.token.as_ref().map_or(Ok(()), |token| check_token(request.headers(), token))
}

/// The request's authority, if it is one of ours.
fn check_host<'a, B>(request: &'a Request<B>, listen: &str) -> Result<&'a str, Answer> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/1.0 may leave it out (RFC 9112, section 3.2); a browser never does.
        (None, _) if request.version() == Version::HTTP_10 => return Ok(""),
        _ => None,
    };
    let Some(host) = host else {
        return Err(Answer::refuse(StatusCode::BAD_REQUEST, "a request needs exactly one Host field"));
    };
    // The authority of an absolute target stands in for Host (RFC 9112, section 3.2.2): look at both.
    let target = request.uri().authority().map(Authority::as_str);
    if let Some(foreign) = [Some(host), target].into_iter().flatten().find(|name| !is_ours(name, listen)) {
        let error = format!(
            "this admin port is not {foreign:?}; ask for it by an IP address, by localhost, or by the host of \
             admin.listen"
        );
        return Err(Answer::refuse(StatusCode::MISDIRECTED_REQUEST, &error));
    }
    Ok(host)
}

/// Whether an authority names this port: an IP literal, `localhost`, or the host that it was told to listen on.
fn is_ours(authority: &str, listen: &str) -> bool {
    let Some(host) = host_of(authority) else { return false };
    let literal = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
    };
    literal || host.eq_ignore_ascii_case("localhost") || host_of(listen).is_some_and(|l| l.eq_ignore_ascii_case(host))
}

/// The host of `HOST` or `HOST:PORT`, an IPv6 one with its brackets; `None` for anything else.
fn host_of(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(end)?;
    let port = port.strip_prefix(':').unwrap_or(port);
    (!host.is_empty() && port.bytes().all(|b| b.is_ascii_digit())).then_some(host)
}

fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Answer> {
    let same_site = headers.get_all(HeaderName::from_static("sec-fetch-site")).iter();
    let mut sites = same_site.map(|site| site.as_bytes());
    let mut origins = headers.get_all(ORIGIN).iter();
    // `none` is a person who typed the address; `same-site` is another port of this host, which is not us.
    let fetched = sites.all(|site| matches!(site, b"same-origin" | b"none"));
    let own = origins.all(|origin| {
        let authority = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    if fetched && own {
        return Ok(());
    }
    let error = "cross-origin requests are refused: open the admin port itself, not a page that asks it";
    Err(Answer::refuse(StatusCode::FORBIDDEN, error))
}

fn check_token(headers: &HeaderMap, token: &str) -> Result<(), Answer> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let given = match (fields.next(), fields.next()) {
        (Some(field), None) => bearer(field.as_bytes()),
        _ => None,
    };
    // In constant time, or the time of the answer would tell how much of a guess is right.
    if given.is_some_and(|given| given.ct_eq(token.as_bytes()).into()) {
        return Ok(());
    }
    let error = "this admin port wants \"Authorization: Bearer TOKEN\" with the token of admin.token_file";
    Err(Answer::refuse(StatusCode::UNAUTHORIZED, error).with(WWW_AUTHENTICATE, "Bearer realm=\"portcullis\""))
}

/// The token of a bearer field (RFC 6750, section 2.1); the scheme's case does not matter.
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, ORIGIN};
    use proptest::prelude::*;

    use super::{check_origin, check_token, is_ours};

    #[test]
    fn only_addresses_localhost_and_the_host_listened_on_are_ours() {
        let listen = "admin.example.net:9090";
        let ours =
            ["127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "[::1]", "LocalHost:1", "admin.example.net", "10.0.0.8"];
        for host in ours {
            assert!(is_ours(host, listen), "{host}");
        }
        let foreign = [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:80@evil",
            "[::1",
            "[evil]",
            "::1",
            "[::1]x",
            "127.1",
            "2130706433",
            "user@localhost",
            "[127.0.0.1]",
            "localhost:x",
        ];
        for host in foreign {
            assert!(!is_ours(host, listen), "{host}");
        }
    }

    #[test]
    fn only_the_port_itself_is_a_good_origin() {
        let admitted = |name: HeaderName, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            check_origin(&headers, "localhost:9090").is_ok()
        };
        assert!(admitted(ORIGIN, "http://localhost:9090"));
        for origin in ["null", "http://localhost:3000", "https://evil.example", "localhost:9090", ""] {
            assert!(!admitted(ORIGIN, origin), "{origin}");
        }
        let site = || HeaderName::from_static("sec-fetch-site");
        assert!(admitted(site(), "same-origin") && admitted(site(), "none"));
        assert!(!admitted(site(), "cross-site") && !admitted(site(), "same-site"));
    }

    #[test]
    fn only_the_whole_token_opens() {
        let opens = |fields: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, HeaderValue::from_static(field));
            }
            check_token(&headers, "s3cret").is_ok()
        };
        assert!(opens(&["Bearer s3cret"]) && opens(&["bearer s3cret"]));
        for bad in ["Bearer s3cre", "Bearer s3cret2", "Bearer", "Bearer ", "Basic s3cret", "s3cret", ""] {
            assert!(!opens(&[bad]), "{bad}");
        }
        assert!(!opens(&[]) && !opens(&["Bearer s3cret", "Bearer s3cret"]));
    }

    proptest! {
        #[test]
        fn any_authority_is_judged_without_a_panic(authority in ".{0,40}") {
            let _ = is_ours(&authority, "127.0.0.1:9090");
        }

        #[test]
        fn a_name_under_a_foreign_domain_is_never_ours(label in "[a-z0-9.\\[\\]:-]{0,20}") {
            let foreign = label + ".evil.example";
            prop_assert!(!is_ours(&foreign, "127.0.0.1:9090"));
        }
    }
}
