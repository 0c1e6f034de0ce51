//! What a component offers, and whether it fits this gateway's world. Called by `plugin/inspect.rs`.
//!
//! Compiles it and does one start-up and one cleanup, for an endpoint that does not exist.

use std::path::Path;

use super::component;
use super::instance::WasmGuest;
use super::words::VERSION;
use super::{Limits, WasmPlugin};
use crate::config::WasmConfig;
use crate::plugin::guest::{Adapter, Guest};
use crate::plugin::inspect::{Inspection, TIMEOUT, framing, trial};

pub(in crate::plugin) fn inspect(file: &Path, settings: &str) -> Result<Inspection, String> {
    let limits = Limits { timeout: TIMEOUT / 4, memory: WasmConfig::default().max_memory };
    let plugin = WasmPlugin::load(file, limits)?;
    let (name, digest) = (plugin.name().to_owned(), plugin.digest().to_owned());
    let (major, minor) = plugin.compiled.version;
    let imports = component::imports(&plugin.compiled);
    let offers = trial(&name, settings, move |place, host| {
        WasmGuest::start(&plugin.compiled, plugin.limits, place, host).map(|guest| {
            let facts = [("framing", framing(&guest)), ("memory", format!("{} bytes after start-up", host.memory()))];
            guest.cleanup();
            facts
        })
    })?;
    let mut facts = vec![
        ("gateway", format!("speaks {}.{} of the world portcullis:plugin", VERSION.0, VERSION.1)),
        ("component", format!("made for {major}.{minor}; imports {imports}")),
    ];
    let usable = offers.is_ok();
    match offers {
        Err(fault) => facts.push(("start-up", format!("refused: {fault}"))),
        Ok(offers) => {
            facts.push(("start-up", "done, and cleaned up".into()));
            facts.push(("run", "pool, of one thread".into()));
            facts.extend(offers);
        }
    }
    Ok(Inspection { name, digest, facts, usable })
}
