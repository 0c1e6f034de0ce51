//! A request's head, read strictly (RFC 9112, sections 2 to 6; RFC 9110, section 7.2).
//!
//! Owns the rules by which a head is refused, and what an accepted one says about its body. Fed by `scan`, line by line
//! as the bytes come. What is accepted here, every correct parser reads in the same way.

use hyper::StatusCode;
use memchr::{memchr, memrchr};

use super::fault::Fault;
use super::field::{Lines, MAX_FIELDS, is_token, split};
use super::{REFUSED_METHOD, authority};
use crate::metrics::RequestRefusal;

/// The longest request line, in bytes. RFC 9112 (section 3) asks for 8000 at least.
const MAX_REQUEST_LINE: usize = 8 * 1024;

/// A head in the course of being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    lines: Lines,
    fields: u8,
    /// The version is 1.1; known once the request line was read, and so is `authority`.
    is_11: bool,
    /// Where in the head the absolute-form target's authority stands.
    authority: Option<(u16, u16)>,
    /// Where in the head the value of `Host` stands.
    host: Option<(u16, u16)>,
    length: Option<u64>,
    is_chunked: bool,
    upgrade: bool,
}

/// What an accepted head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// How many bytes the head has, the empty line included.
    pub(super) len: usize,
    /// How the body's end is known.
    pub(super) body: BodyKind,
    /// The client asks for another protocol (RFC 9110, section 7.8): what follows the message may not be HTTP.
    pub(super) upgrade: bool,
}

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// It has this many bytes, perhaps none.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

impl Head {
    /// Reads on. `section` is the head from its first byte to wherever it has come; `None` asks for more of it.
    pub(super) fn advance(&mut self, section: &[u8]) -> Result<Option<Accepted>, Fault> {
        if section.first().is_some_and(|b| !is_token(*b)) {
            return Err(METHOD); // at once: what is not HTTP, such as TLS on a plain endpoint, may never end a line
        }
        loop {
            let first = self.lines.taken() == 0;
            let Some((start, line)) = self.lines.next(section)? else {
                return if first && section.len() > MAX_REQUEST_LINE { Err(TOO_LONG) } else { Ok(None) };
            };
            if first {
                self.request_line(line)?;
            } else if line.is_empty() {
                return self.finish(section).map(Some);
            } else {
                self.field(start, line)?;
            }
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.len() > MAX_REQUEST_LINE {
            return Err(TOO_LONG);
        }
        let (Some(first), Some(last)) = (memchr(b' ', line), memrchr(b' ', line)) else { return Err(REQUEST_LINE) };
        if first == last {
            return Err(REQUEST_LINE);
        }
        let (method, target) = (&line[..first], &line[first + 1..last]);
        if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
            return Err(METHOD);
        }
        self.is_11 = is_11(&line[last + 1..])?;
        if !is_visible(target) {
            return Err(Fault::malformed("the request target has a character that is not allowed"));
        }
        self.authority = match method {
            // A gateway is no tunnel (RFC 9110, sections 9.1 and 9.3.6), and our own word is not the client's to say.
            b"CONNECT" | REFUSED_METHOD => return Err(Fault::method("the method is not implemented")),
            _ => target_authority(method, target)?.map(|len| {
                let start = first + 1 + target.len() - strip_scheme(target).map_or(0, <[u8]>::len);
                (start as u16, (start + len) as u16) // a request line is shorter than 64 KiB
            }),
        };
        Ok(())
    }

