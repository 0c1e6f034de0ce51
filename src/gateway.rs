//! Building and running a gateway: sockets first, then the admin port, then workers; and down again in order.
//!
//! Owns the public way in, [`Gateway::builder`]. Called by `cli` and by library users; starts `worker`s, `admin` and
//! `reload`, which brings the first plan to the workers as it does every later one.

mod signals;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::signals::Signals;
use crate::access_log::AccessLog;
use crate::acme::{self, Keeper};
use crate::admin;
use crate::admin::control::{Control, SetLogLevel, Wishes};
use crate::admin::state::{Lifecycle, Snapshot, State};
use crate::config::Problems;
use crate::config::{Config, LogFormat, LogLevel, OnRefused};
use crate::drain::Drain;
use crate::handler::Handler;
use crate::handover::{Predecessor, Successor};
use crate::listener::inherited::Inherited;
use crate::listener::spares::{Spare, Spares};
use crate::notify;
use crate::otlp::Exports;
use crate::plan::{Aim, EndpointState, Plan};
use crate::reload::{self, Handle, Recipe, Reloader, cannot_listen};
use crate::telemetry::Telemetry;
use crate::ticks::Ticks;
use crate::trace::Tracer;
use crate::worker::{self, Order, Worker};

/// The way in.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Begins a gateway from a configuration.
    #[must_use]
    pub fn builder(config: Config) -> Builder {
        let directory = PathBuf::from(".");
        let recipe = Recipe {
            file: None,
            directory,
            handlers: HashMap::new(),
            development_certificate: false,
            challenges: Arc::default(),
        };
        let origin = Origin { sockets: Vec::new(), take_over: None, successor: None, log_level: None };
        Builder { config, recipe, origin }
    }
}

/// What a gateway is made from.
pub struct Builder {
    config: Config,
    recipe: Recipe,
    origin: Origin,
}

/// What was before this gateway, and what comes after it.
struct Origin {
    sockets: Vec<TcpListener>,
    take_over: Option<PathBuf>,
    successor: Option<Successor>,
    log_level: Option<SetLogLevel>,
}

impl Builder {
    /// The folder that relative paths of the configuration are relative to; without it, the current one.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.recipe.directory = directory.into();
        self
    }

    /// The file that a reload reads the next configuration from. Without it, every reload fails and says so.
    #[must_use]
    pub fn reload_from(mut self, file: impl Into<PathBuf>) -> Self {
        self.recipe.file = Some(file.into());
        self
    }

    /// Adds a handler of one's own, under the name by which endpoints refer to it.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.recipe.handlers.insert(name.into(), Arc::new(handler));
        self
    }

    /// Serves TLS endpoints that list no certificate with one made in memory for `localhost`. For the demo: no client
    /// trusts it.
    #[must_use]
    pub fn development_certificate(mut self) -> Self {
        self.recipe.development_certificate = true;
        self
    }

    /// Listening sockets that are open already, such as a service manager's; each serves what listens on the address that it
    /// is bound to. What else the configuration listens on is opened.
    #[must_use]
    pub fn sockets(mut self, sockets: impl IntoIterator<Item = TcpListener>) -> Self {
        self.origin.sockets.extend(sockets);
        self
    }

    /// Takes the listening sockets of the gateway behind this control socket, which drains once this one serves. Until then
    /// both accept, so that no connection is refused. Should this one not start, that one goes on.
    #[must_use]
    pub fn take_over(mut self, control: impl Into<PathBuf>) -> Self {
        self.origin.take_over = Some(control.into());
        self
    }

    /// How to start the process that takes over from this one, when `portcullis upgrade` asks for it. The control socket's
    /// path is added behind the arguments; they should end in what makes the program call [`take_over`](Self::take_over).
    #[must_use]
    pub fn successor(mut self, program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = OsString>) -> Self {
        let arguments = arguments.into_iter().collect();
        self.origin.successor = Some(Successor { program: program.into(), arguments });
        self
    }

    /// How the log's level is changed when `portcullis log` asks for it; without this, it cannot be.
    #[must_use]
    pub fn log_level(mut self, set: impl Fn(LogLevel) + Send + Sync + 'static) -> Self {
        self.origin.log_level = Some(Arc::new(set));
        self
    }

    /// Does everything that start-up does, without opening a port.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn plan(&self, telemetry: Telemetry) -> Result<Plan, Problems> {
        self.recipe.plan(&self.config, telemetry, None, Aim::Load)
    }

    /// Opens every port and starts serving.
    ///
    /// # Errors
    /// Everything that is wrong; nothing is left open or running then.
    pub fn start(self) -> Result<Running, BuildError> {
        let log = &self.config.log;
        let access_log = if log.access { AccessLog::stdout(log.format == LogFormat::Json)? } else { AccessLog::off() };
        let telemetry = Telemetry { access_log, tracer: Tracer::off() };
        let plan = self.plan(telemetry.clone()).map_err(BuildError::Plan)?;
        refuse_if_unservable(&plan)?;
        run(self.recipe, plan, telemetry, self.origin)
    }
}

