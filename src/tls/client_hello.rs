//! Reads what a ClientHello asks for, without taking part in the handshake (RFC 9846, section 4.1.2; RFC 5246).
//!
//! Owns the reading of the server name (RFC 6066, section 3) and of the application protocols (RFC 7301), over however many
//! records the message comes in. `connection` asks, for endpoints that pass some names on unterminated. What is encrypted
//! (ECH) stays so: the name is the outer one, by which such a hello is meant to be routed. What two readers could take for
//! different names is refused, since the server behind reads the same bytes again.

/// The longest ClientHello, in bytes: with post-quantum key shares and ECH a few kilobytes.
const MAX_HELLO: usize = 16 * 1024;
/// Over how many records it may come.
const MAX_RECORDS: usize = 64;
/// The most bytes that are read for it: the message with the heads of its records.
pub const MAX_BYTES: usize = MAX_HELLO + 4 + MAX_RECORDS * RECORD_HEAD;

const RECORD_HEAD: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest plaintext of a record (RFC 9846, section 5.1).
const MAX_RECORD: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The server's name, in lower case.
    pub server_name: Option<String>,
    /// The application protocols that it offers, in its order.
    pub alpn: Vec<Vec<u8>>,
}

/// What a connection's first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a ClientHello, or nothing yet: it cannot be told before there are so many bytes in all.
    Incomplete(usize),
    /// A whole one.
    Hello(Hello),
    /// No TLS.
    NotTls,
}

/// Reads a connection's first bytes.
///
/// # Errors
/// In a few words, why they are TLS and no ClientHello that can be routed.
pub fn parse(bytes: &[u8]) -> Result<Parsed, &'static str> {
    let mut message = Vec::new();
    let mut rest = bytes;
    for record in 0..MAX_RECORDS {
        let is_first = record == 0;
        let at = bytes.len() - rest.len();
        let is_record =
            rest.first().is_none_or(|kind| *kind == HANDSHAKE) && rest.get(1).is_none_or(|major| *major == 3);
        if !is_record {
            return if is_first { Ok(Parsed::NotTls) } else { Err("another record within the ClientHello") };
        }
        let Some((head, after)) = rest.split_first_chunk::<RECORD_HEAD>() else {
            return Ok(Parsed::Incomplete(at + RECORD_HEAD));
        };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if length == 0 || length > MAX_RECORD {
            return Err("a record of no length or too long");
        }
        if is_first && after.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err("a handshake that does not begin with a ClientHello");
        }
        let Some((fragment, after)) = after.split_at_checked(length) else {
            return Ok(Parsed::Incomplete(at + RECORD_HEAD + length));
        };
        rest = after;
        message.extend_from_slice(fragment);
        if let Some(hello) = whole(&message)? {
            return Ok(Parsed::Hello(hello));
        }
    }
    Err("a ClientHello in too many records")
}

/// The message's meaning, once it is whole.
fn whole(message: &[u8]) -> Result<Option<Hello>, &'static str> {
    let Some((&[_, a, b, c], body)) = message.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    if length > MAX_HELLO {
        return Err("a ClientHello that is too long");
    }
    match body.len() {
        have if have < length => Ok(None),
        have if have > length => Err("bytes behind the ClientHello in its record"),
        _ => hello(body).ok_or("a malformed ClientHello").map(Some),
    }
}

fn hello(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // legacy_version, random
    body.vector(1).filter(|session_id| session_id.len() <= 32)?;
    body.vector(2).filter(|suites| suites.len() >= 2 && suites.len() % 2 == 0)?;
    body.vector(1).filter(|compression| !compression.is_empty())?;
    let mut hello = Hello::default();
    if body.0.is_empty() {
        return Some(hello); // TLS 1.2 and older may do without extensions
    }
    let mut extensions = Reader(body.vector(2).filter(|_| body.0.is_empty())?);
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)? as u16;
        let data = extensions.vector(2)?;
        match kind {
            SERVER_NAME if !std::mem::replace(&mut named, true) => hello.server_name = server_name(data)?,
            ALPN if !std::mem::replace(&mut offered, true) => hello.alpn = protocols(data)?,
            SERVER_NAME | ALPN => return None, // twice
            _ => {}                            // GREASE among them (RFC 8701)
        }
    }
    Some(hello)
}

/// The one host name; an address is no name (RFC 6066, section 3).
fn server_name(data: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(whole_vector(data)?);
    let kind = list.number(1)? as u8;
    let name = list.vector(2)?;
    if kind != HOST_NAME || !list.0.is_empty() {
        return None;
    }
    let is_label = |label: &[u8]| {
        let plain = label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_');
        (1..=63).contains(&label.len()) && plain
    };
    if std::str::from_utf8(name).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok()) {
        return Some(None);
    }
    let is_name = name.len() <= 253 && name.split(|b| *b == b'.').all(is_label);
    is_name.then(|| Some(String::from_utf8_lossy(name).to_ascii_lowercase()))
}

fn protocols(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(whole_vector(data)?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector(1).filter(|name| !name.is_empty())?.to_vec());
    }
    Some(protocols)
}

