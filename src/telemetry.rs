//! Where workers tell what happened to requests: the access log and the tracer, which are passed on together.
//!
//! Made by `gateway`; every endpoint's context and every worker has a clone.

use crate::access_log::AccessLog;
use crate::trace::Tracer;

/// The access log and the tracer.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// A line for every request and session.
    pub access_log: AccessLog,
    /// Spans of requests.
    pub tracer: Tracer,
}

impl Telemetry {
    /// Passes on what this worker has to tell. Called by each worker a few times a second, and before it ends.
    pub fn flush(&self) {
        self.access_log.flush();
        self.tracer.flush();
    }
}
