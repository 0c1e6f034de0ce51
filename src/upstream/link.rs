//! One HTTP/1.1 connection to a server, driven by whoever waits for its answer.
//!
//! Owns the wire, what was read from it and not used yet, and where in the response the reading stands. Polled inline,
//! by the request that waits for the head (`exchange`) and then by the body that is being read (`response_body`): a request
//! costs no task and no wake-up of another one.

use std::future::Future;
use std::io;
use std::mem;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Frame;
use hyper::http::response::Parts;
use hyper::{HeaderMap, Response};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::chunks::{Chunks, Found};
use super::dial::Open;
use super::exchange::{Early, Failure, MOST_INTERIM, MOST_INTERIM_BYTES, TOO_MUCH_INTERIM};
use super::response_head::{self, BodyKind};
use super::sending::{BodyFailed, Sending};
use super::wire::Wire;
use crate::deadline::Deadline;

/// How much is read at a time, in bytes, while there is no sign of more.
const LEAST_READ: usize = 8 * 1024;
/// The most that is read at a time, and the largest head of a response.
const MOST_READ: usize = 64 * 1024;

/// A connection, idle or with one request on its way.
pub(super) struct Link {
    wire: Wire,
    /// Where the socket is read to. Between two reads it holds nothing but the beginning of a head.
    space: BytesMut,
    /// What was read and not used yet.
    unread: Bytes,
    /// How much to read at a time.
    reach: usize,
    /// A byte has come since the last request was sent.
    heard: bool,
    /// How many interim responses have come, and how large their heads were together.
    interim: (u8, usize),
    /// The head of the response, once it has come and until it is taken.
    head: Parts,
    reading: Reading,
    /// The server means to keep the connection.
    kept: bool,
    /// Kept, and left set, from one request to the next: most deadlines are never reached.
    timer: Deadline,
    open: Open,
}

/// Where in a response the reading stands.
#[derive(Debug)]
enum Reading {
    /// Its head has not come whole; so many bytes were searched for its end.
    Head { searched: usize },
    /// So many bytes of its body are to come.
    Length(u64),
    /// Its body comes in chunks.
    Chunks(Box<Chunks>),
    /// Its body ends with the connection.
    Rest,
    /// It is read.
    Done,
}

impl Link {
    /// Speaks HTTP/1.1 over a fresh connection.
    pub(super) fn new(wire: Wire, open: Open) -> Box<Self> {
        Box::new(Self {
            wire,
            space: BytesMut::new(),
            unread: Bytes::new(),
            reach: LEAST_READ,
            heard: false,
            interim: (0, 0),
            head: response_head::empty(),
            reading: Reading::Done,
            kept: true,
            timer: Deadline::default(),
            open,
        })
    }

    /// Gets ready for a request and its response.
    pub(super) fn begin(&mut self) {
        (self.heard, self.interim, self.reading) = (false, (0, 0), Reading::Head { searched: 0 });
    }

