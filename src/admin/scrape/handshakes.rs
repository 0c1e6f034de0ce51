//! The series about TLS handshakes: how many, with what, why they failed, and what seals their tickets.
//!
//! Called by `scrape`.

use super::{OTHER, by_reason, each, histogram, name, with_tls};
use crate::admin::exposition::Exposition;
use crate::admin::state::Snapshot;
use crate::metrics::evidence::{Feature, Sum};
use crate::metrics::table::{self, Metric};
use crate::metrics::{HandshakeFailure, handshake_of, merged};

pub(super) fn handshakes(out: &mut Exposition, running: &Snapshot) {
    let tls = || with_tls(running);
    let mut family = out.family(&table::TLS_HANDSHAKES);
    for plan in tls() {
        for (key, n) in merged(plan.context.metrics.slots().flat_map(|slot| slot.handshakes.iter())) {
            let (version, group, resumed) = match handshake_of(key) {
                Some((v, g, resumed)) => (v.as_str(), g.as_str(), if resumed { "true" } else { "false" }),
                None => (OTHER, OTHER, OTHER),
            };
            family.sample(&[name(plan), version, group, resumed], n);
        }
    }
    let reasons = HandshakeFailure::ALL.iter().map(|r| (r.as_str(), *r as usize));
    by_reason(out, &table::TLS_HANDSHAKE_FAILURES, tls(), reasons, |c| &c.handshake_failures);
    histogram(out, &table::TLS_HANDSHAKE_DURATION, tls(), |c| &c.handshake_seconds);
    each(out, &table::TLS_UNKNOWN_SERVER_NAMES, tls(), |m| m.sum(|c| c.unknown_server_names.get()));
    features(out, running, &table::TLS_FEATURES, |sum| sum.handshakes);
    features(out, running, &table::TLS_FEATURE_CLIENTS, |sum| sum.clients);
    features(out, running, &table::TLS_FEATURE_LAST_USED, |sum| sum.last);
    let mut family = out.family(&table::TLS_TICKET_KEY_SINCE);
    for plan in tls() {
        if let Some(terms) = &plan.tls {
            family.sample(&[name(plan)], terms.tickets.key_since());
        }
    }
    each(out, &table::TLS_TICKET_KEY_ROTATIONS, tls(), |m| m.sum(|c| c.ticket_key_rotations.get()));
}

fn features(out: &mut Exposition, running: &Snapshot, metric: &'static Metric, read: fn(&Sum) -> u64) {
    let mut family = out.family(metric);
    for plan in with_tls(running) {
        for feature in Feature::all() {
            let sum = Sum::of(plan.context.metrics.slots().map(|slot| &slot.evidence), feature);
            if sum.handshakes > 0 {
                let (kind, value) = feature.labels();
                family.sample(&[name(plan), kind, value], read(&sum));
            }
        }
    }
}
