//! The PROXY protocol, versions 1 and 2: who is really at the other end.
//!
//! Owns reading a header from a trusted peer (used by `connection`) and writing one to an upstream (used by
//! `handler/tcp_proxy`). The format is HAProxy's `proxy-protocol.txt`, of 2020/03/05.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyProtocol;
use crate::identity::{ConnectionInfo, TlsVersion};

/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest version 1 line, with its CRLF (section 2.1).
const V1_MAX: usize = 107;
/// The longest version 2 header that is accepted: addresses and a generous set of TLVs.
pub const V2_MAX: usize = 16 + 2048;

const TLV_ALPN: u8 = 0x01;
const TLV_AUTHORITY: u8 = 0x02;
const TLV_SSL: u8 = 0x20;
const TLV_SSL_VERSION: u8 = 0x21;
const TLV_SSL_CN: u8 = 0x22;
const TLV_SSL_CIPHER: u8 = 0x23;
/// Our own type, the first of the range for custom ones: the endpoint's name.
pub const TLV_ENDPOINT: u8 = 0xE0;

const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// What a header says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The proxy's own connection (a health check, say), or one of a family that has no addresses: use the socket's.
    Local,
    /// A client's connection.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// The address that it dialled.
        destination: SocketAddr,
    },
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header: more is needed, and everything so far belongs to the header.
    Incomplete,
    /// A header.
    Header {
        /// Its length, in bytes.
        length: usize,
        /// What it says.
        claim: Claim,
    },
}

/// Reads a header from the first bytes of a connection.
///
/// # Errors
/// In a few words, why these bytes can never become a header. There is no second guess: what is not understood
/// completely is refused.
pub fn parse(bytes: &[u8]) -> Result<Parsed, &'static str> {
    let n = bytes.len().min(SIGNATURE.len());
    if bytes[..n] == SIGNATURE[..n] {
        return parse_v2(bytes);
    }
    let n = bytes.len().min(6);
    if bytes[..n] == b"PROXY "[..n] {
        return parse_v1(bytes);
    }
    Err("no PROXY header")
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, &'static str> {
    let window = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < V1_MAX { Ok(Parsed::Incomplete) } else { Err("PROXY v1 line too long") };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or("PROXY v1 line without CRLF")?;
    let line = std::str::from_utf8(line).map_err(|_| "PROXY v1 line is not ASCII")?;
    let length = end + 1;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // What follows UNKNOWN is to be ignored (section 2.1).
        return Ok(Parsed::Header { length, claim: Claim::Local });
    }
    let mut next = || words.next().ok_or("PROXY v1 line cut short");
    let addresses = (next()?, next()?);
    let ports = (next()?, next()?);
    if words.next().is_some() {
        return Err("PROXY v1 line with surplus words");
    }
    let (source, destination): (IpAddr, IpAddr) = match family {
        "TCP4" => (v1_address::<Ipv4Addr>(addresses.0)?.into(), v1_address::<Ipv4Addr>(addresses.1)?.into()),
        "TCP6" => (v1_address::<Ipv6Addr>(addresses.0)?.into(), v1_address::<Ipv6Addr>(addresses.1)?.into()),
        _ => return Err("PROXY v1 line of an unknown family"),
    };
    let source = SocketAddr::new(source, v1_port(ports.0)?);
    let destination = SocketAddr::new(destination, v1_port(ports.1)?);
    Ok(Parsed::Header { length, claim: Claim::Proxied { source, destination } })
}

fn v1_address<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "PROXY v1 line with a bad address")
}

