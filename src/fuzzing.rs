//! What the fuzz targets in `fuzz/` need of the private parsers; no part of the library.
//!
//! `cargo fuzz` sets `cfg(fuzzing)`, and without it none of this is compiled.

pub use crate::handler::http::fuzzing::{Reading, is_authority, read_requests};
pub use crate::handler::http_proxy::fuzzing::{Guarded, normal_path};
