//! What a plugin's file offers, and whether this gateway could use it. For `portcullis plugin inspect`.
//!
//! Each kind of plugin finds its own facts, in `native/inspect` and `wasm/inspect`; here is what they have in common: one
//! start-up for an endpoint that does not exist, and how it is shown.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::framing::Framing;
use super::guest::{Guest, Place};
use super::host::Host;
use super::{native, wasm};
use crate::identity::{Class, Endpoint, EndpointName};

/// How long start-up and cleanup may take together.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) usable: bool,
}

impl Inspection {
    /// Whether this gateway could use the plugin, with these settings.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n  digest     sha256:{}", self.name, self.digest)?;
        self.facts.iter().try_for_each(|(label, text)| writeln!(f, "  {label:<10} {text}"))
    }
}

/// Loads a file and goes through one start-up, with `settings` as JSON, and one cleanup.
///
/// # Errors
/// The file is no plugin, or its start-up does not return.
pub fn inspect(file: &Path, settings: &str) -> Result<Inspection, String> {
    let mut magic = [0; 4];
    // Whatever cannot be read is said by the one that tries in earnest.
    let is_wasm = File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\0asm";
    if is_wasm { wasm::inspect::inspect(file, settings) } else { native::inspect::inspect(file, settings) }
}

/// Starts a plugin for an endpoint that does not exist, on a thread of its own, so that a start-up that hangs is found out.
pub(super) fn trial<T: Send + 'static>(
    name: &str,
    settings: &str,
    run: impl FnOnce(&Arc<Place>, &Arc<Host>) -> T + Send + 'static,
) -> Result<T, String> {
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
    let host = Host::new(Arc::clone(&place), name.into(), Arc::default());
    let (sender, found) = sync_channel(1);
    let run = move || {
        // Whoever waited may have given up.
        let _ = sender.send(run(&place, &host));
    };
    std::thread::Builder::new().name("inspect".into()).spawn(run).map_err(|error| error.to_string())?;
    let found = found.recv_timeout(TIMEOUT);
    found.map_err(|_| format!("{name}: start-up and cleanup did not return within {TIMEOUT:?}"))
}

/// A started plugin's framing, in words.
pub(super) fn framing(guest: &dyn Guest) -> String {
    let most = match guest.max_message() {
        0 => "as large as max_message allows".to_owned(),
        most => format!("{most} bytes at most"),
    };
    match guest.framing() {
        Framing::None => "none: bytes as they come".to_owned(),
        Framing::Length { size, little_endian, counts_itself } => {
            let order = if little_endian { "least" } else { "most" };
            let itself = if counts_itself { ", itself included" } else { "" };
            format!("a length of {size} bytes{itself}, {order} significant first; {most}")
        }
        Framing::Delimiter(bytes) => format!("ends with {:?}; {most}", String::from_utf8_lossy(&bytes)),
        Framing::Own => format!("the plugin's own; {most}"),
    }
}
