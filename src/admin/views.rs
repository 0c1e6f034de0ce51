//! The views: what each path of the admin port answers, as JSON. `routes` lists them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::admin::answer::Answer;
use crate::admin::exposition::Format;
use crate::admin::redact::redact;
use crate::admin::routes::Asked;
use crate::admin::scrape::scrape;
use crate::admin::state::{Lifecycle, Snapshot};
use crate::admin::stats::Stats;
use crate::admin::tls_view;
use crate::admin::version as build;
use crate::metrics::level;
use crate::metrics::routes::{CLASSES, RouteMetrics};
use crate::plan::EndpointPlan;
use crate::tls::audit::Audited;
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::report::Report;

pub(crate) fn healthz(_: &Asked<'_>) -> Answer {
    Answer::json(StatusCode::OK, &json!({ "healthy": true }))
}

pub(crate) fn readyz(asked: &Asked<'_>) -> Answer {
    let lifecycle = asked.admin.state.lifecycle();
    let needed =
        asked.running.plan.endpoints.iter().filter(|plan| plan.required && !asked.running.reasons(plan).is_empty());
    let (waiting, refused): (Vec<_>, Vec<_>) = needed.partition(|plan| plan.is_waiting());
    let [waiting, refused] = [waiting, refused].map(|plans| {
        let why = |plan: &Arc<EndpointPlan>| {
            json!({ "endpoint": plan.endpoint.name, "reasons": asked.running.reasons(plan) })
        };
        plans.into_iter().map(why).collect::<Vec<_>>()
    });
    let ready = lifecycle == Lifecycle::Serving && refused.is_empty() && waiting.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let reloads = asked.admin.state.reloads();
    let detail = json!({ "ready": ready, "lifecycle": lifecycle, "refused": refused, "waiting": waiting, "not_taken": reloads.errors() });
    Answer::json(status, &detail)
}

pub(crate) fn metrics(asked: &Asked<'_>) -> Answer {
    let format = Format::negotiate(asked.accept);
    let text = scrape(&asked.admin.state, asked.running, &asked.admin.process.read(), format);
    Answer::ok(format.content_type(), text)
}

pub(crate) fn stats(asked: &Asked<'_>) -> Answer {
    Answer::json(StatusCode::OK, &numbers(asked))
}

pub(crate) fn endpoints(asked: &Asked<'_>) -> Answer {
    let lifecycle = asked.admin.state.lifecycle();
    let all = asked.running.plan.endpoints.iter();
    let all: Vec<_> = all.map(|plan| summary(plan, asked.running, lifecycle)).collect();
    Answer::json(StatusCode::OK, &json!({ "endpoints": all }))
}

pub(crate) fn endpoint(asked: &Asked<'_>) -> Answer {
    let all = || asked.running.plan.endpoints.iter();
    let Some(plan) = all().find(|plan| plan.endpoint.name.as_str() == asked.name) else {
        let names: Vec<_> = all().map(|plan| &plan.endpoint.name).collect();
        return Answer::json(StatusCode::NOT_FOUND, &json!({ "error": "no such endpoint", "endpoints": names }));
    };
    let mut body = summary(plan, asked.running, asked.admin.state.lifecycle());
    let timeouts = plan.context.timeouts;
    body["timeouts_seconds"] = json!({
        "handshake": timeouts.handshake.as_secs_f64(),
        "header": timeouts.header.as_secs_f64(),
        "body": timeouts.body.as_secs_f64(),
        "idle": timeouts.idle.as_secs_f64(),
    });
    if plan.endpoint.tls {
        body["chains"] = json!(plan.certificates.reports().collect::<Vec<_>>());
        body["fallbacks"] = json!(plan.certificates.fallbacks);
        body["evidence"] = tls_view::evidence(plan);
        body["tickets"] = tls_view::tickets(plan);
    }
    if let Some(routes) = plan.instance().and_then(|instance| instance.instance().routes()) {
        body["routes"] = json!(routes.iter().map(route).collect::<Vec<_>>());
    }
    body["stats"] = json!(numbers(asked).endpoints.get(&plan.endpoint.name));
    Answer::json(StatusCode::OK, &body)
}

pub(crate) fn certificates(asked: &Asked<'_>) -> Answer {
    let now = OffsetDateTime::now_utc();
    let chains = chains(asked.running).map(|chain| certificate(&chain, now));
    let chains: Vec<_> = chains.collect();
    Answer::json(StatusCode::OK, &json!({ "certificates": chains, "fallbacks": fallbacks(asked.running) }))
}

pub(crate) fn audit(asked: &Asked<'_>) -> Answer {
    // Each endpoint's class is the profile of its chains, so there is none of the whole.
    let report = Report { profile: None, servers: Vec::new(), chains: asked.running.plan.reports().collect() };
    Answer::json(StatusCode::OK, &AuditView { report, fallbacks: fallbacks(asked.running) })
}

