//! A response's body in the chunked transfer coding (RFC 9112, section 7.1), taken out of it.
//!
//! Used by `receiving`. Read strictly: lines end in CRLF, a size has digits and does not overflow, extensions and
//! trailers are bounded.

use std::mem;

use bytes::{Buf, Bytes};
use hyper::HeaderMap;

use super::response_head;

/// The most digits of a chunk's size: as many as fit 64 bits.
const MOST_DIGITS: u8 = 16;
/// The most bytes of extensions that one chunk may carry.
const MOST_EXTENSIONS: u16 = 1024;
/// The most bytes that the trailers may have.
const MOST_TRAILERS: usize = 16 * 1024;

/// Where in a chunked body the reading stands.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    step: Step,
    /// The size of the chunk, then what is left of it.
    left: u64,
    digits: u8,
    extensions: u16,
    /// What has come of the trailer section.
    section: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Size,
    Extensions,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
}

/// What was found next.
#[derive(Debug)]
pub(super) enum Found {
    /// A piece of the body.
    Data(Bytes),
    /// Nothing yet: more must be read.
    Nothing,
    /// The end, and the trailers, perhaps none.
    End(HeaderMap),
}

impl Chunks {
    /// Takes what comes next out of `bytes`.
    ///
    /// # Errors
    /// What breaks the grammar.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> Result<Found, &'static str> {
        while !bytes.is_empty() {
            match self.step {
                Step::Data => {
                    let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                    self.left -= n as u64;
                    if self.left == 0 {
                        self.step = Step::DataCr;
                    }
                    return Ok(Found::Data(bytes.split_to(n)));
                }
                Step::Trailers => {
                    if self.take_trailer_line(bytes)? {
                        let section = Bytes::from(mem::take(&mut self.section));
                        return response_head::trailers(&section).map(Found::End);
                    }
                }
                _ => self.step = self.after(bytes.get_u8())?,
            }
        }
        Ok(Found::Nothing)
    }

    fn after(&mut self, b: u8) -> Result<Step, &'static str> {
        Ok(match (self.step, b) {
            (Step::Size, b) if b.is_ascii_hexdigit() => self.digit(b)?,
            (Step::Size, _) if self.digits == 0 => return Err("a chunk has no size"),
            (Step::Size | Step::Extensions, b'\r') => Step::SizeLf,
            (Step::Size, b';' | b' ' | b'\t') => Step::Extensions,
            (Step::Extensions, b) if b >= b' ' || b == b'\t' => {
                self.extensions += 1;
                if self.extensions > MOST_EXTENSIONS {
                    return Err("the extensions of a chunk are too long");
                }
                Step::Extensions
            }
            (Step::SizeLf, b'\n') if self.left == 0 => Step::Trailers,
            (Step::SizeLf, b'\n') => Step::Data,
            (Step::DataCr, b'\r') => Step::DataLf,
            (Step::DataLf, b'\n') => {
                (self.digits, self.extensions) = (0, 0);
                Step::Size
            }
            _ => return Err("a chunk or its size is malformed"),
        })
    }

    fn digit(&mut self, b: u8) -> Result<Step, &'static str> {
        self.digits += 1;
        if self.digits > MOST_DIGITS {
            return Err("the size of a chunk is too large");
        }
        self.left = self.left << 4 | u64::from((b as char).to_digit(16).unwrap_or(0)); // the caller saw that it is one
        Ok(Step::Size)
    }

    /// Takes what there is of a line; true if it was the empty one that ends the section.
    fn take_trailer_line(&mut self, bytes: &mut Bytes) -> Result<bool, &'static str> {
        let end = memchr::memchr(b'\n', bytes);
        self.section.extend_from_slice(&bytes.split_to(end.map_or(bytes.len(), |end| end + 1)));
        if self.section.len() > MOST_TRAILERS {
            return Err("the trailers are too large");
        }
        if end.is_some() && !self.section.ends_with(b"\r\n") {
            return Err("a trailer ends in LF without CR");
        }
        Ok(end.is_some() && (self.section == b"\r\n" || self.section.ends_with(b"\r\n\r\n")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body's data, its trailers, and how many bytes are left behind it.
    type Read = (Vec<u8>, HeaderMap, usize);

    /// What a body says when it comes in pieces of `size` bytes.
    fn read(body: &[u8], size: usize) -> Result<Option<Read>, &'static str> {
        let (mut chunks, mut data, mut rest) = (Chunks::default(), Vec::new(), Bytes::copy_from_slice(body));
        while !rest.is_empty() {
            let mut piece = rest.split_to(size.min(rest.len()));
            loop {
                match chunks.next(&mut piece)? {
                    Found::Data(found) => data.extend_from_slice(&found),
                    Found::Nothing => break,
                    Found::End(trailers) => return Ok(Some((data, trailers, piece.len() + rest.len()))),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn data_and_trailers_are_the_same_in_whatever_pieces_they_come() {
        let body = b"4\r\nwiki\r\n0A;name=\"value\"\r\npedia in c\r\n0\r\nA: b\r\nC: d\r\n\r\nrest";
        for size in 1..=body.len() {
            let (data, trailers, left) = read(body, size).unwrap().unwrap();
            assert_eq!(data, b"wikipedia in c");
            assert_eq!([&trailers["a"], &trailers["c"]], ["b", "d"]);
            assert!(left == 4 || size > 1, "{left}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_an_error() {
        for body in [
            "\r\n",
            "g\r\n",
            "+1\r\n",
            "1\na",
            "1\r\r\n",
            "1\r\nab",
            "1\r\na\n",
            "1;a\n",
            "11111111111111111\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\nA\r\n\r\n",
        ] {
            assert!(read(body.as_bytes(), 1).is_err(), "{body:?}");
        }
        assert!(read(format!("1;{}", "x".repeat(1025)).as_bytes(), 64).is_err());
        assert!(read(format!("0\r\nA: {}", "x".repeat(MOST_TRAILERS)).as_bytes(), 64).is_err());
    }

    proptest! {
        #[test]
        fn what_was_chunked_comes_out_again(pieces in proptest::collection::vec("[a-z]{1,40}", 0..8), size in 1_usize..50) {
            let chunked: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
            let (data, trailers, left) = read(format!("{chunked}0\r\n\r\n").as_bytes(), size).unwrap().unwrap();
            prop_assert_eq!(data, pieces.concat().into_bytes());
            prop_assert!(trailers.is_empty() && left == 0);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            let _ = read(&bytes, size);
        }
    }
}
