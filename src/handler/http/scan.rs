//! Follows an HTTP/1.1 connection's requests from head to body to the next head.
//!
//! Owns the message state, and says what the bytes that came are: a head, content, framing. Pure: `http1` shows it what
//! was read, in whatever pieces it came, and takes off what it names.

use super::chunked::{Chunks, Found};
use super::fault::Fault;
use super::head::{Accepted, BodyKind, Head};
use super::trailers::Trailers;
use crate::handler::Limits;

/// Where in the sequence of requests the reading stands.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    limits: Limits,
    state: State,
    /// The head that is being read, or was read last. Kept, so that its list of fields is allocated once.
    head: Head,
}

#[derive(Debug)]
enum State {
    /// No byte of a head has come; `skipped` says whether an empty line has.
    Between {
        skipped: bool,
    },
    Head,
    /// So many bytes of the body are to come.
    Length(u64),
    Chunks(Chunks),
    Trailers(Trailers),
}

impl Default for State {
    fn default() -> Self {
        Self::Between { skipped: false }
    }
}

/// What stands before a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// An empty line, which is ignored (RFC 9112, section 2.2).
    EmptyLine,
    /// A whole head that is accepted.
    Head(Accepted),
}

impl Beginning {
    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::EmptyLine => 2,
            Self::Head(accepted) => accepted.len,
        }
    }
}

/// What comes next of a body, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Nothing whole: more bytes are needed.
    More,
    /// Framing, to be passed over.
    Framing(usize),
    /// Content.
    Data(usize),
    /// The whole trailer section, with which the message ends.
    Trailers(usize),
}

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first byte of a request.
    Between,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
}

impl Scanner {
    /// Before the first request, each within these limits.
    pub(super) fn within(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Between { .. } => Phase::Between,
            State::Head => Phase::Head,
            State::Length(_) | State::Chunks(_) | State::Trailers(_) => Phase::Body,
        }
    }

    /// The head that was read last.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Looks at what stands between two bodies; `None` asks for more. Bytes that are not named yet are shown again, with
    /// more behind them.
    pub(super) fn next_head(&mut self, bytes: &[u8]) -> Result<Option<Beginning>, Fault> {
        if let State::Between { skipped } = &mut self.state {
            match bytes {
                [] => return Ok(None),
                [b'\r'] if !*skipped => return Ok(None),
                [b'\r', b'\n', ..] if !*skipped => {
                    *skipped = true; // one, and not another
                    return Ok(Some(Beginning::EmptyLine));
                }
                [b'\r', ..] if !*skipped => return Err(Fault::malformed("CR stands without LF")),
                _ => {}
            }
            self.head.clear(self.limits);
            self.state = State::Head;
        }
        let Some(accepted) = self.head.advance(bytes)? else { return Ok(None) };
        self.state = match accepted.body {
            BodyKind::Length(0) => State::default(),
            BodyKind::Length(left) => State::Length(left),
            BodyKind::Chunked => State::Chunks(Chunks::new()),
        };
        Ok(Some(Beginning::Head(accepted)))
    }

    /// Looks at what comes next of the body. A fault breaks it.
    pub(super) fn next_piece(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        if bytes.is_empty() {
            return Ok(Piece::More);
        }
        match &mut self.state {
            State::Between { .. } | State::Head => Ok(Piece::More), // there is no body
            State::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                if *left == 0 {
                    self.state = State::default();
                }
                Ok(Piece::Data(here))
            }
            State::Chunks(chunks) => Ok(match chunks.advance(bytes)? {
                Found::Framing(n) => Piece::Framing(n),
                Found::Data(n) => Piece::Data(n),
                Found::End(n) => {
                    self.state = State::Trailers(Trailers::within(self.limits.head));
                    Piece::Framing(n)
                }
            }),
            State::Trailers(trailers) => {
                // Whatever breaks a trailer breaks the body that it belongs to.
                let Some(length) = trailers.advance(bytes).map_err(|fault| Fault::chunk(fault.detail))? else {
                    return Ok(Piece::More);
                };
                self.state = State::default();
                Ok(Piece::Trailers(length))
            }
        }
    }
}
