//! Orders and renews certificates by ACME (RFC 8555, RFC 9773), on a thread of its own.
//!
//! Started by `gateway`. Reads from the running plan which certificates are managed, does what `acme/job.rs` says is next for
//! each, one at a time, and has `reload` take what was issued. Whatever fails leaves the certificate before in its place.

mod account;
pub mod board;
mod failure;
mod https;
mod job;
mod order;
mod schedule;
mod store;
pub(crate) mod wish;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use instant_acme::{CertificateIdentifier, RevocationRequest};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use self::board::key;
use self::failure::Failure;
use self::https::Https;
use self::job::{Job, Pause, Step};
use self::order::Ordering;
use self::store::{Leaf, Pending};
use self::wish::{Reason, Wish, Wishes};
use crate::admin::state::State;
use crate::drain::Drain;
use crate::metrics::AcmeFailure;
use crate::plan::Plan;
use crate::plan::acme::{Authority, Managed};
use crate::reload::Handle;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::{Subject, audit};
use crate::tls::chain;
use crate::tls::challenge::Challenges;

/// How long one order may take in all.
const ORDER: Duration = Duration::from_secs(5 * 60);
/// How long one question may take in all.
const QUESTION: Duration = Duration::from_secs(60);
/// The longest sleep: a clock that jumps is noticed after it.
const NAP: Duration = Duration::from_secs(60);

/// Whoever tends the managed certificates.
pub(crate) struct Keeper {
    state: Arc<State>,
    reload: Handle,
    challenges: Arc<Challenges>,
    wishes: Wishes,
    jobs: BTreeMap<(String, String), Job>,
    /// Authorities that are left alone for a while, by name.
    pauses: BTreeMap<String, Pause>,
}

