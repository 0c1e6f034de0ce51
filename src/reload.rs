//! Swaps one plan for the next while connections are served.
//!
//! Owns the thread on which plans are made and begun, one at a time, from the first one at start-up on. `gateway` starts it
//! and passes SIGHUP on to it; the control socket asks it; `renewal` acts where files or the clock have changed. A reload that fails anywhere leaves the old plan serving, with
//! nothing opened and nothing closed, and says so in its answer, in the log and in `/metrics`.

mod change;
mod difference;
mod doors;
mod kernel;
mod places;
mod renewal;
mod watch;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

pub use self::change::{Change, Failure};
pub use self::difference::Difference;
pub(crate) use self::doors::{Addresses, cannot_listen};
use self::doors::{Doors, Prepared};
use self::renewal::HEARTBEAT;
use self::watch::Watch;
use crate::admin::state::{Lifecycle, Snapshot, State};
use crate::config::{Config, OnRefused, Problems, Source};
use crate::handler::Handler;
use crate::listener::inherited::Inherited;
use crate::listener::spares::Spares;
use crate::metrics::level;
use crate::minder::Minder;
use crate::notify;
use crate::otlp::{self, Exports};
use crate::plan::{Aim, EndpointState, Inputs, Plan};
use crate::telemetry::Telemetry;
use crate::tls::challenge::Challenges;
use crate::worker::Order;

/// How many reloads may wait while one runs. One is enough: it will read files that are newer than any wish before it.
const WAITING: usize = 1;
/// How many orders a worker may be behind.
pub(crate) const ORDERS: usize = 4;

/// What plans are made from, besides the configuration.
pub(crate) struct Recipe {
    /// The file that a reload reads; without one there is nothing to reload.
    pub(crate) file: Option<PathBuf>,
    pub(crate) directory: PathBuf,
    pub(crate) handlers: HashMap<String, Arc<dyn Handler>>,
    pub(crate) development_certificate: bool,
    /// What ACME's challenges are answered from, by every plan.
    pub(crate) challenges: Arc<Challenges>,
}

impl Recipe {
    /// Makes a plan, which takes over from the running one what did not change.
    pub(crate) fn plan(
        &self,
        config: &Config,
        telemetry: Telemetry,
        previous: Option<&Plan>,
        aim: Aim,
    ) -> Result<Plan, Problems> {
        Plan::new(&Inputs {
            config,
            directory: &self.directory,
            handlers: &self.handlers,
            development_certificate: self.development_certificate,
            telemetry,
            challenges: Arc::clone(&self.challenges),
            now: SystemTime::now(),
            previous,
            aim,
        })
    }
}

/// The sockets and workers of a gateway, and how to bring the next plan to them.
pub(crate) struct Reloader {
    recipe: Recipe,
    telemetry: Telemetry,
    doors: Doors,
    workers: Vec<mpsc::Sender<Order>>,
    /// Once the thread runs.
    watch: Option<Watch>,
    /// Since when files are broken that may only be half written.
    broken_since: Option<Instant>,
    minder: Minder,
    exports: Exports,
}

/// Asks the reload thread. It ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Handle(mpsc::Sender<Wish>);

/// Why the thread wakes.
enum Cause {
    Asked(Wish),
    /// Files or the clock may have changed.
    Look,
    /// Nobody is left to ask.
    Stop,
}

/// What the thread is asked for.
enum Wish {
    /// To renew the running plan.
    Renew(oneshot::Sender<Result<(), Failure>>),
    Reload {
        dry_run: bool,
        answer: Option<oneshot::Sender<Result<Change, Failure>>>,
    },
    Drain {
        endpoint: String,
        answer: oneshot::Sender<Result<u64, NoEndpoint>>,
    },
}

/// There is no endpoint of the name that was asked for; these are there.
pub(crate) struct NoEndpoint(pub(crate) Vec<String>);

impl Handle {
    /// Asks for a reload without waiting for it. Where one waits to begin already, it will do.
    pub(crate) fn reload_soon(&self) {
        let _ = self.0.try_send(Wish::Reload { dry_run: false, answer: None });
    }