fn v1_port(text: &str) -> Result<u16, &'static str> {
    let canonical =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).ok_or("PROXY v1 line with a bad port")
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, &'static str> {
    let Some(head) = bytes.first_chunk::<16>() else { return Ok(Parsed::Incomplete) };
    let (version_command, family) = (head[12], head[13]);
    if version_command >> 4 != 2 {
        return Err("PROXY v2 header of an unknown version");
    }
    let length = 16 + usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > V2_MAX {
        return Err("PROXY v2 header too long");
    }
    let Some(body) = bytes.get(16..length) else { return Ok(Parsed::Incomplete) };
    let (claim, addresses) = match (version_command & 0x0F, family) {
        (0, _) => return Ok(Parsed::Header { length, claim: Claim::Local }),
        // A stream or a datagram over IPv4, IPv6 or a Unix socket, or UNSPEC.
        (1, 0x11) => (v2_v4(body)?, 12),
        (1, 0x21) => (v2_v6(body)?, 36),
        (1, 0x00) => (Claim::Local, 0),
        (1, 0x31) => (Claim::Local, 216),
        (1, _) => return Err("PROXY v2 header of an unknown family"),
        _ => return Err("PROXY v2 header of an unknown command"),
    };
    if family != 0 {
        check_tlvs(body.get(addresses..).ok_or("PROXY v2 header cut short")?)?;
    }
    Ok(Parsed::Header { length, claim })
}

fn v2_v4(body: &[u8]) -> Result<Claim, &'static str> {
    let &[a, b, c, d, e, f, g, h, p, q, r, s] = body.first_chunk::<12>().ok_or("PROXY v2 header cut short")?;
    Ok(Claim::Proxied {
        source: (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q])).into(),
        destination: (Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([r, s])).into(),
    })
}

fn v2_v6(body: &[u8]) -> Result<Claim, &'static str> {
    let short = "PROXY v2 header cut short";
    let (source, rest) = body.split_first_chunk::<16>().ok_or(short)?;
    let (destination, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
    let &[p, q, r, s] = rest.first_chunk::<4>().ok_or(short)?;
    Ok(Claim::Proxied {
        source: (Ipv6Addr::from(*source), u16::from_be_bytes([p, q])).into(),
        destination: (Ipv6Addr::from(*destination), u16::from_be_bytes([r, s])).into(),
    })
}

/// TLVs are not needed, but a header whose TLVs do not fill it exactly is not understood.
fn check_tlvs(mut rest: &[u8]) -> Result<(), &'static str> {
    while let Some((&[_, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = after.get(length..).ok_or("PROXY v2 header with a TLV cut short")?;
    }
    if rest.is_empty() { Ok(()) } else { Err("PROXY v2 header with a TLV cut short") }
}

/// Writes the header that tells an upstream of a connection.
#[must_use]
pub fn header(version: ProxyProtocol, info: &ConnectionInfo) -> Vec<u8> {
    let (source, destination) = same_family(info.client.0, info.local.0);
    match version {
        ProxyProtocol::V1 => header_v1(source, destination),
        ProxyProtocol::V2 => header_v2(source, destination, info),
    }
}

/// Both addresses as IPv4 if both are, else both as IPv6: a header has one family.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (a, b) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let widen = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 => v6,
    };
    let (a, b) = if a.is_ipv4() == b.is_ipv4() { (a, b) } else { (widen(a), widen(b)) };
    (SocketAddr::new(a, source.port()), SocketAddr::new(b, destination.port()))
}

fn header_v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let mut line = String::with_capacity(V1_MAX);
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    line.into_bytes()
}

fn header_v2(source: SocketAddr, destination: SocketAddr, info: &ConnectionInfo) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&SIGNATURE);
    out.push(0x21); // version 2, command PROXY
    out.push(if source.is_ipv4() { 0x11 } else { 0x21 });
    out.extend_from_slice(&[0, 0]); // the length, filled in at the end
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    if let Some(tls) = &info.tls {
        if let Some(alpn) = &tls.alpn {
            tlv(&mut out, TLV_ALPN, alpn.as_str().as_bytes());
        }
        if let Some(name) = &tls.server_name {
            tlv(&mut out, TLV_AUTHORITY, name.as_bytes());
        }
        tlv(&mut out, TLV_SSL, &ssl_value(tls));
    }
    if let Some(name) = &info.asked {
        tlv(&mut out, TLV_AUTHORITY, name.as_bytes());
    }
    tlv(&mut out, TLV_ENDPOINT, info.endpoint.name.as_str().as_bytes());
    let length = u16::try_from(out.len() - 16).unwrap_or(u16::MAX);
    out[14..16].copy_from_slice(&length.to_be_bytes());
    out
}

