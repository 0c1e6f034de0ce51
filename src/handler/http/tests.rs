//! The engine over real sockets: what a client sends, byte for byte, and what it gets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
mod http1;
mod http2;
mod reading;
mod refusals;
mod services;
mod waits;
