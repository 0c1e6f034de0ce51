//! A request on its way to a server: its head as bytes, then its body in the framing that the head declares.
//!
//! Made by `handler/http_proxy`, once for all attempts; handed to `exchange`, and written by `link`. The head stays as it
//! was written, so that it can be sent again over another connection without a copy.

use std::fmt;
use std::io::{self, IoSlice, Write as _};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{HeaderMap, Method, Request, Uri, Version};
use tokio::io::AsyncWrite;

use super::progress::Progress;
use super::request_body::{BoxError, Outgoing};
use super::wire::Wire;
use crate::fields;
use crate::trace::{SpanId, TRACEPARENT, TraceId, Traceparent};

/// A request, ready to be sent.
pub struct Sending {
    /// The head, and later what frames a piece of the body; the server has been given `written` bytes of it.
    buffer: Vec<u8>,
    written: usize,
    /// The piece of the body behind it.
    piece: Bytes,
    /// What ends the piece.
    tail: &'static [u8],
    body: Outgoing,
    framing: Framing,
    /// A byte was written.
    begun: bool,
    /// A part of the body was taken.
    touched: bool,
    /// The server takes no more.
    cut: bool,
    /// May be sent again without knowing what became of it.
    repeatable: bool,
    /// The answer has no body, whatever its head says.
    is_head: bool,
    /// The protocols that the server may switch to.
    offered: Option<HeaderValue>,
    /// Where its trace is recorded: each attempt is a span of its own, which the server is told.
    trace: Option<TraceId>,
    /// Where in the buffer the span is written; for HTTP/1.
    span_at: usize,
    /// The head for HTTP/2, where that is what the server speaks; the buffer is empty then.
    head: Option<Box<Request<()>>>,
    /// An empty map, for its memory: the request's fields leave it to the answer's.
    space: HeaderMap,
}

/// How the server knows where the body ends, and what is left of it.
enum Framing {
    /// Nothing is.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks, and behind the last one those trailers that the head declared.
    Chunks { trailers: Vec<HeaderName> },
}

/// The client's body failed or was not as long as it said: the request is to be aborted.
#[derive(Debug)]
pub(super) struct BodyFailed;

impl Sending {
    /// Encodes a request's head (RFC 9112, section 3). It is as the server is to see it: target in origin form, `Host`
    /// set, no fields of the client's connection, and `Content-Length` or `Transfer-Encoding` where there is a body.
    ///
    /// `own` adds the gateway's own fields behind the request's; these are taken from it. Boxed, since it passes through many
    /// hands.
    #[must_use]
    pub fn new(head: &mut Parts, mut body: Outgoing, own: impl FnOnce(&mut OwnFields)) -> Box<Self> {
        let framing = Framing::of(head, &mut body);
        let offered = fields::first(&head.headers, &UPGRADE).cloned();
        let fields = encoded(head, own);
        let mut space = mem::take(&mut head.headers);
        space.clear();
        Box::new(Self {
            trace: fields.trace,
            span_at: fields.span_at,
            buffer: fields.into_head(),
            written: 0,
            piece: Bytes::new(),
            tail: b"",
            repeatable: body.is_empty() && head.method.is_idempotent() && offered.is_none(),
            body,
            framing,
            begun: false,
            touched: false,
            cut: false,
            is_head: head.method == Method::HEAD,
            offered,
            head: None,
            space,
        })
    }

    /// A request for a server that speaks HTTP/2 (RFC 9113, section 8.3), from one as [`new`](Self::new) takes it. `scheme`
    /// is that of the connection to it. What it needs of the head it takes.
    #[must_use]
    pub fn over_http2(head: &mut Parts, body: Outgoing, scheme: &str, own: impl FnOnce(&mut OwnFields)) -> Box<Self> {
        let mut fields = OwnFields::new(Written::Fields(mem::take(&mut head.headers)));
        own(&mut fields);
        let trace = fields.trace;
        if let Written::Fields(fields) = fields.written {
            head.headers = fields;
        }
        let repeatable = body.is_empty() && head.method.is_idempotent();
        let is_head = head.method == Method::HEAD;
        Box::new(Self {
            trace,
            span_at: 0,
            buffer: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            tail: b"",
            repeatable,
            body,
            framing: Framing::Done,
            begun: false,
            touched: false,
            cut: false,
            is_head,
            offered: None,
            head: Some(Box::new(for_http2(head, scheme))),
            space: HeaderMap::new(),
        })
    }

    /// The head, to be sent over HTTP/2; from here on the request counts as begun.
    pub(super) fn head(&mut self) -> Request<()> {
        self.begun = true;
        self.head.as_deref().cloned().unwrap_or_default()
    }

