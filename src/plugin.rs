//! The plugin host: what serves connections by code that is not ours.
//!
//! Owns everything between a connection's bytes and a plugin's callbacks. `handler/plugin.rs` starts a [`Chain`] of layers
//! for an endpoint and hands it connections. Reading down from there:
//!
//! - [`chain`]: one endpoint's layers and how they are; `keeper` is the thread that starts, watches and cleans them up.
//! - `driver`: a connection's bytes, on its worker; `session`: its events, where the plugin may run; `run`: where that is.
//! - [`host`]: what a plugin may ask for, from any thread; `port`: one connection as it is seen from there.
//! - [`framing`]: where messages end. [`guest`]: the seam.
//!
//! **The seam.** An [`Adapter`] knows how to start one kind of plugin, and a [`Guest`] is a started one: its methods are
//! the events `open`, `data`, `writable`, `timer` and `close`, the two questions of framing, and `cleanup`. What a guest
//! asks for it asks of its [`Host`], in safe Rust. [`native`] is one adapter: C functions in a shared library; [`wasm`] is
//! another. A kind needs these two traits and nothing else: pools, order, deadlines, restarts, framing, buffers and counting
//! are here.

pub mod chain;
pub mod counters;
mod driver;
pub mod framing;
pub mod guest;
pub mod host;
pub mod inspect;
mod keeper;
pub mod native;
mod port;
mod run;
mod session;
#[cfg(feature = "wasm")]
pub mod wasm;
#[cfg(not(feature = "wasm"))]
#[path = "plugin/without_wasm.rs"]
pub mod wasm;

pub use chain::{Chain, ChainFault, LayerPlan, Run, Standing, Terms, settle};
pub use driver::Ended;
pub use guest::{Adapter, Fault, FaultKind, Guest, Input, Peer, Place, Trouble, User, Why};
pub use host::{Answer, Handle, Host};
