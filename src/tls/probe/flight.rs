//! Reads a server's first flight before TLS 1.3: ServerHello, Certificate and what follows, up to ServerHelloDone.
//!
//! The bytes are a stranger's. Nothing is believed but lengths that fit, and what is not understood is passed over.

use rustls::{AlertDescription, CipherSuite, NamedGroup};

/// What the bytes so far amount to.
#[derive(Debug)]
pub(in crate::tls) enum Answer {
    /// Not yet a whole flight.
    More,
    /// The server refuses, with this alert.
    Alert(u8),
    /// This is no TLS, or none that makes sense; in words.
    Foreign(String),
    /// All of it.
    Flight(Box<Flight>),
}

/// The flight.
#[derive(Debug, Default)]
pub(in crate::tls) struct Flight {
    pub(in crate::tls) version: u16,
    suite: u16,
    group: Option<u16>,
    /// The application protocol.
    pub(in crate::tls) alpn: Option<String>,
    /// Whether a status came with the certificate.
    pub(in crate::tls) stapled: bool,
    /// The certificates, in the order in which they were sent.
    pub(in crate::tls) chain: Vec<Vec<u8>>,
}

impl Flight {
    /// The suite by its IANA name, or its number.
    pub(in crate::tls) fn suite_name(&self) -> String {
        let known = CipherSuite::from(self.suite).as_str();
        known.map_or_else(|| format!("0x{:04x}", self.suite), ToOwned::to_owned)
    }

    /// The group by its IANA name, or its number.
    pub(in crate::tls) fn group_name(&self) -> Option<String> {
        let group = self.group?;
        Some(NamedGroup::from(group).as_str().map_or_else(|| format!("0x{group:04x}"), ToOwned::to_owned))
    }
}

/// An alert by its name, or its number.
pub(in crate::tls) fn alert(alert: u8) -> String {
    AlertDescription::from(alert).as_str().map_or_else(|| alert.to_string(), ToOwned::to_owned)
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// The longest record (RFC 5246, section 6.2.3).
const MAX_RECORD: usize = (1 << 14) + 2048;

/// Reads what has come so far, from its beginning.
pub(in crate::tls) fn read(bytes: &[u8]) -> Answer {
    let mut messages = Vec::new();
    let mut rest = bytes;
    let foreign = |what: &str| Answer::Foreign(what.to_owned());
    // A record that has not come whole ends the loop; what came before it may be all that is needed.
    while let [kind, major, _minor, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(20..=23).contains(kind) || *major != 3 || length > MAX_RECORD {
            return foreign("the answer is not TLS");
        }
        let Some((content, after)) = tail.split_at_checked(length) else { break };
        match *kind {
            // The first octet is a level; a warning, such as unrecognized_name, goes before the flight.
            ALERT if content.len() == 2 && content[0] == 2 => return Answer::Alert(content[1]),
            ALERT => {}
            HANDSHAKE => messages.extend_from_slice(content),
            _ => return foreign("the answer is not a handshake"),
        }
        rest = after;
    }
    if bytes.first().is_some_and(|kind| !(20..=23).contains(kind)) {
        return foreign("the answer is not TLS");
    }
    flight(&messages).unwrap_or_else(|| foreign("the handshake is malformed"))
}

/// `None` where a message is malformed.
fn flight(mut messages: &[u8]) -> Option<Answer> {
    let mut flight = Flight::default();
    let mut greeted = false;
    while let [kind, a, b, c, tail @ ..] = messages {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((content, after)) = tail.split_at_checked(length) else { break };
        match (*kind, greeted) {
            (0, _) => {} // HelloRequest
            (2, false) => {
                server_hello(content, &mut flight)?;
                greeted = true;
            }
            (_, false) => return None,
            (11, _) => flight.chain = certificates(content)?,
            (12, _) => flight.group = group(content),
            (14, _) => return Some(Answer::Flight(Box::new(flight))),
            (22, _) => flight.stapled = content.len() > 4 && content[0] == 1,
            _ => {}
        }
        messages = after;
    }
    Some(Answer::More)
}

/// RFC 5246, section 7.4.1.3.
fn server_hello(content: &[u8], flight: &mut Flight) -> Option<()> {
    flight.version = number(content.get(..2)?);
    let session = usize::from(*content.get(34)?);
    let rest = content.get(35 + session..)?;
    flight.suite = number(rest.get(..2)?);
    let Some(extensions) = rest.get(3..).filter(|rest| !rest.is_empty()) else { return Some(()) };
    let (mut extensions, _) = sized16(extensions)?;
    while extensions.len() >= 4 {
        let (content, after) = sized16(&extensions[2..])?;
        if number(&extensions[..2]) == 16 {
            flight.alpn = protocol(content);
        }
        extensions = after;
    }
    Some(())
}

/// The one protocol of an ALPN answer (RFC 7301, section 3.1), as it can be shown.
fn protocol(content: &[u8]) -> Option<String> {
    let (list, _) = sized16(content)?;
    let name = list.get(1..=usize::from(*list.first()?))?;
    Some(name.escape_ascii().to_string())
}

/// RFC 5246, section 7.4.2.
fn certificates(content: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut list, _) = sized24(content)?;
    let mut chain = Vec::new();
    while !list.is_empty() {
        let (certificate, after) = sized24(list)?;
        chain.push(certificate.to_vec());
        list = after;
    }
    Some(chain)
}

