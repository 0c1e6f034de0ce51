//! What a plugin may ask of the gateway: the one set of functions behind every adapter, callable from any thread.
//!
//! One [`Host`] belongs to one instance. It owns the connections' handles; what is asked about a connection is left in its
//! `port`, where the worker that owns the connection finds it. Nothing here waits and nothing calls the plugin.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::counters::{LayerCounters, Refusal};
use super::guest::{Place, Why};
use super::port::{DOWN, Port, UP};

/// A connection: slot and generation. A handle that outlives its connection finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

impl Handle {
    fn new(slot: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | slot as u64)
    }

    fn parts(self) -> (usize, u32) {
        ((self.0 & 0xffff_ffff) as usize, (self.0 >> 32) as u32)
    }
}

/// What a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or taken.
    Ok,
    /// Taken, but the queue is long: `writable` comes, and no input before that.
    Pause,
    /// Nothing was taken; `writable` comes.
    Full,
    /// The connection is no more.
    Gone,
    /// More than could ever be taken; or no such timer.
    Limit,
    /// There is no layer above.
    Invalid,
}

/// How many timers a connection has.
pub const TIMERS: usize = 8;
/// A timer that is set for longer is set for this long.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The longest line that a plugin may say, in characters; what is longer is cut.
const LINE: usize = 1024;

/// What one instance may ask of the gateway.
#[derive(Debug)]
pub struct Host {
    place: Arc<Place>,
    plugin: String,
    counters: Arc<LayerCounters>,
    ports: RwLock<Ports>,
}

#[derive(Debug, Default)]
struct Ports {
    slots: Vec<(u32, Option<Arc<Port>>)>,
    free: Vec<usize>,
}

impl Host {
    pub(super) fn new(place: Arc<Place>, plugin: String, counters: Arc<LayerCounters>) -> Arc<Self> {
        Arc::new(Self { place, plugin, counters, ports: RwLock::default() })
    }

    /// The endpoint, and where in its chain the instance stands.
    #[must_use]
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Queues pieces for the client, or for the layer below: all or none.
    pub fn write(&self, connection: Handle, pieces: &[Bytes]) -> Answer {
        self.ask(connection, |port| port.queue(DOWN, pieces))
    }

    /// Queues pieces for the layer above: all or none.
    pub fn forward(&self, connection: Handle, pieces: &[Bytes]) -> Answer {
        if self.place.layer + 1 == self.place.layers {
            return Answer::Invalid;
        }
        self.ask(connection, |port| port.queue(UP, pieces))
    }

    /// Queues the same bytes for every connection, without copying them. Tells `each` what became of it; returns how many
    /// took it.
    pub fn broadcast(
        &self,
        connections: impl Iterator<Item = Handle>,
        bytes: &Bytes,
        mut each: impl FnMut(usize, Answer),
    ) -> usize {
        let mut took = 0;
        for (index, connection) in connections.enumerate() {
            let answer = self.write(connection, std::slice::from_ref(bytes));
            took += usize::from(matches!(answer, Answer::Ok | Answer::Pause));
            each(index, answer);
        }
        took
    }

    /// Closes a connection: when all that is queued has been sent, or at once by a reset.
    pub fn close(&self, connection: Handle, abort: bool) -> Answer {
        self.ask(connection, |port| port.close(Why::Plugin, abort))
    }

    /// Sets a timer, or forgets it.
    pub fn set_timer(&self, connection: Handle, id: u32, after: Option<Duration>) -> Answer {
        let at = after.map(|after| Instant::now() + after.min(LONGEST));
        self.ask(connection, |port| port.set_timer(id, at))
    }

    /// A copy of bytes, which counts for the instance's memory until nobody needs it; `None` where that is used up.
    #[must_use]
    pub fn copy(&self, bytes: &[u8]) -> Option<Bytes> {
        if !reserve(&self.counters, bytes.len(), self.place.max_buffered) {
            self.counters.refuse(Refusal::Full);
            return None;
        }
        Some(Bytes::from_owner(Counted { bytes: bytes.into(), counters: Arc::clone(&self.counters) }))
    }

    /// Notes that the instance has this much more memory of its own, in bytes.
    pub fn memory_grew(&self, bytes: usize) {
        self.counters.memory.fetch_add(bytes, Relaxed);
    }

