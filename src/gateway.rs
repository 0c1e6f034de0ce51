//! Building and running a gateway: sockets first, then workers, then the admin port; and down again in order.
//!
//! Owns the public way in, [`Gateway::builder`]. Called by `cli` and by library users; starts `worker`s and `admin`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::access_log::AccessLog;
use crate::admin;
use crate::admin::state::{Lifecycle, Snapshot, State};
use crate::config::Problems;
use crate::config::{Config, LogFormat, OnRefused};
use crate::connection::Limit;
use crate::drain::Drain;
use crate::handler::Handler;
use crate::identity::EndpointName;
use crate::listener::{self, Door};
use crate::plan::{EndpointState, Inputs, Plan};
use crate::worker::Worker;

/// The way in.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Begins a gateway from a configuration.
    #[must_use]
    pub fn builder(config: Config) -> Builder {
        Builder { config, directory: PathBuf::from("."), handlers: HashMap::new(), development_certificate: false }
    }
}

/// What a gateway is made from.
pub struct Builder {
    config: Config,
    directory: PathBuf,
    handlers: HashMap<String, Arc<dyn Handler>>,
    development_certificate: bool,
}

impl Builder {
    /// The folder that relative paths of the configuration are relative to; without it, the current one.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Adds a handler of one's own, under the name by which endpoints refer to it.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers.insert(name.into(), Arc::new(handler));
        self
    }

    /// Serves TLS endpoints that list no certificate with one made in memory for `localhost`. For the demo: no client
    /// trusts it.
    #[must_use]
    pub fn development_certificate(mut self) -> Self {
        self.development_certificate = true;
        self
    }

    /// Does everything that start-up does, without opening a port.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn plan(&self, access_log: AccessLog) -> Result<Plan, Problems> {
        Plan::new(&Inputs {
            config: &self.config,
            directory: &self.directory,
            handlers: &self.handlers,
            development_certificate: self.development_certificate,
            access_log,
            now: SystemTime::now(),
        })
    }

    /// Opens every port and starts serving.
    ///
    /// # Errors
    /// Everything that is wrong; nothing is left open or running then.
    pub fn start(self) -> Result<Running, BuildError> {
        let log = &self.config.log;
        let access_log = if log.access { AccessLog::stdout(log.format == LogFormat::Json)? } else { AccessLog::off() };
        let plan = Arc::new(self.plan(access_log.clone()).map_err(BuildError::Plan)?);
        refuse_if_unservable(&plan)?;
        let open = open_all(&plan)?;
        run(plan, open, access_log)
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

/// Every socket that the plan asks for.
struct Open {
    /// By endpoint (in the plan's order), address and worker.
    endpoints: Vec<Vec<Vec<std::net::TcpListener>>>,
    admin: Option<std::net::TcpListener>,
}

fn open_all(plan: &Plan) -> Result<Open, BuildError> {
    let mut faults = Vec::new();
    let mut endpoints = Vec::new();
    for endpoint in &plan.endpoints {
        let mut sockets = Vec::new();
        if matches!(endpoint.state, EndpointState::Ready { .. }) {
            for address in &endpoint.listen {
                match listener::open(*address, plan.workers) {
                    Ok(opened) => sockets.push(opened),
                    Err(e) => {
                        faults.push(cannot_listen(&format!("endpoint {:?}", endpoint.endpoint.name), *address, &e))
                    }
                }
            }
        }
        endpoints.push(sockets);
    }
    let admin = plan.admin.as_ref().and_then(|admin| match admin::bind(admin.listen) {
        Ok(socket) => Some(socket),
        Err(e) => {
            faults.push(cannot_listen("admin", admin.listen, &e));
            None
        }
    });
    if faults.is_empty() { Ok(Open { endpoints, admin }) } else { Err(BuildError::Listen(faults)) }
}

fn cannot_listen(whose: &str, address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another port",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "see the error",
    };
    format!("{whose}: cannot listen on {address}: {error}; {remedy}")
}

fn run(plan: Arc<Plan>, open: Open, access_log: AccessLog) -> Result<Running, BuildError> {
    raise_descriptor_limit();
    let mut addresses = BTreeMap::<EndpointName, Vec<SocketAddr>>::new();
    for (endpoint, by_address) in plan.endpoints.iter().zip(&open.endpoints) {
        for sockets in by_address {
            addresses.entry(endpoint.endpoint.name.clone()).or_default().push(sockets[0].local_addr()?);
        }
    }
    let state = State::new(Snapshot { plan: Arc::clone(&plan), addresses: addresses.clone() });
    let mut running = Running {
        admin_address: open.admin.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
        admin: None,
        workers: Vec::new(),
        addresses,
        state: Arc::clone(&state),
        access_log,
    };
    // The admin port first: it sets descriptors of its own aside, and answers "starting" until the rest is there.
    if let Some(socket) = open.admin {
        let stop = Drain::new();
        running.admin = Some((stop.clone(), admin::start(socket, Arc::clone(&state), stop)?));
    }
    for (index, doors) in doors(&plan, open.endpoints).into_iter().enumerate() {
        let drain = Drain::new();
        let worker = Worker {
            index,
            doors,
            upstreams: plan.upstreams.clone(),
            access_log: running.access_log.clone(),
            drain: drain.clone(),
            drain_timeout: plan.drain_timeout,
        };
        running.workers.push((drain, worker.start()?));
    }
    state.set_lifecycle(Lifecycle::Serving);
    running.log_summary(&plan);
    Ok(running)
}

