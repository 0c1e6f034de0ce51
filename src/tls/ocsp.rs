//! What a responder says of a certificate: an OCSP response (RFC 6960, section 4.2), read once.
//!
//! `chain` reads a staple file's bytes; `audit/staple.rs` asks whether what they say may be served. Nothing here judges.

use rustls::pki_types::CertificateDer;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::certificate::Certificate;
use super::der;
use super::key::Hash;

/// The largest staple, in bytes; an honest one has two thousand, and every full handshake sends it.
pub const MAX_FILE: u64 = 64 * 1024;
/// A response with more answers or certificates is not one for a server to staple.
const MOST: usize = 16;

const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
/// id-pkix-ocsp-basic
const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";

/// A signed response.
#[derive(Debug)]
pub struct Response {
    /// Who says so.
    pub(super) responder: Responder,
    /// What it says, of one certificate each.
    pub(super) answers: Vec<Answer>,
    /// What is signed.
    pub(super) tbs: Vec<u8>,
    /// The algorithm of the signature, without its SEQUENCE header, as verifiers compare it.
    pub(super) algorithm: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// What comes with it, so that a delegated responder's signature can be verified.
    pub(super) certificates: Vec<Certificate>,
}

/// By what a responder names itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Responder {
    /// Its subject, as DER.
    Name(Vec<u8>),
    /// SHA-1 of its public key's bits.
    KeyHash(Vec<u8>),
}

/// What it says of one certificate.
#[derive(Debug)]
pub(super) struct Answer {
    /// How the issuer is named below.
    pub(super) hash: Hash,
    pub(super) issuer_name_hash: Vec<u8>,
    pub(super) issuer_key_hash: Vec<u8>,
    /// The certificate's serial number, as DER has it.
    pub(super) serial: Vec<u8>,
    pub(super) status: Status,
    /// Since when this is known to be so.
    pub(super) this_update: OffsetDateTime,
    /// When something newer will be known; from then on it says nothing.
    pub(super) next_update: Option<OffsetDateTime>,
}

/// A certificate's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked(OffsetDateTime),
    Unknown,
}

impl Response {
    /// Reads a response.
    ///
    /// # Errors
    /// Why it says nothing, in words that follow the file's name.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let outline = "is not a DER encoded OCSP response";
        let (content, rest) = der::take(der::SEQUENCE, bytes).ok_or(outline)?;
        if !rest.is_empty() {
            return Err(format!("has {} bytes after the OCSP response", rest.len()));
        }
        let (status, rest) = der::take(ENUMERATED, content).ok_or(outline)?;
        let refusal = match status {
            [0] => None,
            [1] => Some("malformedRequest"),
            [2] => Some("internalError"),
            [3] => Some("tryLater"),
            [5] => Some("sigRequired"),
            [6] => Some("unauthorized"),
            _ => return Err(outline.into()),
        };
        if let Some(word) = refusal {
            return Err(format!("holds the responder's refusal to answer: {word}"));
        }
        basic(rest).ok_or_else(|| outline.into())
    }
}

/// What follows a successful status: the type of the response, and the response.
fn basic(input: &[u8]) -> Option<Response> {
    let (bytes, rest) = der::take(0xa0, input)?;
    let (bytes, more) = der::take(der::SEQUENCE, bytes)?;
    let (kind, bytes) = der::take(der::OID, bytes)?;
    let (basic, end) = der::take(der::OCTET_STRING, bytes)?;
    if der::dotted(kind) != BASIC || ![rest, more, end].iter().all(|rest| rest.is_empty()) {
        return None;
    }
    let (basic, _) = der::take(der::SEQUENCE, basic)?;
    let (tbs, rest) = der::split(basic)?;
    let (algorithm, rest) = der::take(der::SEQUENCE, rest)?;
    let (signature, rest) = der::split(rest)?;
    let certificates = if rest.is_empty() { Vec::new() } else { certificates(rest)? };
    let (responder, answers) = data(tbs.content)?;
    Some(Response {
        responder,
        answers,
        tbs: tbs.whole.to_vec(),
        algorithm: algorithm.to_vec(),
        signature: der::bits(signature.whole)?.to_vec(),
        certificates,
    })
}

fn certificates(input: &[u8]) -> Option<Vec<Certificate>> {
    let (list, _) = der::take(0xa0, input)?;
    let (mut list, _) = der::take(der::SEQUENCE, list)?;
    let mut certificates = Vec::new();
    while !list.is_empty() && certificates.len() < MOST {
        let (one, rest) = der::split(list)?;
        certificates.push(Certificate::read(CertificateDer::from(one.whole.to_vec()), certificates.len() + 1).ok()?);
        list = rest;
    }
    Some(certificates)
}

