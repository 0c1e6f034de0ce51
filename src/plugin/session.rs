//! A connection's events, one after the other, wherever the plugin may run.
//!
//! Owns the input that has come and not been consumed. Moved by `driver` to a thread of the pool and back, or called in
//! place; the driver reads from the client only while it has the session at hand, so a slow plugin slows its client down.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::counters::{Callback, Refusal};
use super::framing::{Found, Framing};
use super::guest::{Input, Peer, Trouble, User, Why};
use super::host::Handle;
use super::port::Port;
use super::run::Stage;

/// How many messages are handed over before others have their turn.
const BURST: usize = 64;
/// The input from the client, or from the layer below.
pub(super) const FROM_BELOW: usize = 0;
/// The input from the layer above.
pub(super) const FROM_ABOVE: usize = 1;

/// One event.
#[derive(Debug)]
pub(super) enum Event {
    Open(Peer),
    Input(usize),
    Writable,
    Timer(u32),
}

/// What an event led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Fine,
    End(Why),
}

#[derive(Debug)]
pub(super) struct Session {
    stage: Arc<Stage>,
    handle: Handle,
    port: Arc<Port>,
    /// What the plugin said at `open`; before that, and once closed, none.
    user: Option<User>,
    intakes: [Intake; 2],
}

/// What came from one side.
#[derive(Debug, Default)]
struct Intake {
    buffer: BytesMut,
    /// How much of it is known to hold no whole message.
    searched: usize,
    /// How much there must be before it is worth looking again.
    need: usize,
    /// Whether there is anything new since it was looked at.
    fresh: bool,
    ended: bool,
    told: bool,
}

impl Session {
    pub(super) fn new(stage: Arc<Stage>) -> (Box<Self>, Arc<Port>) {
        stage.sessions.opened();
        let (handle, port) = stage.host.admit();
        let intakes = <[Intake; 2]>::default();
        (Box::new(Self { stage, handle, port: Arc::clone(&port), user: None, intakes }), port)
    }

    pub(super) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// How many more bytes there is room for.
    pub(super) fn room(&self, side: usize) -> usize {
        let intake = &self.intakes[side];
        if intake.ended { 0 } else { (self.stage.max_message).saturating_sub(intake.buffer.len()) }
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, side: usize, bytes: &[u8]) {
        let intake = &mut self.intakes[side];
        intake.buffer.extend_from_slice(bytes);
        intake.fresh = true;
    }

    /// Notes that nothing more comes from a side.
    pub(super) fn end(&mut self, side: usize) {
        self.intakes[side].ended = true;
        self.intakes[side].fresh = true;
    }

    /// Whether there is something that the plugin should see.
    pub(super) fn wants(&self, side: usize) -> bool {
        let intake = &self.intakes[side];
        intake.fresh && !intake.told && (intake.ended || intake.buffer.len() >= intake.need.max(1))
    }

    /// Whether the plugin was told that nothing more comes from a side.
    pub(super) fn told_end(&self, side: usize) -> bool {
        self.intakes[side].told
    }

    /// Whether all the room is taken by what the plugin does not consume.
    pub(super) fn is_stuck(&self, side: usize) -> bool {
        let intake = &self.intakes[side];
        !intake.ended && !intake.fresh && intake.buffer.len() >= self.stage.max_message
    }

    /// Calls the plugin. A panic ends this connection alone.
    pub(super) fn turn(&mut self, event: Event) -> Outcome {
        let result = catch_unwind(AssertUnwindSafe(|| self.call(event)));
        match result.unwrap_or(Err(Ending::Trouble(Trouble::Connection))) {
            Ok(()) => Outcome::Fine,
            Err(Ending::Refused) => {
                self.stage.counters.refuse(Refusal::Open);
                Outcome::End(Why::Plugin)
            }
            Err(Ending::Framing) => {
                self.stage.counters.refuse(Refusal::Data);
                Outcome::End(Why::Framing)
            }
            Err(Ending::Trouble(trouble)) => {
                self.stage.counters.refuse(Refusal::Data);
                if let Trouble::Instance(what) = trouble {
                    self.stage.sessions.fail(what);
                    return Outcome::End(Why::Quarantine);
                }
                Outcome::End(Why::Plugin)
            }
        }
    }

    fn call(&mut self, event: Event) -> Result<(), Ending> {
        let handle = self.handle;
        if let Event::Open(peer) = event {
            let opened = self.stage.call(Callback::Open, |guest| guest.open(handle, &peer));
            self.user = Some(opened.map_err(|trouble| match trouble {
                Trouble::Connection => Ending::Refused,
                trouble => Ending::Trouble(trouble),
            })?);
            return Ok(());
        }
        let Some(user) = self.user else { return Ok(()) };
        match event {
            Event::Input(side) => return self.offer(side, user),
            Event::Writable => self.stage.call(Callback::Writable, |guest| guest.writable(handle, user))?,
            Event::Timer(id) => self.stage.call(Callback::Timer, |guest| guest.timer(handle, user, id))?,
            Event::Open(_) => {}
        }
        // What was not wanted then may be wanted now.
        self.intakes.iter_mut().for_each(|intake| intake.fresh |= !intake.buffer.is_empty());
        Ok(())
    }

