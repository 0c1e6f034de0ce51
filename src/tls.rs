//! Certificates: reading them, judging them, and deciding which may be served.
//!
//! [`chain`] reads files into [`certificate`]s, [`audit`] weighs them. `plan` asks for both; the command line asks for
//! the same, so that a laptop finds what start-up finds.

pub mod audit;
mod by_name;
pub mod certificate;
pub mod chain;
pub mod challenge;
pub mod client_auth;
pub mod client_config;
pub mod client_hello;
pub mod collect;
mod der;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
pub mod notes;
pub mod ocsp;
pub mod parallel;
mod pem;
mod pkcs12;
pub mod probe;
pub mod roots;
pub mod server_config;
pub mod tickets;
