//! An answer as bytes: its head, and its body in the framing that the head declares (RFC 9112, sections 4 and 6).
//!
//! Owns the choice of the framing and the fields that belong to the connection. Used by `turn`; writes to `output`.

use std::io::Write as _;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use hyper::{StatusCode, body::Frame};

use super::super::date;
use super::output::Output;
use crate::fields::{may_come_late, number, says};

/// What a request has its answer be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The client speaks HTTP/1.1, not 1.0.
    pub(super) is_11: bool,
    /// The answer has no body, whatever its head says.
    pub(super) is_head: bool,
    /// The client reads trailers.
    pub(super) wants_trailers: bool,
    /// The connection may go on behind the answer.
    pub(super) keep: bool,
}

/// How the client knows where the body ends, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing is.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks, and behind them trailers, if the client reads any.
    Chunks { trailers: bool },
    /// It ends with the connection.
    Rest,
}

/// The body is not as long as the head said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongLength;

/// Writes an answer's head. `length` is the body's, if it is known. Clears `terms.keep` where the answer ends the
/// connection.
pub(super) fn begin(output: &mut Output, head: &Parts, length: Option<u64>, terms: &mut Terms) -> Framing {
    let buffer = output.buffer();
    status_line(buffer, head, terms.is_11);
    let mut said = Said::default();
    let mut has_date = false;
    let mut says_close = false;
    for (name, value) in &head.headers {
        if name == CONTENT_LENGTH {
            said = said.or(value); // said below, as it is
            continue;
        } else if name == TRANSFER_ENCODING {
            continue; // so is this
        }
        has_date |= name == DATE;
        says_close |= name == CONNECTION && says(value.as_bytes(), b"close");
        line(buffer, name, value.as_bytes());
    }
    let framing = Framing::of(head.status, length.or(said.length), terms);
    terms.keep &= framing != Framing::Rest;
    terms.keep &= !says_close;
    framing.declare(buffer, head.status, length, &said, terms);
    match terms.keep {
        false if !says_close && head.status != StatusCode::SWITCHING_PROTOCOLS => {
            buffer.extend_from_slice(b"connection: close\r\n");
        }
        true if !terms.is_11 => buffer.extend_from_slice(b"connection: keep-alive\r\n"),
        _ => {}
    }
    if !has_date {
        line(buffer, &DATE, date::now().as_bytes());
    }
    buffer.extend_from_slice(b"\r\n");
    framing
}

/// Writes an interim response, which is a head alone. The client speaks HTTP/1.1.
pub(super) fn interim(output: &mut Output, head: &Parts) {
    let buffer = output.buffer();
    status_line(buffer, head, true);
    head.headers.iter().for_each(|(name, value)| line(buffer, name, value.as_bytes()));
    buffer.extend_from_slice(b"\r\n");
}

impl Framing {
    fn of(status: StatusCode, length: Option<u64>, terms: &Terms) -> Self {
        if terms.is_head || super::super::answer::has_no_body(status) {
            return Self::Done;
        }
        match length {
            Some(0) => Self::Done,
            Some(length) => Self::Length(length),
            None if terms.is_11 => Self::Chunks { trailers: terms.wants_trailers },
            None => Self::Rest,
        }
    }

    /// Writes the field that says it: of a body that is not sent, too, what it would say (RFC 9110, section 8.6).
    fn declare(self, buffer: &mut Vec<u8>, status: StatusCode, known: Option<u64>, said: &Said<'_>, terms: &Terms) {
        let length = match self {
            Self::Length(length) => Some(length),
            Self::Chunks { .. } => {
                buffer.extend_from_slice(b"transfer-encoding: chunked\r\n");
                None
            }
            Self::Rest => None,
            // A body that is not there says nothing of the one that would be.
            Self::Done if terms.is_head && status != StatusCode::NO_CONTENT => {
                said.length.or(known.filter(|length| *length > 0))
            }
            Self::Done if status == StatusCode::NOT_MODIFIED => said.length,
            Self::Done if super::super::answer::has_no_body(status) => None,
            Self::Done => Some(0),
        };
        match (length, said.text) {
            (None, _) => {}
            (Some(_), Some(text)) if length == said.length => line(buffer, &CONTENT_LENGTH, text),
            (Some(length), _) => drop(write!(buffer, "content-length: {length}\r\n")), // writing to a Vec cannot fail
        }
    }

