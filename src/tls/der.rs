//! The few steps of DER (X.690) that the certificate parser hides: raw pieces, byte for byte.
//!
//! Used where the exact bytes matter: comparing algorithm identifiers, handing them to a verifier, telling what a file
//! that is not PEM holds.

/// BOOLEAN.
const BOOLEAN: u8 = 0x01;
/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;

/// One element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    /// Its identifier octet.
    pub(super) tag: u8,
    /// What it holds.
    pub(super) content: &'a [u8],
    /// All of it, with tag and length.
    pub(super) whole: &'a [u8],
}

/// Splits the first element off; `None` where the input is not DER, or has a tag of several octets.
pub(super) fn split(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, &first) = (input.first()?, input.get(1)?);
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (length, header) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81..=0x84 => {
            let octets = usize::from(first & 0x7f);
            let length = input.get(2..2 + octets)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (length, 2 + octets)
        }
        _ => return None,
    };
    let end = header.checked_add(length)?;
    let element = Element { tag, content: input.get(header..end)?, whole: input.get(..end)? };
    Some((element, input.get(end..)?))
}

/// Splits the first element off if it has this tag, and gives its content.
pub(super) fn take(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (element, rest) = split(input)?;
    (element.tag == tag).then_some((element.content, rest))
}

/// How deep elements are looked into: names and extensions are ten deep at most.
const MAX_DEPTH: usize = 32;

/// What is BER and not DER in these elements or in what they hold, in words (X.690, sections 8.3.2, 10.1 and 11.1). What
/// is in an OCTET STRING or a BIT STRING is not looked at, nor what follows a tag of several octets.
pub(super) fn fault(elements: &[u8]) -> Option<&'static str> {
    fault_within(elements, MAX_DEPTH)
}

fn fault_within(elements: &[u8], depth: usize) -> Option<&'static str> {
    let mut rest = elements;
    while rest.first().is_some_and(|tag| tag & 0x1f != 0x1f) {
        let Some((element, after)) = split(rest) else { return Some("an element whose end is not where it says") };
        let fault = match (element.tag, element.content) {
            _ if element.whole.len() - element.content.len() > header(element.content.len()) => {
                Some("a length in more octets than it needs")
            }
            (BOOLEAN, [0 | 0xff]) => None,
            (BOOLEAN, _) => Some("a BOOLEAN that is neither 00 nor FF"),
            (INTEGER, []) => Some("an INTEGER without a value"),
            (INTEGER, [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..]) => Some("an INTEGER in more octets than it needs"),
            (tag, content) if tag & 0x20 != 0 && depth > 0 => fault_within(content, depth - 1),
            _ => None,
        };
        if fault.is_some() {
            return fault;
        }
        rest = after;
    }
    None
}

/// The octets of a tag and of the shortest form of this length.
fn header(length: usize) -> usize {
    match length {
        0..=0x7f => 2,
        0x80..=0xff => 3,
        0x100..=0xffff => 4,
        0x1_0000..=0xff_ffff => 5,
        _ => 6,
    }
}

/// The content of a BIT STRING of whole octets.
pub(super) fn bits(input: &[u8]) -> Option<&[u8]> {
    match take(BIT_STRING, input)?.0 {
        [0, octets @ ..] => Some(octets),
        _ => None,
    }
}

/// An object identifier's content in dotted form; empty where it is malformed.
pub(super) fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for byte in oid {
        let Some(shifted) = arc.checked_mul(128) else { return String::new() };
        arc = shifted | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first);
                arc -= first * 40;
            }
            arcs.push(std::mem::take(&mut arc));
        }
    }
    arcs.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{SEQUENCE, dotted, fault, split, take};
    use proptest::prelude::*;

    #[test]
    fn lengths_of_one_and_of_several_octets_are_read() {
        assert_eq!(take(SEQUENCE, &[0x30, 1, 7, 9]), Some((&[7][..], &[9][..])));
        let mut long = vec![0x30, 0x82, 1, 0];
        long.extend([5; 256]);
        assert_eq!(take(SEQUENCE, &long).map(|(content, rest)| (content.len(), rest.len())), Some((256, 0)));
        assert!(take(SEQUENCE, &long[..100]).is_none());
    }

    #[test]
    fn what_is_not_der_is_found_wherever_it_stands() {
        for der in
            [&[0x30, 3, 1, 1, 0xff][..], &[0x30, 3, 2, 1, 0], &[2, 2, 0, 0x80], &[2, 2, 0xff, 0x7f], &[4, 1, 0x30]]
        {
            assert_eq!(fault(der), None, "{der:02x?}");
        }
        for (ber, said) in [
            (&[0x30, 0x81, 3, 1, 1, 0xff][..], "a length"),
            (&[0x30, 4, 2, 0x81, 1, 7], "a length"),
            (&[0x30, 3, 1, 1, 1], "a BOOLEAN"),
            (&[0x30, 2, 2, 0], "without a value"),
            (&[5, 0, 2, 2, 0, 1], "an INTEGER in more"),
            (&[2, 2, 0xff, 0x80], "an INTEGER in more"),
            (&[0xa3, 2, 0x30, 1], "whose end"),
            (&[0x30, 0x80, 0, 0], "whose end"),
        ] {
            assert!(fault(ber).is_some_and(|fault| fault.contains(said)), "{ber:02x?}: {:?}", fault(ber));
        }
    }

    #[test]
    fn an_object_identifier_reads_as_people_write_it() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04]), "1.2.840.113549.1.1.4");
        assert_eq!(dotted(&[0x55, 0x1d, 0x11]), "2.5.29.17");
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_going_astray(input in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some((element, rest)) = split(&input) {
                prop_assert_eq!(element.whole.len() + rest.len(), input.len());
                prop_assert!(element.content.len() + 2 <= element.whole.len());
            }
            let _ = (dotted(&input), fault(&input));
        }
    }
}
