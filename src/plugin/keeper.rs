//! The thread that keeps one chain: starts its layers, watches them, and cleans them up, all on this one thread.
//!
//! Started by `chain`. Its life is one straight line, gone through again when an instance was not ready or was given up:
//! start every layer, serve, end the connections that are left, clean up.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::chain::{Chain, ChainFault, Live, Run, Standing};
use super::guest::{Fault, FaultKind, Why};
use super::host::Host;
use super::run::{Pool, Sessions, Stage, Wish};

/// How long it is waited before the first new try, doubled with every further one up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An instance that served this long may fail as often again.
const GOOD: Duration = Duration::from_secs(60);
/// How often an instance may fail in a row before it stays closed.
const FAILURES: u32 = 5;
/// How often connections that a callback keeps from ending are asked after.
const TICK: Duration = Duration::from_millis(250);

/// Keeps one chain.
pub(super) struct Keeper {
    chain: Arc<Chain>,
    /// Who waits for the first start-up.
    report: Option<SyncSender<Result<(), ChainFault>>>,
    pause: Duration,
    failures: u32,
}

/// Why serving ended.
enum Over {
    Stop,
    Trouble(String),
    Hangs(String),
}

impl Keeper {
    pub(super) fn start(chain: Arc<Chain>, report: SyncSender<Result<(), ChainFault>>) -> std::io::Result<()> {
        let keeper = Self { chain, report: Some(report), pause: FIRST_PAUSE, failures: 0 };
        let name = format!("keeper-{}", keeper.endpoint());
        std::thread::Builder::new().name(name).spawn(move || keeper.keep()).map(drop)
    }

    fn keep(mut self) {
        let sessions = Arc::clone(&self.chain.sessions);
        let _ended = OnEnd(&sessions);
        loop {
            match self.start_layers() {
                Ok(live) => {
                    if self.serve(&live) {
                        break;
                    }
                }
                Err(fault) if fault.fault.kind == FaultKind::NotReady => {
                    warn!(endpoint = self.endpoint(), "the plugin is not ready, and is tried again: {}", fault.fault);
                    self.chain.enter(Standing::NotReady(fault.fault.message), None);
                    self.tell(Ok(()));
                }
                Err(fault) if self.report.is_some() => {
                    self.chain.enter(Standing::Failed(fault.fault.message.clone()), None);
                    return self.tell(Err(fault));
                }
                Err(fault) => self.failed(fault.fault.message),
            }
            let spent = matches!(self.chain.standing(), Standing::Failed(_));
            let stop = |wish: &Wish| wish.stop;
            // One that failed too often waits for the reload that replaces it.
            while spent && !sessions.wait(LONGEST_PAUSE, stop).stop {}
            if sessions.wait(self.pause, stop).stop {
                break;
            }
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.chain.counters.iter().for_each(|layer| {
                layer.restarts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            });
        }
        self.chain.enter(Standing::Stopped, None);
    }

    /// Starts every layer, first to last; where one fails, cleans up those before it, last to first.
    fn start_layers(&self) -> Result<Arc<Live>, ChainFault> {
        let mut stages = Vec::new();
        for layer in 0..self.chain.layers() {
            match self.start_layer(layer) {
                Ok(stage) => stages.push(Arc::new(stage)),
                Err(fault) => {
                    clean_up(&stages);
                    return Err(ChainFault { layer, fault });
                }
            }
        }
        Ok(Arc::new(Live { stages }))
    }

    fn start_layer(&self, layer: usize) -> Result<Stage, Fault> {
        let Chain { places, plans, counters, terms, sessions, .. } = &*self.chain;
        let (place, plan, counters) = (&places[layer], &plans[layer], &counters[layer]);
        let host = Host::new(Arc::clone(place), plan.adapter.name().into(), Arc::clone(counters));
        let guest = plan.adapter.start(place, &host)?;
        counters.set_version(guest.version());
        let refuse = |kind, message: String| {
            guest.cleanup();
            Fault::new(kind, message)
        };
        let pool = match plan.run {
            Run::Inline if !guest.never_blocks() => {
                let message = "does not promise that it never blocks, which run = \"inline\" needs; use run = \"pool\"";
                return Err(refuse(FaultKind::BadConfig, message.into()));
            }
            Run::Inline => None,
            Run::Pool(threads) => Some(
                Pool::start(self.endpoint(), threads, counters)
                    .map_err(|error| refuse(FaultKind::Limit, format!("cannot start its threads: {error}")))?,
            ),
        };
        let wanted = guest.max_message();
        let max_message = if wanted == 0 { terms.max_message } else { wanted.min(terms.max_message) } as usize;
        Ok(Stage::new(guest, host, Arc::clone(counters), max_message, pool, Arc::clone(sessions)))
    }