    /// A span for the attempt that begins, which the server will be told; `None` where the trace is not recorded. Nothing of the
    /// head has been written yet, or it was [rewound](Self::rewind).
    pub(super) fn new_span(&mut self) -> Option<SpanId> {
        let (trace, span) = (self.trace?, SpanId::random());
        match &mut self.head {
            Some(head) => {
                let value = Traceparent { trace, span, sampled: true }.to_field();
                head.headers_mut().insert(TRACEPARENT, value);
            }
            None => {
                let place = self.buffer.get_mut(self.span_at..self.span_at + SpanId::DIGITS)?;
                place.copy_from_slice(span.to_string().as_bytes());
            }
        }
        Some(span)
    }

    /// Whether there is no body.
    pub(super) fn body_is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The body; from here on the request cannot be sent again.
    pub(super) fn body_mut(&mut self) -> &mut Outgoing {
        self.touched = true;
        &mut self.body
    }

    /// Whether the body is all there, or there is none: the request can be sent again where the server did nothing with it.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// How long the body is, by the head for HTTP/2.
    pub(super) fn declared_length(&self) -> Option<u64> {
        fields::declared_length(self.head.as_ref()?.headers())
    }

    /// Whether the answer has no body, whatever its head says.
    pub(super) fn is_head(&self) -> bool {
        self.is_head
    }

    /// An empty map, for its memory.
    pub(super) fn space(&mut self) -> &mut HeaderMap {
        &mut self.space
    }

    /// The protocols that the server may switch to.
    pub(super) fn offered(&self) -> Option<&HeaderValue> {
        self.offered.as_ref()
    }

    /// Tells how far the body has come; `None` where there is none.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.body.progress()
    }

    /// Whether the request may be sent over another connection although its fate on the first is unknown: because
    /// nothing of it was sent, or because it is idempotent and has no body (RFC 9110, section 9.2.2).
    pub(super) fn is_repeatable(&self) -> bool {
        self.repeatable || !self.begun
    }

    /// Begins again; only for what [`is_repeatable`](Self::is_repeatable).
    pub(super) fn rewind(&mut self) {
        (self.written, self.begun, self.cut) = (0, false, false);
    }

    /// Whether the server has been given all of it.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.framing, Framing::Done) && !self.cut && !self.is_writing()
    }

    /// Writes as much as the server takes and the client has sent. Ready once nothing is left to be done, which is so too
    /// where the server takes no more: it may have answered, and what it says next decides.
    ///
    /// # Errors
    /// The body failed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Result<(), BodyFailed>> {
        loop {
            if self.cut {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_write(cx, wire)).is_err() {
                self.cut = true;
                continue;
            }
            if let Framing::Done = self.framing {
                return Poll::Ready(Ok(()));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.enclose(frame)?;
        }
    }

    fn is_writing(&self) -> bool {
        self.written < self.buffer.len() || !self.piece.is_empty() || !self.tail.is_empty()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<io::Result<()>> {
        while self.is_writing() {
            let pieces = [&self.buffer[self.written..], &self.piece, self.tail].map(IoSlice::new);
            match ready!(wire.poll_gather(cx, &pieces))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.advance(n),
            }
        }
        // TLS may hold back what the socket had no room for.
        Pin::new(wire).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        self.begun = true;
        let n = written.min(self.buffer.len() - self.written);
        self.written += n;
        written -= n;
        let n = written.min(self.piece.len());
        self.piece.advance(n);
        self.tail = &self.tail[written - n..];
    }

    /// Takes what the body gave, and puts the framing around it. Everything before it has been written.
    fn enclose(&mut self, frame: Option<Result<Frame<Bytes>, BoxError>>) -> Result<(), BodyFailed> {
        let frame = frame.transpose().map_err(|_| BodyFailed)?;
        self.buffer.clear();
        self.written = 0;
        match (&mut self.framing, frame.map(Frame::into_data)) {
            (Framing::Done, _) => {}
            (Framing::Length(left), Some(Ok(data))) => {
                *left = left.checked_sub(data.len() as u64).ok_or(BodyFailed)?;
                if *left == 0 {
                    self.framing = Framing::Done;
                    self.body.finish();
                }
                self.piece = data;
            }
            (Framing::Length(_), Some(Err(_))) => {} // trailers, which have no place here (RFC 9112, section 6.5)
            (Framing::Length(_), None) => return Err(BodyFailed),
            (Framing::Chunks { .. }, Some(Ok(data))) if data.is_empty() => {} // it would be the last chunk
            (Framing::Chunks { .. }, Some(Ok(data))) => {
                let _ = write!(self.buffer, "{:x}\r\n", data.len()); // writing to a Vec cannot fail
                (self.piece, self.tail) = (data, b"\r\n");
            }
            (Framing::Chunks { trailers }, end) => {
                let sent = end.and_then(Result::err).and_then(|frame| frame.into_trailers().ok()).unwrap_or_default();
                let declared = mem::take(trailers);
                self.buffer.extend_from_slice(b"0\r\n");
                let passed = sent.iter().filter(|(name, _)| declared.contains(name));
                passed.for_each(|(name, value)| line(&mut self.buffer, name, value));
                self.buffer.extend_from_slice(b"\r\n");
                self.framing = Framing::Done;
            }
        }
        Ok(())
    }
}

