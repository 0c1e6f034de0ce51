//! One endpoint's chain of layers, and how it is.
//!
//! Made by `handler/plugin.rs`, which hands it connections; its `keeper` starts, watches and cleans up its layers. Layer 0 is
//! next to the client; what it forwards is layer 1's input, and what layer 1 writes comes back to it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};

use super::counters::{LayerCounters, Refusal};
use super::driver::{Deadlines, Ended, drive};
use super::guest::{Adapter, Fault, FaultKind, Peer, Place, Why};
use super::keeper::Keeper;
use super::run::{Sessions, Stage};
use crate::config::PluginConfig;
use crate::drain::Drain;

pub use super::keeper::settle;

/// How much is under way between two layers.
const BETWEEN: usize = 64 * 1024;

/// Where a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// On the worker that owns the connection.
    Inline,
    /// On a pool of this many threads.
    Pool(usize),
}

/// One layer, before it is started.
#[derive(Clone)]
pub struct LayerPlan {
    /// The plugin.
    pub adapter: Arc<dyn Adapter>,
    /// Where it runs.
    pub run: Run,
}

/// What a chain is bounded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a call into a plugin may take; start-up and cleanup too.
    pub timeout: Duration,
    /// How many events may wait for a pool before new connections are refused.
    pub queue: usize,
    /// The largest message, in bytes.
    pub max_message: u32,
    /// How much a connection's queue holds, in bytes.
    pub max_queue: u32,
    /// How much an instance's queues and buffers hold together, in bytes.
    pub max_buffered: usize,
}

/// What a handler's table leaves out.
impl Default for Terms {
    fn default() -> Self {
        let config = PluginConfig::default();
        Self {
            timeout: Duration::from_secs(10),
            queue: config.queue,
            max_message: config.max_message,
            max_queue: config.max_queue,
            max_buffered: config.max_buffered,
        }
    }
}

/// How a chain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its first start-up is under way.
    Starting,
    /// It serves.
    Ready,
    /// It takes no connections, and is tried again: it was not ready, or was given up and is on the way back. Why.
    NotReady(String),
    /// It was given up, and a callback that hangs keeps it from being started again. Why.
    Quarantined(String),
    /// It failed too often, and is not tried again. Why.
    Failed(String),
    /// It was told to end.
    Stopped,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::NotReady(_) => "not_ready",
            Self::Quarantined(_) => "quarantined",
            Self::Failed(_) => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Why it does not serve, if it does not.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ready => None,
            Self::NotReady(why) | Self::Quarantined(why) | Self::Failed(why) => Some(why),
            Self::Starting | Self::Stopped => Some(self.as_str()),
        }
    }
}

/// One endpoint's layers.
pub struct Chain {
    /// What it was made from; equal words make equal chains.
    identity: String,
    pub(super) places: Vec<Arc<Place>>,
    pub(super) plans: Vec<LayerPlan>,
    pub(super) terms: Terms,
    pub(super) counters: Vec<Arc<LayerCounters>>,
    pub(super) sessions: Arc<Sessions>,
    admits: AtomicBool,
    now: Mutex<Now>,
}

struct Now {
    standing: Standing,
    live: Option<Arc<Live>>,
}

/// The layers, started.
pub(super) struct Live {
    pub(super) stages: Vec<Arc<Stage>>,
}

/// Why a chain could not be started: which layer, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFault {
    /// The layer.
    pub layer: usize,
    /// What is wrong.
    pub fault: Fault,
}

impl Chain {
    /// Starts every layer for `endpoint`, first to last; where one fails, those before it are cleaned up, last to first.
    /// A chain that is not ready yet is started all the same, takes no connections, and is tried again.
    ///
    /// `running` is the chain whose place this one takes: its counters go on.
    ///
    /// # Errors
    /// The layer that could not be started. Nothing of the chain is left then.
    pub fn start(
        place: &Place,
        plans: Vec<LayerPlan>,
        terms: Terms,
        running: Option<&Self>,
    ) -> Result<Arc<Self>, ChainFault> {
        let identity = Self::identity(place, &plans, terms);
        let layers = plans.len() as u32;
        let places: Vec<Arc<Place>> =
            (0..layers).map(|layer| Arc::new(Place { layer, layers, ..place.clone() })).collect();
        let before = |layer: usize| {
            let running = running.filter(|running| running.plugin(layer) == Some(plans[layer].adapter.name()));
            running.and_then(|running| running.counters.get(layer)).cloned()
        };
        let counters = (0..plans.len()).map(|layer| before(layer).unwrap_or_default()).collect();
        let chain = Arc::new(Self {
            identity,
            places,
            plans,
            terms,
            counters,
            sessions: Arc::default(),
            admits: AtomicBool::new(false),
            now: Mutex::new(Now { standing: Standing::Starting, live: None }),
        });
        let (report, started) = sync_channel(1);
        let error = |message: String| ChainFault { layer: 0, fault: Fault::new(FaultKind::Fault, message) };
        Keeper::start(Arc::clone(&chain), report).map_err(|e| error(format!("cannot start a thread: {e}")))?;
        match started.recv_timeout(terms.timeout) {
            Ok(Ok(())) => Ok(chain),
            Ok(Err(fault)) => Err(fault),
            Err(RecvTimeoutError::Disconnected) => Err(error("start-up panicked; see the log".into())),
            Err(RecvTimeoutError::Timeout) => {
                chain.stop();
                Err(error(format!("start-up did not return within {:?}", terms.timeout)))
            }
        }
    }

