//! The compiler and its clock: one for the process, made when the first component is loaded.
//!
//! Used by `component` to compile, and by `instance` to bound every call. The clock is an epoch that a thread raises; compiled
//! code compares it with its deadline at every loop and call, which costs a load and a comparison.

use std::sync::OnceLock;
use std::time::Duration;

use wasmtime::{Config, Engine, Strategy};

/// How often the clock ticks.
const TICK: Duration = Duration::from_millis(20);

/// The engine.
///
/// # Errors
/// There is none for this machine.
pub(super) fn engine() -> Result<&'static Engine, String> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    ENGINE.get_or_init(start).as_ref().map_err(Clone::clone)
}

fn start() -> Result<Engine, String> {
    let mut config = Config::new();
    config.strategy(Strategy::Cranelift).epoch_interruption(true);
    // What a plugin has no use for is not there to be attacked: 64-bit memories, several memories, functions that suspend.
    config.wasm_memory64(false).wasm_multi_memory(false).concurrency_support(false);
    let engine = Engine::new(&config).map_err(|error| format!("Wasm cannot be compiled here: {error:#}"))?;
    let ticking = engine.clone();
    #[expect(clippy::disallowed_methods, reason = "a thread of its own, which does nothing else")]
    let tick = move || {
        loop {
            std::thread::sleep(TICK);
            ticking.increment_epoch();
        }
    };
    let thread = std::thread::Builder::new().name("wasm-clock".into()).spawn(tick);
    thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(engine)
}

/// How many ticks are at least this long: the first may be over in no time.
pub(super) fn ticks(time: Duration) -> u64 {
    let whole = time.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(whole).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_shorter_than_asked_for_and_never_overflows() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(TICK), 2);
        assert_eq!(ticks(TICK + Duration::from_nanos(1)), 3);
        assert_eq!(ticks(Duration::MAX), u64::MAX / 2 + 1);
    }
}
