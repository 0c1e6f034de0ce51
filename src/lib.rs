//! Portcullis: a TLS-terminating gateway with many doors and one keeper.
//!
//! One process opens many *endpoints*, each plain or TLS; one *handler* serves them all and is told, for every
//! connection, which endpoint it came in by; every certificate is *audited* before a byte is served with it.

pub mod access_log;
pub mod config;
pub mod drain;
pub mod handler;
pub mod identity;
mod labels;
pub mod metrics;
pub mod plan;
pub mod relay;
pub mod stream;
pub mod tls;
pub mod upstream;
