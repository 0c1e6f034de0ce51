//! The grammar of lines and fields (RFC 9110, section 5; RFC 9112, sections 2.2 and 5), read strictly.
//!
//! Owns the splitting of a section into lines and of a line into name and value. Used by `head` and `trailers`, and for HTTP/2.

use memchr::memchr;

use super::fault::Fault;

/// The most fields that either may have.
pub(super) const MAX_FIELDS: u8 = 100;

/// Where in a growing section the reading of lines stands.
///
/// The section's first byte stays the first byte of the slice from call to call, so each byte is looked at once however
/// small the pieces are in which it comes.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// The most bytes that the section may have.
    most: usize,
    /// Where the next line begins.
    at: usize,
    /// Up to where that line's end was searched for in vain.
    searched: usize,
}

impl Lines {
    /// Before the first line of a section that may have `most` bytes.
    pub(super) fn within(most: usize) -> Self {
        Self { most, at: 0, searched: 0 }
    }

    /// The next whole line, without its CRLF, and where it begins; `None` if its end has not come yet.
    pub(super) fn next<'b>(&mut self, section: &'b [u8]) -> Result<Option<(usize, &'b [u8])>, Fault> {
        let Some(found) = memchr(b'\n', &section[self.searched..]) else {
            self.searched = section.len();
            return if section.len() >= self.most { Err(TOO_LARGE) } else { Ok(None) };
        };
        let end = self.searched + found;
        if end >= self.most {
            return Err(TOO_LARGE);
        }
        let start = self.at;
        self.at = end + 1;
        self.searched = self.at;
        match section[start..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some((start, line))),
            None => Err(Fault::malformed("a line ends in LF without CR")),
        }
    }

    /// How many bytes the lines so far have taken, ends included.
    pub(super) fn taken(&self) -> usize {
        self.at
    }
}

const TOO_LARGE: Fault = Fault::too_large("the header section is too large");

/// A field line in its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Without the white space around it.
    pub(super) value: &'a [u8],
    /// Where in the line the value begins.
    pub(super) at: usize,
}

/// Splits a field line.
pub(super) fn split(line: &[u8]) -> Result<Field<'_>, Fault> {
    let end = line.iter().position(|b| !is_token(*b)).unwrap_or(line.len());
    match line.get(end) {
        Some(b':') if end > 0 => {}
        Some(b':') => return Err(Fault::malformed("a field has no name")),
        Some(b' ' | b'\t') if end == 0 => return Err(Fault::malformed("a field line is folded")),
        Some(b' ' | b'\t') => return Err(Fault::malformed("white space stands before a field's colon")),
        Some(_) => return Err(Fault::malformed("a field name has a character that is not allowed")),
        None => return Err(Fault::malformed("a field line has no colon")),
    }
    let rest = &line[end + 1..];
    if has_control(rest) {
        return Err(Fault::malformed("a field value has a control character"));
    }
    let value = trim_start(rest);
    Ok(Field { name: &line[..end], value: trim_end(value), at: line.len() - value.len() })
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(b: u8) -> bool {
    TOKEN[usize::from(b)]
}

static TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// The set of the ASCII letters, the digits and `others`, by byte.
pub(super) const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut b = 0;
    while b < 128 {
        set[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    let mut index = 0;
    while index < others.len() {
        set[others[index] as usize] = true;
        index += 1;
    }
    set
}

/// Whether a value holds a control character other than HTAB, a CR among them.
///
/// Written without a branch, so that the compiler looks at many bytes at a time.
fn has_control(value: &[u8]) -> bool {
    value.iter().fold(false, |bad, &b| bad | ((b < 0x20) & (b != b'\t')) | (b == 0x7f))
}

/// Whether white space stands around a value, as it may in HTTP/1.1 alone (RFC 9113, section 8.2.1).
pub(super) fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// Takes optional white space off the front (RFC 9110, section 5.6.3).
fn trim_start(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    value
}

/// Takes optional white space off the end.
fn trim_end(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
