//! The grammar of `Host` and `:authority`: `uri-host [ ":" port ]` (RFC 9110, section 7.2; RFC 3986, section 3.2).
//!
//! Used by `head` and `http2`. Userinfo is refused (RFC 9110, section 4.2.4), and so are an empty host and
//! percent-encoding, which names a different host to each reader.

use super::field::alphanumeric_and;

/// Whether `text` is a host that a request may name, with or without a port.
pub(super) fn is_valid(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => match rest.iter().position(|b| *b == b']') {
            Some(end) if is_ipv6(&rest[..end]) => (&rest[..end], &rest[end + 1..]),
            _ => return false,
        },
        _ => {
            let end = text.iter().position(|b| *b == b':').unwrap_or(text.len());
            if !text[..end].iter().all(|b| is_name(*b)) {
                return false;
            }
            text.split_at(end)
        }
    };
    !host.is_empty() && is_port(port)
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// A registered name or an IPv4 address: unreserved characters and sub-delimiters.
fn is_name(b: u8) -> bool {
    NAME[usize::from(b)]
}

static NAME: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+,;=");

/// Nothing, or a colon and at most five digits; "example.com:" is legal (RFC 3986, section 3.2.3).
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && digits.len() <= 5
                && digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')) <= u32::from(u16::MAX)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn names_addresses_and_ports_are_accepted() {
        for good in ["a", "www.example.com", "a_b.c:8080", "127.0.0.1:1", "[::1]", "[2001:db8::1]:443", "a:"] {
            assert!(is_valid(good.as_bytes()), "{good:?}");
        }
    }

    #[test]
    fn whatever_two_readers_could_take_for_different_hosts_is_refused() {
        for bad in [
            "",
            ":80",
            "a b",
            "u@a",
            "a/b",
            "a:65536",
            "a:8x",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[]",
            "a%2eb",
            "[fe80::1%25eth0]",
            "a\\b",
            "a?b",
            "a#b",
            "ü",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad:?}");
        }
    }
}