/// Deals the sockets out: to each worker, one of every address.
fn doors(plan: &Plan, sockets: Vec<Vec<Vec<std::net::TcpListener>>>) -> Vec<Vec<Door>> {
    let gateway_limit = Limit::new(plan.max_connections);
    let mut doors: Vec<Vec<Door>> = (0..plan.workers).map(|_| Vec::new()).collect();
    for (endpoint, by_address) in plan.endpoints.iter().zip(sockets) {
        let EndpointState::Ready { instance } = &endpoint.state else { continue };
        let endpoint_limit = Limit::new(endpoint.max_connections);
        for sockets in by_address {
            for (doors, socket) in doors.iter_mut().zip(sockets) {
                doors.push(Door {
                    socket,
                    endpoint: Arc::clone(endpoint),
                    instance: Arc::clone(instance),
                    gateway_limit: Arc::clone(&gateway_limit),
                    endpoint_limit: Arc::clone(&endpoint_limit),
                });
            }
        }
    }
    doors
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

/// A gateway that serves.
pub struct Running {
    workers: Vec<(Drain, JoinHandle<()>)>,
    admin: Option<(Drain, JoinHandle<()>)>,
    admin_address: Option<SocketAddr>,
    addresses: BTreeMap<EndpointName, Vec<SocketAddr>>,
    state: Arc<State>,
    access_log: AccessLog,
}

impl Running {
    /// Where an endpoint listens: what was configured, with the real port where that was 0.
    pub fn addresses(&self, endpoint: &str) -> impl Iterator<Item = SocketAddr> {
        let found = self.addresses.iter().find(move |(name, _)| name.as_str() == endpoint);
        found.into_iter().flat_map(|(_, addresses)| addresses).copied()
    }

    /// Where the admin port listens, if it does.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Begins the drain: readiness fails, nothing new is accepted, what is in flight may end until the deadline.
    pub fn drain(&self) {
        self.state.set_lifecycle(Lifecycle::Draining);
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
        for endpoint in &self.state.snapshot().plan.endpoints {
            if let EndpointState::Ready { instance } = &endpoint.state {
                instance.stop();
            }
        }
        // Last: readiness and metrics are wanted most while a gateway drains.
        if let Some((stop, admin)) = self.admin.take() {
            stop.begin();
            if admin.join().is_err() {
                error!("the admin port panicked");
            }
        }
        self.access_log.finish();
        info!("stopped");
    }

    /// Serves until SIGTERM or SIGINT, then drains and returns. A second signal ends the process at once.
    ///
    /// # Errors
    /// The second signal cannot be watched.
    pub fn serve_until(self, mut signals: Signals) -> io::Result<()> {
        let name = signals.wait();
        info!("{name}: draining; once more to stop at once");
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
        if let Some(address) = self.admin_address {
            info!("admin: http://{address}/");
        }
    }
}

/// A second signal that comes sooner is the first one again.
const SAME_WISH: Duration = Duration::from_millis(20);

/// SIGTERM and SIGINT, watched from the moment that this is made.
///
/// Made before the gateway starts: a signal that came between would end a gateway that serves, and cut what it serves.
#[derive(Debug)]
pub struct Signals {
    runtime: tokio::runtime::Runtime,
    watched: Watched,
}

#[derive(Debug)]
struct Watched {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Watches from now on.
    ///
    /// # Errors
    /// The signals cannot be watched.
    pub fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let watched = Watched {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        };
        drop(entered);
        Ok(Self { runtime, watched })
    }

    /// Waits for the first; its name.
    fn wait(&mut self) -> &'static str {
        self.runtime.block_on(self.watched.next())
    }

    /// Waits for one that is another wish than the last; its name.
    fn wait_for_another(&mut self) -> &'static str {
        let Self { runtime, watched } = self;
        runtime.block_on(async {
            // One wish can arrive as two signals, to the process and to its group.
            let _ = tokio::time::timeout(SAME_WISH, watched.next()).await;
            watched.next().await
        })
    }
}

impl Watched {
    /// The next signal that ends the gateway. SIGHUP is no such wish: elsewhere it asks a server to read its
    /// configuration again, and dying of it would be the worst answer.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => warn!("SIGHUP: nothing is reloaded yet; restart to take a new configuration"),
            }
        }
    }
}
