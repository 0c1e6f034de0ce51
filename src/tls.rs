//! Certificates: reading them, auditing them, and serving the fit ones.
pub mod audit;
pub mod chain;
pub mod client_auth;
pub mod server_config;
