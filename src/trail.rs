//! How a request, or a session, went to its upstream: which server, how often it was tried, and how long each phase took.
//!
//! Gathered by `upstream` on the way, from clock readings that are made anyway; told by the access log and by traces.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::trace::Attempt;

/// The way of one request, or session; empty where nothing was asked of an upstream.
#[derive(Debug, Default)]
pub struct Trail {
    /// The server that answered, or the last one that did not.
    pub server: Option<Arc<str>>,
    /// How many servers were tried.
    pub tries: u32,
    /// How long it waited for room at a server.
    pub queued: Duration,
    /// How long connections to servers took to open, TLS included, failed ones too; nothing where one was kept.
    pub connect: Duration,
    /// When the head of the answer had come.
    pub answered: Option<Instant>,
    /// Each server that was tried, where the request's trace is recorded.
    pub attempts: Vec<Attempt>,
}
