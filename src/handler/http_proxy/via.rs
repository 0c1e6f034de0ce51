//! The gateway's name in `Via` (RFC 9110, section 7.6.3), and requests that have it already, which have been here before.
//!
//! An answer has the name as the configuration writes it: nobody needs to tell gateways apart there. A request has a part behind it
//! that no other endpoint, process or machine has, so that gateways of one name may stand in a row, and an endpoint before
//! another of the same gateway. Made by `http_proxy` for each endpoint; used by `request` and `response`.

use std::hash::{BuildHasher, RandomState};

use hyper::header::{HeaderValue, VIA};
use hyper::{HeaderMap, Version};

use crate::fields;

/// What the gateway is called where the configuration does not say.
pub(super) const DEFAULT: &str = "portcullis";

/// The longest name, in bytes.
const LONGEST: usize = 64;

/// What `Via` calls one endpoint.
#[derive(Debug)]
pub(super) struct Name {
    /// In a request, and nobody else; a reload that makes the handler anew makes another.
    own: String,
    /// The values in answers, for each version that they were received in.
    answers: [HeaderValue; 3],
}

/// Checks a name, which is a token.
///
/// # Errors
/// A sentence that says what it must be.
pub(super) fn check(name: &str) -> Result<(), String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(is_token) {
        return Err(format!("{name:?} is no name for Via: it has 1 to {LONGEST} letters, digits, hyphens or dots"));
    }
    Ok(())
}

impl Name {
    /// The name of an endpoint, of a gateway of this name.
    pub(super) fn new(gateway: &str) -> Self {
        let random = RandomState::new().hash_one(());
        // The default ones are not counted by whoever copies them. `check` has seen to the others.
        let value = |received, default| match gateway {
            DEFAULT => HeaderValue::from_static(default),
            _ => HeaderValue::from_str(&format!("{} {gateway}", received_in(received)))
                .unwrap_or(HeaderValue::from_static(default)),
        };
        let answers = [
            value(Version::HTTP_10, "1.0 portcullis"),
            value(Version::HTTP_11, "1.1 portcullis"),
            value(Version::HTTP_2, "2 portcullis"),
        ];
        Self { own: format!("{gateway}-{:012x}", random >> 16), answers }
    }

    /// What stands behind the version in a request.
    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// Whether a request has been here before: whatever it has passed since, `Via` may have grown but not lost an entry.
    pub(super) fn is_in(&self, fields: &HeaderMap) -> bool {
        let is_mine = |line: &HeaderValue| {
            let words = line.as_bytes().split(|b| matches!(b, b',' | b' ' | b'\t' | b'('));
            words.into_iter().any(|word| word == self.own.as_bytes())
        };
        fields::first(fields, &VIA).is_some() && fields::lines(fields, &VIA).any(is_mine)
    }

    /// The value in an answer that was received in this version.
    pub(super) fn in_answer(&self, received: Version) -> HeaderValue {
        let [old, usual, http_2] = &self.answers;
        match received {
            Version::HTTP_2 => http_2,
            Version::HTTP_10 => old,
            _ => usual,
        }
        .clone()
    }
}

/// `Via` names the version that the message was received in.
pub(super) fn received_in(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_of_some_length() {
        for name in ["edge", "edge-1.example.com", DEFAULT, &"a".repeat(LONGEST)] {
            assert_eq!(check(name), Ok(()));
        }
        for name in ["", "two words", "a,b", "a(b)", "h:80", "é", "a\r\nb", &"a".repeat(LONGEST + 1)] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn endpoints_of_one_name_are_told_apart_in_requests_and_alike_in_answers() {
        let (one, other) = (Name::new("edge"), Name::new("edge"));
        let via =
            HeaderValue::from_str(&format!("1.1 {}", one.own())).map(|value| HeaderMap::from_iter([(VIA, value)]));
        let via = via.unwrap_or_default();
        assert_eq!((one.is_in(&via), other.is_in(&via), one.own().starts_with("edge-")), (true, false, true));
        assert_eq!(one.in_answer(Version::HTTP_2), "2 edge");
        assert_eq!(Name::new(DEFAULT).in_answer(Version::HTTP_10), "1.0 portcullis");
    }
}
