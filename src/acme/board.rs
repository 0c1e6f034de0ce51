//! What is known of every managed certificate, for the admin port: written by `acme`, read by `admin`.
//!
//! One for the gateway, in `admin::state`. Which certificates there are is the plan's to say; this adds how they fare.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::metrics::AcmeFailure;
use crate::plan::acme::Managed;

/// How every certificate fares.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<Key, Record>>);

/// Authority and name.
type Key = (String, String);

/// How one certificate fares.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Whether an order for it is under way.
    pub ordering: bool,
    /// When the stored one ends; `None` where none is stored.
    pub not_after: Option<SystemTime>,
    /// When it is to be renewed, and why then.
    pub renewal: Option<(SystemTime, &'static str)>,
    /// When something is done about it next.
    pub next: Option<SystemTime>,
    /// When one was last issued and taken.
    pub last_success: Option<SystemTime>,
    /// How many were, since the start.
    pub issued: u64,
    /// When an attempt last failed, why, and in which words.
    pub last_failure: Option<(SystemTime, AcmeFailure, String)>,
    /// How many attempts failed on end.
    pub failing: u32,
    /// How many attempts failed since the start, by reason.
    pub failures: [u64; AcmeFailure::ALL.len()],
}

impl Board {
    /// How a certificate fares.
    #[must_use]
    pub fn read(&self, managed: &Managed) -> Record {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(&key(managed)).cloned().unwrap_or_default()
    }

    pub(super) fn write(&self, managed: &Managed, change: impl FnOnce(&mut Record)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key(managed)).or_default());
    }
}

pub(super) fn key(managed: &Managed) -> Key {
    (managed.authority.name.clone(), managed.name.clone())
}
