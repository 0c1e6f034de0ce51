//! The `plugin` and `wasm` handlers: connections served by code that is not ours, one instance of it for every endpoint.
//!
//! Owns the way from the handler's table to a chain of layers, and a connection's line in the access log. The host itself is
//! `plugin`; a connection goes on in `plugin/driver.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Connection, Handler, Instance, ServeError, Serving, Settings, Side, StartError};
use crate::access_log::{Entry, Facts};
use crate::config::{PluginConfig, PluginLayerConfig, RunConfig, WasmConfig};
use crate::identity::Endpoint;
use crate::metrics::RequestFailure;
use crate::plugin::native::NativePlugin;
use crate::plugin::wasm::{self, Limits};
use crate::plugin::{Adapter, Chain, FaultKind, LayerPlan, Peer, Place, Run, Terms, Why};
use crate::trail::Trail;
use crate::units;

/// More threads to a pool are a slip of the pen.
const MOST_THREADS: usize = 256;
/// More layers are one, too.
const MOST_LAYERS: usize = 16;
/// The most that a message, or a connection's queue, may hold.
const MOST_BYTES: u32 = 1 << 30;
/// The least and the most memory of a component: a page, and what 32 bits can tell apart.
const MEMORY: std::ops::RangeInclusive<usize> = 65_536..=1 << 32;
/// How much longer than a component's own deadline the watchdog waits: it is for what cannot be cut.
const SLACK: Duration = Duration::from_secs(1);

/// What is wrong with a handler's table: paths within it, each with a sentence.
type Faults = Vec<(String, String)>;

/// Serves connections by plugins.
pub struct Plugin {
    name: String,
    layers: Vec<LayerPlan>,
    terms: Terms,
}

impl Plugin {
    /// A handler of this name from its table; `directory` is what files are relative to. Loads the libraries.
    ///
    /// # Errors
    /// Each fault: its path within the table, and a sentence.
    pub fn new(name: &str, config: &PluginConfig, directory: &Path) -> Result<Self, Faults> {
        let load = |file: &Path| Ok(Arc::new(NativePlugin::load(file)?) as Arc<dyn Adapter>);
        Self::load(name, config, directory, Vec::new(), load)
    }

    /// A handler of this name whose plugins are WebAssembly components. Compiles them.
    ///
    /// # Errors
    /// Each fault: its path within the table, and a sentence.
    pub fn wasm(name: &str, config: &WasmConfig, directory: &Path) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        if !MEMORY.contains(&config.max_memory) {
            faults.push(("max_memory".into(), format!("is between {} and {} bytes", MEMORY.start(), MEMORY.end())));
        }
        // What is wrong with the timeout is said with the other terms.
        let timeout = units::positive_duration(&config.timeout).unwrap_or_default();
        let limits = Limits { timeout, memory: config.max_memory };
        let mut handler = Self::load(name, &config.into(), directory, faults, |file| wasm::load(file, limits))?;
        handler.terms.timeout = timeout.saturating_add(SLACK);
        Ok(handler)
    }

    fn load(
        name: &str,
        config: &PluginConfig,
        directory: &Path,
        mut faults: Faults,
        load: impl Fn(&Path) -> Result<Arc<dyn Adapter>, String>,
    ) -> Result<Self, Faults> {
        let terms = terms(config, &mut faults);
        let mut layers = Vec::new();
        for (path, layer) in listed(config, &mut faults) {
            let run = match layer.run {
                RunConfig::Inline => Run::Inline,
                RunConfig::Pool => Run::Pool(layer.threads),
            };
            if !(1..=MOST_THREADS).contains(&layer.threads) {
                faults.push((format!("{path}threads"), format!("a pool has 1 to {MOST_THREADS} threads")));
            }
            match load(&directory.join(&layer.file)) {
                Ok(adapter) => layers.push(LayerPlan { adapter, run }),
                Err(why) => faults.push((format!("{path}file"), why)),
            }
        }
        if faults.is_empty() { Ok(Self { name: name.to_owned(), layers, terms }) } else { Err(faults) }
    }

    /// A handler of this name whose layers are given: plugins of another kind, or of one's own program.
    #[must_use]
    pub fn of(name: &str, layers: Vec<LayerPlan>, terms: Terms) -> Self {
        Self { name: name.to_owned(), layers, terms }
    }

    fn place(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Place {
        Place {
            endpoint: Arc::clone(endpoint),
            handler: self.name.clone(),
            settings: json(settings).to_string(),
            layer: 0,
            layers: 0,
            max_message: self.terms.max_message,
            max_queue: self.terms.max_queue,
            max_buffered: self.terms.max_buffered,
        }
    }

    fn begin(&self, place: &Place, running: Option<&Chain>) -> Result<Arc<dyn Instance>, StartError> {
        let started = Chain::start(place, self.layers.clone(), self.terms, running).map_err(|fault| {
            let name = self.layers.get(fault.layer).map_or("", |layer| layer.adapter.name());
            let what = if fault.fault.kind == FaultKind::BadConfig { " refuses the settings" } else { "" };
            let message = format!("plugin {name} (layer {}){what}: {}", fault.layer, fault.fault);
            StartError { setting: None, message }
        })?;
        Ok(Arc::new(PluginInstance(started)))
    }
}