impl Framing {
    fn of(head: &Parts, body: &mut Outgoing) -> Self {
        if body.is_empty() {
            return Self::Done;
        }
        match fields::declared_length(&head.headers) {
            Some(0) => {
                *body = Outgoing::default(); // its end may be still to come, over HTTP/2; nobody waits for it
                Self::Done
            }
            Some(length) => Self::Length(length),
            None => Self::Chunks { trailers: declared_trailers(&head.headers) },
        }
    }
}

/// A head as HTTP/2 has it: the host in `:authority`, and no field of a connection (RFC 9113, sections 8.2.2 and 8.3.1).
fn for_http2(head: &mut Parts, scheme: &str) -> Request<()> {
    let host = head.headers.remove(HOST);
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        head.headers.remove(name);
    }
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let authority = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let uri = Uri::builder().scheme(scheme).path_and_query(target);
    // A client of HTTP/1.0 may name no host. A target with a scheme has an authority, for h2; this one is nobody's.
    let uri = uri.authority(authority.unwrap_or_else(|| Authority::from_static("unknown"))).build();
    let mut request = Request::new(());
    *request.method_mut() = mem::take(&mut head.method);
    *request.uri_mut() = uri.unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = mem::take(&mut head.headers);
    request
}

/// The trailers that a head declares, but for those that must not come late.
fn declared_trailers(fields: &HeaderMap) -> Vec<HeaderName> {
    let names = fields::lines(fields, &TRAILER).flat_map(fields::tokens);
    names.filter(|name| fields::may_come_late(name)).filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// Takes the gateway's own fields as they are written, without a map in between: they are most of a small head.
#[derive(Debug, Default)]
pub struct OwnFields {
    written: Written,
    /// The trace, and where in the lines the span stands that the server is told.
    trace: Option<TraceId>,
    span_at: usize,
}

#[derive(Debug)]
enum Written {
    /// Lines of HTTP/1.1.
    Lines(Vec<u8>),
    /// The fields of a request over HTTP/2.
    Fields(HeaderMap),
}

impl Default for Written {
    fn default() -> Self {
        Self::Lines(Vec::new())
    }
}

/// Room for what `handler/http_proxy` adds, but for a client certificate.
const ROOM_FOR_OWN: usize = 384;

impl OwnFields {
    fn new(written: Written) -> Self {
        Self { written, ..Self::default() }
    }

    /// Adds the field that says which trace the request belongs to; every attempt at a server writes its own span there.
    pub fn add_trace(&mut self, trace: TraceId) {
        self.trace = Some(trace);
        let value = Traceparent { trace, span: SpanId::random(), sampled: true }.to_field();
        self.add(&TRACEPARENT, &[value.as_bytes()]);
        if let Written::Lines(lines) = &self.written {
            self.span_at = lines.len() - Traceparent::BEHIND_TRACE - 2; // the line's end is two bytes
        }
    }

    fn into_head(self) -> Vec<u8> {
        match self.written {
            Written::Lines(lines) => lines,
            Written::Fields(_) => Vec::new(),
        }
    }

    /// Adds a field, its value made of `pieces`. None of them may hold what ends a line.
    pub fn add(&mut self, name: &HeaderName, pieces: &[&[u8]]) {
        debug_assert!(!pieces.iter().any(|piece| memchr::memchr3(b'\r', b'\n', 0, piece).is_some()));
        match &mut self.written {
            Written::Lines(lines) => {
                lines.extend_from_slice(name.as_str().as_bytes());
                lines.extend_from_slice(b": ");
                pieces.iter().for_each(|piece| lines.extend_from_slice(piece));
                lines.extend_from_slice(b"\r\n");
            }
            Written::Fields(fields) => {
                let value = HeaderValue::from_maybe_shared(Bytes::from(pieces.concat()));
                fields.extend(value.ok().map(|value| (name.clone(), value)));
            }
        }
    }

    /// The lines, to be [added](Self::add_lines) to other requests.
    #[must_use]
    pub fn into_lines(self) -> Box<[u8]> {
        match self.written {
            Written::Lines(lines) => lines.into(),
            Written::Fields(_) => Box::default(),
        }
    }

    /// Adds lines that were made before; false where the request goes over HTTP/2, which has none.
    pub fn add_lines(&mut self, made: &[u8]) -> bool {
        match &mut self.written {
            Written::Lines(lines) => lines.extend_from_slice(made),
            Written::Fields(_) => return false,
        }
        true
    }

    /// The lines so far.
    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        match &self.written {
            Written::Lines(lines) => std::str::from_utf8(lines).unwrap_or_default(),
            Written::Fields(_) => "",
        }
    }
}