/// The value of the SSL TLV: flags, whether the client's certificate failed to verify, and TLVs of its own (section 2.2.6).
fn ssl_value(tls: &crate::identity::TlsInfo) -> Vec<u8> {
    let mut value = Vec::with_capacity(64);
    let certificate = tls.client_certificate.as_ref();
    value.push(match certificate {
        // A resumed session carries its certificate; it was not sent again on this connection.
        Some(_) if tls.resumed => CLIENT_SSL | CLIENT_CERT_SESS,
        Some(_) => CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS,
        None => CLIENT_SSL,
    });
    value.extend_from_slice(&u32::from(certificate.is_none()).to_be_bytes());
    let version = match tls.version {
        TlsVersion::V12 => "TLSv1.2",
        TlsVersion::V13 => "TLSv1.3",
    };
    tlv(&mut value, TLV_SSL_VERSION, version.as_bytes());
    tlv(&mut value, TLV_SSL_CIPHER, tls.cipher.as_bytes());
    if let Some(name) = certificate.and_then(|c| c.common_name.as_deref()) {
        tlv(&mut value, TLV_SSL_CN, name.as_bytes());
    }
    value
}

/// Appends one TLV; a value longer than any of ours should be is cut, so that the header stays well formed.
fn tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(512)];
    out.push(kind);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::{Alpn, Class, Endpoint, EndpointName, Group, Kept, Local, Remote, TlsInfo};

    fn info(source: &str, destination: &str, tls: bool) -> ConnectionInfo {
        ConnectionInfo {
            endpoint: Arc::new(Endpoint { name: EndpointName::new("internet").unwrap(), class: Class::Public, tls }),
            client: Remote(source.parse().unwrap()),
            local: Local(destination.parse().unwrap()),
            asked: None,
            tls: tls.then(|| TlsInfo {
                version: TlsVersion::V13,
                cipher: "TLS13_AES_128_GCM_SHA256",
                group: Group::X25519,
                signature: None,
                alpn: Some(Alpn::H2),
                server_name: Some("www.example.com".into()),
                resumed: false,
                handshake: std::time::Duration::ZERO,
                client_certificate: None,
                scope: None,
            }),
            kept: Kept::default(),
        }
    }

    fn claim(source: &str, destination: &str) -> Claim {
        Claim::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn what_is_written_is_read_back_in_both_versions_and_families() {
        for (source, destination) in [("192.0.2.1:1234", "198.51.100.2:443"), ("[2001:db8::1]:1", "[::1]:65535")] {
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let bytes = header(version, &info(source, destination, true));
                let expected = Parsed::Header { length: bytes.len(), claim: claim(source, destination) };
                assert_eq!(parse(&bytes), Ok(expected));
                for cut in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Incomplete), "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn version_2_names_the_endpoint_and_the_tls_facts() {
        let bytes = header(ProxyProtocol::V2, &info("192.0.2.1:1234", "198.51.100.2:443", true));
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        assert!(has(b"\xE0\x00\x08internet"));
        assert!(has(b"\x01\x00\x02h2"));
        assert!(has(b"\x02\x00\x0fwww.example.com"));
        assert!(has(b"\x21\x00\x07TLSv1.3"));
    }

    #[test]
    fn a_client_mapped_into_ipv6_is_told_as_ipv4() {
        let bytes = header(ProxyProtocol::V1, &info("[::ffff:192.0.2.1]:5", "127.0.0.1:6", false));
        assert_eq!(bytes, b"PROXY TCP4 192.0.2.1 127.0.0.1 5 6\r\n");
    }

    #[test]
    fn what_is_not_exactly_a_header_is_refused() {
        for bad in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c............",
            b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c............",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b...........",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0d.............",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat();
        assert!(parse(&long).is_err());
    }

    #[test]
    fn a_local_or_unknown_header_leaves_the_sockets_own_addresses() {
        let local = Claim::Local;
        assert_eq!(parse(b"PROXY UNKNOWN\r\nrest"), Ok(Parsed::Header { length: 15, claim: local }));
        assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), Ok(Parsed::Header { length: 16, claim: local }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic_and_a_verdict_stands_whatever_follows(bytes: Vec<u8>, more: Vec<u8>) {
            let longer = [bytes.as_slice(), &more].concat();
            match parse(&bytes) {
                Ok(Parsed::Incomplete) => {}
                decided => prop_assert_eq!(decided, parse(&longer)),
            }
        }
    }
}
