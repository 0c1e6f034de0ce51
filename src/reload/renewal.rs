//! Renews the running plan when its files or the clock have changed, without being asked.
//!
//! Called by the reload thread when `watch` has news, when a verdict of the audit is over, and now and then. The
//! configuration is the one that was last loaded. A pair that is half written is waited for; what stays broken is held
//! back, and said.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info};

use super::{Change, Failure, Reloader, log_endpoints};
use crate::admin::state::{Lifecycle, Snapshot, State};
use crate::listener::inherited::Inherited;
use crate::plan::{Aim, Plan};

/// How long files may be broken before that is said: one of a pair is written after the other.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often files are looked at and the clock is read although nothing calls for it: some file systems tell nothing, and
/// the clock may be set.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

impl Reloader {
    /// How long there is nothing to do, unless the files change.
    pub(super) fn rest(&self, state: &State) -> Duration {
        let patience = self.broken_since.map(|since| (since + PATIENCE).saturating_duration_since(Instant::now()));
        let until = state.snapshot().plan.span().until;
        // What is over already could not be renewed; that is tried again with the heart.
        let clock = until.and_then(|until| until.duration_since(SystemTime::now()).ok());
        [patience, clock].into_iter().flatten().fold(HEARTBEAT, Duration::min)
    }

    /// Looks whether anything has changed, and renews the plan if so.
    pub(super) fn attend(&mut self, state: &State) {
        if let Err(failure) = self.guarded(|reloader| reloader.look(state)) {
            self.broken_since = None;
            hold(state, &failure);
        }
    }

    fn look(&mut self, state: &State) {
        // Each new folder may have changed while it was not watched. A folder that always is new again is a link that
        // someone turns round and round; the heartbeat is soon enough for that one.
        for _ in 0..3 {
            let running = state.snapshot();
            match state.lifecycle() {
                Lifecycle::Starting => return,
                Lifecycle::Draining => return self.watch = None,
                Lifecycle::Serving => {}
            }
            let changed = self.watch.as_mut().is_some_and(super::watch::Watch::changed);
            if changed || self.broken_since.is_some() || !running.plan.span().holds_at(SystemTime::now()) {
                self.renew(state, &running);
            }
            if !self.cover(&state.snapshot().plan) {
                return;
            }
        }
    }

    /// Watches the files of a plan, if that is wanted. Whether one of their folders is new.
    pub(super) fn cover(&mut self, plan: &Plan) -> bool {
        let files = plan.files().filter(|_| plan.config.gateway.watch);
        self.watch.as_mut().is_some_and(|watch| watch.cover(files))
    }

    /// Renews the plan for whoever has just written files, and knows that they are whole.
    pub(super) fn renew_now(&mut self, state: &State) -> Result<(), Failure> {
        let running = state.snapshot();
        if state.lifecycle() != Lifecycle::Serving {
            return Err(Failure::new(format!("the gateway is {}", state.lifecycle().as_str())));
        }
        let next = self.guarded(|reloader| reloader.planned(&running, true)).and_then(|next| next);
        let taken = next.and_then(|plan| self.take(state, &running, plan));
        if let Err(failure) = &taken {
            hold(state, failure);
        }
        self.cover(&state.snapshot().plan);
        taken
    }

    fn planned(&self, running: &Snapshot, settled: bool) -> Result<Plan, Failure> {
        let (config, telemetry) = (&running.plan.config, self.telemetry.clone());
        let plan = self.recipe.plan(config, telemetry, Some(&running.plan), Aim::Renew { settled });
        plan.map_err(|problems| Failure::new(problems.to_string()))
    }

    fn renew(&mut self, state: &State, running: &Snapshot) {
        let settled = self.broken_since.is_some_and(|since| since.elapsed() >= PATIENCE);
        let (next, broken) = match self.planned(running, settled) {
            Ok(plan) => {
                let known: Vec<&str> = running.plan.held().collect();
                let new = plan.held().any(|reason| !known.contains(&reason));
                (Ok(plan), new)
            }
            Err(failure) => {
                let new = state.reloads().held.as_ref() != Some(&failure.to_string());
                (Err(failure), new)
            }
        };
        if broken && !settled {
            self.broken_since.get_or_insert_with(Instant::now);
            return;
        }
        self.broken_since = None;
        if let Err(failure) = next.and_then(|plan| self.take(state, running, plan)) {
            hold(state, &failure);
        }
    }

    /// Runs the renewed plan, and says what is new in it.
    fn take(&mut self, state: &State, running: &Snapshot, plan: Plan) -> Result<(), Failure> {
        let same = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
        let all_same = running.plan.endpoints.iter().zip(&plan.endpoints).all(same);
        if !all_same || running.plan.admin != plan.admin {
            let mut change = Change::between(&running.plan, &plan, false);
            change.changed.retain(|name| is_served_anew(&running.plan, &plan, name));
            let prepared = self.doors.prepare(&plan, &mut Inherited::default()).map_err(|errors| Failure { errors })?;
            let addresses = self.swap(&plan, prepared);
            let next = Snapshot { plan: Arc::new(plan), addresses, drained: self.doors.drained().clone() };
            let (plan, addresses) = (Arc::clone(&next.plan), next.addresses.clone());
            state.replace(next);
            if !change.changed.is_empty() {
                state.renewed();
                info!("files or the clock have changed; {}", change.line());
                log_endpoints(&plan, &change, &addresses);
            }
        }
        let errors: Vec<String> = state.snapshot().plan.held().map(ToOwned::to_owned).collect();
        if errors.is_empty() {
            if state.mended() {
                info!("every file is fit again");
            }
            return Ok(());
        }
        Err(Failure { errors })
    }
}

/// Whether more is new about an endpoint than that a file of it is held back.
fn is_served_anew(running: &Plan, next: &Plan, name: &str) -> bool {
    let (Some(before), Some(after)) = (running.endpoint(name), next.endpoint(name)) else { return true };
    let same = match (&before.tls, &after.tls) {
        (Some(before), Some(after)) => before.acceptor.is(&after.acceptor),
        (before, after) => before.is_none() && after.is_none(),
    };
    after.certificates.held.is_empty() || !same
}

/// Says what is held back, once.
fn hold(state: &State, failure: &Failure) {
    if state.held_back(failure.to_string()) {
        error!("files have changed and are not taken; what was read before is served on: {failure}");
    }
}
