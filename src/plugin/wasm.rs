//! Wasm plugins: components that speak the world of `plugin-wasm/wit`, compiled here and run in a box each.
//!
//! One adapter of the seam in `guest`, loaded by `handler/plugin.rs`. `component` reads, checks and compiles a file; `instance`
//! runs one and survives its traps; `imports` is what it may call of ours, `words` what is said; `limits` bounds its memory, and
//! `engine` its time. An instance shares nothing with others and sees no file, socket or clock: what it breaks is itself.

mod component;
mod engine;
mod imports;
pub(super) mod inspect;
mod instance;
mod limits;
mod words;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::component::Compiled;
use self::instance::WasmGuest;
use super::guest::{Adapter, Fault, Guest, Place};
use super::host::Host;

/// What bounds every instance of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a call may take before it is cut.
    pub timeout: Duration,
    /// How much memory an instance may have, in bytes.
    pub memory: usize,
}

/// A component with its limits.
struct WasmPlugin {
    name: String,
    compiled: Arc<Compiled>,
    limits: Limits,
}

/// Reads, checks and compiles a component. Bytes that are in use are not compiled again.
///
/// # Errors
/// Why it cannot be used, and what to do.
pub fn load(file: &Path, limits: Limits) -> Result<Arc<dyn Adapter>, String> {
    Ok(Arc::new(WasmPlugin::load(file, limits)?))
}

impl WasmPlugin {
    fn load(file: &Path, limits: Limits) -> Result<Self, String> {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let compiled = component::load(file).map_err(|why| format!("{}: {why}", file.display()))?;
        Ok(Self { name, compiled, limits })
    }
}

impl Adapter for WasmPlugin {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> &str {
        &self.compiled.digest
    }

    fn identity(&self) -> String {
        format!("{} {:?}", self.digest(), self.limits)
    }

    fn start(&self, place: &Arc<Place>, host: &Arc<Host>) -> Result<Arc<dyn Guest>, Fault> {
        Ok(Arc::new(WasmGuest::start(&self.compiled, self.limits, place, host)?))
    }
}
