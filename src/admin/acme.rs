//! What the admin port shows of certificates that ACME manages: a view, and the series of `/metrics`.
//!
//! `routes` lists the view, `scrape` writes the series.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::acme::board::Record;
use crate::admin::answer::Answer;
use crate::admin::exposition::Exposition;
use crate::admin::routes::Asked;
use crate::admin::state::{Snapshot, State};
use crate::metrics::AcmeFailure;
use crate::metrics::table::{self, Metric};
use crate::plan::acme::Managed;

/// `GET /acme`
pub(crate) fn view(asked: &Asked<'_>) -> Answer {
    let managed = asked.running.plan.acme.certificates.iter();
    let all: Vec<Value> =
        managed.map(|managed| certificate(managed, &asked.admin.state.acme().read(managed))).collect();
    Answer::json(StatusCode::OK, &json!({ "certificates": all }))
}

fn certificate(managed: &Managed, record: &Record) -> Value {
    json!({
        "name": managed.name,
        "names": managed.names,
        "authority": managed.authority.name,
        "directory": managed.authority.directory,
        "challenge": managed.authority.challenge.as_str(),
        "endpoints": managed.endpoints,
        "file": managed.file.display().to_string(),
        "state": state(record),
        "not_after": record.not_after.map(shown),
        "renewal": record.renewal.map(|(at, why)| json!({ "at": shown(at), "because": why })),
        "next_step_at": record.next.map(shown),
        "issued": record.issued,
        "last_success": record.last_success.map(shown),
        "failing": record.failing,
        "last_failure": record.last_failure.as_ref().map(|(at, reason, message)| {
            json!({ "at": shown(*at), "reason": reason.as_str(), "message": message })
        }),
    })
}

fn state(record: &Record) -> &'static str {
    match (record.ordering, record.failing > 0, record.not_after) {
        (true, ..) => "ordering",
        (_, true, _) => "failing",
        (_, _, Some(_)) => "stored",
        (_, _, None) => "missing",
    }
}

fn shown(time: SystemTime) -> Option<String> {
    OffsetDateTime::from(time).truncate_to_second().format(&Rfc3339).ok()
}

/// The series of every managed certificate.
pub(crate) fn series(out: &mut Exposition, state: &State, running: &Snapshot) {
    let all: Vec<(&Managed, Record)> =
        running.plan.acme.certificates.iter().map(|managed| (&**managed, state.acme().read(managed))).collect();
    let mut time = |metric: &'static Metric, read: fn(&Record) -> Option<SystemTime>| {
        let mut family = out.family(metric);
        for (managed, record) in &all {
            if let Some(at) = read(record) {
                let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                family.sample(&[&managed.authority.name, &managed.name], seconds);
            }
        }
    };
    time(&table::ACME_LAST_SUCCESS, |record| record.last_success);
    time(&table::ACME_LAST_FAILURE, |record| record.last_failure.as_ref().map(|(at, ..)| *at));
    time(&table::ACME_RENEWAL, |record| record.renewal.map(|(at, _)| at));
    let mut family = out.family(&table::ACME_ISSUED);
    for (managed, record) in &all {
        family.sample(&[&managed.authority.name, &managed.name], record.issued);
    }
    let mut family = out.family(&table::ACME_FAILURES);
    for (managed, record) in &all {
        for reason in AcmeFailure::ALL {
            let n = record.failures[*reason as usize];
            family.sample(&[&managed.authority.name, &managed.name, reason.as_str()], n);
        }
    }
}
