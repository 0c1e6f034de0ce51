//! What is counted of a plugin: one [`LayerCounters`] for each layer of an endpoint's chain.
//!
//! Owned by the chain and handed on from instance to instance, so that no counter resets. Written wherever the plugin runs,
//! a slot per thread; read by the admin port.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::labels::labels;
use crate::metrics::{Counter, PerWorker};

labels! {
    /// A call into a plugin.
    Callback {
        /// A connection came.
        Open = "open",
        /// Input came.
        Data = "data",
        /// The queue is short again.
        Writable = "writable",
        /// A timer ran out.
        Timer = "timer",
        /// A connection is over.
        Close = "close",
        /// Where does the message end?
        MessageSize = "message_size",
    }
}

labels! {
    /// What was refused, by the host or by the plugin.
    Refusal {
        /// A connection, because the plugin is not ready or was given up.
        NotReady = "not_ready",
        /// A connection, because too many events wait for the pool.
        Overloaded = "overloaded",
        /// A connection, by the plugin.
        Open = "open",
        /// A write, because the connection's queue or the instance's memory is full.
        Full = "full",
        /// A call with a handle that is stale.
        Gone = "gone",
        /// Input, because a callback failed or the framing was broken.
        Data = "data",
    }
}

/// One thread's counters of one layer.
#[derive(Debug, Default)]
pub struct Slot {
    /// `portcullis_plugin_callbacks_total`
    pub callbacks: [Counter; Callback::ALL.len()],
    /// `portcullis_plugin_callback_seconds_total`, in nanoseconds.
    pub nanos: Counter,
    /// `portcullis_plugin_refusals_total`
    pub refusals: [Counter; Refusal::ALL.len()],
}

/// The counters of one layer of an endpoint's chain.
#[derive(Debug, Default)]
pub struct LayerCounters {
    slots: PerWorker<Slot>,
    /// Events that wait for a thread of the pool.
    pub(super) queue: AtomicUsize,
    /// Bytes in queues and buffers.
    pub(super) buffered: AtomicUsize,
    /// Bytes that instances have as their own, where that can be known.
    pub(super) memory: AtomicUsize,
    /// How often the instance was started again.
    pub(super) restarts: AtomicU64,
    version: Mutex<String>,
}

impl LayerCounters {
    /// This thread's slot.
    pub fn here(&self) -> &Slot {
        self.slots.here()
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        self.here().refusals[refusal as usize].add(1);
    }

    pub(super) fn set_version(&self, version: String) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// The version that was negotiated last; empty before the first start-up that succeeded.
    #[must_use]
    pub fn version(&self) -> String {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a callback was called.
    #[must_use]
    pub fn callbacks(&self, callback: Callback) -> u64 {
        self.slots.total(|slot| &slot.callbacks[callback as usize])
    }

    /// How long callbacks took, together, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.slots.total(|slot| &slot.nanos) as f64 / 1e9
    }

    /// How much was refused.
    #[must_use]
    pub fn refusals(&self, refusal: Refusal) -> u64 {
        self.slots.total(|slot| &slot.refusals[refusal as usize])
    }

    /// Events that wait for a thread of the pool.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.queue.load(Relaxed)
    }

    /// Bytes in queues and buffers.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered.load(Relaxed)
    }

    /// Bytes of memory that components have; 0 for native plugins, which share the gateway's.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory.load(Relaxed)
    }

    /// How often the instance was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }
}