    /// Sends a piece of the body, or the trailers that end it.
    pub(super) fn send(&mut self, output: &mut Output, frame: Frame<Bytes>) -> Result<(), WrongLength> {
        match frame.into_data() {
            Ok(data) => self.data(output, data),
            Err(frame) => self.end(output, frame.into_trailers().ok().as_ref()),
        }
    }

    fn data(&mut self, output: &mut Output, data: Bytes) -> Result<(), WrongLength> {
        match self {
            Self::Done if data.is_empty() => {}
            Self::Done => return Err(WrongLength),
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                output.add(data, b"");
                if *left == 0 {
                    *self = Self::Done;
                }
            }
            Self::Chunks { .. } if data.is_empty() => {} // it would be the last chunk
            Self::Chunks { .. } => {
                let _ = write!(output.buffer(), "{:x}\r\n", data.len());
                output.add(data, b"\r\n");
            }
            Self::Rest => output.add(data, b""),
        }
        Ok(())
    }

    /// Ends the body.
    pub(super) fn end(&mut self, output: &mut Output, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        match *self {
            Self::Done | Self::Rest => {}
            Self::Length(_) => return Err(WrongLength),
            Self::Chunks { trailers: wanted } => {
                let buffer = output.buffer();
                buffer.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.filter(|_| wanted).into_iter().flatten() {
                    if may_come_late(name.as_str().as_bytes()) {
                        line(buffer, name, value.as_bytes());
                    }
                }
                buffer.extend_from_slice(b"\r\n");
            }
        }
        *self = Self::Done;
        Ok(())
    }
}

fn status_line(buffer: &mut Vec<u8>, head: &Parts, is_11: bool) {
    let reason = head.extensions.get::<ReasonPhrase>();
    if is_11 && head.status == StatusCode::OK && reason.is_none() {
        buffer.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    let reason = reason.map_or(head.status.canonical_reason().unwrap_or("").as_bytes(), ReasonPhrase::as_bytes);
    let version: &[u8] = if is_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " };
    for word in [version, head.status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
        buffer.extend_from_slice(word);
    }
}

fn line(buffer: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    buffer.reserve(name.len() + value.len() + 4);
    for word in [name, b": ", value, b"\r\n"] {
        buffer.extend_from_slice(word);
    }
}

/// What the service says of the body's length.
#[derive(Default)]
struct Said<'a> {
    length: Option<u64>,
    text: Option<&'a [u8]>,
}

