//! Which series `/metrics` exports: every row of the metrics table, with the values of this moment.
//!
//! Series of closed sets are exported at 0 too, so that an alert on a rate sees the first increase; where the product
//! of labels is large (handshakes, requests, findings), only what occurred.

mod handshakes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::UNIX_EPOCH;

use crate::admin::acme;
use crate::admin::exposition::{Durations, Exposition, Format};
use crate::admin::plugins;
use crate::admin::state::{Lifecycle, Reloads, Snapshot, State};
use crate::admin::version;
use crate::metrics::process::Process;
use crate::metrics::routes::CLASSES;
use crate::metrics::table::{self, Metric};
use crate::metrics::{Counter, EndpointCounters, EndpointMetrics, Histogram, ServerCounters};
use crate::metrics::{Http2Closing, Rejection, RequestFailure, RequestRefusal, RetryReason, UpstreamFailure};
use crate::metrics::{level, merged, request_of, sum};
use crate::plan::{Certificates, EndpointPlan};
use crate::upstream::{Server, Upstream};

/// The label value of what found no place of its own in a tally.
const OTHER: &str = "other";

/// Writes every metric.
pub(crate) fn scrape(state: &State, running: &Snapshot, process: &Process, format: Format) -> String {
    let mut out = Exposition::new(format);
    identity(&mut out, running, state.lifecycle());
    connections(&mut out, running);
    handshakes::handshakes(&mut out, running);
    certificates(&mut out, running);
    acme::series(&mut out, state, running);
    requests(&mut out, running);
    upstreams(&mut out, running);
    plugins::scrape(&mut out, running);
    reloads(&mut out, &state.reloads());
    traces(&mut out, running);
    out.family(&table::ACCESS_LOG_DROPPED).sample(&[], running.access_log_dropped());
    costs(&mut out, process);
    out.finish()
}

fn identity(out: &mut Exposition, running: &Snapshot, lifecycle: Lifecycle) {
    out.family(&table::BUILD_INFO).sample(&[version::VERSION, &version::target()], 1);
    let mut family = out.family(&table::ENDPOINT_INFO);
    for plan in &running.plan.endpoints {
        let tls = if plan.endpoint.tls { "true" } else { "false" };
        family.sample(&[name(plan), plan.endpoint.class.as_str(), tls], 1);
    }
    let mut family = out.family(&table::ENDPOINT_UP);
    for plan in &running.plan.endpoints {
        family.sample(&[name(plan)], u8::from(running.is_up(plan, lifecycle)));
    }
}

fn connections(out: &mut Exposition, running: &Snapshot) {
    let all = || running.plan.endpoints.iter();
    each(out, &table::CONNECTIONS_ACCEPTED, all(), |m| m.sum(|c| c.accepted.get()));
    each(out, &table::CONNECTIONS_ACTIVE, all(), |m| level(m.sum(|c| c.active.get())));
    let reasons = Rejection::ALL.iter().map(|r| (r.as_str(), *r as usize));
    by_reason(out, &table::CONNECTIONS_REJECTED, all(), reasons, |c| &c.rejected);
    each(out, &table::RECEIVED_BYTES, all(), |m| m.sum(|c| c.received_bytes.get()));
    each(out, &table::SENT_BYTES, all(), |m| m.sum(|c| c.sent_bytes.get()));
}

