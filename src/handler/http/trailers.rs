//! The trailer section of a chunked body, read as strictly as a head (RFC 9112, section 7.1.2).
//!
//! Fed by `scan`; `body` asks which fields HTTP/2's trailers may hold.

use super::fault::Fault;
use super::field::{Lines, MAX_FIELDS, split};

/// Fields that must not come late: they frame or route the message, say who sends it, or how to read it
/// (RFC 9110, section 6.5.1). A reader that merged them into the head would read another message.
const FORBIDDEN: [&[u8]; 24] = [
    b"authorization",
    b"cache-control",
    b"client-cert",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-forwarded-for",
    b"x-forwarded-proto",
];

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
            if is_forbidden(split(line)?.name) {
                return Err(LATE);
            }
        }
        Ok(None)
    }
}

/// The fault of a field that [`is_forbidden`].
pub(super) const LATE: Fault = Fault::chunk("a trailer field is one that must not come late");

/// Whether a field must not come late.
pub(super) fn is_forbidden(name: &[u8]) -> bool {
    FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}
