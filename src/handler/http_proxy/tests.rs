//! The proxy through real sockets: hand-written upstreams on one side, raw requests on the other.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bodies;
mod failures;
mod harness;
mod messages;
mod reuse;