/// A file may be listed twice on an endpoint, but a series may not: what is about one file is brought together.
fn certificates(out: &mut Exposition, running: &Snapshot) {
    let mut family = out.family(&table::CERTIFICATE_NOT_AFTER);
    for plan in with_tls(running) {
        let ends =
            plan.certificates.reports().filter_map(|chain| Some((chain.file.as_str(), chain.leaf()?.not_after.0)));
        for (file, end) in ends.collect::<BTreeMap<_, _>>() {
            family.sample(&[name(plan), file], end.unix_timestamp());
        }
    }
    let mut family = out.family(&table::OCSP_NEXT_UPDATE);
    for plan in with_tls(running) {
        let candidates = plan.certificates.candidates.iter();
        let ends = candidates.filter_map(|chain| Some((chain.file().display().to_string(), chain.staple()?.until)));
        for (file, end) in ends.collect::<BTreeMap<_, _>>() {
            family.sample(&[name(plan), &file], end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        }
    }
    let mut family = out.family(&table::CERTIFICATE_AUDIT_FINDINGS);
    for plan in with_tls(running) {
        for ((file, rule, level), n) in open_findings(&plan.certificates) {
            family.sample(&[name(plan), file, rule, level], n);
        }
    }
    let mut family = out.family(&table::CERTIFICATE_FALLBACK_ACTIVE);
    for plan in with_tls(running) {
        family.sample(&[name(plan)], u8::from(!plan.certificates.fallbacks.is_empty()));
    }
    let mut family = out.family(&table::CRL_NEXT_UPDATE);
    for plan in with_tls(running) {
        let updates = plan.certificates.crls.iter().filter_map(|crl| Some((crl.file.as_str(), crl.next_update?)));
        for (file, update) in updates.collect::<BTreeMap<_, _>>() {
            family.sample(&[name(plan), file], update.unix_timestamp());
        }
    }
}

/// How many findings that are not waived there are, by chain file, rule and level.
fn open_findings(certificates: &Certificates) -> BTreeMap<(&str, &str, &str), u64> {
    let mut counts = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for chain in certificates.reports().filter(|chain| seen.insert((&chain.file, &chain.key))) {
        for finding in chain.findings.iter().filter(|finding| finding.counts()) {
            *counts.entry((chain.file.as_str(), finding.rule, finding.level.as_str())).or_default() += 1;
        }
    }
    counts
}

fn requests(out: &mut Exposition, running: &Snapshot) {
    let all = || running.plan.endpoints.iter();
    let mut family = out.family(&table::HTTP_REQUESTS);
    for plan in all() {
        for (key, n) in merged(plan.context.metrics.slots().flat_map(|slot| slot.requests.iter())) {
            match request_of(key) {
                Some((method, status)) => family.sample(&[name(plan), method.as_str(), &status.to_string()], n),
                None => family.sample(&[name(plan), OTHER, OTHER], n),
            }
        }
    }
    histogram(out, &table::HTTP_REQUEST_DURATION, all(), |c| &c.request_seconds);
    routes(out, running);
    let reasons = RequestRefusal::ALL.iter().map(|r| (r.as_str(), *r as usize));
    by_reason(out, &table::HTTP_REQUESTS_REFUSED, all(), reasons, |c| &c.requests_refused);
    let reasons = RequestFailure::ALL.iter().map(|r| (r.as_str(), *r as usize));
    by_reason(out, &table::FAILURES, all(), reasons, |c| &c.failures);
    let reasons = Http2Closing::ALL.iter().map(|r| (r.as_str(), *r as usize));
    by_reason(out, &table::HTTP2_CONNECTIONS_CLOSED, all(), reasons, |c| &c.http2_closed);
}

fn routes(out: &mut Exposition, running: &Snapshot) {
    let all = || {
        let plans = running.plan.endpoints.iter();
        let with_routes = plans.filter_map(|plan| Some((name(plan), plan.instance()?.instance().routes()?)));
        with_routes.flat_map(|(endpoint, routes)| routes.iter().map(move |route| (endpoint, route)))
    };
    let mut family = out.family(&table::HTTP_ROUTE_REQUESTS);
    for (endpoint, route) in all() {
        for (class, word) in CLASSES.iter().enumerate() {
            family.sample(&[endpoint, &route.name, word], route.counters.total(|slot| &slot.requests[class]));
        }
    }
    let mut family = out.family(&table::HTTP_ROUTE_REQUEST_DURATION);
    for (endpoint, route) in all() {
        let durations = Durations::sum(route.counters.slots().map(|slot| &slot.seconds));
        family.histogram(&[endpoint, &route.name], &durations);
    }
}

fn upstreams(out: &mut Exposition, running: &Snapshot) {
    let servers = Servers::of(running);
    let mut count = |metric, read: fn(&ServerCounters) -> &Counter| {
        let mut family = out.family(metric);
        servers.each(|labels, slots| family.sample(labels, sum(slots.iter().map(|slot| read(slot)))));
    };
    count(&table::UPSTREAM_REQUESTS, |c| &c.requests);
    count(&table::UPSTREAM_CONNECTS, |c| &c.connects);
    count(&table::UPSTREAM_EJECTIONS, |c| &c.ejections);
    let mut gauge = |metric, read: fn(&ServerCounters) -> &Counter| {
        let mut family = out.family(metric);
        servers.each(|labels, slots| family.sample(labels, level(sum(slots.iter().map(|slot| read(slot))))));
    };
    gauge(&table::UPSTREAM_CONNECTIONS_ACTIVE, |c| &c.active);
    gauge(&table::UPSTREAM_REQUESTS_ACTIVE, |c| &c.in_work);
    let mut family = out.family(&table::UPSTREAM_SERVER_HEALTHY);
    for ((upstream, server), all) in &servers.0 {
        family.sample(&[upstream, server], u8::from(all.iter().any(|server| server.is_usable())));
    }
    let mut family = out.family(&table::UPSTREAM_RESPONSES);
    servers.each(|labels, slots| {
        for (code, n) in merged(slots.iter().flat_map(|slot| slot.responses.iter())) {
            let code = if code == u32::MAX { OTHER.into() } else { code.to_string() };
            family.sample(&[labels[0], labels[1], &code], n);
        }
    });
    let mut results = |metric, read: [fn(&ServerCounters) -> &Counter; 2]| {
        let mut family = out.family(metric);
        servers.each(|labels, slots| {
            for (word, read) in ["passed", "failed"].into_iter().zip(read) {
                family.sample(&[labels[0], labels[1], word], sum(slots.iter().map(|slot| read(slot))));
            }
        });
    };
    results(&table::UPSTREAM_CHECKS, [|c| &c.checks_passed, |c| &c.checks_failed]);
    results(&table::UPSTREAM_LOOKUPS, [|c| &c.lookups_passed, |c| &c.lookups_failed]);
    let mut family = out.family(&table::UPSTREAM_ADDRESSES);
    for ((upstream, server), all) in &servers.0 {
        family.sample(&[upstream, server], all.len());
    }
    let mut family = out.family(&table::UPSTREAM_FAILURES);
    servers.each(|labels, slots| {
        for reason in UpstreamFailure::ALL {
            let n = sum(slots.iter().map(|slot| &slot.failures[*reason as usize]));
            family.sample(&[labels[0], labels[1], reason.as_str()], n);
        }
    });
    let mut durations = |metric, read: fn(&ServerCounters) -> &Histogram| {
        let mut family = out.family(metric);
        servers.each(|labels, slots| family.histogram(labels, &Durations::sum(slots.iter().map(|slot| read(slot)))));
    };
    durations(&table::UPSTREAM_RESPONSE_DURATION, |c| &c.response_seconds);
    durations(&table::UPSTREAM_CONNECT_DURATION, |c| &c.connect_seconds);
    let all = || running.plan.upstreams.iter();
    let mut family = out.family(&table::UPSTREAM_RETRIES);
    for upstream in all() {
        for reason in RetryReason::ALL {
            let n = upstream.metrics.sum(|c| c.retries[*reason as usize].get());
            family.sample(&[&upstream.name, reason.as_str()], n);
        }
    }
    let mut each = |metric, read: fn(&Upstream) -> u64| {
        let mut family = out.family(metric);
        all().for_each(|upstream| family.sample(&[&upstream.name], read(upstream)));
    };
    each(&table::UPSTREAM_QUEUE_LENGTH, |upstream| upstream.waiting() as u64);
    each(&table::UPSTREAM_QUEUED, |upstream| upstream.metrics.sum(|c| c.queued.get()));
    each(&table::UPSTREAM_BUSY, |upstream| upstream.metrics.sum(|c| c.busy.get()));
    let mut family = out.family(&table::UPSTREAM_QUEUE_DURATION);
    for upstream in all() {
        family.histogram(&[&upstream.name], &Durations::sum(upstream.metrics.slots().map(|slot| &slot.queue_seconds)));
    }
}

/// An upstream's name and a server's.
type Labels = (Arc<str>, Arc<str>);

/// Every server by its labels: the addresses of one name are one series.
struct Servers(BTreeMap<Labels, Vec<Arc<Server>>>);

impl Servers {
    fn of(running: &Snapshot) -> Self {
        let mut servers = BTreeMap::<_, Vec<_>>::new();
        for upstream in &running.plan.upstreams {
            for server in upstream.members().servers() {
                let labels = (Arc::clone(&upstream.name), Arc::clone(&server.name));
                servers.entry(labels).or_default().push(Arc::clone(server));
            }
        }
        Self(servers)
    }

    fn each(&self, mut write: impl FnMut(&[&str], &[&ServerCounters])) {
        for ((upstream, server), addresses) in &self.0 {
            // They are counted together.
            let metrics = addresses.first().map(|server| &server.metrics);
            write(&[upstream, server], &metrics.into_iter().flat_map(|m| m.slots()).collect::<Vec<_>>());
        }
    }
}

fn reloads(out: &mut Exposition, reloads: &Reloads) {
    out.family(&table::CONFIG_LAST_RELOAD_SUCCESSFUL).sample(&[], u8::from(reloads.errors().is_empty()));
    let at = reloads.last_success.duration_since(UNIX_EPOCH).unwrap_or_default();
    out.family(&table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP).sample(&[], at.as_secs_f64());
    let mut family = out.family(&table::CONFIG_RELOADS);
    family.sample(&["success"], reloads.succeeded);
    family.sample(&["failure"], reloads.failed);
}

/// Every endpoint's spans go the same way.
fn traces(out: &mut Exposition, running: &Snapshot) {
    let mut family = out.family(&table::TRACE_SPANS);
    let tracer = running.plan.endpoints.first().map(|plan| &plan.context.tracer);
    let Some(tracer) = tracer else { return };
    let results = [
        ("exported", tracer.sent().exported.load(Relaxed)),
        ("failed", tracer.sent().failed.load(Relaxed)),
        ("dropped", tracer.overflow()),
    ];
    // A reload that turns traces off does not take away what was counted until then.
    if tracer.records() || results.iter().any(|(_, number)| *number > 0) {
        results.into_iter().for_each(|(result, number)| family.sample(&[result], number));
    }
}

fn costs(out: &mut Exposition, process: &Process) {
    let mut cost = |metric, value: Option<f64>| {
        let mut family = out.family(metric);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    };
    cost(&table::PROCESS_CPU_SECONDS, process.cpu_seconds);
    cost(&table::PROCESS_RESIDENT_MEMORY, process.resident_bytes.map(|n| n as f64));
    cost(&table::PROCESS_VIRTUAL_MEMORY, process.virtual_bytes.map(|n| n as f64));
    cost(&table::PROCESS_OPEN_FDS, process.open_fds.map(|n| n as f64));
    cost(&table::PROCESS_MAX_FDS, process.max_fds.map(|n| n as f64));
    cost(&table::PROCESS_START_TIME, process.start_time);
}

type Plans<'a> = &'a Arc<EndpointPlan>;

fn with_tls(running: &Snapshot) -> impl Iterator<Item = Plans<'_>> {
    running.plan.endpoints.iter().filter(|plan| plan.endpoint.tls)
}