    /// Serves until it is over; whether for good.
    fn serve(&mut self, live: &Arc<Live>) -> bool {
        let begun = Instant::now();
        self.chain.enter(Standing::Ready, Some(Arc::clone(live)));
        self.tell(Ok(()));
        let over = self.watch(live);
        if begun.elapsed() >= GOOD {
            (self.pause, self.failures) = (FIRST_PAUSE, 0);
        }
        let stop = match over {
            Over::Stop => {
                self.chain.enter(Standing::Stopped, None);
                true
            }
            Over::Trouble(what) => {
                error!(endpoint = self.endpoint(), "the plugin failed, and its connections are closed: {what}");
                self.failed(what);
                false
            }
            Over::Hangs(what) => {
                error!(endpoint = self.endpoint(), "the plugin is quarantined, and its connections are closed: {what}");
                self.chain.enter(Standing::Quarantined(what), None);
                false
            }
        };
        if !self.end_sessions(live, stop) {
            error!(
                endpoint = self.endpoint(),
                "a callback has not returned; the instance is left behind, not cleaned up"
            );
            return true;
        }
        clean_up(&live.stages);
        self.chain.sessions.ring(|wish| wish.trouble = None);
        if let Standing::Quarantined(what) = self.chain.standing() {
            info!(endpoint = self.endpoint(), "the callback has returned; the plugin is started again");
            self.failed(what);
        }
        stop
    }

    /// Watches the layers until something is to be done.
    fn watch(&self, live: &Live) -> Over {
        let Chain { terms, sessions, .. } = &*self.chain;
        // Often enough that a call which hangs is found within a quarter more than its time.
        let tick = (terms.timeout / 4).clamp(Duration::from_millis(5), TICK);
        loop {
            let wish = sessions.wait(tick, |wish| wish.stop || wish.trouble.is_some());
            if let Some(what) = wish.trouble {
                return Over::Trouble(what);
            }
            if wish.stop {
                return Over::Stop;
            }
            if let Some(what) = hangs(live, terms.timeout) {
                return Over::Hangs(what);
            }
            retire(live, &wish);
        }
    }

    /// Has the connections that are left end, and waits for it. False where a callback keeps one from ending.
    fn end_sessions(&self, live: &Live, stop: bool) -> bool {
        let Chain { terms, sessions, .. } = &*self.chain;
        let why = if stop { Why::Drain } else { Why::Quarantine };
        let deadline = Instant::now() + terms.timeout;
        while sessions.open() > 0 {
            // Again and again, for those that were just being opened.
            live.stages.iter().for_each(|stage| stage.host.close_all(why, true));
            // The last session rings; a quarantined instance waits as long as it takes, unless it is to stop.
            let wish = sessions.wait(TICK, |_| sessions.open() == 0);
            if (stop || wish.stop) && Instant::now() >= deadline {
                return false;
            }
        }
        true
    }

    /// Notes a failure: the instance is tried again, or stays closed.
    fn failed(&mut self, what: String) {
        self.failures += 1;
        if self.failures > FAILURES {
            self.chain.enter(Standing::Failed(what), None);
            error!(endpoint = self.endpoint(), "the plugin failed too often, and stays closed until a reload");
        } else {
            self.chain.enter(Standing::NotReady(what), None);
        }
    }

    fn tell(&mut self, result: Result<(), ChainFault>) {
        if let Some(report) = self.report.take() {
            // Whoever waited may have given up.
            let _ = report.send(result);
        }
    }

    fn endpoint(&self) -> &str {
        self.chain.places.first().map_or("", |place| place.endpoint.name.as_str())
    }
}

/// Which layer hangs, if one does.
fn hangs(live: &Live, timeout: Duration) -> Option<String> {
    let found = live.stages.iter().enumerate().find(|(_, stage)| stage.longest_call() > timeout);
    found.map(|(layer, _)| format!("a callback of layer {layer} has not returned within {timeout:?}"))
}

/// Closes the connections that are left, in order, once their time is over.
fn retire(live: &Live, wish: &Wish) {
    if wish.retire_by.is_some_and(|by| by <= Instant::now()) {
        live.stages.iter().for_each(|stage| stage.host.close_all(Why::Drain, false));
    }
}

/// Cleans up layers, last to first.
fn clean_up(stages: &[Arc<Stage>]) {
    for stage in stages.iter().rev() {
        if let Some(pool) = &stage.pool {
            pool.end();
        }
        stage.guest.cleanup();
    }
}

/// Chains that were told to stop and have not ended yet.
static STOPPING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Tells a keeper to stop, once.
pub(super) fn stopping(sessions: &Sessions) {
    sessions.ring(|wish| {
        if !wish.stop {
            wish.stop = true;
            *STOPPING.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
    });
}

/// Waits until every chain that was told to stop has been cleaned up, for `longest` at most; whether all were.
///
/// For the end of a process: a cleanup that is under way must not be cut.
pub fn settle(longest: Duration) -> bool {
    let stopping = STOPPING.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = STOPPING.1.wait_timeout_while(stopping, longest, |left| *left > 0);
    *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
}

/// Notes, when the keeper ends, that its chain has.
struct OnEnd<'a>(&'a Sessions);

impl Drop for OnEnd<'_> {
    fn drop(&mut self) {
        let mut told = false;
        self.0.ring(|wish| told = std::mem::replace(&mut wish.stop, true));
        if told {
            *STOPPING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            STOPPING.1.notify_all();
        }
    }
}