/// The same object as that of `portcullis audit --format json`, with the fallbacks besides.
#[derive(Serialize)]
struct AuditView<'a> {
    #[serde(flatten)]
    report: Report<Vec<&'a ChainReport>>,
    fallbacks: Vec<Value>,
}

pub(crate) fn config(asked: &Asked<'_>) -> Answer {
    match serde_json::to_value(&asked.running.plan.config) {
        Ok(mut config) => {
            redact(&mut config);
            Answer::json(StatusCode::OK, &config)
        }
        // A setting that TOML can hold and JSON cannot, such as `nan`.
        Err(error) => {
            Answer::refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("the configuration has no JSON: {error}"))
        }
    }
}

pub(crate) fn version(_: &Asked<'_>) -> Answer {
    Answer::json(StatusCode::OK, &build::facts())
}

/// The numbers of this moment.
pub(crate) fn numbers(asked: &Asked<'_>) -> Stats {
    let admin = asked.admin;
    Stats::gather(&admin.state, asked.running, &admin.rates, admin.process.read())
}

/// One chain of an endpoint.
pub(crate) struct Chain<'a> {
    pub(crate) plan: &'a EndpointPlan,
    pub(crate) audited: &'a Audited,
    pub(crate) is_served: bool,
}

/// Every chain of every endpoint, refused ones too.
pub(crate) fn chains(running: &Snapshot) -> impl Iterator<Item = Chain<'_>> {
    running.plan.endpoints.iter().flat_map(|plan| {
        let is_served = plan.certificates.served();
        let all = plan.certificates.audited.iter();
        all.map(move |audited| Chain { plan, audited, is_served: is_served(audited) })
    })
}

/// Whole days until a certificate ends; negative once it has.
pub(crate) fn days_left(not_after: OffsetDateTime, now: OffsetDateTime) -> i64 {
    (not_after - now).whole_seconds().div_euclid(86_400)
}

fn summary(plan: &EndpointPlan, running: &Snapshot, lifecycle: Lifecycle) -> Value {
    json!({
        "name": plan.endpoint.name,
        "class": plan.endpoint.class,
        "tls": plan.endpoint.tls,
        "listen": plan.listen,
        "addresses": running.addresses.get(&plan.endpoint.name),
        "handler": { "name": plan.handler.0, "type": plan.handler.1 },
        "required": plan.required,
        "state": state(plan, running),
        "reasons": running.reasons(plan),
        "up": running.is_up(plan, lifecycle),
        "max_connections": plan.max_connections,
        "connections_active": level(plan.context.metrics.sum(|c| c.active.get())),
        "served": plan.endpoint.tls.then(|| served(plan)),
        "fallback_active": !plan.certificates.fallbacks.is_empty(),
    })
}

fn route(route: &RouteMetrics) -> Value {
    let by_class =
        CLASSES.iter().enumerate().map(|(class, word)| (*word, route.counters.total(|c| &c.requests[class])));
    json!({ "name": route.name, "upstream": route.upstream, "requests": by_class.collect::<BTreeMap<_, _>>() })
}

fn state(plan: &EndpointPlan, running: &Snapshot) -> &'static str {
    match plan.instance() {
        _ if running.is_drained(plan) => "draining",
        None => "refused",
        Some(_) if plan.is_waiting() => "waiting",
        Some(_) if running.reasons(plan).is_empty() => "ready",
        Some(_) => "not_ready",
    }
}

/// The files of the chains that are served.
fn served(plan: &EndpointPlan) -> Vec<&str> {
    let is_served = plan.certificates.served();
    let served = plan.certificates.audited.iter().filter(|chain| is_served(chain));
    served.map(|chain| chain.report.file.as_str()).collect()
}

fn certificate(chain: &Chain<'_>, now: OffsetDateTime) -> Value {
    let ChainReport { file, key, verdict, findings, .. } = &*chain.audited.report;
    let mut body = json!({
        "endpoint": chain.plan.endpoint.name,
        "file": file,
        "key": key,
        "served": chain.is_served,
        "verdict": verdict,
        "findings": findings.len(),
        "leaf": null,
    });
    if let Some(leaf) = chain.audited.report.leaf() {
        body["leaf"] = json!(leaf);
        body["leaf"]["days_left"] = days_left(leaf.not_after.0, now).into();
    }
    body
}

fn fallbacks(running: &Snapshot) -> Vec<Value> {
    let of = |plan: &EndpointPlan| {
        let with_endpoint = |fallback| {
            let mut body = json!(fallback);
            body["endpoint"] = json!(plan.endpoint.name);
            body
        };
        plan.certificates.fallbacks.iter().map(with_endpoint).collect::<Vec<_>>()
    };
    running.plan.endpoints.iter().flat_map(|plan| of(plan)).collect()
}
