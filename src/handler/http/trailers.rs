//! The trailer section of a chunked body, read as strictly as a head (RFC 9112, section 7.1.2).
//!
//! Fed by `scan`.

use super::fault::Fault;
use super::field::{Lines, MAX_FIELDS, split};
use crate::fields::may_come_late;

/// A trailer section in the course of being read.
#[derive(Clone, Debug)]
pub(super) struct Trailers {
    lines: Lines,
    fields: u8,
}

impl Trailers {
    /// Before the first field of a section that may have `most` bytes.
    pub(super) fn within(most: usize) -> Self {
        Self { lines: Lines::within(most), fields: 0 }
    }

    /// Reads on. `section` is everything after the last chunk, as far as it has come; its length once it is whole.
    pub(super) fn advance(&mut self, section: &[u8]) -> Result<Option<usize>, Fault> {
        while let Some((_, line)) = self.lines.next(section)? {
            if line.is_empty() {
                return Ok(Some(self.lines.taken()));
            }
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(Fault::chunk("the body has more than 100 trailer fields"));
            }
            if !may_come_late(split(line)?.name) {
                return Err(LATE);
            }
        }
        Ok(None)
    }
}

/// The fault of a field that must not come late.
pub(super) const LATE: Fault = Fault::chunk("a trailer field is one that must not come late");

/// The fault of a trailer over HTTP/2 that is written as in HTTP/1.1.
pub(super) const PADDED: Fault = Fault::chunk("white space stands around a trailer's value");