    /// Hands over message after message, until there is no whole one, or the plugin has enough.
    fn offer(&mut self, side: usize, user: User) -> Result<(), Ending> {
        for _ in 0..BURST {
            self.intakes[side].fresh = false;
            let found = self.find(side, user)?;
            let intake = &mut self.intakes[side];
            let (length, last) = match found {
                Found::Message(length) if length > 0 => (length, intake.ended && length == intake.buffer.len()),
                Found::More(need) if !intake.ended => {
                    (intake.searched, intake.need) = (intake.buffer.len(), need);
                    return Ok(());
                }
                // The end; what is there is no whole message and never will be.
                _ if intake.ended => (0, true),
                _ => return Ok(()),
            };
            intake.told |= last;
            let whole = length == intake.buffer.len();
            // Taken whole, the buffer can be had back without a copy.
            let bytes = if whole { std::mem::take(&mut intake.buffer) } else { intake.buffer.split_to(length) };
            let consumed = self.hand_over(side, user, bytes.freeze(), last)?;
            if consumed < length && last && self.port.is_long() {
                // It was too much for the queue: the last bytes come again after `writable`.
                self.intakes[side].told = false;
            }
            if consumed < length || last {
                return Ok(());
            }
            let intake = &mut self.intakes[side];
            (intake.searched, intake.need) = (0, 0);
            if intake.buffer.is_empty() && !intake.ended {
                return Ok(());
            }
            intake.fresh = true;
            if self.port.is_long() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Finds the next message.
    fn find(&self, side: usize, user: User) -> Result<Found, Ending> {
        let intake = &self.intakes[side];
        let (bytes, handle) = (&intake.buffer[..], self.handle);
        // What the layer above writes has no framing.
        if side == FROM_ABOVE {
            return Ok(Found::Message(bytes.len()));
        }
        let most = self.stage.max_message;
        if self.stage.framing != Framing::Own {
            return self.stage.framing.find(bytes, intake.searched, most).map_err(|_| Ending::Framing);
        }
        let least = self.stage.call(Callback::MessageSize, |guest| guest.minimum_size(handle, user))?.max(1);
        if bytes.len() < least {
            return if least > most { Err(Ending::Framing) } else { Ok(Found::More(least)) };
        }
        let size = self.stage.call(Callback::MessageSize, |guest| guest.message_size(handle, user, bytes));
        let size = size.map_err(|trouble| match trouble {
            Trouble::Connection => Ending::Framing,
            trouble => Ending::Trouble(trouble),
        });
        match size? {
            0 if bytes.len() >= most => Err(Ending::Framing),
            0 => Ok(Found::More(bytes.len() + 1)),
            size if size > most => Err(Ending::Framing),
            size if size > bytes.len() => Ok(Found::More(size)),
            size => Ok(Found::Message(size)),
        }
    }

    /// Calls `data`; puts back what was not consumed.
    fn hand_over(&mut self, side: usize, user: User, bytes: Bytes, last: bool) -> Result<usize, Ending> {
        let (handle, length) = (self.handle, bytes.len());
        let input = Input { bytes, last, from_above: side == FROM_ABOVE };
        let consumed = self.stage.call(Callback::Data, |guest| guest.data(handle, user, &input))?;
        let framed = side == FROM_BELOW && self.stage.framing != Framing::None;
        if consumed > length || (framed && consumed != 0 && consumed != length) {
            return Err(Ending::Trouble(Trouble::Connection));
        }
        if consumed < length {
            let intake = &mut self.intakes[side];
            let mut rest = input.bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            rest.advance(consumed);
            rest.unsplit(std::mem::take(&mut intake.buffer));
            intake.buffer = rest;
            intake.need = 0;
        }
        Ok(consumed)
    }

    /// Tells the plugin that the connection is over. The handle is stale from here on.
    pub(super) fn close(mut self, why: Why) {
        self.stage.host.forget(self.handle);
        if let Some(user) = self.user.take() {
            let handle = self.handle;
            let call = || self.stage.call(Callback::Close, |guest| guest.close(handle, user, why));
            // A panic here has nobody left to concern.
            if let Ok(Err(Trouble::Instance(what))) = catch_unwind(AssertUnwindSafe(call)) {
                self.stage.sessions.fail(what);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stage.host.forget(self.handle);
        self.stage.sessions.closed();
    }
}

/// Why no event follows.
enum Ending {
    Refused,
    Framing,
    Trouble(Trouble),
}

impl From<Trouble> for Ending {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}