impl<'a> Said<'a> {
    /// The first value that is a number counts.
    fn or(self, value: &'a HeaderValue) -> Self {
        match number(value.as_bytes()) {
            Some(length) if self.length.is_none() => Self { length: Some(length), text: Some(value.as_bytes()) },
            _ => self,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::task::{Context, Waker};

    use hyper::Response;

    use super::*;

    const TERMS: Terms = Terms { is_11: true, is_head: false, wants_trailers: false, keep: true };

    fn written(output: &mut Output) -> String {
        let mut bytes = Vec::new();
        assert!(output.poll_write(&mut Context::from_waker(Waker::noop()), &mut bytes).is_ready());
        String::from_utf8(bytes).unwrap()
    }

    /// A head with these fields, and `Date` left out; the framing; whether the connection is kept.
    fn head(status: u16, fields: &[(&str, &str)], length: Option<u64>, mut terms: Terms) -> (String, Framing, bool) {
        let mut response = Response::builder().status(status).header("date", "-");
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (head, ()) = response.body(()).unwrap().into_parts();
        let mut output = Output::default();
        let framing = begin(&mut output, &head, length, &mut terms);
        (written(&mut output).replace("date: -\r\n", ""), framing, terms.keep)
    }

    #[test]
    fn a_body_is_framed_by_its_length_by_chunks_or_by_the_end() {
        let old = Terms { is_11: false, ..TERMS };
        let close = Terms { keep: false, ..TERMS };
        for (length, fields, terms, expected, framing, kept) in [
            (Some(5), &[][..], TERMS, "content-length: 5\r\n\r\n", Framing::Length(5), true),
            (Some(0), &[], TERMS, "content-length: 0\r\n\r\n", Framing::Done, true),
            (None, &[("content-length", "5")], TERMS, "content-length: 5\r\n\r\n", Framing::Length(5), true),
            (Some(5), &[("content-length", "6")], TERMS, "content-length: 5\r\n\r\n", Framing::Length(5), true),
            (None, &[], TERMS, "transfer-encoding: chunked\r\n\r\n", Framing::Chunks { trailers: false }, true),
            (Some(5), &[("transfer-encoding", "x")], TERMS, "content-length: 5\r\n\r\n", Framing::Length(5), true),
            (Some(5), &[], close, "content-length: 5\r\nconnection: close\r\n\r\n", Framing::Length(5), false),
            (
                Some(5),
                &[("connection", "x, Close")],
                TERMS,
                "connection: x, Close\r\ncontent-length: 5\r\n\r\n",
                Framing::Length(5),
                false,
            ),
            (Some(5), &[], old, "content-length: 5\r\nconnection: keep-alive\r\n\r\n", Framing::Length(5), true),
            (None, &[], old, "connection: close\r\n\r\n", Framing::Rest, false),
        ] {
            let version = if terms.is_11 { "1.1" } else { "1.0" };
            let expected = format!("HTTP/{version} 200 OK\r\n{expected}");
            assert_eq!(head(200, fields, length, terms), (expected, framing, kept));
        }
    }

    #[test]
    fn what_has_no_body_says_at_most_how_long_it_would_be() {
        let is_head = Terms { is_head: true, ..TERMS };
        let said = [("content-length", "9")];
        for (status, fields, length, terms, expected) in [
            (200, &said[..], Some(0), is_head, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
            (200, &[], Some(9), is_head, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
            (200, &[], Some(0), is_head, "HTTP/1.1 200 OK\r\n\r\n"),
            (200, &[], None, is_head, "HTTP/1.1 200 OK\r\n\r\n"),
            (204, &said, None, TERMS, "HTTP/1.1 204 No Content\r\n\r\n"),
            (204, &said, None, is_head, "HTTP/1.1 204 No Content\r\n\r\n"),
            (304, &said, Some(0), TERMS, "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
            (304, &[], None, TERMS, "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ] {
            assert_eq!(head(status, fields, length, terms), (expected.to_owned(), Framing::Done, true));
        }
    }

    #[test]
    fn chunks_are_never_empty_and_end_with_those_trailers_that_are_wanted_and_may_come_late() {
        let large = Bytes::from(vec![b'x'; 5000]);
        let trailers = || {
            let fields = [("x-sum", "1"), ("content-length", "2")];
            let fields = fields.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
            Frame::trailers(fields.into_iter().collect())
        };
        for (wanted, last) in [(true, "0\r\nx-sum: 1\r\n\r\n"), (false, "0\r\n\r\n")] {
            let (mut output, mut framing) = (Output::default(), Framing::Chunks { trailers: wanted });
            framing.send(&mut output, Frame::data(Bytes::new())).unwrap();
            framing.send(&mut output, Frame::data("ab".into())).unwrap();
            framing.send(&mut output, Frame::data(large.clone())).unwrap();
            assert!(!output.has_room(), "nothing may come between a piece and its end");
            let large = String::from_utf8(large.to_vec()).unwrap();
            assert_eq!(written(&mut output), format!("2\r\nab\r\n1388\r\n{large}\r\n"));
            framing.send(&mut output, trailers()).unwrap();
            assert_eq!((written(&mut output).as_str(), framing), (last, Framing::Done));
        }
    }

    #[test]
    fn a_body_that_is_shorter_or_longer_than_said_is_an_error() {
        let mut output = Output::default();
        let mut framing = Framing::Length(3);
        framing.send(&mut output, Frame::data("ab".into())).unwrap();
        assert_eq!(framing.end(&mut output, None), Err(WrongLength));
        assert_eq!(framing.send(&mut output, Frame::data("cd".into())), Err(WrongLength));
        framing.send(&mut output, Frame::data("c".into())).unwrap();
        assert_eq!((written(&mut output).as_str(), framing), ("abc", Framing::Done));
        assert_eq!(framing.send(&mut output, Frame::data("d".into())), Err(WrongLength));
    }

    #[test]
    fn the_date_is_said_once() {
        for said in [None, Some("-")] {
            let mut response = Response::new(());
            response.headers_mut().extend(said.map(|date| (DATE, HeaderValue::from_static(date))));
            let mut output = Output::default();
            begin(&mut output, &response.into_parts().0, Some(0), &mut TERMS.clone());
            assert_eq!(written(&mut output).matches("date: ").count(), 1);
        }
    }
}