/// The named curve of a ServerKeyExchange (RFC 8422, section 5.4); other exchanges have none.
fn group(content: &[u8]) -> Option<u16> {
    match content {
        [3, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

fn number(two: &[u8]) -> u16 {
    two.iter().fold(0, |number, octet| number << 8 | u16::from(*octet))
}

fn sized16(input: &[u8]) -> Option<(&[u8], &[u8])> {
    input.get(2..)?.split_at_checked(usize::from(number(&input[..2])))
}

fn sized24(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = input.get(..3)?.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    input[3..].split_at_checked(length)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::{Answer, read};

    /// A flight of one certificate, over two records.
    fn sample() -> Vec<u8> {
        let message = |kind: u8, body: &[u8]| [&[kind, 0, 0, u8::try_from(body.len()).unwrap()], body].concat();
        let hello = [&[3, 3][..], &[7; 32], &[0, 0xc0, 0x2b, 0, 0, 9, 0, 16, 0, 5, 0, 3, 2], b"h2"].concat();
        let flight = [
            message(2, &hello),
            message(11, &[0, 0, 5, 0, 0, 2, 1, 2]),
            message(22, &[1, 0, 0, 1, 9]),
            message(12, &[3, 0, 0x1d, 0]),
            message(14, &[]),
        ]
        .concat();
        let (first, second) = flight.split_at(20);
        let record = |part: &[u8]| [&[22, 3, 3, 0, u8::try_from(part.len()).unwrap()], part].concat();
        [record(first), record(second)].concat()
    }

    #[test]
    fn a_flight_tells_version_suite_group_protocol_status_and_chain() {
        let Answer::Flight(flight) = read(&sample()) else { panic!() };
        assert_eq!((flight.version, flight.stapled), (0x0303, true));
        assert_eq!(flight.suite_name(), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
        assert_eq!((flight.group_name().as_deref(), flight.alpn.as_deref()), (Some("X25519"), Some("h2")));
        assert_eq!(flight.chain, [[1, 2]]);
    }

    #[test]
    fn every_beginning_of_a_flight_asks_for_more() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(matches!(read(&whole[..length]), Answer::More), "{length}");
        }
    }

    #[test]
    fn an_alert_and_what_is_not_tls_are_told_apart() {
        assert!(matches!(read(&[21, 3, 1, 0, 2, 2, 70]), Answer::Alert(70)));
        assert!(matches!(read(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Answer::Foreign(_)));
        assert!(matches!(read(b"2"), Answer::Foreign(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_going_astray(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), places in
            proptest::collection::vec((0usize..150, any::<u8>()), 0..5))
        {
            let _ = read(&bytes);
            bytes = sample();
            for (place, byte) in places {
                let at = place % bytes.len();
                bytes[at] = byte;
            }
            let _ = read(&bytes);
        }
    }
}
