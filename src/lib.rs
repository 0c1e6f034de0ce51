//! Portcullis: a TLS-terminating gateway with many doors and one keeper.
//!
//! One process opens many *endpoints*, each plain or TLS; one *handler* serves them all and is told, for every
//! connection, which endpoint it came in by; every certificate is *audited* before a byte is served with it.
//!
//! [`gateway::Gateway::builder`] is the way in: give it a [`config::Config`] and, where the handlers that ship do not do, a
//! [`handler::Handler`] of your own.

pub mod access;
pub mod access_log;
pub mod acme;
pub mod admin;
pub mod cli;
pub mod clients;
pub mod config;
pub mod connection;
mod deadline;
pub mod drain;
mod fields;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod handler;
mod handover;
pub mod identity;
mod labels;
pub mod listener;
pub mod metrics;
mod minder;
mod notify;
mod otlp;
pub mod plan;
pub mod plugin;
pub mod proxy_protocol;
pub mod relay;
pub mod reload;
pub mod sampler;
pub mod scope;
pub mod server_names;
pub mod sketch;
pub mod stream;
pub mod tcp;
pub mod telemetry;
mod ticks;
pub mod tls;
pub mod trace;
pub mod trail;
pub mod units;
pub mod upstream;
mod worker;
