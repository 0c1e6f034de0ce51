//! What a plugin's file offers, and how the negotiation with this gateway would end. For `portcullis plugin inspect`.
//!
//! Loads the library and does one start-up and one cleanup, for an endpoint that does not exist.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::NativePlugin;
use super::call::NativeGuest;
use super::negotiate::{Range, version_text};
use crate::identity::{Class, Endpoint, EndpointName};
use crate::plugin::framing::Framing;
use crate::plugin::guest::{Adapter, Fault, Guest, Place};
use crate::plugin::host::Host;

/// How long start-up and cleanup may take together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Clone, Debug)]
pub struct Inspection {
    name: String,
    digest: String,
    started: Result<Offer, Fault>,
}

/// What a plugin that started offers.
#[derive(Clone, Debug)]
struct Offer {
    version: String,
    highest: String,
    never_blocks: bool,
    framing: String,
    offered: Vec<&'static str>,
    left_out: Vec<&'static str>,
}

impl Inspection {
    /// Whether this gateway could use the plugin, with these settings.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.started.is_ok()
    }
}

/// Loads a file and goes through one start-up, with `settings` as JSON, and one cleanup.
///
/// # Errors
/// The file is no plugin, or its start-up does not return.
pub fn inspect(file: &Path, settings: &str) -> Result<Inspection, String> {
    let plugin = NativePlugin::load(file)?;
    let (name, digest) = (plugin.name().to_owned(), plugin.digest().to_owned());
    let endpoint = Endpoint { name: EndpointName::new("inspect")?, class: Class::Internal, tls: false };
    let place = Arc::new(Place {
        endpoint: Arc::new(endpoint),
        handler: "inspect".into(),
        settings: settings.to_owned(),
        layer: 0,
        layers: 1,
        max_message: 1 << 16,
        max_queue: 1 << 20,
        max_buffered: 1 << 28,
    });
    // On a thread of its own, so that a start-up that hangs is found out.
    let (sender, found) = sync_channel(1);
    let run = move || {
        let host = Host::new(Arc::clone(&place), plugin.name().into(), Arc::default());
        let started = NativeGuest::start(&plugin.library, plugin.range, &place, &host);
        let _ = sender.send(started.map(|guest| {
            let offer = offer(&guest);
            guest.cleanup();
            offer
        }));
    };
    std::thread::Builder::new().name("inspect".into()).spawn(run).map_err(|error| error.to_string())?;
    let started = found.recv_timeout(TIMEOUT);
    let started = started.map_err(|_| format!("{name}: start-up and cleanup did not return within {TIMEOUT:?}"))?;
    Ok(Inspection { name, digest, started })
}

fn offer(guest: &NativeGuest) -> Offer {
    let (offered, left_out) = guest.functions();
    let most = match guest.max_message() {
        0 => "as large as max_message allows".to_owned(),
        most => format!("{most} bytes at most"),
    };
    let framing = match guest.framing() {
        Framing::None => "none: bytes as they come".to_owned(),
        Framing::Length { size, little_endian, counts_itself } => {
            let order = if little_endian { "least" } else { "most" };
            let itself = if counts_itself { ", itself included" } else { "" };
            format!("a length of {size} bytes{itself}, {order} significant first; {most}")
        }
        Framing::Delimiter(bytes) => format!("ends with {:?}; {most}", String::from_utf8_lossy(&bytes)),
        Framing::Own => format!("the plugin's own; {most}"),
    };
    Offer {
        version: guest.version(),
        highest: guest.highest(),
        never_blocks: guest.never_blocks(),
        framing,
        offered,
        left_out,
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { lowest, highest } = Range::OURS;
        writeln!(f, "{}\n  digest     sha256:{}", self.name, self.digest)?;
        writeln!(f, "  gateway    speaks {} to {}", version_text(lowest), version_text(highest))?;
        match &self.started {
            Err(fault) => writeln!(f, "  start-up   asked for {}: refused: {fault}", version_text(highest)),
            Ok(offer) => {
                let (asked, version, high) = (version_text(highest), &offer.version, &offer.highest);
                writeln!(
                    f,
                    "  start-up   asked for {asked}: both keep to {version} (its highest: {high}); cleaned up"
                )?;
                let run = if offer.never_blocks { "pool, or inline: it promises never to block" } else { "pool" };
                writeln!(f, "  run        {run}\n  framing    {}", offer.framing)?;
                writeln!(f, "  functions  {}", offer.offered.join(", "))?;
                if !offer.left_out.is_empty() {
                    writeln!(f, "  left out   {}", offer.left_out.join(", "))?;
                }
                Ok(())
            }
        }
    }
}
