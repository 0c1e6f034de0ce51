//! What the fuzz targets in `fuzz/` need of the private parsers; no part of the library.
//!
//! Compiled under `cfg(fuzzing)`, which cargo-fuzz sets, and with the unit tests, so that it cannot fall behind unnoticed.

pub use crate::handler::http::fuzzing::{Reading, is_authority, read_requests};
pub use crate::handler::http_proxy::fuzzing::{Guarded, normal_path};
pub use crate::tls::fuzzing::{open_bundle, read_flight};
pub use crate::upstream::fuzzing::{Heard, read_response};
