//! A request's head, read strictly (RFC 9112, sections 2 to 6; RFC 9110, section 7.2).
//!
//! Owns the rules by which a head is refused, and what an accepted one says about its body. Fed by `scan`, line by line
//! as the bytes come. What is accepted here, every correct parser reads in the same way.

use hyper::StatusCode;
use memchr::{memchr, memrchr};

use super::authority;
use super::fault::Fault;
use super::field::{Field, Lines, MAX_FIELDS, is_token, split};
use crate::fields::{number, says};
use crate::handler::Limits;
use crate::metrics::RequestRefusal;

/// A head in the course of being read.
#[derive(Debug)]
pub(super) struct Head {
    lines: Lines,
    limits: Limits,
    /// Where each field stands, in order.
    fields: Vec<FieldSpan>,
    said: Said,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Said {
    method: Span,
    target: Span,
    /// The version is 1.1; known once the request line was read, and so is `authority`.
    is_11: bool,
    /// The absolute-form target's authority.
    authority: Option<Span>,
    /// The value of `Host`.
    host: Option<Span>,
    length: Option<u64>,
    is_chunked: bool,
    upgrade: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    wants_trailers: bool,
}

/// Where in a head a part of it stands. A head is shorter than 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

/// Where in a head a field stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpan {
    pub(super) name: Span,
    pub(super) value: Span,
}

impl Span {
    fn new(start: usize, length: usize) -> Self {
        Self { start: start as u16, end: (start + length) as u16 }
    }

    /// The part itself.
    pub(super) fn of(self, head: &[u8]) -> &[u8] {
        &head[self.range()]
    }

    /// As indices into the head.
    pub(super) fn range(self) -> std::ops::Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

/// What an accepted head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// How many bytes the head has, the empty line included.
    pub(super) len: usize,
    pub(super) method: Span,
    pub(super) target: Span,
    /// The version is 1.1, not 1.0.
    pub(super) is_11: bool,
    /// How the body's end is known.
    pub(super) body: BodyKind,
    /// The client asks for another protocol (RFC 9110, section 7.8): what follows the message may not be HTTP.
    pub(super) upgrade: bool,
    /// The client means to keep the connection (RFC 9112, section 9.3).
    pub(super) keep: bool,
    /// The client holds its body back until it is told to go on (RFC 9110, section 10.1.1).
    pub(super) expects_continue: bool,
    /// The client reads trailers (RFC 9110, section 10.1.4).
    pub(super) wants_trailers: bool,
}

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// It has this many bytes, perhaps none.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

impl Default for Head {
    fn default() -> Self {
        let limits = Limits::default();
        Self { lines: Lines::within(limits.head), limits, fields: Vec::new(), said: Said::default() }
    }
}

impl Head {
    /// Begins again, within these limits.
    pub(super) fn clear(&mut self, limits: Limits) {
        (self.lines, self.limits) = (Lines::within(limits.head), limits);
        self.fields.clear();
        self.said = Said::default();
    }

    /// Where each field stands.
    pub(super) fn fields(&self) -> &[FieldSpan] {
        &self.fields
    }

    /// Reads on. `section` is the head from its first byte to wherever it has come; `None` asks for more of it.
    pub(super) fn advance(&mut self, section: &[u8]) -> Result<Option<Accepted>, Fault> {
        if section.first().is_some_and(|b| !is_token(*b)) {
            return Err(METHOD); // at once: what is not HTTP, such as TLS on a plain endpoint, may never end a line
        }
        loop {
            let first = self.lines.taken() == 0;
            let Some((start, line)) = self.lines.next(section)? else {
                return if first && section.len() > self.limits.request_line {
                    Err(Fault::TARGET_TOO_LONG)
                } else {
                    Ok(None)
                };
            };
            if first {
                if line.len() > self.limits.request_line {
                    return Err(Fault::TARGET_TOO_LONG);
                }
                self.said.request_line(line)?;
            } else if line.is_empty() {
                return self.said.accept(section, self.lines.taken()).map(Some);
            } else {
                self.field(start, line)?;
            }
        }
    }

    fn field(&mut self, start: usize, line: &[u8]) -> Result<(), Fault> {
        if self.fields.len() >= usize::from(MAX_FIELDS) {
            return Err(Fault::too_large("the request has more than 100 fields"));
        }
        let Field { name, value, at } = split(line)?;
        let span = FieldSpan { name: Span::new(start, name.len()), value: Span::new(start + at, value.len()) };
        self.fields.push(span);
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is(b"te") => self.said.wants_trailers |= says(value, b"trailers"),
            4 if is(b"host") => self.said.host(span.value, value)?,
            6 if is(b"expect") => self.said.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            7 if is(b"upgrade") => self.said.upgrade = true,
            10 if is(b"connection") => {
                self.said.close |= says(value, b"close");
                self.said.keep_alive |= says(value, b"keep-alive");
            }
            14 if is(b"content-length") => self.said.content_length(value)?,
            17 if is(b"transfer-encoding") => self.said.transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }
}

impl Said {
    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
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
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Fault::METHOD);
        }
        (self.method, self.target) = (Span::new(0, method.len()), Span::new(first + 1, target.len()));
        self.authority = target_authority(method, target)?.map(|length| {
            let rest = strip_scheme(target).map_or(0, <[u8]>::len);
            Span::new(first + 1 + target.len() - rest, length)
        });
        Ok(())
    }

    fn host(&mut self, span: Span, value: &[u8]) -> Result<(), Fault> {
        if self.host.is_some() {
            return Err(Fault::host("Host is repeated"));
        }
        if !authority::is_valid(value) {
            return Err(Fault::host("Host is not a host and port"));
        }
        self.host = Some(span);
        Ok(())
    }

    /// RFC 9110, section 8.6: one value of digits.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::framing("Content-Length is repeated"));
        }
        let length = number(value).ok_or(Fault::framing("Content-Length is not a number of bytes"))?;
        self.length = Some(length);
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

    /// All of `head` has been read, `len` bytes.
    fn accept(&self, head: &[u8], len: usize) -> Result<Accepted, Fault> {
        if self.is_chunked && self.length.is_some() {
            return Err(Fault::framing("both Content-Length and Transfer-Encoding are given"));
        }
        if self.is_chunked && !self.is_11 {
            return Err(Fault::framing("Transfer-Encoding is given in HTTP/1.0"));
        }
        match (self.authority, self.host) {
            (_, None) if self.is_11 => return Err(Fault::host("Host is missing")),
            // The target would win (RFC 9112, section 3.2.2), but whoever reads only Host would not know.
            (Some(authority), Some(host)) if !authority.of(head).eq_ignore_ascii_case(host.of(head)) => {
                return Err(Fault::host("Host differs from the request target's authority"));
            }
            _ => {}
        }
        let body = if self.is_chunked { BodyKind::Chunked } else { BodyKind::Length(self.length.unwrap_or(0)) };
        Ok(Accepted {
            len,
            method: self.method,
            target: self.target,
            is_11: self.is_11,
            body,
            // A server ignores these in HTTP/1.0 (RFC 9110, sections 7.8 and 10.1.1).
            upgrade: self.upgrade && self.is_11,
            expects_continue: self.expects_continue && self.is_11 && body != BodyKind::Length(0),
            keep: !self.close && (self.is_11 || self.keep_alive),
            wants_trailers: self.wants_trailers && self.is_11,
        })
    }
}

const REQUEST_LINE: Fault =
    Fault::malformed("the request line is not method, target and version, each after one space");
const METHOD: Fault = Fault::malformed("the method is not a token");

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
