//! Native plugins: shared libraries that speak the tables of `portcullis-plugin-abi`.
//!
//! One adapter of the seam in `guest`. `library` loads a file, `negotiate` starts an instance and agrees on a version, `call`
//! calls its functions, and `table` is what it may call of ours. These four, and nothing else of the gateway, hold unsafe
//! code. A native plugin is trusted: it shares our address space, and what it breaks breaks us.

mod call;
pub(super) mod inspect;
mod library;
mod negotiate;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use self::call::NativeGuest;
use self::library::Library;
pub use self::negotiate::{Agreed, Range, version_text};
use super::guest::{Adapter, Fault, Guest, Place};
use super::host::Host;

/// A native plugin, loaded.
#[derive(Clone, Debug)]
pub struct NativePlugin {
    library: Arc<Library>,
    range: Range,
}

impl NativePlugin {
    /// Loads a plugin's file. The same bytes are loaded once, however often and under whatever name they are asked for.
    ///
    /// # Errors
    /// Why it cannot be loaded, and what to do.
    pub fn load(file: &Path) -> Result<Self, String> {
        Ok(Self { library: library::load(file)?, range: Range::OURS })
    }
}

impl Adapter for NativePlugin {
    fn name(&self) -> &str {
        self.library.name()
    }

    fn digest(&self) -> &str {
        self.library.digest()
    }

    fn start(&self, place: &Arc<Place>, host: &Arc<Host>) -> Result<Arc<dyn Guest>, Fault> {
        Ok(Arc::new(NativeGuest::start(&self.library, self.range, place, host)?))
    }
}
