//! What `/endpoints/{name}` says of TLS beyond the chains: what clients use, by which an operator knows what turning
//! something off would break, and the keys of session tickets.
//!
//! Called by `views`.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::metrics::evidence::{Feature, Sum};
use crate::plan::EndpointPlan;
use crate::tls::audit::finding::Moment;

/// What the clients of an endpoint use: by kind of feature, then by value.
///
/// `share` is that of all handshakes. `clients` is about how many addresses have used it since the start, so that many
/// break at most when it is turned off.
pub(super) fn evidence(plan: &EndpointPlan) -> Value {
    let sum = |feature| Sum::of(plan.context.metrics.slots().map(|slot| &slot.evidence), feature);
    let all = sum(Feature::Any);
    let mut evidence = json!({ "handshakes": all.handshakes, "clients": all.clients, "last": moment(all.last) });
    for feature in Feature::all().filter(|feature| *feature != Feature::Any) {
        let used = sum(feature);
        let (kind, value) = feature.labels();
        // What may never have been used, and what never was, are both worth knowing of a version.
        if used.handshakes == 0 && !matches!(feature, Feature::Version(_)) {
            continue;
        }
        let of_kind = &mut evidence[kind];
        if of_kind.is_null() {
            *of_kind = Value::Object(Map::new());
        }
        of_kind[value] = json!({
            "handshakes": used.handshakes,
            "share": used.handshakes as f64 / all.handshakes.max(1) as f64,
            "clients": used.clients,
            "last": moment(used.last),
        });
    }
    evidence
}

/// The keys that seal and open session tickets, without what is secret; nothing where the endpoint is refused.
pub(super) fn tickets(plan: &EndpointPlan) -> Value {
    json!(plan.tls.as_ref().map(|terms| terms.tickets.view()))
}

/// A moment in Unix time, unless it never was.
pub(super) fn moment(seconds: u64) -> Option<Moment> {
    let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    OffsetDateTime::from_unix_timestamp(seconds).ok().map(Moment)
}
