//! Where a plugin runs: on a bounded pool of threads of its own, or on the worker itself.
//!
//! Owns one started layer ([`Stage`]), its threads, and the note of which of them is inside the plugin since when, which
//! `keeper` watches. A connection has at most one event on its way, so the queue is bounded by the connections.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thread_local::ThreadLocal;

use super::counters::{Callback, LayerCounters};
use super::framing::Framing;
use super::guest::{Guest, Why};
use super::host::Host;
use super::session::{Event, Session};

/// One started layer of a chain.
pub(super) struct Stage {
    pub(super) guest: Arc<dyn Guest>,
    pub(super) host: Arc<Host>,
    pub(super) counters: Arc<LayerCounters>,
    pub(super) framing: Framing,
    pub(super) max_message: usize,
    /// `None`: on the worker.
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) sessions: Arc<Sessions>,
    begun: Instant,
    inside: ThreadLocal<Inside>,
}

/// Since when a thread is inside the plugin: microseconds after the stage began, and 1; 0 where it is not.
#[derive(Debug, Default)]
struct Inside(AtomicU64);

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Stage {
    pub(super) fn new(
        guest: Arc<dyn Guest>,
        host: Arc<Host>,
        counters: Arc<LayerCounters>,
        max_message: usize,
        pool: Option<Arc<Pool>>,
        sessions: Arc<Sessions>,
    ) -> Self {
        let framing = guest.framing();
        let (begun, inside) = (Instant::now(), ThreadLocal::new());
        Self { guest, host, counters, framing, max_message, pool, sessions, begun, inside }
    }

    /// Calls the guest: counted, timed and watched.
    pub(super) fn call<T>(&self, callback: Callback, call: impl FnOnce(&dyn Guest) -> T) -> T {
        let start = Instant::now();
        let inside = self.inside.get_or_default();
        let since = u64::try_from((start - self.begun).as_micros()).unwrap_or(u64::MAX - 1);
        inside.0.store(since + 1, Relaxed);
        // Also when the guest panics, or it would look as if it hung.
        let _left = Left { inside, counters: &self.counters, callback, start };
        call(&*self.guest)
    }

    /// How long the call has lasted that has lasted longest.
    pub(super) fn longest_call(&self) -> Duration {
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let since = self.inside.iter().filter_map(|inside| inside.0.load(Relaxed).checked_sub(1));
        Duration::from_micros(since.map(|since| now.saturating_sub(since)).max().unwrap_or(0))
    }

    /// Closes a session where the plugin may run.
    pub(super) fn close(&self, session: Box<Session>, why: Why) {
        match &self.pool {
            Some(pool) => pool.submit(Job::Close(session, why)),
            None => session.close(why),
        }
    }
}

/// Notes, when it is dropped, that a call has ended.
struct Left<'a> {
    inside: &'a Inside,
    counters: &'a LayerCounters,
    callback: Callback,
    start: Instant,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.inside.0.store(0, Relaxed);
        let here = self.counters.here();
        here.callbacks[self.callback as usize].add(1);
        here.nanos.add(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
}

/// How many sessions there are, and whether the instance can go on; `keeper` waits here.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: AtomicUsize,
    state: Mutex<Wish>,
    bell: Condvar,
}

/// What the keeper is to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    /// End.
    pub(super) stop: bool,
    /// Have the connections that are left end by then: another instance serves new ones.
    pub(super) retire_by: Option<Instant>,
    /// The instance cannot go on, and why.
    pub(super) trouble: Option<String>,
}

impl Sessions {
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    pub(super) fn closed(&self) {
        if self.open.fetch_sub(1, Relaxed) == 1 {
            self.ring(|_| {});
        }
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// The instance cannot go on.
    pub(super) fn fail(&self, what: String) {
        self.ring(|wish| wish.trouble = Some(what));
    }

    /// Changes what the keeper is to do, and has it look.
    pub(super) fn ring(&self, change: impl FnOnce(&mut Wish)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    /// Waits until `enough`, for `longest` at most; what is wished then.
    pub(super) fn wait(&self, longest: Duration, enough: impl Fn(&Wish) -> bool) -> Wish {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(state, longest, |wish| !enough(wish));
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// The threads of one instance.
#[derive(Debug)]
pub(super) struct Pool {
    queue: Mutex<Queue>,
    ready: Condvar,
    counters: Arc<LayerCounters>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    ended: bool,
}

/// What a thread of the pool does next.
#[derive(Debug)]
pub(super) enum Job {
    Turn(Box<Session>, Event),
    Close(Box<Session>, Why),
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start(name: &str, threads: usize, counters: &Arc<LayerCounters>) -> io::Result<Arc<Self>> {
        let counters = Arc::clone(counters);
        let pool = Arc::new(Self { queue: Mutex::default(), ready: Condvar::new(), counters });
        for _ in 0..threads {
            let here = Arc::clone(&pool);
            let started = std::thread::Builder::new().name(format!("plugin-{name}")).spawn(move || here.work());
            if let Err(error) = started {
                pool.end();
                return Err(error);
            }
        }
        Ok(pool)
    }

    pub(super) fn submit(&self, job: Job) {
        self.counters.queue.fetch_add(1, Relaxed);
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).jobs.push_back(job);
        self.ready.notify_one();
    }

    /// Has the threads end once the queue is empty. One that hangs in the plugin never does.
    pub(super) fn end(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.ready.notify_all();
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            self.counters.queue.fetch_sub(1, Relaxed);
            match job {
                Job::Close(session, why) => session.close(why),
                Job::Turn(mut session, event) => {
                    let outcome = session.turn(event);
                    let port = Arc::clone(session.port());
                    if let Some((session, why)) = port.bring_back(session, outcome) {
                        session.close(why);
                    }
                }
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.ended;
        let mut queue = self.ready.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        queue.jobs.pop_front()
    }
}
