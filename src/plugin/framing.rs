//! Where messages end: the built-in framings, and the question to the plugin.
//!
//! Called by `session` with what has come so far. Everything here is bounded by the largest message that is allowed.

use memchr::memmem;

/// How a client's bytes become messages. A message is handed over whole, its length or delimiter included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// They do not: bytes are handed over as they come.
    None,
    /// Each message begins with its length.
    Length {
        /// How many bytes the length has: 1, 2, 4 or 8.
        size: usize,
        /// Whether the least significant byte comes first.
        little_endian: bool,
        /// Whether the length counts its own bytes.
        counts_itself: bool,
    },
    /// Each message ends with these bytes, 1 to 8 of them.
    Delimiter(Vec<u8>),
    /// The plugin tells, once this many bytes are there at least.
    Own,
}

/// What has come so far, as a framing sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A message of this many bytes.
    Message(usize),
    /// Not a whole message yet; it is at least this many bytes long.
    More(usize),
}

/// Why the bytes are no message: the client broke the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Framing {
    /// Finds the first message in `bytes`. The first `searched` bytes held no delimiter the last time.
    ///
    /// # Errors
    /// The message is larger than `most`, or its length makes no sense.
    pub fn find(&self, bytes: &[u8], searched: usize, most: usize) -> Result<Found, Broken> {
        let found = match self {
            Self::None | Self::Own => Found::Message(bytes.len()),
            Self::Length { size, little_endian, counts_itself } => {
                match by_length(bytes, *size, *little_endian, *counts_itself)? {
                    Some(length) if length <= bytes.len() => Found::Message(length),
                    Some(length) => Found::More(length),
                    None => Found::More(*size),
                }
            }
            Self::Delimiter(delimiter) => {
                // The delimiter may have begun before what came last.
                let from = searched.saturating_sub(delimiter.len() - 1).min(bytes.len());
                match memmem::find(&bytes[from..], delimiter) {
                    Some(at) => Found::Message(from + at + delimiter.len()),
                    None => Found::More(bytes.len() + 1),
                }
            }
        };
        match found {
            Found::Message(length) | Found::More(length) if length > most && *self != Self::None => Err(Broken),
            found => Ok(found),
        }
    }
}

/// The whole length of the message that begins here; `None` where its length has not come.
fn by_length(bytes: &[u8], size: usize, little_endian: bool, counts_itself: bool) -> Result<Option<usize>, Broken> {
    let Some(prefix) = bytes.get(..size) else { return Ok(None) };
    let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = if little_endian { prefix.iter().rev().fold(0, add) } else { prefix.iter().fold(0, add) };
    let value = usize::try_from(value).map_err(|_| Broken)?;
    let length = if counts_itself { value } else { value.checked_add(size).ok_or(Broken)? };
    if length < size { Err(Broken) } else { Ok(Some(length)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BIG: Framing = Framing::Length { size: 2, little_endian: false, counts_itself: false };

    #[test]
    fn a_length_may_stand_in_either_order_and_count_itself_or_not() {
        assert_eq!(BIG.find(b"\x00", 0, 100), Ok(Found::More(2)));
        assert_eq!(BIG.find(b"\x00\x03ab", 0, 100), Ok(Found::More(5)));
        assert_eq!(BIG.find(b"\x00\x03abcde", 0, 100), Ok(Found::Message(5)));
        assert_eq!(BIG.find(b"\x00\x00", 0, 100), Ok(Found::Message(2)));
        let little = Framing::Length { size: 4, little_endian: true, counts_itself: true };
        assert_eq!(little.find(b"\x05\0\0\0a", 0, 100), Ok(Found::Message(5)));
        assert_eq!(little.find(b"\x03\0\0\0a", 0, 100), Err(Broken), "shorter than its own length");
        let huge = Framing::Length { size: 8, little_endian: false, counts_itself: false };
        assert_eq!(huge.find(&[0xff; 8], 0, usize::MAX), Err(Broken));
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_before_it_has_come() {
        assert_eq!(BIG.find(b"\x00\x08", 0, 10), Ok(Found::More(10)));
        assert_eq!(BIG.find(b"\x00\x09", 0, 10), Err(Broken));
        let line = Framing::Delimiter(b"\n".to_vec());
        assert_eq!(line.find(b"123456789", 0, 10), Ok(Found::More(10)));
        assert_eq!(line.find(b"1234567890", 0, 10), Err(Broken));
        assert_eq!(line.find(b"12345\n7890", 0, 10), Ok(Found::Message(6)));
    }

    proptest! {
        #[test]
        fn messages_are_found_whole_however_the_bytes_arrive(
            bodies in prop::collection::vec(prop::collection::vec(0_u8..3, 0..20), 1..8),
            cuts in prop::collection::vec(1_usize..9, 1..80),
            delimiter in prop::collection::vec(0_u8..2, 1..4),
            by_length in any::<bool>(),
        ) {
            let framing = if by_length { BIG } else { Framing::Delimiter(delimiter.clone()) };
            let mut stream = Vec::new();
            for body in &bodies {
                if by_length {
                    stream.extend((body.len() as u16).to_be_bytes());
                }
                stream.extend(body);
                if !by_length {
                    stream.extend(&delimiter);
                }
            }
            let whole = |stream: &[u8]| {
                let (mut rest, mut found) = (stream, Vec::new());
                while let Ok(Found::Message(length)) = framing.find(rest, 0, 1000) {
                    found.push(rest[..length].to_vec());
                    rest = &rest[length..];
                }
                found
            };
            let (mut have, mut searched, mut found, mut at) = (Vec::new(), 0, Vec::new(), 0);
            for cut in cuts.iter().cycle().take(stream.len()) {
                let end = (at + cut).min(stream.len());
                have.extend(&stream[at..end]);
                at = end;
                while let Ok(Found::Message(length)) = framing.find(&have, searched, 1000) {
                    found.push(have.drain(..length).collect::<Vec<_>>());
                    searched = 0;
                }
                searched = have.len();
            }
            prop_assert_eq!(found, whole(&stream));
        }

        #[test]
        fn no_bytes_make_it_answer_more_than_it_may(bytes in prop::collection::vec(any::<u8>(), 0..64), size in 0_usize..4) {
            let framing = Framing::Length { size: 1 << size, little_endian: true, counts_itself: bytes.len() % 2 == 0 };
            match framing.find(&bytes, 0, 32) {
                Ok(Found::Message(length)) => prop_assert!(length <= bytes.len() && length <= 32 && length > 0),
                Ok(Found::More(length)) => prop_assert!(length > bytes.len() && length <= 32),
                Err(Broken) => {}
            }
        }
    }
}
