//! Everything that is tested through sockets or the command line, in one binary, because linking is the slow part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "a failed test shows the gateway's log")]
#![allow(unreachable_pub, reason = "nobody imports a test; `pub` says what a file offers to the others")]

mod access_log;
mod acme;
mod admin;
mod certificates;
mod cli;
mod config_errors;
mod deadlines;
mod drain;
mod floods;
mod handover;
mod http_proxy;
mod layers;
mod limits;
mod passthrough;
mod peers;
mod plugins;
mod proxy_protocol;
mod reload;
mod routes;
mod slow;
mod smuggling;
mod support;
mod tcp_proxy;
mod tls;
mod tracing;
mod upstreams;
mod watch;
