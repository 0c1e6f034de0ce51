//! Follows an HTTP/1.1 connection's requests from head to body to the next head.
//!
//! Owns the message state and decides, byte by byte, what may go on to the parser behind. Pure: `guard` feeds it with
//! what was read, in whatever pieces it came.

use super::chunked::Chunks;
use super::fault::Fault;
use super::head::{BodyKind, Head};
use super::trailers::Trailers;

/// Where in the sequence of requests the reading stands.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    /// The message's head asks for an upgrade.
    upgrade: bool,
}

#[derive(Debug)]
enum State {
    /// No byte of a head has come; `skipped` says whether an empty line has.
    Between {
        skipped: bool,
    },
    Head(Head),
    /// So many bytes of the body are to come.
    Length(u64),
    Chunks(Chunks),
    Trailers(Trailers),
    /// A request that asks for an upgrade is whole; what follows waits for the answer.
    Held,
    /// Another protocol is spoken.
    Tunnel,
    /// A fault was found; nothing is looked at any more.
    Ended,
}

/// What a call of [`Scanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// So many bytes may go on.
    pub(super) pass: usize,
    /// What is to be done with the bytes behind them.
    pub(super) then: Then,
}

/// What is to be done with the bytes that may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// There are none.
    Nothing,
    /// They are the beginning of something that goes on as a whole: the next call gets them again, and more.
    More,
    /// So many are dropped; the next call gets the rest.
    Drop(usize),
    /// They wait until the upgrade's outcome is known.
    Hold,
    /// They begin with a head that is refused.
    Refuse(Fault),
    /// They break the body that was begun.
    Break(Fault),
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
    /// The outcome of an upgrade.
    Held,
    /// Nothing of ours: another protocol is spoken.
    Tunnel,
    /// The end: a fault was found.
    Ended,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { state: State::Between { skipped: false }, upgrade: false }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Between { .. } => Phase::Between,
            State::Head(_) => Phase::Head,
            State::Length(_) | State::Chunks(_) | State::Trailers(_) => Phase::Body,
            State::Held => Phase::Held,
            State::Tunnel => Phase::Tunnel,
            State::Ended => Phase::Ended,
        }
    }

    /// Settles a held upgrade: the bytes that follow are another protocol's, or the next request.
    pub(super) fn settle(&mut self, switched: bool) {
        self.state = if switched { State::Tunnel } else { State::Between { skipped: false } };
    }

    /// Ends the reading, for a fault that time told.
    pub(super) fn end(&mut self) {
        self.state = State::Ended;
    }

    /// Looks at what comes next. Bytes that did not pass are given again, with more behind them.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut pass = 0;
        loop {
            match self.step(&bytes[pass..]) {
                Ok(n) => pass += n,
                Err(Then::Nothing) => return Scanned { pass: bytes.len(), then: Then::Nothing },
                Err(then) => {
                    if let Then::Refuse(_) | Then::Break(_) = then {
                        self.state = State::Ended;
                    }
                    return Scanned { pass, then };
                }
            }
        }
    }

    /// Takes one step: so many bytes may pass, or why it stops.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Then> {
        match &mut self.state {
            State::Held => Err(if bytes.is_empty() { Then::Nothing } else { Then::Hold }),
            State::Tunnel | State::Ended => Err(Then::Nothing),
            _ if bytes.is_empty() => Err(Then::Nothing),
            State::Between { skipped } => {
                if !*skipped && bytes[0] == b'\r' {
                    // One empty line before a request is ignored (RFC 9112, section 2.2).
                    return match bytes.get(1) {
                        None => Err(Then::More),
                        Some(b'\n') => {
                            *skipped = true;
                            Err(Then::Drop(2))
                        }
                        Some(_) => Err(Then::Refuse(Fault::malformed("CR stands without LF"))),
                    };
                }
                self.state = State::Head(Head::default());
                Ok(0)
            }
            State::Head(head) => {
                let accepted = head.advance(bytes).map_err(Then::Refuse)?.ok_or(Then::More)?;
                self.upgrade = accepted.upgrade;
                match accepted.body {
                    BodyKind::Length(0) => self.end_message(),
                    BodyKind::Length(left) => self.state = State::Length(left),
                    BodyKind::Chunked => self.state = State::Chunks(Chunks::new()),
                }
                Ok(accepted.len)
            }
            State::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                if *left == 0 {
                    self.end_message();
                }
                Ok(here)
            }
            State::Chunks(chunks) => {
                let (here, ended) = chunks.advance(bytes).map_err(Then::Break)?;
                if ended {
                    self.state = State::Trailers(Trailers::default());
                }
                Ok(here)
            }
            State::Trailers(trailers) => {
                // Whatever breaks a trailer breaks the body that it belongs to.
                let broken = |fault: Fault| Then::Break(Fault::chunk(fault.detail));
                let len = trailers.advance(bytes).map_err(broken)?.ok_or(Then::More)?;
                self.end_message();
                Ok(len)
            }
        }
    }

    fn end_message(&mut self) {
        self.state = if self.upgrade { State::Held } else { State::Between { skipped: false } };
    }
}
