//! A response's head: found, read, and what it says of the body behind it (RFC 9112, sections 2 to 6).
//!
//! Used by `link` and, for trailers, by `chunks`. Refuses what could be read in two ways.

use std::mem::{self, MaybeUninit};

use bytes::Bytes;
use httparse::{Header, ParserConfig};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Response, StatusCode, Version};

use super::exchange::Failure;
use crate::fields;

/// The most fields that a head, or a trailer section, may have.
const MOST_FIELDS: usize = 100;

/// How the end of a response's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// It has so many bytes, perhaps none.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection.
    Rest,
}

/// Where the head at the beginning of `bytes` ends; `searched` bytes of it were looked at before, in vain.
///
/// Servers are known that end lines in LF alone, so that is let pass (RFC 9112, section 2.2).
pub(super) fn end(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let mut line_ends = memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at + 1);
    line_ends.find_map(|next| match bytes[next..] {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// Whether `bytes` may be the beginning of a response.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    let n = bytes.len().min(START.len());
    bytes[..n] == START[..n]
}

/// A head without any fields, to be [filled](parse).
pub(super) fn empty() -> Parts {
    Response::new(()).into_parts().0
}

/// Reads the head at the beginning of `bytes` into `parts`, which are [empty]; they get the memory of `space`, an empty map.
/// Says how long it is; `None` where it has not come whole.
pub(super) fn parse(bytes: &Bytes, parts: &mut Parts, space: &mut HeaderMap) -> Result<Option<usize>, Failure> {
    // Not initialized: that would cost as much as the parsing.
    let mut places = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let length = match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut places) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Failure::HeadTooLarge),
        Err(_) => return Err(MALFORMED),
    };
    parts.status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(MALFORMED)?;
    parts.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    mem::swap(&mut parts.headers, space);
    fill(&mut parts.headers, parsed.headers, bytes).ok_or(MALFORMED)?;
    let reason = parsed.reason.unwrap_or_default();
    if Some(reason) != parts.status.canonical_reason()
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        parts.extensions.insert(reason); // the engine writes it to an HTTP/1.1 client
    }
    Ok(Some(length))
}

/// Reads a whole trailer section, the empty line included.
pub(super) fn trailers(section: &Bytes) -> Result<HeaderMap, &'static str> {
    let mut space = [httparse::EMPTY_HEADER; MOST_FIELDS];
    match httparse::parse_headers(section, &mut space) {
        Ok(httparse::Status::Complete((length, headers))) if length == section.len() => {
            let mut trailers = HeaderMap::new();
            fill(&mut trailers, headers, section).ok_or("a trailer is malformed")?;
            Ok(trailers)
        }
        _ => Err("the trailers are malformed"),
    }
}

/// Fills a map; the values are parts of `bytes`, from which they were parsed.
fn fill(fields: &mut HeaderMap, parsed: &[Header<'_>], bytes: &Bytes) -> Option<()> {
    fields.reserve(parsed.len() + 1); // `Via` comes later
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        fields.append(name, HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?);
    }
    Some(())
}

/// How the body's end is known. `is_head` says that the request's method was HEAD.
///
/// Refuses a response whose end could be found in two ways (RFC 9112, section 6.3): the fields are passed on, to a client
/// that might find the other.
pub(super) fn body_kind(head: &Parts, is_head: bool) -> Result<BodyKind, Failure> {
    let fields = &head.headers;
    let kind = match (fields::first(fields, &TRANSFER_ENCODING), fields::first(fields, &CONTENT_LENGTH)) {
        (None, None) => BodyKind::Rest,
        (Some(_), Some(_)) => return Err(Failure::Protocol("it has both Content-Length and Transfer-Encoding")),
        (Some(_), None) if head.version == Version::HTTP_10 => {
            return Err(Failure::Protocol("it has Transfer-Encoding in HTTP/1.0"));
        }
        (Some(coding), None)
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && !fields::is_repeated(fields, &TRANSFER_ENCODING) =>
        {
            BodyKind::Chunked
        }
        (Some(_), None) => return Err(Failure::Protocol("its transfer coding is not chunked alone")),
        (None, Some(_)) if fields::is_repeated(fields, &CONTENT_LENGTH) => return Err(NOT_A_NUMBER),
        (None, Some(length)) => BodyKind::Length(fields::number(length.as_bytes()).ok_or(NOT_A_NUMBER)?),
    };
    let has_none = is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if has_none { BodyKind::Length(0) } else { kind })
}

const MALFORMED: Failure = Failure::Protocol("its head is malformed");
pub(super) const NOT_A_NUMBER: Failure = Failure::Protocol("its Content-Length is not one number");

