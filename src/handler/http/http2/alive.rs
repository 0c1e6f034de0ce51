//! Asks an HTTP/2 client now and then whether it is still there (RFC 9113, section 6.7).
//!
//! Owns the PING that is under way and its deadline. Polled by `http2`: a client that vanished without a word would
//! otherwise hold its connection until the `idle` deadline, or for as long as one of its streams is open.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::deadline::Deadline;

use h2::{Ping, PingPong};
use tokio::time::Instant;

/// How often a client is asked.
const PING: Duration = Duration::from_secs(20);
/// How long it may take to answer.
const PONG: Duration = Duration::from_secs(10);

/// Whether the client is there.
pub(super) struct Alive {
    pings: PingPong,
    /// A PING is under way.
    asked: bool,
    /// Since when; else, since when the client is known to be there.
    since: Instant,
    clock: Deadline,
}

impl Alive {
    pub(super) fn new(pings: PingPong) -> Self {
        Self { pings, asked: false, since: Instant::now(), clock: Deadline::default() }
    }

    /// Ready when the client does not answer.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                (self.asked, self.since) = (false, Instant::now()); // or an error, which the connection has too
            }
            let patience = if self.asked { PONG } else { PING };
            if self.clock.poll(cx, self.since + patience).is_pending() {
                return Poll::Pending;
            }
            if self.asked {
                return Poll::Ready(());
            }
            self.asked = self.pings.send_ping(Ping::opaque()).is_ok();
            self.since = Instant::now();
        }
    }
}