    /// How much memory the instance has of its own, as far as it was noted.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.counters.memory()
    }

    /// Notes that the instance has this much less.
    pub fn memory_shrank(&self, bytes: usize) {
        self.counters.memory.fetch_sub(bytes, Relaxed);
    }

    /// Writes a line to the log.
    pub fn log(&self, level: tracing::Level, text: &str) {
        let text = line(text);
        let (endpoint, plugin) = (&self.place.endpoint.name, &self.plugin);
        match level {
            tracing::Level::ERROR => tracing::error!(%endpoint, plugin, "{text}"),
            tracing::Level::WARN => tracing::warn!(%endpoint, plugin, "{text}"),
            tracing::Level::INFO => tracing::info!(%endpoint, plugin, "{text}"),
            _ => tracing::debug!(%endpoint, plugin, "{text}"),
        }
    }

    fn ask(&self, connection: Handle, ask: impl FnOnce(&Port) -> Answer) -> Answer {
        let (slot, generation) = connection.parts();
        let ports = self.ports.read().unwrap_or_else(PoisonError::into_inner);
        let answer = match ports.slots.get(slot) {
            Some((current, Some(port))) if *current == generation => ask(port),
            _ => Answer::Gone,
        };
        match answer {
            Answer::Gone => self.counters.refuse(Refusal::Gone),
            Answer::Full => self.counters.refuse(Refusal::Full),
            _ => {}
        }
        answer
    }

    /// A port for a new connection, under a handle of its own.
    pub(super) fn admit(&self) -> (Handle, Arc<Port>) {
        let port = Arc::new(Port::new(&self.place, Arc::clone(&self.counters)));
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        let slot = ports.free.pop().unwrap_or_else(|| {
            ports.slots.push((0, None));
            ports.slots.len() - 1
        });
        let (generation, place) = &mut ports.slots[slot];
        // 0 is no generation, so that 0 is no handle.
        *generation = generation.checked_add(1).unwrap_or(1);
        *place = Some(Arc::clone(&port));
        (Handle::new(slot, *generation), port)
    }

    /// Makes a handle stale.
    pub(super) fn forget(&self, connection: Handle) {
        let (slot, generation) = connection.parts();
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((current, port)) = ports.slots.get_mut(slot)
            && *current == generation
            && port.take().is_some()
        {
            ports.free.push(slot);
        }
    }

    /// Has every connection end: at once, or in order.
    pub(super) fn close_all(&self, why: Why, abort: bool) {
        let ports = self.ports.read().unwrap_or_else(PoisonError::into_inner);
        for port in ports.slots.iter().filter_map(|(_, port)| port.as_ref()) {
            port.close(why, abort);
        }
    }
}

/// Bytes that count for an instance's memory.
struct Counted {
    bytes: Box<[u8]>,
    counters: Arc<LayerCounters>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counters.buffered.fetch_sub(self.bytes.len(), Relaxed);
    }
}

/// What a plugin says, as a line for people: cut where it is too long, and without what would move a terminal's cursor.
pub(super) fn line(text: &str) -> String {
    text.chars().take(LINE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Takes memory for an instance, if there is that much left.
pub(super) fn reserve(counters: &LayerCounters, bytes: usize, most: usize) -> bool {
    let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most);
    counters.buffered.fetch_update(Relaxed, Relaxed, fits).is_ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::identity::{Class, Endpoint, EndpointName};

    /// A host of an endpoint "front", whose queues hold this much.
    pub(crate) fn host(max_queue: u32, max_buffered: usize) -> Arc<Host> {
        #[allow(clippy::unwrap_used, reason = "a test may fail")]
        let name = EndpointName::new("front").unwrap();
        let place = Place {
            endpoint: Arc::new(Endpoint { name, class: Class::Internal, tls: false }),
            handler: "site".into(),
            settings: "{}".into(),
            layer: 0,
            layers: 1,
            max_message: 1000,
            max_queue,
            max_buffered,
        };
        Host::new(Arc::new(place), "test".into(), Arc::default())
    }

    fn write(host: &Host, handle: Handle, length: usize) -> Answer {
        host.write(handle, &[Bytes::from(vec![0; length])])
    }

    #[test]
    fn what_a_plugin_says_is_one_line_and_not_too_long() {
        assert_eq!(line("a\nb\x1b[2J\tc"), "a b [2J c");
        assert_eq!(line(&"ä".repeat(2000)).chars().count(), LINE);
    }

    #[test]
    fn a_queue_says_pause_then_full_and_never_takes_a_part() {
        let host = host(1000, 1 << 20);
        let (handle, port) = host.admit();
        assert_eq!(write(&host, handle, 400), Answer::Ok);
        assert_eq!(write(&host, handle, 200), Answer::Pause);
        assert_eq!(write(&host, handle, 300), Answer::Full);
        assert_eq!(write(&host, handle, 1001), Answer::Limit);
        assert_eq!(port.queued(DOWN), 600 + 2 * 64, "each piece costs something besides its bytes");
        assert_eq!(host.forward(handle, &[]), Answer::Invalid, "there is no layer above");
    }

    #[test]
    fn a_stale_handle_is_gone_even_when_its_slot_is_taken_again() {
        let host = host(1000, 1 << 20);
        let (old, _) = host.admit();
        host.forget(old);
        assert_eq!(write(&host, old, 1), Answer::Gone);
        let (new, _) = host.admit();
        assert_eq!(old.0 as u32, new.0 as u32, "the slot is the same");
        assert_eq!((write(&host, old, 1), write(&host, new, 1)), (Answer::Gone, Answer::Ok));
        host.forget(old);
        assert_eq!(write(&host, new, 1), Answer::Ok, "a stale handle frees nothing");
        for never in [Handle(0), Handle(u64::MAX), Handle(77)] {
            assert_eq!(host.close(never, true), Answer::Gone);
        }
    }

    #[test]
    fn an_instance_has_a_budget_that_is_given_back() {
        let host = host(1000, 500);
        let (one, first) = host.admit();
        let (two, _second) = host.admit();
        assert_eq!(write(&host, one, 300), Answer::Ok);
        assert_eq!(write(&host, two, 300), Answer::Full, "the other connection's queue is empty, the memory is not");
        assert!(host.copy(&[0; 300]).is_none());
        first.end();
        let kept = host.copy(&[0; 300]);
        assert_eq!((kept.is_some(), host.counters.buffered()), (true, 300));
        drop(kept);
        assert_eq!(host.counters.buffered(), 0);
    }

    #[test]
    fn a_connection_that_closes_takes_nothing_more() {
        let host = host(1000, 1 << 20);
        let (handle, _port) = host.admit();
        assert_eq!(host.close(handle, false), Answer::Ok);
        assert_eq!(write(&host, handle, 1), Answer::Gone);
        assert_eq!(host.set_timer(handle, 8, None), Answer::Limit);
    }
}