impl Keeper {
    /// Starts the thread; it ends when `stop` begins, whatever it is at.
    ///
    /// # Errors
    /// The runtime or the thread could not be made.
    pub(crate) fn start(
        state: Arc<State>,
        reload: Handle,
        challenges: Arc<Challenges>,
        wishes: Wishes,
        stop: Drain,
    ) -> io::Result<JoinHandle<()>> {
        // Names are looked up on another thread, of which one is enough.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        std::thread::Builder::new().name("acme".into()).spawn(move || {
            let mut keeper = Self { state, reload, challenges, wishes, jobs: BTreeMap::new(), pauses: BTreeMap::new() };
            runtime.block_on(async {
                tokio::select! {
                    () = stop.begun() => {}
                    () = keeper.run() => {}
                }
            });
            // A look-up that still waits for a server must not hold up the end.
            runtime.shutdown_background();
        })
    }

    async fn run(&mut self) {
        loop {
            let plan = Arc::clone(&self.state.snapshot().plan);
            let (mut next, now) = (SystemTime::now() + NAP, SystemTime::now());
            for managed in &plan.acme.certificates {
                if let Some(until) = self.tend(&plan, managed).await {
                    next = next.min(until);
                }
            }
            let known =
                |key: &(String, String)| plan.acme.certificates.iter().any(|managed| board::key(managed) == *key);
            self.jobs.retain(|key, _| known(key));
            let nap = next.duration_since(now).unwrap_or_default().clamp(Duration::from_millis(100), NAP);
            tokio::select! {
                () = self.state.changed() => {}
                () = tokio::time::sleep(nap) => {}
                Some(wish) = self.wishes.recv() => {
                    let granted = self.grant(&wish).await;
                    // Whoever asked may have gone.
                    let _ = wish.answer.send(granted);
                }
            }
        }
    }

    /// Renews what an operator asks for, without regard to any wait but that for too many orders.
    async fn grant(&mut self, wish: &Wish) -> Result<String, crate::reload::Failure> {
        let plan = Arc::clone(&self.state.snapshot().plan);
        let managed = wish.find(&plan.acme)?;
        let refuse =
            |failure: &Failure| crate::reload::Failure::new(format!("{}: {}", failure.reason, failure.message));
        let (now, before) = (SystemTime::now(), store::leaf(&managed.file));
        let job = self.jobs.entry(key(managed)).or_insert_with(|| Job::new(fraction()));
        if let Step::Wait(until) = job.order(now, "it was asked for") {
            let many = format!("it was ordered too often within the hour; ask again after {}", shown(until));
            return Err(crate::reload::Failure::new(many));
        }
        job.ordering(now);
        self.announce(managed, "it was asked for");
        let ordered = self.order(&plan, managed, before.as_ref()).await;
        let issued = ordered.as_ref().map(|leaf| leaf.as_ref().map(|leaf| leaf.not_after)).map_err(refuse);
        self.settle(managed, before.as_ref(), ordered);
        let mut done = match issued? {
            Some(end) => format!("issued and served: {}, until {}", managed.names.join(", "), shown(end)),
            None => "served".into(),
        };
        if let (Some(reason), Some(before)) = (wish.revoke, before) {
            let revoked = timeout(QUESTION, revoke(&managed.authority, &before, reason)).await;
            revoked.unwrap_or_else(|_| Err(late(QUESTION))).map_err(|failure| {
                crate::reload::Failure::new(format!("{done}; but the one before is not revoked: {}", failure.message))
            })?;
            info!(
                certificate = managed.name,
                authority = managed.authority.name,
                "revoked the one before: {}",
                reason.as_str()
            );
            done.push_str("; the one before is revoked");
        }
        Ok(done)
    }

    /// Does the next thing for one certificate; when there is something to do again, `None` where that is at once.
    async fn tend(&mut self, plan: &Plan, managed: &Managed) -> Option<SystemTime> {
        let now = SystemTime::now();
        let leaf = store::leaf(&managed.file);
        let job = self.jobs.entry(key(managed)).or_insert_with(|| Job::new(fraction()));
        let served = leaf.as_ref().filter(|leaf| knows(plan, managed, &leaf.sha256)).map(|leaf| leaf.sha256.as_str());
        let step = job.next(now, &managed.names, leaf.as_ref(), served);
        let paused = self.pauses.get(&managed.authority.name).and_then(|pause| pause.until);
        let step = match (step, paused) {
            (Step::Order(_) | Step::Ask, Some(until)) if now < until => Step::Wait(until),
            (step, _) => step,
        };
        let next = if let Step::Wait(until) = step { until } else { now };
        self.state.acme().write(managed, |record| {
            record.not_after = leaf.as_ref().map(|leaf| leaf.not_after);
            record.renewal = leaf.as_ref().map(|leaf| job.due(leaf));
            record.next = Some(next);
        });
        match step {
            Step::Wait(until) => return Some(until),
            Step::Ask => self.ask(managed, leaf.as_ref()?).await,
            Step::Serve => {
                let served = self.serve(managed, leaf.as_ref()?).await;
                self.settle(managed, leaf.as_ref(), served.map(|()| None));
            }
            Step::Order(why) => {
                job.ordering(now);
                self.announce(managed, why);
                let ordered = self.order(plan, managed, leaf.as_ref()).await;
                self.settle(managed, leaf.as_ref(), ordered);
            }
        }
        Some(SystemTime::now())
    }

    fn announce(&self, managed: &Managed, why: &str) {
        let (names, challenge) = (managed.names.join(", "), managed.authority.challenge.as_str());
        let authority = &managed.authority.name;
        info!(certificate = managed.name, authority, "ordering a certificate for {names} by {challenge}: {why}");
        self.state.acme().write(managed, |record| record.ordering = true);
    }

    /// Notes how an attempt went, and says so.
    fn settle(&mut self, managed: &Managed, before: Option<&Leaf>, outcome: Result<Option<Leaf>, Failure>) {
        let now = SystemTime::now();
        let job = self.jobs.entry(key(managed)).or_default();
        match outcome {
            Ok(issued) => {
                job.pause = Pause::default();
                if issued.is_some() {
                    self.pauses.remove(&managed.authority.name);
                }
                self.state.acme().write(managed, |record| {
                    (record.ordering, record.failing) = (false, 0);
                    if issued.is_some() {
                        record.last_success = Some(now);
                        record.issued += 1;
                    }
                });
                if let Some(leaf) = issued {
                    info!(
                        certificate = managed.name,
                        authority = managed.authority.name,
                        "issued, audited and served: {}, \
                        until {}",
                        managed.names.join(", "),
                        shown(leaf.not_after)
                    );
                }
            }
            Err(failure) => {
                if failure.account_is_gone {
                    account::forget(&managed.authority);
                }
                job.pause.extend(now, failure.not_before, fraction());
                let mut until = job.pause.until;
                if failure.is_the_authoritys() {
                    let pause = self.pauses.entry(managed.authority.name.clone()).or_default();
                    pause.extend(now, failure.not_before, fraction());
                    until = until.max(pause.until);
                }
                log(managed, before, &failure, until.unwrap_or(now));
                self.state.acme().write(managed, |record| {
                    (record.ordering, record.failing) = (false, job.pause.failures);
                    record.failures[failure.reason as usize] += 1;
                    record.next = until;
                    record.last_failure = Some((now, failure.reason, failure.message));
                });
            }
        }
    }

    /// Asks the authority when a certificate should be renewed. Without an answer the schedule of its life holds.
    async fn ask(&mut self, managed: &Managed, leaf: &Leaf) {
        let asked = timeout(QUESTION, renewal_info(&managed.authority, leaf)).await;
        let answer = match asked.unwrap_or_else(|_| Err(late(QUESTION))) {
            Ok(answer) => answer,
            Err(failure) => {
                debug!(certificate = managed.name, "cannot ask about renewal: {}", failure.message);
                None
            }
        };
        if let Some(((start, end), _)) = answer {
            debug!(
                certificate = managed.name,
                "the authority suggests renewal from {} to {}",
                shown(start),
                shown(end)
            );
        }
        self.jobs.entry(key(managed)).or_default().suggested(SystemTime::now(), leaf, answer);
    }

    /// Orders a certificate, audits it, and has it served.
    async fn order(&self, plan: &Plan, managed: &Managed, before: Option<&Leaf>) -> Result<Option<Leaf>, Failure> {
        let issue = async {
            let https = Https::new(&managed.authority)?;
            let account = account::open(&managed.authority, &https).await?;
            let replaced = before.map(|leaf| leaf.der.clone());
            let challenges = &self.challenges;
            let ordering = Ordering { managed, account: &account, https: &https, challenges, replaced };
            let issued = ordering.issue().await;
            issued
                .map_err(|failure| Failure { not_before: failure.not_before.or(https.noted().retry_after), ..failure })
        };
        let pem = timeout(ORDER, issue).await.unwrap_or_else(|_| Err(late(ORDER)))?;
        let pending = Pending::write(&managed.file, pem.as_bytes())?;
        let leaf = examine(plan, managed, pending.file())?;
        pending.commit()?;
        self.serve(managed, &leaf).await?;
        Ok(Some(leaf))
    }

    /// Has the gateway take what is stored, by the plan and the audit that everything goes through.
    async fn serve(&self, managed: &Managed, leaf: &Leaf) -> Result<(), Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::new(AcmeFailure::Reload, why);
        // What it holds back may be another file; what is asked is whether this one is taken.
        let renewed = self.reload.renew().await;
        match renewed {
            _ if knows(&self.state.snapshot().plan, managed, &leaf.sha256) => Ok(()),
            Err(failure) => Err(failed(&failure)),
            Ok(()) => Err(failed(&"the gateway did not find it where it is stored")),
        }
    }
}