/// Whether the server means to keep the connection (RFC 9112, section 9.3).
pub(super) fn keeps_connection(head: &Parts) -> bool {
    let says = |word| fields::has_token(&head.headers, &CONNECTION, word);
    !says("close") && (head.version == Version::HTTP_11 || says("keep-alive"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &[&str]) -> Bytes {
        Bytes::from(format!("{}\r\n\r\n", lines.join("\r\n")))
    }

    fn parsed(head: &Bytes) -> Result<Parts, Failure> {
        let mut parts = empty();
        let length = parse(head, &mut parts, &mut HeaderMap::new())?;
        assert!(length.is_none_or(|length| end(head, 0) == Some(length)), "both find the same end");
        length.map(|_| parts).ok_or(MALFORMED)
    }

    fn kind(lines: &[&str], is_head: bool) -> Result<BodyKind, Failure> {
        body_kind(&parsed(&head(lines))?, is_head)
    }

    #[test]
    fn a_head_ends_with_its_empty_line_in_whatever_pieces_it_comes() {
        for text in ["HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest", "HTTP/1.1 200 OK\nA: b\n\nrest"] {
            let whole = text.len() - "rest".len();
            for searched in 0..whole {
                assert_eq!(end(text.as_bytes(), searched), Some(whole), "{text:?} from {searched}");
                assert_eq!(end(&text.as_bytes()[..searched], 0), None, "{text:?} to {searched}");
            }
        }
    }

    #[test]
    fn status_version_reason_and_fields_are_read() {
        let parts = parsed(&head(&["HTTP/1.0 299 Odd", "A: b", "a: c", "D:"])).unwrap();
        assert_eq!((parts.status.as_u16(), parts.version), (299, Version::HTTP_10));
        assert_eq!(parts.extensions.get::<ReasonPhrase>().unwrap().as_bytes(), b"Odd");
        assert_eq!(parts.headers.get_all("a").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(parts.headers["d"], "");
        assert!(parsed(&head(&["HTTP/1.1 200 OK"])).unwrap().extensions.is_empty());
        for line in ["HTTP/1.1 20 OK", "HTTP/1.1 099 OK", "HTTP/2 200 OK", "nonsense"] {
            assert!(matches!(parsed(&head(&[line])), Err(Failure::Protocol(_))), "{line}");
        }
    }

    #[test]
    fn the_end_of_a_body_is_known_in_one_way_or_the_response_is_refused() {
        let ok = "HTTP/1.1 200 OK";
        for (lines, is_head, expected) in [
            (&[ok][..], false, BodyKind::Rest),
            (&[ok, "Content-Length: 5"], false, BodyKind::Length(5)),
            (&[ok, "Content-Length: 5"], true, BodyKind::Length(0)),
            (&[ok, "Transfer-Encoding: Chunked"], false, BodyKind::Chunked),
            (&["HTTP/1.1 304 x", "Content-Length: 5"], false, BodyKind::Length(0)),
            (&["HTTP/1.1 204 x"], false, BodyKind::Length(0)),
        ] {
            assert_eq!(kind(lines, is_head).unwrap(), expected, "{lines:?}");
        }
        for lines in [
            &[ok, "Content-Length: 5", "Content-Length: 5"][..],
            &[ok, "Content-Length: +5"],
            &[ok, "Content-Length: 99999999999999999999"],
            &[ok, "Content-Length: 5", "Transfer-Encoding: chunked"],
            &[ok, "Transfer-Encoding: gzip, chunked"],
            &[ok, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            &["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"],
        ] {
            assert!(kind(lines, false).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn a_connection_is_kept_unless_the_server_or_its_version_says_otherwise() {
        for (lines, kept) in [
            (&["HTTP/1.1 200 OK"][..], true),
            (&["HTTP/1.1 200 OK", "Connection: x, Close"], false),
            (&["HTTP/1.0 200 OK"], false),
            (&["HTTP/1.0 200 OK", "Connection: keep-alive"], true),
            (&["HTTP/1.0 200 OK", "Connection: keep-alive", "Connection: close"], false),
        ] {
            assert_eq!(keeps_connection(&parsed(&head(lines)).unwrap()), kept, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let whole = Bytes::from([b"HTTP/1.1 200 OK\r\n", &bytes[..], b"\r\n\r\n"].concat());
            if let Some(end) = end(&whole, 0) {
                let _ = parsed(&whole.slice(..end)).map(|parts| body_kind(&parts, false));
            }
            let _ = trailers(&Bytes::from(bytes));
        }
    }
}
