//! A worker: one thread with one current-thread runtime, its own listening sockets, pools and counters.
//!
//! Started by `gateway`, which keeps its [`Drain`]; `reload` sends it [`Order`]s, the first of them at the start. Runs a
//! `listener` task for each of its sockets.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::deadline::far;
use crate::drain::Drain;
use crate::listener::{self, Door};
use crate::telemetry::Telemetry;
use crate::ticks::Ticks;
use crate::upstream::Upstream;

/// How often a worker's ticks come; at each, access lines and spans are passed on.
pub(crate) const TICK: Duration = Duration::from_millis(200);
/// Idle upstream connections are swept every this many ticks, about once a second; as often, each deadline that was far off is
/// looked at.
const SWEEP_EVERY: usize = 5;

/// How many sockets that are ready are taken from the kernel at once: no more than tasks run before it is asked again (61, as
/// tokio comes). With more, a crowd that leaves at once makes the queue of tasks as long as itself, and that never shrinks.
const AT_ONCE: usize = 61;

/// What a worker is given.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) telemetry: Telemetry,
    pub(crate) drain: Drain,
    pub(crate) ticks: Ticks,
    /// Until this, clients wait in the sockets' queues: a crowd at the door must not take the descriptors that the rest of the
    /// gateway starts with.
    pub(crate) open: CancellationToken,
}

/// What a worker is told when a plan begins to run.
pub(crate) struct Order {
    /// Sockets that are new, each with what it serves from now on.
    pub(crate) open: Vec<(std::net::TcpListener, watch::Receiver<Door>)>,
    /// The plan's upstreams.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// How long what is in flight may take to end.
    pub(crate) drain_timeout: Duration,
}

impl Worker {
    /// Starts the worker's thread; it ends when the drain is over.
    pub(crate) fn start(self) -> io::Result<JoinHandle<()>> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_io_events_per_tick(AT_ONCE).build()?;
        let name = format!("worker-{}", self.index);
        std::thread::Builder::new().name(name).spawn(move || {
            far::keep();
            runtime.block_on(self.run());
        })
    }

    async fn run(mut self) {
        let mut upkeep = Upkeep { upstreams: Vec::new(), telemetry: self.telemetry.clone(), turn: 0 };
        let mut drain_timeout = Duration::ZERO;
        let mut begun = std::pin::pin!(self.drain.begun());
        tokio::select! {
            () = self.open.cancelled() => {}
            () = &mut begun => {}
        }
        loop {
            tokio::select! {
                () = &mut begun => break,
                Some(order) = self.orders.recv() => {
                    drain_timeout = order.drain_timeout;
                    upkeep.learn(&order.upstreams);
                    for (socket, doors) in order.open {
                        let in_flight = self.drain.track();
                        tokio::spawn(listener::run(socket, doors, self.drain.clone(), in_flight));
                    }
                }
                () = self.ticks.tick() => upkeep.turn(),
            }
        }
        let mut finished = std::pin::pin!(self.drain.finished(drain_timeout));
        let finished = loop {
            tokio::select! {
                finished = &mut finished => break finished,
                () = self.ticks.tick() => upkeep.turn(),
            }
        };
        if !finished {
            let cut = self.drain.in_flight();
            warn!(worker = self.index, "drain deadline reached; cutting {cut} connections");
        }
        // A kept connection belongs to this runtime and must not outlive it.
        upkeep.upstreams().for_each(|upstream| upstream.close_idle());
        self.telemetry.flush();
    }
}

/// What must happen now and then on every worker.
struct Upkeep {
    /// The upstreams of every plan of which something still runs; the plans keep them, not we.
    upstreams: Vec<Weak<Upstream>>,
    telemetry: Telemetry,
    turn: usize,
}

impl Upkeep {
    fn turn(&mut self) {
        self.telemetry.flush();
        far::look(self.turn, SWEEP_EVERY);
        if self.turn == 0 {
            self.upstreams().for_each(|upstream| upstream.sweep());
            give_back_memory();
        }
        self.turn = (self.turn + 1) % SWEEP_EVERY;
    }

    /// Adds what is new, and forgets what is gone.
    fn learn(&mut self, upstreams: &[Arc<Upstream>]) {
        self.upstreams.retain(|known| known.strong_count() > 0);
        for upstream in upstreams {
            let new = Arc::downgrade(upstream);
            if !self.upstreams.iter().any(|known| known.ptr_eq(&new)) {
                self.upstreams.push(new);
            }
        }
    }

    fn upstreams(&self) -> impl Iterator<Item = Arc<Upstream>> {
        self.upstreams.iter().filter_map(Weak::upgrade)
    }
}

/// Lets the allocator give memory back to the system that a crowd has left behind.
///
/// mimalloc, which the binary has, keeps what is freed for a second, and looks whether that is over only when one of its pages is
/// full, as a large block's is at once. A worker whose clients have gone fills none, so it would keep theirs for ever.
fn give_back_memory() {
    /// Such an alignment mimalloc has from the system alone. A block of its own memory would keep for ever what a client has
    /// left in its place: that is in use whenever mimalloc looks, and so passed over.
    #[repr(align(0x20000))]
    struct Apart {
        _space: u8,
    }
    drop(std::hint::black_box(Box::<Apart>::new_uninit())); // nobody writes to it, so it is no memory yet
}