impl Handler for Plugin {
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        self.begin(&self.place(endpoint, settings), None)
    }

    fn replace(
        &self,
        running: &Arc<dyn Instance>,
        endpoint: &Arc<Endpoint>,
        settings: &Settings,
    ) -> Result<Arc<dyn Instance>, StartError> {
        let place = self.place(endpoint, settings);
        let identity = Chain::identity(&place, &self.layers, self.terms);
        match running.plugin() {
            Some(chain) if chain.serves_as(&identity) => Ok(Arc::clone(running)),
            chain => self.begin(&place, chain),
        }
    }

    fn fingerprint(&self) -> String {
        let digests: Vec<&str> = self.layers.iter().map(|layer| layer.adapter.digest()).collect();
        digest(&SHA256, digests.concat().as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The layers of a table, each with the path of its keys within it.
fn listed(config: &PluginConfig, faults: &mut Faults) -> Vec<(String, PluginLayerConfig)> {
    let mut fault = |path: &str, message: &str| {
        faults.push((path.into(), message.into()));
        Vec::new()
    };
    match (&config.file, config.layers.as_slice()) {
        (Some(file), []) => {
            let layer = PluginLayerConfig { file: file.clone(), run: config.run, threads: config.threads };
            vec![(String::new(), layer)]
        }
        (None, []) => fault("", "there is no plugin; name its file, or several as layers"),
        (Some(_), _) => fault("file", "stands beside layers; list it there, first or last"),
        (None, layers) if layers.len() > MOST_LAYERS => fault("layers", "more than 16 layers"),
        (None, layers) => {
            layers.iter().enumerate().map(|(index, layer)| (format!("layers.{index}."), layer.clone())).collect()
        }
    }
}

/// A component runs on one thread, since it has one: what else its table says is what a shared library's says.
impl From<&WasmConfig> for PluginConfig {
    fn from(config: &WasmConfig) -> Self {
        let layer = |file: &Path| PluginLayerConfig { file: file.to_owned(), run: RunConfig::Pool, threads: 1 };
        Self {
            file: config.file.clone(),
            run: RunConfig::Pool,
            threads: 1,
            layers: config.layers.iter().map(|listed| layer(&listed.file)).collect(),
            queue: config.queue,
            timeout: config.timeout.clone(),
            max_message: config.max_message,
            max_queue: config.max_queue,
            max_buffered: config.max_buffered,
        }
    }
}

fn terms(config: &PluginConfig, faults: &mut Faults) -> Terms {
    let timeout = units::positive_duration(&config.timeout).unwrap_or_else(|why| {
        faults.push(("timeout".into(), why));
        Duration::ZERO
    });
    if config.queue == 0 {
        faults.push(("queue".into(), "no event could wait; give 1 or more".into()));
    }
    for (key, value) in [("max_message", config.max_message), ("max_queue", config.max_queue)] {
        if !(1..=MOST_BYTES).contains(&value) {
            faults.push((key.into(), format!("is between 1 and {MOST_BYTES}")));
        }
    }
    if config.max_buffered < config.max_queue as usize {
        faults.push(("max_buffered".into(), "is less than max_queue, which a single connection may fill".into()));
    }
    Terms {
        timeout,
        queue: config.queue,
        max_message: config.max_message,
        max_queue: config.max_queue,
        max_buffered: config.max_buffered,
    }
}

/// Settings as JSON. What JSON cannot say is said in text: dates, and numbers that are none.
fn json(settings: &Settings) -> Value {
    fn value(toml: &toml::Value) -> Value {
        match toml {
            toml::Value::String(text) => text.clone().into(),
            toml::Value::Integer(n) => (*n).into(),
            toml::Value::Float(n) => {
                serde_json::Number::from_f64(*n).map_or_else(|| n.to_string().into(), Value::Number)
            }
            toml::Value::Boolean(b) => (*b).into(),
            toml::Value::Datetime(date) => date.to_string().into(),
            toml::Value::Array(items) => items.iter().map(value).collect(),
            toml::Value::Table(table) => json(table),
        }
    }
    Value::Object(settings.iter().map(|(key, item)| (key.clone(), value(item))).collect::<Map<_, _>>())
}

/// One endpoint's chain.
struct PluginInstance(Arc<Chain>);

impl Instance for PluginInstance {
    fn serve(self: Arc<Self>, mut connection: Connection) -> Serving {
        Box::pin(async move {
            let start = Instant::now();
            let timeouts = connection.context.timeouts;
            let peer = Peer(Arc::clone(&connection.info));
            let stream = &mut connection.stream;
            let ended = self.0.serve(peer, stream, timeouts.idle, timeouts.body, &connection.drain).await;
            if ended.reset {
                // The client did not get all there was, and a reset says so.
                connection.stream.abort();
            }
            let error = match ended.why {
                Why::Client | Why::Plugin | Why::Drain => None,
                why => Some(ended.error.unwrap_or_else(|| why.as_str().to_owned())),
            };
            let (side, word) = match ended.why {
                Why::Quarantine => (Side::Gateway, RequestFailure::ProxyInternalError),
                Why::Idle => (Side::Client, RequestFailure::IdleTimeout),
                Why::Framing => (Side::Client, RequestFailure::FramingError),
                Why::Client | Why::Plugin | Why::Drain | Why::Broken => (Side::Client, RequestFailure::ClientClosed),
            };
            let result = error.map_or(Ok(()), |error| Err(ServeError::new(side, error).called(word)));
            let (facts, trail) = (Facts::default(), Trail::default());
            let entry = Entry::session(&connection.info, &facts, start, &trail);
            let entry = Entry { received: ended.received, sent: ended.sent, ..entry };
            connection.context.session_ended(entry, &result);
            result
        })
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn admits(&self) -> bool {
        self.0.admits()
    }

    fn unready(&self) -> Option<String> {
        self.0.standing().reason().map(|why| format!("the plugin does not serve: {why}"))
    }

    fn is_spent(&self) -> bool {
        self.0.is_spent()
    }

    fn retire(&self, deadline: Duration) {
        self.0.retire(deadline);
    }

    fn plugin(&self) -> Option<&Chain> {
        Some(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn settings_become_json_whatever_they_hold() {
        let settings: Settings =
            toml::from_str("a = 1\nb = nan\nc = 2026-11-21\nd = { e = [true, \"x\", 1.5] }").unwrap();
        let expected = r#"{"a":1,"b":"NaN","c":"2026-11-21","d":{"e":[true,"x",1.5]}}"#;
        assert_eq!(json(&settings).to_string(), expected);
    }

    #[test]
    fn every_fault_of_a_table_is_found_with_its_key() {
        let config = PluginConfig {
            layers: vec![PluginLayerConfig { file: "none.so".into(), run: RunConfig::Pool, threads: 0 }],
            timeout: "soon".into(),
            queue: 0,
            max_buffered: 1,
            ..PluginConfig::default()
        };
        let faults = Plugin::new("chat", &config, Path::new("/nowhere")).err().unwrap();
        let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["timeout", "queue", "max_buffered", "layers.0.threads", "layers.0.file"]);
        assert!(faults[4].1.contains("/nowhere/none.so: No such file"), "{}", faults[4].1);
        let both = PluginConfig { file: Some("a.so".into()), ..config };
        assert!(Plugin::new("chat", &both, Path::new("/")).err().unwrap().iter().any(|(path, _)| path == "file"));
    }
}
