//! `/upstreams` and `/upstreams/{name}`: what the gateway knows of its upstreams, their servers and each address of these.
//!
//! Called by `routes`, and by `dashboard`. The numbers are those of the metrics; what is here besides is how each address is, and why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::admin::answer::Answer;
use crate::admin::routes::Asked;
use crate::admin::stats::ServerStats;
use crate::admin::tls_view::moment;
use crate::metrics::{RetryReason, UpstreamFailure, level};
use crate::upstream::{Balance, Finding, Member, Protocol, Server, Standing, Upstream};

/// Every upstream, in short.
pub(crate) fn all(asked: &Asked<'_>) -> Answer {
    let all: Vec<Value> = asked.running.plan.upstreams.iter().map(|upstream| summary(upstream)).collect();
    Answer::json(StatusCode::OK, &json!({ "upstreams": all }))
}

/// One upstream, with its servers.
pub(crate) fn one(asked: &Asked<'_>) -> Answer {
    let all = || asked.running.plan.upstreams.iter();
    let Some(upstream) = all().find(|upstream| *upstream.name == *asked.name) else {
        let names: Vec<&str> = all().map(|upstream| &*upstream.name).collect();
        return Answer::json(StatusCode::NOT_FOUND, &json!({ "error": "no such upstream", "upstreams": names }));
    };
    let mut body = summary(upstream);
    let timeouts = upstream.timeouts;
    body["timeouts_seconds"] = json!({
        "connect": timeouts.connect.as_secs_f64(),
        "response": timeouts.response.as_secs_f64(),
        "body": timeouts.body.as_secs_f64(),
        "idle": timeouts.idle.as_secs_f64(),
        "attempt": timeouts.attempt.as_ref().map(Duration::as_secs_f64),
        "total": timeouts.total.as_ref().map(Duration::as_secs_f64),
    });
    let retries = RetryReason::ALL.iter();
    let retries = retries.map(|r| (r.as_str(), upstream.metrics.total(|c| &c.retries[*r as usize])));
    body["retries"] = json!(retries.collect::<BTreeMap<_, _>>());
    body["servers"] = json!(by_name(upstream).iter().map(|of_name| server(upstream, of_name)).collect::<Vec<_>>());
    Answer::json(StatusCode::OK, &body)
}

fn summary(upstream: &Upstream) -> Value {
    let servers = by_name(upstream);
    let usable = servers.iter().filter(|of_name| of_name.iter().any(|member| member.server.is_usable())).count();
    let in_work = servers.iter().filter_map(|of_name| Some(in_work(&of_name.first()?.server))).sum::<u64>();
    let limit = upstream.policy.limit;
    json!({
        "name": upstream.name,
        "protocol": match upstream.policy.protocol { Protocol::Http1 => "http/1.1", Protocol::Http2 => "h2" },
        "tls": upstream.tls.is_some(),
        "balance": match upstream.policy.balance {
            Balance::RoundRobin => "round-robin",
            Balance::LeastConnections => "least-connections",
            Balance::TwoChoices => "two-choices",
            Balance::Hash => "hash",
        },
        "servers_total": servers.len(),
        "servers_usable": usable,
        "requests_active": in_work,
        "max_connections": limit.map(|limit| limit.connections),
        "queue": {
            "waiting": upstream.waiting(),
            "length": limit.map(|limit| limit.waiting),
            "queued": upstream.metrics.total(|c| &c.queued),
            "refused": upstream.metrics.total(|c| &c.busy),
        },
    })
}

/// The addresses of each server, in the order written.
pub(crate) fn by_name(upstream: &Upstream) -> Vec<Vec<Member>> {
    let members = upstream.members();
    let chunks = members.list.chunk_by(|a, b| a.server.name == b.server.name);
    chunks.map(<[Member]>::to_vec).collect()
}

fn server(upstream: &Upstream, of_name: &[Member]) -> Value {
    let Some(Member { server, weight, .. }) = of_name.first() else { return Value::Null };
    let metrics = &server.metrics;
    let mut body = json!(ServerStats::of(metrics));
    body["name"] = json!(server.name);
    body["weight"] = json!(weight);
    body["usable"] = of_name.iter().any(|member| member.server.is_usable()).into();
    body["requests_active"] = in_work(server).into();
    body["ejections"] = metrics.total(|c| &c.ejections).into();
    body["last_failure"] = last_failure(server);
    if upstream.policy.checks.is_some() {
        let (passed, failed) = (metrics.total(|c| &c.checks_passed), metrics.total(|c| &c.checks_failed));
        body["checks"] = json!({ "passed": passed, "failed": failed });
    }
    if let Some(found) = upstream.looked_up(&server.name) {
        let (passed, failed) = (metrics.total(|c| &c.lookups_passed), metrics.total(|c| &c.lookups_failed));
        body["lookups"] = json!({ "passed": passed, "failed": failed, "last": found.map(finding) });
    }
    body["addresses"] = json!(of_name.iter().map(|member| address(&member.server)).collect::<Vec<_>>());
    body
}

fn address(server: &Arc<Server>) -> Value {
    let now = Instant::now();
    let standing = server.standing(now);
    json!({
        "address": server.address,
        "state": match standing { Standing::Up => "up", Standing::Down => "down", Standing::Ejected(_) => "ejected" },
        "ejected_for_seconds": match standing { Standing::Ejected(left) => Some(left.as_secs_f64()), _ => None },
        "failures_in_a_row": server.failures_in_a_row(),
        "last_check": server.last_check().map(finding),
    })
}

fn in_work(server: &Server) -> u64 {
    level(server.metrics.total(|c| &c.in_work))
}

/// Each worker notes its own.
fn last_failure(server: &Server) -> Value {
    let last = server.metrics.slots().filter_map(|slot| slot.last_failure.get()).max_by_key(|(at, _)| *at);
    json!(last.map(|(at, reason): (u64, UpstreamFailure)| json!({ "at": moment(at), "reason": reason.as_str() })))
}

fn finding(found: Finding) -> Value {
    let at = found.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({ "at": moment(at.as_secs()), "error": found.error, "again_after_seconds": found.holds.as_secs_f64() })
}
