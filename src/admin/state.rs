//! What the admin port knows of the gateway: the plan that runs, how far the gateway is, and how reloads went.
//!
//! Made by `gateway` before the admin port starts; written by `gateway` and `reload`; read at every request. Nothing
//! on the data path touches it, so its lock is never waited for there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::Notify;

use crate::acme::board::Board;
use crate::identity::EndpointName;
use crate::plan::{EndpointPlan, EndpointState, Plan};

/// What the admin port shows, shared between those who write it and the admin's thread.
pub struct State {
    running: RwLock<Arc<Snapshot>>,
    progress: Mutex<Progress>,
    begun: Instant,
    acme: Board,
    changed: Notify,
}

/// The plan that runs, with what its audit found; swapped whole.
pub struct Snapshot {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Where each open endpoint listens, with the real port where 0 was written.
    pub addresses: BTreeMap<EndpointName, Vec<SocketAddr>>,
    /// Endpoints that were told to drain: they take no connections, until they are taken out of the configuration or the
    /// gateway starts again.
    pub drained: BTreeSet<EndpointName>,
}

impl Snapshot {
    /// Whether an endpoint was told to drain.
    #[must_use]
    pub fn is_drained(&self, endpoint: &EndpointPlan) -> bool {
        self.drained.contains(&endpoint.endpoint.name)
    }

    /// Whether an endpoint takes connections, given how far the gateway is.
    #[must_use]
    pub fn is_up(&self, endpoint: &EndpointPlan, lifecycle: Lifecycle) -> bool {
        lifecycle == Lifecycle::Serving && self.reasons(endpoint).is_empty()
    }

    /// Why an endpoint takes no connections, or is open and not ready; nothing if it serves.
    #[must_use]
    pub fn reasons(&self, endpoint: &EndpointPlan) -> Vec<String> {
        match &endpoint.state {
            _ if self.is_drained(endpoint) => vec!["it was told to drain".to_owned()],
            EndpointState::Ready { instance } => {
                let waiting = endpoint.certificates.waiting.iter().cloned();
                waiting.chain(instance.instance().unready()).collect()
            }
            EndpointState::Refused(reasons) => reasons.clone(),
        }
    }

    /// Lines of the access log dropped so far. Every endpoint writes to the same log.
    #[must_use]
    pub fn access_log_dropped(&self) -> u64 {
        self.plan.endpoints.iter().map(|plan| plan.context.access_log.dropped()).max().unwrap_or(0)
    }
}

/// How far the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Its endpoints are not all open yet.
    Starting,
    /// It takes connections.
    Serving,
    /// It takes no new connections and waits for what is in flight.
    Draining,
}

impl Lifecycle {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// How loading the configuration went.
#[derive(Clone, Debug)]
pub struct Reloads {
    /// Reloads that succeeded since the start, which itself does not count.
    pub succeeded: u64,
    /// Reloads that failed and left the old plan serving.
    pub failed: u64,
    /// When the running plan was loaded.
    pub last_success: SystemTime,
    /// Why the last reload that was asked for failed, where the configuration itself is to blame; `None` if it succeeded.
    pub last_error: Option<String>,
    /// Why files that have changed are not taken; `None` if none is held back.
    pub held: Option<String>,
}

impl Reloads {
    /// Everything on disk that could not be taken.
    #[must_use]
    pub fn errors(&self) -> Vec<&str> {
        self.last_error.iter().chain(&self.held).map(String::as_str).collect()
    }
}

#[derive(Clone)]
struct Progress {
    lifecycle: Lifecycle,
    reloads: Reloads,
}

impl State {
    /// The state of a gateway that starts with `running`.
    #[must_use]
    pub fn new(running: Snapshot) -> Arc<Self> {
        let reloads =
            Reloads { succeeded: 0, failed: 0, last_success: SystemTime::now(), last_error: None, held: None };
        Arc::new(Self {
            running: RwLock::new(Arc::new(running)),
            progress: Mutex::new(Progress { lifecycle: Lifecycle::Starting, reloads }),
            begun: Instant::now(),
            acme: Board::default(),
            changed: Notify::new(),
        })
    }

    /// What runs now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Swaps what runs without calling it a reload: a new audit of the same plan, say.
    pub fn replace(&self, snapshot: Snapshot) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.changed.notify_one();
    }

    /// Resolves once what runs was swapped since the last time. For one waiter, which is `acme`.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How the certificates fare that ACME manages.
    #[must_use]
    pub fn acme(&self) -> &Board {
        &self.acme
    }

    /// Swaps what runs and notes that a reload succeeded.
    pub fn reload_succeeded(&self, snapshot: Snapshot) {
        self.replace(snapshot);
        let reloads = &mut self.progress().reloads;
        reloads.succeeded += 1;
        reloads.last_success = SystemTime::now();
        reloads.last_error = None;
        reloads.held = None;
    }

    /// Notes that files were taken anew.
    pub fn renewed(&self) {
        let reloads = &mut self.progress().reloads;
        reloads.succeeded += 1;
        reloads.last_success = SystemTime::now();
    }

    /// Notes that files have changed and are not taken; false if that is known.
    pub fn held_back(&self, error: String) -> bool {
        let reloads = &mut self.progress().reloads;
        let news = reloads.held.as_ref() != Some(&error);
        reloads.failed += u64::from(news);
        reloads.held = Some(error);
        news
    }

    /// Notes that no file is held back; false if that is known.
    pub fn mended(&self) -> bool {
        self.progress().reloads.held.take().is_some()
    }

    /// Notes that a reload failed for what the configuration says, and what runs still runs.
    pub fn reload_failed(&self, error: String) {
        let reloads = &mut self.progress().reloads;
        reloads.failed += 1;
        reloads.last_error = Some(error);
    }

    /// How reloads went.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.progress().reloads.clone()
    }

    /// How far the gateway is.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        self.progress().lifecycle
    }

    /// Notes how far the gateway is.
    pub fn set_lifecycle(&self, lifecycle: Lifecycle) {
        self.progress().lifecycle = lifecycle;
    }

    /// How long the gateway has been there.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