fn encoded(head: &Parts, own: impl FnOnce(&mut OwnFields)) -> OwnFields {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut text = Vec::with_capacity(head.method.as_str().len() + target.len() + fields + 14 + ROOM_FOR_OWN);
    for word in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        text.extend_from_slice(word.as_bytes());
    }
    // No name, value or target can hold a line's end: their types see to it.
    head.headers.iter().for_each(|(name, value)| line(&mut text, name, value));
    let mut fields = OwnFields::new(Written::Lines(text));
    own(&mut fields);
    fields.add_lines(b"\r\n");
    fields
}

fn line(text: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for word in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        text.extend_from_slice(word);
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("begun", &self.begun).field("body", &self.body).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A body made of these frames.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn request(
        field: (&str, &str),
        pieces: &[&'static str],
        trailers: &[(&'static str, &'static str)],
    ) -> Request<Outgoing> {
        let mut frames: VecDeque<_> =
            pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))).collect();
        if !trailers.is_empty() {
            let fields = trailers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
            frames.push_back(Frame::trailers(fields.collect()));
        }
        let head = Request::post("/a?b").header(field.0, field.1).header("trailer", "x-sum, Content-Type");
        head.body(Outgoing::new(Frames(frames))).unwrap()
    }

    /// What the server gets of a request, and whether all of it could be sent.
    async fn sent(request: Request<Outgoing>) -> (String, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut wire = Wire::Plain(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap().into());
        let (mut server, _) = listener.accept().await.unwrap();
        let (mut head, body) = request.into_parts();
        let mut sending = Sending::new(&mut head, body, |own| own.add(&HOST, &[b"a", b".b"]));
        let outcome = poll_fn(|cx| sending.poll(cx, &mut wire)).await;
        assert_eq!(sending.is_complete(), outcome.is_ok());
        drop(wire);
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        (text, outcome.is_ok())
    }

    #[tokio::test]
    async fn a_body_of_known_length_is_sent_as_it_is() {
        let (text, whole) = sent(request(("content-length", "4"), &["ab", "", "cd"], &[])).await;
        let head = "POST /a?b HTTP/1.1\r\ncontent-length: 4\r\ntrailer: x-sum, Content-Type\r\nhost: a.b\r\n\r\n";
        assert_eq!((text, whole), (format!("{head}abcd"), true));
    }

    #[tokio::test]
    async fn a_body_that_is_not_as_long_as_it_said_fails_and_no_byte_too_many_is_sent() {
        for (pieces, body) in [(&["ab", "c"][..], "abc"), (&["ab", "cde"], "ab")] {
            let (text, whole) = sent(request(("content-length", "4"), pieces, &[])).await;
            assert!(!whole && text.ends_with(&format!("\r\n\r\n{body}")), "{text}");
        }
    }

    #[tokio::test]
    async fn chunks_end_with_those_trailers_that_were_declared_and_may_come_late() {
        let trailers = [("x-sum", "1"), ("x-other", "2"), ("content-type", "3")];
        let (text, whole) = sent(request(("transfer-encoding", "chunked"), &["ab", "", "0123456789"], &trailers)).await;
        assert!(whole && text.ends_with("\r\n\r\n2\r\nab\r\na\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n"), "{text}");
        let (text, _) = sent(request(("transfer-encoding", "chunked"), &["ab"], &[])).await;
        assert!(text.ends_with("2\r\nab\r\n0\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_body_of_no_bytes_whose_end_is_to_come_is_not_waited_for() {
        let (mut head, body) = request(("content-length", "0"), &[], &[]).into_parts();
        let sending = Sending::new(&mut head, body, |_| {});
        assert!(sending.body_is_empty() && sending.progress().is_none());
    }

    #[test]
    fn only_an_idempotent_request_without_a_body_or_an_upgrade_is_repeatable_once_begun() {
        let is_repeatable = |request: Request<Outgoing>| {
            let (mut head, body) = request.into_parts();
            let mut sending = Sending::new(&mut head, body, |_| {});
            assert!(sending.is_repeatable());
            sending.advance(1);
            sending.is_repeatable()
        };
        let empty = |request: hyper::http::request::Builder| request.body(Outgoing::default()).unwrap();
        assert!(is_repeatable(empty(Request::get("/"))));
        assert!(!is_repeatable(empty(Request::post("/"))));
        assert!(!is_repeatable(empty(Request::get("/").header("upgrade", "websocket"))));
        assert!(!is_repeatable(request(("content-length", "2"), &["ab"], &[])));
    }
}