    /// What a chain is made from, in one word: code, settings, place and bounds.
    #[must_use]
    pub fn identity(place: &Place, plans: &[LayerPlan], terms: Terms) -> String {
        let layers: Vec<_> = plans.iter().map(|plan| (plan.adapter.identity(), plan.run)).collect();
        format!("{:?} {:?} {} {layers:?} {terms:?}", place.endpoint, place.handler, place.settings)
    }

    /// Whether it may go on serving where a chain of this identity is asked for.
    #[must_use]
    pub fn serves_as(&self, identity: &str) -> bool {
        self.identity == identity && !self.is_spent()
    }

    /// Whether only a new instance can help.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        matches!(self.standing(), Standing::Quarantined(_) | Standing::Failed(_) | Standing::Stopped)
    }

    /// How it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.now().standing.clone()
    }

    /// How many layers it has.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.plans.len()
    }

    /// The name of a layer's plugin.
    #[must_use]
    pub fn plugin(&self, layer: usize) -> Option<&str> {
        self.plans.get(layer).map(|plan| plan.adapter.name())
    }

    /// The digest of a layer's code.
    #[must_use]
    pub fn digest(&self, layer: usize) -> Option<&str> {
        self.plans.get(layer).map(|plan| plan.adapter.digest())
    }

    /// Where a layer runs.
    #[must_use]
    pub fn run(&self, layer: usize) -> Option<Run> {
        self.plans.get(layer).map(|plan| plan.run)
    }

    /// What is counted of a layer.
    #[must_use]
    pub fn counters(&self, layer: usize) -> Option<&Arc<LayerCounters>> {
        self.counters.get(layer)
    }

    /// Whether a new connection may come now. One look at two or three words, since every accept asks.
    #[must_use]
    pub fn admits(&self) -> bool {
        let Some(first) = self.counters.first() else { return false };
        if !self.admits.load(Relaxed) {
            first.refuse(Refusal::NotReady);
            return false;
        }
        if self.counters.iter().any(|layer| layer.queue() >= self.terms.queue) {
            first.refuse(Refusal::Overloaded);
            return false;
        }
        true
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        peer: Peer,
        stream: &mut S,
        idle: Duration,
        stall: Duration,
        drain: &Drain,
    ) -> Ended {
        let Some((live, _visit)) = self.visit() else {
            return Ended { why: Why::Quarantine, reset: true, received: 0, sent: 0, error: None };
        };
        let (stages, deadlines) = (&live.stages, Deadlines { idle: Some(idle), stall });
        if let [only] = stages.as_slice() {
            return drive(only, peer, stream, None, deadlines, drain.begun()).await;
        }
        let (below, above) = duplex(BETWEEN);
        let upper = upper(stages, 1, peer.clone(), above, Deadlines { idle: None, stall });
        // Whichever way the client's layer ends, the layers above see their end of it.
        let first = drive(&stages[0], peer, stream, Some(below), deadlines, drain.begun());
        tokio::join!(first, upper).0
    }

    /// The layers, which are not cleaned up before the visit ends.
    fn visit(&self) -> Option<(Arc<Live>, Visit<'_>)> {
        let now = self.now();
        let live = now.live.clone()?;
        // Before the lock is given back: the keeper takes the layers away first, and then looks who is there.
        self.sessions.opened();
        Some((live, Visit(&self.sessions)))
    }

    /// Another chain serves new connections: those that are left may go on until then.
    pub fn retire(&self, deadline: Duration) {
        self.sessions.ring(|wish| wish.retire_by = Some(Instant::now() + deadline));
    }

    /// Ends it: once its connections have, its layers are cleaned up, last to first. Does not wait.
    pub fn stop(&self) {
        super::keeper::stopping(&self.sessions);
    }

    pub(super) fn enter(&self, standing: Standing, live: Option<Arc<Live>>) {
        self.admits.store(standing == Standing::Ready, Relaxed);
        *self.now() = Now { standing, live };
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as a session while a connection's layers are being driven.
struct Visit<'a>(&'a Sessions);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// Drives a layer above the first, and those above it.
fn upper<'a>(
    stages: &'a [Arc<Stage>],
    layer: usize,
    peer: Peer,
    mut below: DuplexStream,
    deadlines: Deadlines,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        // The first layer decides when to drain: what is above it ends with what it gets from below.
        let never = Drain::new();
        if layer + 1 == stages.len() {
            drive(&stages[layer], peer, &mut below, None, deadlines, never.begun()).await;
        } else {
            let (mine, above) = duplex(BETWEEN);
            let upper = upper(stages, layer + 1, peer.clone(), above, deadlines);
            tokio::join!(drive(&stages[layer], peer, &mut below, Some(mine), deadlines, never.begun()), upper);
        }
    })
}
