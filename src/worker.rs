//! A worker: one thread with one current-thread runtime, its own listening sockets, pools and counters.
//!
//! Started by `gateway`, which keeps its [`Drain`]. Runs a `listener` task for each of its sockets.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::access_log::AccessLog;
use crate::drain::Drain;
use crate::listener::{self, Door};
use crate::upstream::Upstream;

/// How often access lines are passed on.
const FLUSH: Duration = Duration::from_millis(200);
/// Idle upstream connections are swept every this many flushes: about once a second.
const SWEEP_EVERY: u32 = 5;

/// What a worker is given.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) doors: Vec<Door>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) access_log: AccessLog,
    pub(crate) drain: Drain,
    pub(crate) drain_timeout: Duration,
}

impl Worker {
    /// Starts the worker's thread; it ends when the drain is over.
    pub(crate) fn start(self) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name = format!("worker-{}", self.index);
        std::thread::Builder::new().name(name).spawn(move || runtime.block_on(self.run()))
    }

    async fn run(self) {
        for door in self.doors {
            tokio::spawn(listener::run(door, self.drain.clone()));
        }
        let upkeep = tokio::spawn(upkeep(self.upstreams.clone(), self.access_log.clone()));
        self.drain.begun().await;
        if !self.drain.finished(self.drain_timeout).await {
            let cut = self.drain.in_flight();
            warn!(worker = self.index, "drain deadline reached; cutting {cut} connections");
        }
        upkeep.abort();
        // A kept connection belongs to this runtime and must not outlive it.
        self.upstreams.iter().for_each(|upstream| upstream.close_idle());
        self.access_log.flush();
    }
}

/// What must happen now and then on every worker.
async fn upkeep(upstreams: Vec<Arc<Upstream>>, access_log: AccessLog) {
    let mut ticks = tokio::time::interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_u32.. {
        ticks.tick().await;
        access_log.flush();
        if turn % SWEEP_EVERY == 0 {
            upstreams.iter().for_each(|upstream| upstream.sweep());
        }
    }
}