/// ResponseData.
fn data(input: &[u8]) -> Option<(Responder, Vec<Answer>)> {
    let (first, rest) = der::split(input)?;
    // The version is left out where it is 1.
    let (responder, rest) = if first.tag == 0xa0 { der::split(rest)? } else { (first, rest) };
    let responder = match responder.tag {
        0xa1 => Responder::Name(responder.content.to_vec()),
        0xa2 => Responder::KeyHash(der::take(der::OCTET_STRING, responder.content)?.0.to_vec()),
        _ => return None,
    };
    let (_produced_at, rest) = der::take(GENERALIZED_TIME, rest)?;
    let (mut list, _) = der::take(der::SEQUENCE, rest)?;
    let mut answers = Vec::new();
    while !list.is_empty() && answers.len() < MOST {
        let (one, rest) = der::take(der::SEQUENCE, list)?;
        answers.push(answer(one)?);
        list = rest;
    }
    Some((responder, answers))
}

/// SingleResponse.
fn answer(input: &[u8]) -> Option<Answer> {
    let (id, rest) = der::take(der::SEQUENCE, input)?;
    let (algorithm, id) = der::take(der::SEQUENCE, id)?;
    let (issuer_name_hash, id) = der::take(der::OCTET_STRING, id)?;
    let (issuer_key_hash, id) = der::take(der::OCTET_STRING, id)?;
    let (serial, _) = der::take(der::INTEGER, id)?;
    let (status, rest) = der::split(rest)?;
    let status = match status.tag {
        0x80 => Status::Good,
        0xa1 => Status::Revoked(moment(der::take(GENERALIZED_TIME, status.content)?.0)?),
        0x82 => Status::Unknown,
        _ => return None,
    };
    let (this_update, rest) = der::take(GENERALIZED_TIME, rest)?;
    let next_update = match der::take(0xa0, rest) {
        Some((next, _)) => Some(moment(der::take(GENERALIZED_TIME, next)?.0)?),
        None => None,
    };
    let hash = match der::dotted(der::take(der::OID, algorithm)?.0).as_str() {
        "1.3.14.3.2.26" => Hash::Sha1,
        "2.16.840.1.101.3.4.2.1" => Hash::Sha256,
        "2.16.840.1.101.3.4.2.2" => Hash::Sha384,
        "2.16.840.1.101.3.4.2.3" => Hash::Sha512,
        _ => Hash::Other,
    };
    Some(Answer {
        hash,
        issuer_name_hash: issuer_name_hash.to_vec(),
        issuer_key_hash: issuer_key_hash.to_vec(),
        serial: serial.to_vec(),
        status,
        this_update: moment(this_update)?,
        next_update,
    })
}

/// A GeneralizedTime in UTC to the second, the only form that there is here (RFC 5280, section 4.1.2.5.2).
fn moment(text: &[u8]) -> Option<OffsetDateTime> {
    let (digits, b"Z") = text.split_at_checked(14)? else { return None };
    let number = |from: usize, length: usize| {
        let digits = &digits[from..from + length];
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
    };
    let two = |from: usize| u8::try_from(number(from, 2)?).ok();
    let month = Month::try_from(two(4)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)?), month, two(6)?).ok()?;
    let time = Time::from_hms(two(8)?, two(10)?, two(12)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn staple(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/certs/{name}.ocsp", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn what_openssl_writes_is_read() {
        let response = Response::read(&staple("must-staple")).unwrap();
        assert_eq!(response.answers.len(), 1);
        let answer = &response.answers[0];
        assert_eq!((answer.status, answer.hash), (Status::Good, Hash::Sha1));
        assert!(answer.next_update.unwrap() > answer.this_update);
        let revoked = Response::read(&staple("staple-revoked")).unwrap();
        assert!(matches!(revoked.answers[0].status, Status::Revoked(_)));
    }

    #[test]
    fn a_refusal_and_what_is_no_response_are_told_apart() {
        let said = |bytes: &[u8]| Response::read(bytes).unwrap_err();
        assert_eq!(said(&[0x30, 3, 0x0a, 1, 6]), "holds the responder's refusal to answer: unauthorized");
        assert_eq!(said(b"-----BEGIN"), "is not a DER encoded OCSP response");
        let long = [staple("must-staple"), vec![0]].concat();
        assert_eq!(said(&long), "has 1 bytes after the OCSP response");
    }

    #[test]
    fn a_moment_is_a_real_one_in_utc() {
        assert_eq!(moment(b"19700101000001Z").unwrap().unix_timestamp(), 1);
        for bad in ["19701301000000Z", "19700101240000Z", "1970010100000", "19700101000000.5Z", "1970010100000xZ", "Z"]
        {
            assert!(moment(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_on_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(why) = Response::read(&bytes) {
                prop_assert!(!why.contains('\n'));
            }
        }

        #[test]
        fn a_staple_with_any_change_is_read_or_refused(at in 0..2000usize, to: u8) {
            let mut bytes = staple("must-staple");
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = Response::read(&bytes);
        }
    }
}