/// Why a gateway did not start.
#[derive(Debug)]
pub enum BuildError {
    /// The configuration is wrong.
    Plan(Problems),
    /// No endpoint, or not every endpoint that must, can serve; each reason names its endpoint.
    Refused(Vec<String>),
    /// Ports that cannot be opened.
    Listen(Vec<String>),
    /// A thread or a runtime could not be had.
    Io(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(problems) => write!(f, "{problems}"),
            Self::Refused(reasons) | Self::Listen(reasons) => f.write_str(&reasons.join("\n")),
            Self::Io(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// `on_refused`, and the rule that a gateway with nothing to serve does not start.
fn refuse_if_unservable(plan: &Plan) -> Result<(), BuildError> {
    let refused: Vec<String> = plan.refusals().collect();
    let all = plan.endpoints.iter().all(|e| matches!(e.state, EndpointState::Refused(_)));
    if !refused.is_empty() && (all || plan.config.audit.on_refused == OnRefused::Gateway) {
        return Err(BuildError::Refused(refused));
    }
    refused.iter().for_each(|reason| error!("{reason}"));
    Ok(())
}

fn run(recipe: Recipe, plan: Plan, telemetry: Telemetry, origin: Origin) -> Result<Running, BuildError> {
    let control = plan.config.admin.control.as_ref().map(|path| recipe.directory.join(path));
    let (mut inherited, predecessor) = inherit(origin.sockets, origin.take_over)?;
    let (spares, exports) = (Spares::default(), Exports::new(telemetry.tracer.clone()));
    // All three before anything runs, so that one start-up names every fault.
    let opened = Reloader::open(recipe, telemetry.clone(), exports.clone(), &plan, &mut inherited, spares.clone());
    let admin = plan.admin.as_ref().map(|admin| {
        let socket = inherited.take(admin.listen).pop().map_or_else(|| admin::bind(admin.listen), Ok);
        socket.map_err(|error| vec![cannot_listen("admin", admin.listen, &error)])
    });
    let control = control.map(|path| Control::bind(&path, predecessor.is_some()).map_err(|fault| vec![fault]));
    let ((mut reloader, ready), admin, control) = match (opened, admin.transpose(), control.transpose()) {
        (Ok(opened), Ok(admin), Ok(control)) => (opened, admin, control),
        (opened, admin, control) => {
            let faults = opened.err().into_iter().chain(admin.err()).chain(control.err()).flatten();
            return Err(BuildError::Listen(faults.collect()));
        }
    };
    if predecessor.is_none() {
        nothing_left_over(&inherited)?;
    }
    raise_descriptor_limit();
    make_room_for_descriptors(plan.max_connections);
    let plan = Arc::new(plan);
    let state = State::new(Snapshot { plan: Arc::clone(&plan), addresses: BTreeMap::new(), drained: BTreeSet::new() });
    let mut running = Running {
        admin_address: admin.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
        admin: None,
        control: None,
        acme: None,
        reload: None,
        workers: Vec::new(),
        wishes: Wishes {
            successor: origin.successor,
            spares: spares.clone(),
            log_level: origin.log_level,
            ..Wishes::default()
        },
        _admin_spare: admin.as_ref().map(|socket| spares.keep(std::slice::from_ref(socket))),
        state: Arc::clone(&state),
        telemetry,
        exports,
    };
    // The admin port first: it sets descriptors of its own aside, and answers "starting" until the rest is there.
    if let Some(socket) = admin {
        let stop = Drain::new();
        running.admin = Some((stop.clone(), admin::start(socket, Arc::clone(&state), stop)?));
    }
    let challenges = Arc::clone(reloader.challenges());
    let open = CancellationToken::new();
    let orders = running.start_workers(plan.workers, &open)?;
    let addresses = reloader.begin(&plan, ready, orders);
    state.replace(Snapshot { plan: Arc::clone(&plan), addresses, drained: BTreeSet::new() });
    let (reload, thread) = reloader.start(Arc::clone(&state))?;
    running.reload = Some((reload.clone(), thread));
    let (renewals, renewal_wishes) = acme::wish::channel();
    running.wishes.renewals = Some(renewals);
    if let Some(control) = control {
        let stop = Drain::new();
        let served = control.start(Arc::clone(&state), reload.clone(), running.wishes.clone(), stop.clone())?;
        running.control = Some((stop, served));
    }
    state.set_lifecycle(Lifecycle::Serving);
    running.log_summary(&plan);
    let stop = Drain::new();
    running.acme = Some((stop.clone(), Keeper::start(state, reload, challenges, renewal_wishes, stop)?));
    open.cancel();
    notify::ready();
    if let Some(predecessor) = predecessor {
        match predecessor.serving() {
            Ok(()) => info!("took over; the gateway before drains"),
            Err(error) => warn!("the gateway before may still serve: {error}; see that it ends"),
        }
    }
    Ok(running)
}

/// What is open already: the sockets that were passed to this process, and those of the gateway that it takes over from.
fn inherit(
    passed: Vec<TcpListener>,
    take_over: Option<PathBuf>,
) -> Result<(Inherited, Option<Predecessor>), BuildError> {
    let fault = |fault: String| BuildError::Listen(vec![fault]);
    let mut inherited = Inherited::default();
    for socket in passed {
        inherited.add(socket).map_err(|error| fault(format!("a socket passed at the start is of no use: {error}")))?;
    }
    let Some(control) = take_over else { return Ok((inherited, None)) };
    let cannot = |error| fault(format!("cannot take over from the gateway at {}: {error}", control.display()));
    let (predecessor, sockets) = Predecessor::ask(&control).map_err(cannot)?;
    for socket in sockets {
        inherited.add(socket).map_err(cannot)?;
    }
    Ok((inherited, Some(predecessor)))
}

/// A socket that a service manager holds open and nobody accepts from would have its clients wait for ever.
fn nothing_left_over(inherited: &Inherited) -> Result<(), BuildError> {
    let faults: Vec<String> = inherited.addresses().map(|address| {
        format!("a socket for {address} was passed at the start, and nothing listens there; add it to an endpoint's listen, or take it out of the socket unit")
    }).collect();
    if faults.is_empty() { Ok(()) } else { Err(BuildError::Listen(faults)) }
}

/// Every connection is a descriptor, and an upstream's too: take as many as the system allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        warn!(limit = limit.current, "cannot raise the limit of open files");
    }
}

/// Has the kernel make its table of descriptors as large as clients may need it, eight bytes each, while nobody waits. Later, with
/// several threads, each doubling of it waits for every core: some 10 ms, in which a worker that accepts serves no one.
fn make_room_for_descriptors(clients: usize) {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let highest = clients.min(limit).saturating_sub(1);
    let made = i32::try_from(highest).ok().map(|highest| rustix::io::fcntl_dupfd_cloexec(io::stderr(), highest));
    drop(made); // closed again, or not to be had: then the table grows as it is needed
}

/// A gateway that serves.
pub struct Running {
    workers: Vec<(Drain, JoinHandle<()>)>,
    admin: Option<(Drain, JoinHandle<()>)>,
    admin_address: Option<SocketAddr>,
    control: Option<(Drain, JoinHandle<()>)>,
    acme: Option<(Drain, JoinHandle<()>)>,
    reload: Option<(Handle, JoinHandle<()>)>,
    /// What the control socket may ask for.
    wishes: Wishes,
    _admin_spare: Option<Spare>,
    state: Arc<State>,
    telemetry: Telemetry,
    /// Sends spans, where they are sent.
    exports: Exports,
}

impl Running {
    /// Where an endpoint listens: what was configured, with the real port where that was 0.
    pub fn addresses(&self, endpoint: &str) -> impl Iterator<Item = SocketAddr> {
        let running = self.state.snapshot();
        let found = running.addresses.iter().find(|(name, _)| name.as_str() == endpoint);
        found.map(|(_, addresses)| addresses.clone()).unwrap_or_default().into_iter()
    }

