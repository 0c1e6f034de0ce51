//! Serves an HTTP/1.1 connection: one request after the other, read strictly and answered in place.
//!
//! Owns the connection from one request to the next: what is waited for, its deadlines, the drain, and how it ends. Called
//! by `serve`; `turn` takes it from a request's head to the end of its answer. One engine reads, judges and writes, so
//! there is no second parser behind it that could read a message differently.

mod framing;
pub(super) mod handover;
mod output;
mod request;
mod turn;
mod wire;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::{HeaderMap, Version};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::framing::Terms;
#[cfg(test)]
pub(super) use self::request::begin;
use self::turn::{Then, Turn};
use self::wire::Wire;
use super::HttpService;
use super::answer::Link;
use super::exchange::Exchange;
use super::fault::Fault;
use super::gate::Gate;
use super::head::Accepted;
use super::pace::Pace;
use super::scan::{Beginning, Phase, Scanner};
use super::serve::LAST_WORDS;
use crate::deadline::Deadline;
use crate::drain::Watch;
use crate::handler::{ServeError, Side};
use crate::stream::Stream;

/// An idle connection is taken apart after this long, so that it holds no buffers.
const PARK_AFTER: Duration = Duration::from_secs(2);

/// How the serving of a connection ended.
pub(super) enum After {
    /// It is over.
    Over,
    /// It has been idle since then, and nothing is left here.
    Parked(Stream, Instant),
    /// It speaks another protocol, until this ends.
    Switched(oneshot::Receiver<Infallible>),
}

/// Serves requests until the connection ends, switches protocols, or has been idle for a while. The first one's head has been
/// waited for since it was `begun`, if it was.
pub(super) async fn serve<S: HttpService>(
    link: &Link<S>,
    stream: Stream,
    begun: Option<Instant>,
    drain: &mut Watch,
) -> Result<After, ServeError> {
    let mut connection = Http1::new(&link.gate, stream);
    connection.since = begun;
    loop {
        match poll_fn(|cx| connection.poll_next(cx, drain)).await? {
            Next::Request(accepted) => match connection.turn(&*link.service, accepted, drain).await? {
                Then::Next => {}
                Then::End => break,
                Then::Switch(switch) => return Ok(After::Switched(switch.hand_over(connection.wire.into_stream()))),
            },
            Next::Refuse(fault) => {
                let is_head = connection.wire.input.starts_with(b"HEAD ");
                connection.refuse(fault, is_head, drain).await?;
                break;
            }
            Next::Park(since) => return Ok(After::Parked(connection.wire.into_stream(), since)),
            Next::End => break,
        }
    }
    connection.end().await?;
    Ok(After::Over)
}

/// What comes after a request.
enum Next {
    /// Another one, whose head has come.
    Request(Accepted),
    /// One that is refused.
    Refuse(Fault),
    /// Nothing has, since then.
    Park(Instant),
    /// The end.
    End,
}

/// One connection.
struct Http1<'a> {
    gate: &'a Arc<Gate>,
    wire: Wire,
    scanner: Scanner,
    clock: Deadline,
    /// Since when the head, or the next piece of the body, is waited for.
    since: Option<Instant>,
    /// What broke the request's body.
    fault: Option<Fault>,
    /// The client's body ended before its end.
    is_cut: bool,
    /// The client waits for 100 before it sends its body.
    expects: bool,
    /// How much of the request's body may still come.
    room: u64,
    /// How fast it must.
    pace: Pace,
    /// Since when the connection has been idle in a drain.
    drained: Option<Instant>,
    /// An empty map, for its memory: each answer leaves its own to the next request.
    spare: HeaderMap,
}

impl<'a> Http1<'a> {
    fn new(gate: &'a Arc<Gate>, stream: Stream) -> Self {
        Self {
            gate,
            wire: Wire::new(stream, &gate.context),
            scanner: Scanner::within(gate.context.limits),
            room: u64::MAX,
            pace: Pace::new(&gate.context.limits),
            clock: Deadline::default(),
            since: None,
            fault: None,
            is_cut: false,
            expects: false,
            drained: None,
            spare: HeaderMap::new(),
        }
    }

    /// Waits for the next request's head.
    fn poll_next(&mut self, cx: &mut Context<'_>, drain: &mut Watch) -> Poll<Result<Next, ServeError>> {
        loop {
            match self.scanner.next_head(&self.wire.input) {
                Ok(Some(Beginning::Head(accepted))) => {
                    self.since = None;
                    return Poll::Ready(Ok(Next::Request(accepted)));
                }
                Ok(Some(skipped @ Beginning::EmptyLine)) => {
                    let _ = self.wire.input.split_to(skipped.len());
                    continue;
                }
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Ok(Next::Refuse(fault))),
            }
            match self.wire.poll_fill(cx).map_err(client)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) if self.wire.input.is_empty() => return Poll::Ready(Ok(Next::End)),
                Poll::Ready(false) => return Poll::Ready(Err(client("the client left within a request's head"))),
                Poll::Pending if self.wire.input.is_empty() => return self.poll_idle(cx, drain).map(Ok),
                Poll::Pending => {
                    // From the head's first byte, however many follow.
                    let since = *self.since.get_or_insert_with(Instant::now);
                    ready!(self.clock.poll(cx, since + self.gate.context.timeouts.header));
                    return Poll::Ready(Ok(Next::Refuse(Fault::HEAD_LATE)));
                }
            }
        }
    }

    /// Nothing has come: for how long that may go on.
    fn poll_idle(&mut self, cx: &mut Context<'_>, drain: &mut Watch) -> Poll<Next> {
        if drain.has_begun(cx) {
            let since = *self.drained.get_or_insert_with(Instant::now);
            ready!(self.clock.poll(cx, since + LAST_WORDS));
            return Poll::Ready(Next::End);
        }
        let since = self.gate.idle_since().unwrap_or_else(Instant::now); // no exchange is open
        let idle = self.gate.context.timeouts.idle;
        ready!(self.clock.poll(cx, since + idle.min(PARK_AFTER)));
        Poll::Ready(if PARK_AFTER < idle { Next::Park(since) } else { Next::End })
    }

    /// Answers a request that is refused, without a body where its method was HEAD (RFC 9110, section 9.3.2); the connection ends
    /// with it.
    async fn refuse(&mut self, fault: Fault, is_head: bool, drain: &mut Watch) -> Result<(), ServeError> {
        self.gate.count_refusal(&fault);
        self.fault = Some(fault);
        let mut exchange = Exchange::refused(self.gate, Version::HTTP_11);
        exchange.refuse(&fault);
        let terms = Terms { is_11: true, is_head, wants_trailers: false, keep: false };
        let mut turn = Turn { exchange, feed: None, terms };
        self.answer(fault.response(Version::HTTP_11), &mut turn, drain).await
    }

    /// Says goodbye. A client that may be in the middle of sending something is listened to for a while.
    async fn end(&mut self) -> Result<(), ServeError> {
        let lingers = self.fault.is_some() || self.scanner.phase() != Phase::Between || !self.wire.input.is_empty();
        poll_fn(|cx| self.wire.poll_end(cx, lingers)).await.map_err(client)
    }
}

/// The client's doing.
#[cold]
fn client(error: impl std::fmt::Display) -> ServeError {
    ServeError::new(Side::Client, error)
}