/// Whether every endpoint that lists a certificate has looked at the stored one, whatever it made of it.
fn knows(plan: &Plan, managed: &Managed, sha256: &str) -> bool {
    let endpoints = plan.endpoints.iter().filter(|endpoint| managed.endpoints.contains(&endpoint.endpoint.name));
    endpoints.into_iter().all(|endpoint| {
        let mut certificates = endpoint.certificates.reports().flat_map(|report| &report.certificates);
        certificates.any(|certificate| certificate.sha256 == sha256)
    })
}

/// Audits what was issued for every endpoint that will serve it, before it takes the old one's place on disk.
fn examine(plan: &Plan, managed: &Managed, file: &Path) -> Result<Leaf, Failure> {
    let leaf = store::leaf(file).filter(|leaf| managed.names.iter().all(|name| leaf.names.contains(name)));
    let Some(leaf) = leaf else {
        return Err(Failure::new(AcmeFailure::Refused, "what was issued is not for these names, or cannot be read"));
    };
    let denied = |error: String| Failure::new(AcmeFailure::Audit, error);
    // The plan was made with this policy, so it is none that is wrong.
    let policy = Policy::new(&plan.config.audit).map_err(|_| denied("the audit's policy cannot be read".into()))?;
    for endpoint in plan.endpoints.iter().filter(|endpoint| managed.endpoints.contains(&endpoint.endpoint.name)) {
        let subject = Subject {
            profile: endpoint.endpoint.class,
            endpoint: Some(endpoint.endpoint.name.clone()),
            server_names: &managed.names,
            listen_ips: &[],
            now: SystemTime::now(),
        };
        let audited = audit(&chain::read(file, Some(file)), &subject, &policy);
        if audited.servable.is_none() {
            let findings =
                audited.report.findings.iter().filter(|f| f.counts() && Some(f.level) == audited.report.verdict.0);
            return Err(denied(findings.map(ToString::to_string).collect::<Vec<_>>().join("; ")));
        }
    }
    Ok(leaf)
}