    /// Reloads, or tries what a reload would do.
    pub(crate) async fn reload(&self, dry_run: bool) -> Result<Change, Failure> {
        let (answer, answered) = oneshot::channel();
        self.ask(Wish::Reload { dry_run, answer: Some(answer) }, answered).await
    }

    /// Takes what the files hold now that the running configuration names, whether or not they are watched.
    pub(crate) async fn renew(&self) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        self.ask(Wish::Renew(answer), answered).await
    }

    async fn ask<T>(&self, wish: Wish, answered: oneshot::Receiver<Result<T, Failure>>) -> Result<T, Failure> {
        let stopped = || Failure::new("the gateway is stopping");
        self.0.send(wish).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Has an endpoint take no more connections and asks those that it has to end: how many they are. `None` where the
    /// gateway is stopping.
    pub(crate) async fn drain(&self, endpoint: String) -> Option<Result<u64, NoEndpoint>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Wish::Drain { endpoint, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl Reloader {
    /// Opens every port of the first plan, or takes it from `inherited`; a successor is given what `spares` keeps. What is traced
    /// goes by `exports`.
    ///
    /// # Errors
    /// Every port that cannot be opened; none is left open then.
    pub(crate) fn open(
        recipe: Recipe,
        telemetry: Telemetry,
        exports: Exports,
        plan: &Plan,
        inherited: &mut Inherited,
        spares: Spares,
    ) -> Result<(Self, Ready), Vec<String>> {
        let doors = Doors::new(plan.workers, spares);
        let prepared = doors.prepare(plan, inherited)?;
        let no_thread = |error| vec![format!("cannot start a thread: {error}")];
        let minder = Minder::start().map_err(no_thread)?;
        let traces = exports.prepare(plan.tracing.as_ref()).map_err(no_thread)?;
        let (workers, watch, broken_since) = (Vec::new(), None, None);
        let reloader = Self { recipe, telemetry, doors, workers, watch, broken_since, minder, exports };
        Ok((reloader, Ready(prepared, traces)))
    }

    /// What challenges are answered from, by every plan.
    pub(crate) fn challenges(&self) -> &Arc<Challenges> {
        &self.recipe.challenges
    }

    /// Begins the first plan on the workers that receive from `workers`; returns where it listens.
    pub(crate) fn begin(&mut self, plan: &Plan, ready: Ready, workers: Vec<mpsc::Sender<Order>>) -> Addresses {
        self.workers = workers;
        self.exports.begin(ready.1);
        self.swap(plan, ready.0)
    }

    /// Starts the thread that reloads when asked, and renews the plan when its files or the clock have changed.
    pub(crate) fn start(mut self, state: Arc<State>) -> std::io::Result<(Handle, JoinHandle<()>)> {
        let (sender, mut wishes) = mpsc::channel::<Wish>(WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let run = move || {
            self.watch = Some(Watch::new());
            self.cover(&state.snapshot().plan);
            loop {
                // Whatever is done is done outside of the runtime: it blocks.
                match runtime.block_on(self.next_cause(&state, &mut wishes)) {
                    Cause::Asked(wish) => self.answer(&state, wish),
                    Cause::Look => self.attend(&state),
                    Cause::Stop => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("reload".into()).spawn(run)?;
        Ok((Handle(sender), thread))
    }

    async fn next_cause(&mut self, state: &State, wishes: &mut mpsc::Receiver<Wish>) -> Cause {
        let rest = self.rest(state);
        let news = async {
            match &mut self.watch {
                Some(watch) => watch.news().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            wish = wishes.recv() => wish.map_or(Cause::Stop, Cause::Asked),
            () = news => Cause::Look,
            () = tokio::time::sleep(rest) => Cause::Look,
        }
    }

    fn answer(&mut self, state: &State, wish: Wish) {
        // Whoever asked may have gone.
        match wish {
            Wish::Renew(answer) => {
                let _ = answer.send(self.renew_now(state));
            }
            Wish::Reload { dry_run, answer } => {
                let result = self.reload_as_asked(state, dry_run);
                if let Some(answer) = answer {
                    let _ = answer.send(result);
                }
            }
            Wish::Drain { endpoint, answer } => {
                let _ = answer.send(self.drain(state, &endpoint));
            }
        }
    }

    fn drain(&mut self, state: &State, endpoint: &str) -> Result<u64, NoEndpoint> {
        let running = state.snapshot();
        let names = || running.plan.endpoints.iter().map(|plan| plan.endpoint.name.to_string()).collect();
        let plan = running.plan.endpoint(endpoint).ok_or_else(|| NoEndpoint(names()))?;
        let name = &plan.endpoint.name;
        self.doors.drain(name);
        let mut addresses = running.addresses.clone();
        addresses.remove(name);
        state.replace(Snapshot { plan: Arc::clone(&running.plan), addresses, drained: self.doors.drained().clone() });
        let active = level(plan.context.metrics.sum(|counters| counters.active.get()));
        info!(endpoint = %name, "takes no more connections; {active} are asked to end");
        Ok(active)
    }

    fn reload_as_asked(&mut self, state: &State, dry_run: bool) -> Result<Change, Failure> {
        if dry_run {
            return self.reload(state, dry_run);
        }
        notify::reloading();
        let result = self.reload(state, dry_run);
        notify::ready();
        if result.is_ok() {
            self.broken_since = None;
            self.cover(&state.snapshot().plan);
        }
        result
    }

    /// Were this thread to end, its sockets would close: a handler's panic must not reach them.
    fn guarded<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> Result<R, Failure> {
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        done.map_err(|_| Failure::new("making the plan panicked; see the log"))
    }

    /// One reload, from the file to the swap.
    fn reload(&mut self, state: &State, dry_run: bool) -> Result<Change, Failure> {
        let running = state.snapshot();
        let next = self.guarded(|reloader| reloader.next(&running, state.lifecycle())).and_then(|next| next);
        let begun = next.and_then(|plan| {
            let change = Change::between(&running.plan, &plan, dry_run);
            if !dry_run {
                let prepared =
                    self.doors.prepare(&plan, &mut Inherited::default()).map_err(|errors| Failure { errors })?;
                if change.tracing {
                    let traces = self.exports.prepare(plan.tracing.as_ref());
                    self.exports
                        .begin(traces.map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?);
                }
                let addresses = self.swap(&plan, prepared);
                retire(&running.plan, &plan);
                log_endpoints(&plan, &change, &addresses);
                if plan.upstream_summary() != running.plan.upstream_summary() {
                    plan.log_upstreams();
                }
                let drained = self.doors.drained().clone();
                state.reload_succeeded(Snapshot { plan: Arc::new(plan), addresses, drained });
            }
            Ok(change)
        });
        match &begun {
            Ok(change) => info!("{}", change.line()),
            Err(failure) if dry_run => info!("a reload would fail: {failure}"),
            Err(failure) => {
                error!("the reload failed, and the plan before is served: {failure}");
                if self.has_words_of(&running) {
                    // The files that the words name are to blame: a renewal will find when they are fit again.
                    state.held_back(failure.to_string());
                } else {
                    state.reload_failed(failure.to_string());
                }
            }
        }
        begun
    }

    /// The plan that the file asks for now.
    fn next(&self, running: &Snapshot, lifecycle: Lifecycle) -> Result<Plan, Failure> {
        if lifecycle != Lifecycle::Serving {
            return Err(Failure::new(format!("the gateway is {}", lifecycle.as_str())));
        }
        let Some(file) = &self.recipe.file else {
            return Err(Failure::new("this gateway runs without a configuration file; restart it to change it"));
        };
        let lines = |problems: Vec<crate::config::Problem>| Failure {
            errors: problems.iter().map(ToString::to_string).collect(),
        };
        let source = Source::read(file).map_err(|problem| lines(vec![problem]))?;
        let config = source.parse().map_err(lines)?;
        let plan = self.recipe.plan(&config, self.telemetry.clone(), Some(&running.plan), Aim::Load);
        let plan = plan.map_err(|problems| lines(problems.placed(Some(&source))))?;
        let fixed = fixed(&running.plan, &plan);
        if !fixed.is_empty() {
            return Err(lines(fixed.placed(Some(&source))));
        }
        let refused = refused(&running.plan, &plan);
        if refused.is_empty() { Ok(plan) } else { Err(Failure { errors: refused }) }
    }

    /// Whether the file says what the running plan was made from.
    fn has_words_of(&self, running: &Snapshot) -> bool {
        let source = self.recipe.file.as_ref().and_then(|file| Source::read(file).ok());
        let config = source.and_then(|source| source.parse().ok());
        config.is_some_and(|config| format!("{config:?}") == format!("{:?}", running.plan.config))
    }

    /// The step that cannot fail.
    fn swap(&mut self, plan: &Plan, prepared: Prepared) -> Addresses {
        let (opened, addresses) = self.doors.commit(plan, prepared);
        self.minder.learn(&plan.upstreams);
        for (worker, open) in self.workers.iter().zip(opened) {
            let order = Order { open, upstreams: plan.upstreams.clone(), drain_timeout: plan.drain_timeout };
            // The first order always fits, so that a gateway can be started where blocking is forbidden. A worker that is
            // gone takes none: the gateway drains.
            if let Err(TrySendError::Full(order)) = worker.try_send(order) {
                let _ = worker.blocking_send(order);
            }
        }
        addresses
    }
}

/// Sockets that are open for the first plan, and what sends its spans.
pub(crate) struct Ready(Prepared, otlp::Prepared);

/// Settings that only a restart can change, of those that are different.
fn fixed(running: &Plan, next: &Plan) -> Problems {
    let (a, b) = (&running.config, &next.config);
    let log = |config: &Config| (config.log.format, config.log.level, config.log.access);
    let differs: [(&[&str], bool); 4] = [
        (&["gateway", "workers"], running.workers != next.workers),
        (&["log"], log(a) != log(b)),
        (&["admin", "listen"], a.admin.listen != b.admin.listen),
        (&["admin", "control"], a.admin.control != b.admin.control),
    ];
    let mut problems = Problems::default();
    for (path, _) in differs.into_iter().filter(|(_, differs)| *differs) {
        problems.push(path, "a reload cannot change this", Some("restart the gateway, or change it back".into()));
    }
    problems
}

/// Why endpoints would be refused that are not refused already: what serves now goes on serving instead.
fn refused(running: &Plan, next: &Plan) -> Vec<String> {
    let all = next.endpoints.iter().all(|endpoint| matches!(endpoint.state, EndpointState::Refused(_)));
    let strict = all || next.config.audit.on_refused == OnRefused::Gateway;
    let known =
        |name: &str| running.endpoint(name).is_some_and(|before| matches!(before.state, EndpointState::Refused(_)));
    let new = next.endpoints.iter().filter(|endpoint| strict || !known(endpoint.endpoint.name.as_str()));
    new.flat_map(|endpoint| endpoint.refusals()).chain(silenced(running, next)).collect()
}

/// Why endpoints would serve nothing until ACME brings a chain that serve one now.
fn silenced(running: &Plan, next: &Plan) -> impl Iterator<Item = String> {
    let serves = |name: &str| running.endpoint(name).is_some_and(|before| before.is_ready() && !before.is_waiting());
    let silent = next.endpoints.iter().filter(move |endpoint| serves(endpoint.endpoint.name.as_str()));
    silent.filter(|endpoint| endpoint.is_waiting()).map(|endpoint| {
        let (name, reasons) = (&endpoint.endpoint.name, endpoint.certificates.waiting.join("; "));
        format!(
            "endpoint \"{name}\" would serve nothing meanwhile: {reasons}; list the present chain below it until then"
        )
    })
}

/// Tells every instance that serves no new connections any more that those it has should end in time.
fn retire(running: &Plan, next: &Plan) {
    for instance in running.endpoints.iter().filter_map(|endpoint| endpoint.instance()) {
        let mut kept = next.endpoints.iter().filter_map(|endpoint| endpoint.instance());
        if !kept.any(|kept| Arc::ptr_eq(kept, instance)) {
            instance.instance().retire(next.drain_timeout);
        }
    }
}

/// Says of every endpoint that is new or changed what start-up says of all.
fn log_endpoints(plan: &Plan, change: &Change, addresses: &Addresses) {
    for name in change.added.iter().chain(&change.changed) {
        if let Some(endpoint) = plan.endpoint(name) {
            let addresses = addresses.get(&endpoint.endpoint.name);
            endpoint.log_summary(addresses.map(Vec::as_slice).unwrap_or_default());
        }
    }
}