    fn field(&mut self, start: usize, line: &[u8]) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Fault::too_large("the request has more than 100 fields"));
        }
        let (name, value) = split(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(start, line, name, value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn host(&mut self, start: usize, line: &[u8], name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if self.host.is_some() {
            return Err(Fault::host("Host is repeated"));
        }
        if !authority::is_valid(value) {
            return Err(Fault::host("Host is not a host and port"));
        }
        let rest = &line[name.len() + 1..];
        let padding = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let start = start + name.len() + 1 + padding;
        self.host = Some((start as u16, (start + value.len()) as u16)); // a section is shorter than 64 KiB
        Ok(())
    }

    /// RFC 9110, section 8.6: one value of digits. At most 19, so that no reader's 64-bit number overflows.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::framing("Content-Length is repeated"));
        }
        if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
            return Err(Fault::framing("Content-Length is not a number of bytes"));
        }
        self.length = Some(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')));
        Ok(())
    }

    /// RFC 9112, section 6.1: nothing but `chunked`, once.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.is_chunked {
            return Err(Fault::framing("Transfer-Encoding is repeated"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            const DETAIL: &str = "the only transfer coding is chunked, once";
            return Err(Fault::new(StatusCode::NOT_IMPLEMENTED, RequestRefusal::TransferCoding, DETAIL));
        }
        self.is_chunked = true;
        Ok(())
    }

    fn finish(&self, head: &[u8]) -> Result<Accepted, Fault> {
        if self.is_chunked && self.length.is_some() {
            return Err(Fault::framing("both Content-Length and Transfer-Encoding are given"));
        }
        if self.is_chunked && !self.is_11 {
            return Err(Fault::framing("Transfer-Encoding is given in HTTP/1.0"));
        }
        let text = |(start, end): (u16, u16)| &head[usize::from(start)..usize::from(end)];
        match (self.authority.map(text), self.host.map(text)) {
            (_, None) if self.is_11 => return Err(Fault::host("Host is missing")),
            // The target would win (RFC 9112, section 3.2.2), but whoever reads only Host would not know.
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Fault::host("Host differs from the request target's authority"));
            }
            _ => {}
        }
        let body = if self.is_chunked { BodyKind::Chunked } else { BodyKind::Length(self.length.unwrap_or(0)) };
        // A server ignores Upgrade in HTTP/1.0 (RFC 9110, section 7.8).
        Ok(Accepted { len: self.lines.taken(), body, upgrade: self.upgrade && self.is_11 })
    }
}

const REQUEST_LINE: Fault =
    Fault::malformed("the request line is not method, target and version, each after one space");
const METHOD: Fault = Fault::malformed("the method is not a token");
const TOO_LONG: Fault =
    Fault::new(StatusCode::URI_TOO_LONG, RequestRefusal::TargetTooLong, "the request line is longer than 8 KiB");

/// Whether the version is 1.1, or 1.0.
///
/// 505 is for versions that the server "does not support, or refuses to support" (RFC 9110, section 15.6.6); a minor
/// version above 1 is among the refused, since nobody knows what it would mean.
fn is_11(version: &[u8]) -> Result<bool, Fault> {
    const DETAIL: &str = "the version is neither HTTP/1.1 nor HTTP/1.0";
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Fault::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, RequestRefusal::Version, DETAIL))
        }
        _ => Err(REQUEST_LINE),
    }
}

/// Whether a target is made of visible ASCII without what never stands in one: fragments, quotes and angle brackets.
///
/// Laxer than RFC 3986 where browsers are: they send `|` or `^` as they stand, and in a query a backtick too.
pub(super) fn is_visible(target: &[u8]) -> bool {
    let path = memchr(b'?', target).map_or(target, |end| &target[..end]);
    if memchr(b'`', path).is_some() {
        return false;
    }
    let bad = |b: u8| (b <= 0x20) | (b >= 0x7f) | (b == b'#') | (b == b'"') | (b == b'<') | (b == b'>');
    !target.iter().fold(target.is_empty(), |any, &b| any | bad(b))
}

/// Checks the target's form against the method (RFC 9112, section 3.2); the length of its authority, if it has one.
fn target_authority(method: &[u8], target: &[u8]) -> Result<Option<usize>, Fault> {
    match target {
        [b'/', ..] => Ok(None),
        b"*" if method == b"OPTIONS" => Ok(None),
        _ => {
            let Some(rest) = strip_scheme(target) else {
                return Err(Fault::malformed("the request target is neither a path nor an http or https URI"));
            };
            let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
            if !authority::is_valid(&rest[..end]) {
                return Err(Fault::host("the request target's authority is not a host and port"));
            }
            Ok(Some(end))
        }
    }
}

/// What follows `http://` or `https://`.
fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}
