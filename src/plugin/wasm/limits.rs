//! How much memory an instance may have. Asked by wasmtime before memory or a table grows, on behalf of `instance`.
//!
//! What would be too much is refused as WebAssembly has it: `memory.grow` answers -1, and the plugin sees its allocation fail.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::plugin::host::Host;

/// How many functions a component's tables may refer to.
const TABLE: usize = 1 << 20;

/// An instance's memory, as it is counted.
pub(super) struct Memory {
    most: usize,
    held: usize,
    /// How much was granted last, in case it cannot be had.
    last: usize,
    host: Arc<Host>,
}

impl Memory {
    pub(super) fn new(most: usize, host: &Arc<Host>) -> Self {
        Self { most, held: 0, last: 0, host: Arc::clone(host) }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if self.held.saturating_add(more) > self.most {
            return Ok(false);
        }
        self.held += more;
        self.last = more;
        self.host.memory_grew(more);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let last = std::mem::take(&mut self.last);
        self.held -= last;
        self.host.memory_shrank(last);
        Ok(())
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE)
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}

/// The instance is gone, and its memory with it.
impl Drop for Memory {
    fn drop(&mut self) {
        self.host.memory_shrank(self.held);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use crate::plugin::host::tests::host;

    #[test]
    fn memory_is_granted_up_to_the_limit_over_all_memories_and_counted_until_it_is_gone() {
        let host = host(1000, 1000);
        let mut memory = Memory::new(1000, &host);
        assert!(memory.memory_growing(0, 600, None).unwrap());
        assert!(!memory.memory_growing(0, 401, None).unwrap());
        assert!(memory.memory_growing(600, 1000, None).unwrap());
        assert_eq!(host.memory(), 1000);
        memory.memory_grow_failed(wasmtime::Error::msg("no room")).unwrap();
        assert_eq!(host.memory(), 600);
        // A refusal is no failure: it takes nothing back.
        assert!(!memory.memory_growing(600, 1001, None).unwrap());
        assert!(memory.memory_growing(0, 400, None).unwrap());
        drop(memory);
        assert_eq!(host.memory(), 0);
    }
}