    /// A channel to each worker, once started.
    fn start_workers(&mut self, number: usize, open: &CancellationToken) -> io::Result<Vec<mpsc::Sender<Order>>> {
        let mut senders = Vec::new();
        let ticks = Ticks::every(worker::TICK)?;
        for index in 0..number {
            let (sender, orders) = mpsc::channel(reload::ORDERS);
            let drain = Drain::new();
            let (telemetry, ticks, open) = (self.telemetry.clone(), ticks.clone(), open.clone());
            let worker = Worker { index, orders, telemetry, drain: drain.clone(), ticks, open };
            self.workers.push((drain, worker.start()?));
            senders.push(sender);
        }
        Ok(senders)
    }

    /// Where the admin port listens, if it does.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Begins the drain: readiness fails, nothing new is accepted, what is in flight may end until the deadline.
    pub fn drain(&self) {
        notify::status("draining: what is in flight may end");
        self.state.set_lifecycle(Lifecycle::Draining);
        self.wishes.spares.close();
        self.acme.iter().for_each(|(stop, _)| stop.begin());
        self.workers.iter().for_each(|(drain, _)| drain.begin());
    }

    /// Drains, and waits until everything has ended or was cut at the deadline. Blocks the calling thread.
    pub fn stop(mut self) {
        self.drain();
        for (_, worker) in self.workers.drain(..) {
            if worker.join().is_err() {
                error!("a worker panicked");
            }
        }
        // What the workers have recorded to their end.
        self.exports.end();
        // Last: readiness and metrics are wanted most while a gateway drains.
        self.leave_helpers();
        if let Some((handle, thread)) = self.reload.take() {
            // It ends with the last handle; the control socket and the keeper of certificates had the others.
            drop(handle);
            if thread.join().is_err() {
                error!("the reload thread panicked");
            }
        }
        self.telemetry.access_log.finish();
        // With the last plan go its instances; their cleanups must not be cut.
        drop(self);
        if !crate::plugin::settle(CLEANUP) {
            warn!("plugins are still being cleaned up after {CLEANUP:?}; stopping without them");
        }
        info!("stopped");
    }

