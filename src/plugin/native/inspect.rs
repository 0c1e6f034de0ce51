//! What a shared library offers, and how the negotiation with this gateway would end. Called by `plugin/inspect.rs`.
//!
//! Loads the library and does one start-up and one cleanup, for an endpoint that does not exist.

use std::path::Path;

use super::NativePlugin;
use super::call::NativeGuest;
use super::negotiate::{Range, version_text};
use crate::plugin::guest::{Adapter, Guest};
use crate::plugin::inspect::{Inspection, framing, trial};

pub(in crate::plugin) fn inspect(file: &Path, settings: &str) -> Result<Inspection, String> {
    let plugin = NativePlugin::load(file)?;
    let (name, digest) = (plugin.name().to_owned(), plugin.digest().to_owned());
    let offers = trial(&name, settings, move |place, host| {
        NativeGuest::start(&plugin.library, plugin.range, place, host).map(|guest| {
            let offers = offers(&guest);
            guest.cleanup();
            offers
        })
    })?;
    let Range { lowest, highest } = Range::OURS;
    let mut facts = vec![("gateway", format!("speaks {} to {}", version_text(lowest), version_text(highest)))];
    let usable = offers.is_ok();
    match offers {
        Err(fault) => facts.push(("start-up", format!("asked for {}: refused: {fault}", version_text(highest)))),
        Ok(offers) => facts.extend(offers),
    }
    Ok(Inspection { name, digest, facts, usable })
}

fn offers(guest: &NativeGuest) -> Vec<(&'static str, String)> {
    let (asked, version, high) = (version_text(Range::OURS.highest), guest.version(), guest.highest());
    let run = if guest.never_blocks() { "pool, or inline: it promises never to block" } else { "pool" };
    let (offered, left_out) = guest.functions();
    let mut facts = vec![
        ("start-up", format!("asked for {asked}: both keep to {version} (its highest: {high}); cleaned up")),
        ("run", run.to_owned()),
        ("framing", framing(guest)),
        ("functions", offered.join(", ")),
    ];
    if !left_out.is_empty() {
        facts.push(("left out", left_out.join(", ")));
    }
    facts
}