/// A list that takes all of its extension and is not empty.
fn whole_vector(data: &[u8]) -> Option<&[u8]> {
    let mut data = Reader(data);
    data.vector(2).filter(|list| !list.is_empty() && data.0.is_empty())
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }

    /// A vector whose length is a number of so many bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?;
        self.take(length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What rustls says first.
    fn said(name: &str, alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        #[expect(clippy::disallowed_methods, reason = "nobody is trusted: it only says hello")]
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of `size` bytes.
    fn fragmented(record: &[u8], size: usize) -> Vec<u8> {
        let head = |piece: &[u8]| [&[HANDSHAKE, 3, 1][..], &(piece.len() as u16).to_be_bytes(), piece].concat();
        record[RECORD_HEAD..].chunks(size).flat_map(head).collect()
    }

    /// A hello with these extensions.
    fn with(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let vector = |data: &[u8]| [&(data.len() as u16).to_be_bytes()[..], data].concat();
        let list: Vec<u8> =
            extensions.iter().flat_map(|(kind, data)| [kind.to_be_bytes().to_vec(), vector(data)].concat()).collect();
        let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &vector(&list)].concat();
        let message = [&[CLIENT_HELLO, 0][..], &vector(&body)].concat();
        [&[HANDSHAKE, 3, 1][..], &vector(&message)].concat()
    }

    fn sni(name: &[u8]) -> (u16, Vec<u8>) {
        let entry = [&[HOST_NAME][..], &(name.len() as u16).to_be_bytes(), name].concat();
        (SERVER_NAME, [&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
    }

    #[test]
    fn a_real_client_is_understood_in_one_record_and_in_many() {
        let bytes = said("DB.example.com", &["postgresql", "h2"]);
        let hello =
            Hello { server_name: Some("db.example.com".into()), alpn: vec![b"postgresql".to_vec(), b"h2".to_vec()] };
        assert_eq!(parse(&bytes), Ok(Parsed::Hello(hello.clone())));
        for size in [bytes.len() / 60, 100, 1000] {
            assert_eq!(parse(&fragmented(&bytes, size)), Ok(Parsed::Hello(hello.clone())), "{size}");
        }
        assert!(parse(&fragmented(&bytes, 1)).is_err(), "more records than any client makes");
        assert_eq!(parse(&said("127.0.0.1", &[])), Ok(Parsed::Hello(Hello::default())));
    }

    #[test]
    fn how_many_bytes_are_missing_is_never_too_many() {
        let bytes = fragmented(&said("a.example", &[]), 50);
        let mut have = 0;
        while let Ok(Parsed::Incomplete(wanted)) = parse(&bytes[..have]) {
            assert!(wanted > have && wanted <= bytes.len(), "{wanted} after {have}");
            have = wanted;
        }
        assert_eq!(have, bytes.len());
    }

    #[test]
    fn unknown_extensions_are_passed_over() {
        let grease = (0x0A0A, vec![]);
        let ech = (0xFE0D, vec![1; 200]);
        let Ok(Parsed::Hello(hello)) = parse(&with(&[grease, sni(b"a.example"), ech])) else { panic!("no hello") };
        assert_eq!(hello.server_name.as_deref(), Some("a.example"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let two = (SERVER_NAME, [&[0, 8][..], &[0, 0, 1, b'a'], &[0, 0, 1, b'b']].concat());
        for extensions in [
            vec![sni(b"a"), sni(b"b")],
            vec![two],
            vec![sni(b"")],
            vec![sni(b"a.")],
            vec![sni(b"a\0b")],
            vec![sni("é".as_bytes())],
            vec![(SERVER_NAME, vec![])],
            vec![(ALPN, vec![0, 1, 0])],
            vec![(ALPN, vec![0, 3, 2, b'h', b'2', 9])],
        ] {
            assert!(parse(&with(&extensions)).is_err(), "{extensions:?}");
        }
        let mut behind = with(&[]);
        behind.push(0);
        behind[4] += 1;
        assert!(parse(&behind).is_err());
        assert!(parse(b"\x16\x03\x01\x00\x01\x02").is_err(), "a ServerHello");
        assert!(parse(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff").is_err(), "16 MiB");
    }

    #[test]
    fn what_is_not_tls_is_told_from_its_first_byte() {
        for bytes in [&b"G"[..], b"SSH-2.0", b"\x15\x03", b"\x16\x02", b"\x80\x2e\x01"] {
            assert_eq!(parse(bytes), Ok(Parsed::NotTls), "{bytes:?}");
        }
        assert_eq!(parse(b""), Ok(Parsed::Incomplete(5)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_and_what_is_whole_stays_so(
            start in 0_usize..60, noise in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(),
        ) {
            let mut bytes = with(&[sni(b"a.example"), (ALPN, vec![0, 3, 2, b'h', b'2'])]);
            let at = at.index(bytes.len());
            bytes.splice(at..at.min(bytes.len()), noise.iter().copied().take(start));
            if let Ok(parsed @ (Parsed::Hello(_) | Parsed::NotTls)) = parse(&bytes) {
                bytes.extend_from_slice(&noise);
                prop_assert_eq!(parse(&bytes), Ok(parsed));
            }
            let _ = parse(&noise);
        }
    }
}