    /// Closes the control socket and the admin port, and orders no certificates any more. At once where a successor answers there: its readiness counts.
    fn leave_helpers(&mut self) {
        self.wishes.renewals = None;
        let keeper = ("keeper of certificates", self.acme.take());
        for (name, part) in [keeper, ("control socket", self.control.take()), ("admin port", self.admin.take())] {
            end(name, part);
        }
    }

    /// Serves until SIGTERM or SIGINT, then drains and returns. A second signal ends the process at once.
    ///
    /// # Errors
    /// The second signal cannot be watched.
    pub fn serve_until(mut self, mut signals: Signals) -> io::Result<()> {
        let name = signals.wait(self.reload.as_ref().map(|(handle, _)| handle), &self.wishes);
        info!("{name}: draining; once more to stop at once");
        if self.wishes.handed_over.has_begun() {
            self.leave_helpers();
        } else {
            notify::stopping();
        }
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let name = signals.wait_for_another();
            warn!("{name} again: stopping at once");
            #[allow(clippy::disallowed_methods, reason = "the operator asked twice")]
            std::process::exit(1);
        })?;
        self.stop();
        Ok(())
    }

    fn log_summary(&self, plan: &Plan) {
        for endpoint in &plan.endpoints {
            let addresses: Vec<_> = self.addresses(endpoint.endpoint.name.as_str()).collect();
            endpoint.log_summary(&addresses);
        }
        plan.log_upstreams();
        if let Some(address) = self.admin_address {
            info!("admin: http://{address}/");
        }
    }
}

/// Ends a helper's thread, and waits for it.
fn end(name: &str, part: Option<(Drain, JoinHandle<()>)>) {
    let Some((stop, thread)) = part else { return };
    stop.begin();
    if thread.join().is_err() {
        error!("the {name} panicked");
    }
}

/// How long plugins may take to be cleaned up at the end.
const CLEANUP: Duration = Duration::from_secs(10);
