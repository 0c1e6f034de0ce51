//! A ClientHello for the versions before TLS 1.3 (RFC 5246, section 7.4.1.2), which offers all that an old server may
//! want. Nothing is agreed on by it: the connection ends after the server's first flight.

use std::io;

use aws_lc_rs::rand;

use super::Kind;

/// A version before TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V10,
    V11,
    V12,
}

impl Version {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    pub(super) fn wire(self) -> u16 {
        match self {
            Self::V10 => 0x0301,
            Self::V11 => 0x0302,
            Self::V12 => 0x0303,
        }
    }
}

/// Suites whose certificate has an ECDSA key: AEAD, then CBC.
const ECDSA: &[u16] = &[0xc02b, 0xc02c, 0xcca9, 0xc023, 0xc024, 0xc009, 0xc00a, 0xc008];
/// The same for RSA: ECDHE, then DHE, then without forward secrecy, down to RC4.
const RSA: &[u16] = &[
    0xc02f, 0xc030, 0xcca8, 0xc027, 0xc028, 0xc013, 0xc014, 0xc012, 0x009e, 0x009f, 0xccaa, 0x0067, 0x006b, 0x0033,
    0x0039, 0x0016, 0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, 0x000a, 0x0005,
];
/// X25519, P-256, P-384, P-521, ffdhe2048.
const GROUPS: &[u16] = &[0x001d, 0x0017, 0x0018, 0x0019, 0x0100];
/// Every signature scheme, broken ones too, so that no certificate is held back.
const SCHEMES: &[u16] = &[
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401, 0x0501, 0x0601,
    0x0303, 0x0301, 0x0203, 0x0201, 0x0202, 0x0101,
];

/// The hello, as a record.
pub(super) fn client_hello(version: Version, name: Option<&str>, kind: Kind) -> io::Result<Vec<u8>> {
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes could be had"))?;
    let suites = match kind {
        Kind::Ecdsa => ECDSA,
        Kind::Rsa => RSA,
    };
    let mut body = version.wire().to_be_bytes().to_vec();
    body.extend(random);
    body.push(0); // no session to resume
    body.extend(sized16(&numbers(suites)));
    body.extend([1, 0]); // no compression
    body.extend(sized16(&extensions(version, name)));
    let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
    let message = [&[1, length[1], length[2], length[3]], &body[..]].concat();
    // Old servers want the oldest version on the record (RFC 5246, appendix E.1).
    Ok([&[22, 3, 1], &sized16(&message)[..]].concat())
}

fn extensions(version: Version, name: Option<&str>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(name) = name {
        let entry = [&[0], &sized16(name.as_bytes())[..]].concat();
        all.extend(extension(0, &sized16(&entry)));
    }
    all.extend(extension(5, &[1, 0, 0, 0, 0])); // status_request: OCSP
    all.extend(extension(10, &sized16(&numbers(GROUPS))));
    all.extend(extension(11, &[1, 0])); // uncompressed points
    if version == Version::V12 {
        all.extend(extension(13, &sized16(&numbers(SCHEMES))));
    }
    all.extend(extension(16, &sized16(b"\x02h2\x08http/1.1")));
    all.extend(extension(23, &[])); // extended_master_secret
    all.extend(extension(0xff01, &[0])); // renegotiation_info
    all
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &sized16(content)[..]].concat()
}

fn numbers(all: &[u16]) -> Vec<u8> {
    all.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// The content behind its length in two octets. A name that is longer than that is cut, and no server knows it.
fn sized16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), &content[..usize::from(length)]].concat()
}