    /// Writes a request on, as [`Sending::poll`] does.
    ///
    /// # Errors
    /// The client's body failed.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, sending: &mut Sending) -> Poll<Result<(), BodyFailed>> {
        sending.poll(cx, &mut self.wire)
    }

    /// Reads the head of the response to `request`, to be [taken](Self::take_head); interim ones before it go to `early`.
    ///
    /// # Errors
    /// It does not come, or cannot be passed on.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Sending,
        early: Early<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if let Some(length) = self.read_head(request.space())? {
                let status = self.head.status;
                if status.is_informational() && status.as_u16() != 101 {
                    let (count, bytes) = self.interim;
                    self.interim = (count + 1, bytes + length);
                    if count >= MOST_INTERIM || bytes + length > MOST_INTERIM_BYTES {
                        return Poll::Ready(Err(TOO_MUCH_INTERIM));
                    }
                    early(Response::from_parts(self.take_head(), ()));
                    continue;
                }
                self.kept = response_head::keeps_connection(&self.head);
                self.reading = match response_head::body_kind(&self.head, request.is_head())? {
                    BodyKind::Length(0) => Reading::Done,
                    BodyKind::Length(left) => Reading::Length(left),
                    BodyKind::Chunked => Reading::Chunks(Box::default()),
                    BodyKind::Rest => Reading::Rest,
                };
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_read(cx)) {
                Ok(n) if n > 0 => {}
                _ => {
                    return Poll::Ready(Err(if self.heard { Failure::Incomplete } else { Failure::Closed }));
                }
            }
        }
    }

    /// The head of the response.
    pub(super) fn head(&self) -> &Parts {
        &self.head
    }

    /// The head of the response, which is not here any more then.
    pub(super) fn take_head(&mut self) -> Parts {
        mem::replace(&mut self.head, response_head::empty())
    }

    /// Reads the next head, if it has come whole, and says how long it is; what was read behind it becomes `unread`.
    ///
    /// Most heads come whole, and are read at once. One that does not is searched for its end first, each byte once.
    fn read_head(&mut self, fields: &mut HeaderMap) -> Result<Option<usize>, Failure> {
        if !self.unread.is_empty() {
            // Behind an interim response; the rest of the head must come to stand behind this.
            let mut whole = BytesMut::from(mem::take(&mut self.unread));
            whole.extend_from_slice(&self.space);
            self.space = whole;
        }
        if self.space.is_empty() {
            return Ok(None); // mostly, where the request was only just sent
        }
        let searched = if let Reading::Head { searched } = self.reading { searched } else { 0 };
        let is_awaited = searched > 0 && response_head::end(&self.space, searched).is_none();
        if is_awaited {
            return self.await_more();
        }
        if !response_head::may_begin(&self.space) {
            return Err(Failure::Protocol("it is not HTTP/1"));
        }
        self.unread = self.space.split().freeze();
        match response_head::parse(&self.unread, &mut self.head, fields)? {
            Some(length) if length > MOST_READ => Err(Failure::HeadTooLarge),
            Some(length) => {
                self.unread.advance(length);
                self.reading = Reading::Head { searched: 0 }; // of the next one, if this is an interim one
                Ok(Some(length))
            }
            None => {
                self.space = BytesMut::from(mem::take(&mut self.unread));
                self.await_more()
            }
        }
    }

    /// The head's end is not among what has come.
    #[cold]
    fn await_more(&mut self) -> Result<Option<usize>, Failure> {
        self.reading = Reading::Head { searched: self.space.len() };
        if self.space.len() >= MOST_READ { Err(Failure::HeadTooLarge) } else { Ok(None) }
    }

    /// Reads the next piece of the body, or its trailers; `None` at its end.
    ///
    /// # Errors
    /// It broke off, or breaks the grammar, and how.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        loop {
            if self.unread.is_empty() && !matches!(self.reading, Reading::Done) {
                match ready!(self.poll_read(cx)) {
                    Ok(0) if matches!(self.reading, Reading::Rest) => self.reading = Reading::Done,
                    Ok(n) if n > 0 => self.unread = self.space.split().freeze(),
                    _ => return Poll::Ready(Some(Err("the upstream's response broke off"))),
                }
            }
            match &mut self.reading {
                Reading::Head { .. } | Reading::Done => return Poll::Ready(None),
                Reading::Rest => return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.unread))))),
                Reading::Length(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(self.unread.len());
                    *left -= n as u64;
                    if *left == 0 {
                        self.reading = Reading::Done;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(self.unread.split_to(n)))));
                }
                Reading::Chunks(chunks) => match chunks.next(&mut self.unread) {
                    Err(why) => return Poll::Ready(Some(Err(why))),
                    Ok(Found::Nothing) => {}
                    Ok(Found::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Found::End(trailers)) => {
                        self.reading = Reading::Done;
                        return Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))));
                    }
                },
            }
        }
    }

    /// The whole body, where it is of known length and was read along with the head.
    pub(super) fn take_whole_body(&mut self) -> Option<Bytes> {
        match self.reading {
            Reading::Done => Some(Bytes::new()),
            Reading::Length(left) if left <= self.unread.len() as u64 => {
                self.reading = Reading::Done;
                Some(self.unread.split_to(left as usize)) // no more than a length in memory
            }
            _ => None,
        }
    }

    /// How many bytes of the body are to come, where its length is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.reading {
            Reading::Length(left) => Some(left),
            Reading::Done => Some(0),
            Reading::Head { .. } | Reading::Chunks(_) | Reading::Rest => None,
        }
    }

    /// Whether the response has been read to its end.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.reading, Reading::Done)
    }

    /// Reads once; how many bytes came, none at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = self.space.capacity() - self.space.len();
        if room < self.reach / 4 {
            self.space.reserve(self.reach);
        }
        let room = self.space.capacity() - self.space.len();
        let n = ready!(pin!(self.wire.read_buf(&mut self.space)).poll(cx))?;
        self.heard |= n > 0;
        if n == room {
            self.reach = MOST_READ.min(self.reach * 2);
        }
        Poll::Ready(Ok(n))
    }

    /// Whether the response is complete and the connection can take another request, as far as the server has said.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_read() && self.kept && self.unread.is_empty() && self.space.is_empty()
    }

    /// Looks whether an idle connection can still take a request: its server has neither closed it nor sent what
    /// nobody asked for.
    pub(super) fn is_fit(&mut self) -> bool {
        self.wire.is_fit()
    }

    /// Lets go of a buffer that a large response has left behind.
    pub(super) fn rest(&mut self) {
        if self.reach > LEAST_READ {
            (self.reach, self.space) = (LEAST_READ, BytesMut::new());
        }
    }

    /// Ready once `deadline` has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.timer.poll(cx, deadline)
    }

    /// Takes the connection apart after an upgrade: the wire, what was read beyond the response's head, and its count.
    pub(super) fn into_parts(self) -> (Wire, Bytes, Open) {
        (self.wire, self.unread, self.open)
    }
}
