//! What stands in the place of `wasm` where the gateway is built without it: an error that says what to do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::guest::Adapter;

const WITHOUT: &str = "this gateway was built without Wasm; build it with: cargo build --release --features wasm";

/// What bounds every instance of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a call may take before it is cut.
    pub timeout: Duration,
    /// How much memory an instance may have, in bytes.
    pub memory: usize,
}

/// Loads nothing.
///
/// # Errors
/// Always: how to build a gateway that could.
pub fn load(file: &Path, _: Limits) -> Result<Arc<dyn Adapter>, String> {
    Err(format!("{}: {WITHOUT}", file.display()))
}

pub(super) mod inspect {
    use std::path::Path;

    use crate::plugin::inspect::Inspection;

    pub(in crate::plugin) fn inspect(file: &Path, _: &str) -> Result<Inspection, String> {
        Err(format!("{}: {}", file.display(), super::WITHOUT))
    }
}