fn name(plan: &EndpointPlan) -> &str {
    plan.endpoint.name.as_str()
}

fn each<'a>(
    out: &mut Exposition,
    metric: &'static Metric,
    plans: impl Iterator<Item = Plans<'a>>,
    read: fn(&EndpointMetrics) -> u64,
) {
    let mut family = out.family(metric);
    for plan in plans {
        family.sample(&[name(plan)], read(&plan.context.metrics));
    }
}

fn by_reason<'a>(
    out: &mut Exposition,
    metric: &'static Metric,
    plans: impl Iterator<Item = Plans<'a>>,
    reasons: impl Iterator<Item = (&'static str, usize)> + Clone,
    read: fn(&EndpointCounters) -> &[Counter],
) {
    let mut family = out.family(metric);
    for plan in plans {
        for (reason, index) in reasons.clone() {
            family.sample(&[name(plan), reason], plan.context.metrics.total(|c| &read(c)[index]));
        }
    }
}

fn histogram<'a>(
    out: &mut Exposition,
    metric: &'static Metric,
    plans: impl Iterator<Item = Plans<'a>>,
    read: fn(&EndpointCounters) -> &Histogram,
) {
    let mut family = out.family(metric);
    for plan in plans {
        family.histogram(&[name(plan)], &Durations::sum(plan.context.metrics.slots().map(read)));
    }
}
