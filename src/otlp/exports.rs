//! Where spans go now: the sender of the running plan's collector, and those before it that are about to end.
//!
//! Made by `gateway`, which ends it; `reload` tells it what each plan traces. What can fail is done before the plan is swapped.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tracing::error;

use crate::drain::Drain;
use crate::plan::traces::TracingPlan;
use crate::trace::{self, Tracer, Tracing};

/// Has the tracer follow the running plan. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Exports {
    tracer: Tracer,
    senders: Arc<Mutex<Vec<Sender>>>,
}

/// A thread that sends spans to one collector.
struct Sender {
    stop: Drain,
    thread: JoinHandle<()>,
}

/// What is to be traced, with its sender started. Unused, the sender ends by itself.
#[derive(Default)]
pub(crate) struct Prepared {
    tracing: Option<Tracing>,
    sender: Option<Sender>,
}

impl Exports {
    /// Nothing is traced yet.
    pub(crate) fn new(tracer: Tracer) -> Self {
        Self { tracer, senders: Arc::default() }
    }

    /// Makes ready what a plan asks for.
    ///
    /// # Errors
    /// A thread or runtime cannot be had.
    pub(crate) fn prepare(&self, plan: Option<&TracingPlan>) -> io::Result<Prepared> {
        let Some(TracingPlan { terms, collector }) = plan else { return Ok(Prepared::default()) };
        let Some(collector) = collector else {
            return Ok(Prepared { tracing: Some(Tracing { terms: *terms, queue: None }), sender: None });
        };
        let ((queue, spans), stop) = (trace::queue(), Drain::new());
        let thread = super::start(collector, spans, Arc::clone(self.tracer.sent()), stop.clone())?;
        let tracing = Tracing { terms: *terms, queue: Some(queue) };
        Ok(Prepared { tracing: Some(tracing), sender: Some(Sender { stop, thread }) })
    }

    /// Traces like this from now on. The sender before sends what it was handed, and ends.
    pub(crate) fn begin(&self, prepared: Prepared) {
        self.tracer.follow(prepared.tracing);
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|sender| !sender.thread.is_finished());
        senders.iter().for_each(|sender| sender.stop.begin());
        senders.extend(prepared.sender);
    }

    /// Ends every sender, and waits until what it was handed is sent, or its time is over.
    pub(crate) fn end(&self) {
        let senders = std::mem::take(&mut *self.senders.lock().unwrap_or_else(PoisonError::into_inner));
        senders.iter().for_each(|sender| sender.stop.begin());
        for sender in senders {
            if sender.thread.join().is_err() {
                error!("the sender of traces panicked");
            }
        }
    }
}