/// A window for renewal, and how long to wait before asking again; `None` where the authority suggests none.
async fn renewal_info(
    authority: &Authority,
    leaf: &Leaf,
) -> Result<Option<((SystemTime, SystemTime), Duration)>, Failure> {
    let https = Https::new(authority)?;
    let account = account::open(authority, &https).await?;
    let Ok(id) = CertificateIdentifier::try_from(&leaf.der) else { return Ok(None) };
    match account.renewal_info(&id).await {
        Ok((info, wish)) => {
            let window = (info.suggested_window.start.into(), info.suggested_window.end.into());
            Ok(Some((window, wish)))
        }
        Err(instant_acme::Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(Failure::of(&error, &https.noted())),
    }
}

/// Has the authority revoke a certificate, by the account that it was issued to (RFC 8555, section 7.6).
async fn revoke(authority: &Authority, leaf: &Leaf, reason: Reason) -> Result<(), Failure> {
    let https = Https::new(authority)?;
    let account = account::open(authority, &https).await?;
    let request = RevocationRequest { certificate: &leaf.der, reason: Some(reason.code()) };
    account.revoke(&request).await.map_err(|error| Failure::of(&error, &https.noted()))
}

fn late(limit: Duration) -> Failure {
    Failure::new(AcmeFailure::Timeout, format!("it was not done within {limit:?}"))
}

/// Says that an attempt failed, what is served meanwhile, and what to do.
fn log(managed: &Managed, before: Option<&Leaf>, failure: &Failure, next: SystemTime) {
    let (name, authority) = (&managed.name, &managed.authority.name);
    let meanwhile = match before {
        Some(leaf) => format!("the one before is kept; it ends {}", shown(leaf.not_after)),
        None => "there is none to serve".into(),
    };
    let message = format!(
        "no new certificate for {}: {}: {}; {meanwhile}; trying again {}; {}",
        managed.names.join(", "),
        failure.reason,
        failure.message,
        shown(next),
        failure.remedy(managed.authority.challenge)
    );
    match before {
        Some(leaf) if leaf.not_after > next => warn!(certificate = name, authority, "{message}"),
        _ => error!(certificate = name, authority, "{message}"),
    }
}

fn shown(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time).truncate_to_second();
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// A random number from 0 to 1. Without randomness everybody comes at once, which is all that is lost.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
