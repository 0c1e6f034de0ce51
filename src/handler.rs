//! What serves connections: one [`Handler`] behind many endpoints, an [`Instance`] of it for each.
//!
//! Owns the two traits that a library user or a plugin implements, and what is handed over. `plan` starts instances;
//! `connection` hands them connections; the handlers that ship are in `handler/`.

pub mod echo;
pub mod http;
pub mod http_proxy;
pub mod plugin;
pub mod respond;
mod spans;
pub mod tcp_proxy;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::access_log::{AccessLog, Entry};
use crate::clients::Clients;
use crate::drain::Drain;
use crate::identity::{ConnectionInfo, Endpoint};
use crate::metrics::routes::Routes;
use crate::metrics::{EndpointMetrics, RequestFailure};
use crate::plugin::Chain;
use crate::sampler::Sampler;
use crate::stream::Stream;
use crate::tls::challenge::Challenges;
use crate::trace::Tracer;

/// What an endpoint's own `settings` table says.
pub type Settings = toml::Table;

/// A connection being served. It ends with the connection.
pub type Serving = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

/// Something that can serve several endpoints.
///
/// Made once; started once for each endpoint that names it.
pub trait Handler: Send + Sync + 'static {
    /// Makes the instance that serves `endpoint`.
    ///
    /// Called with the endpoint's `settings` before any socket is opened, and by `check` too, so it has no effect
    /// outside the instance.
    ///
    /// # Errors
    /// A setting that is unknown or wrong; it stops start-up, or leaves the old plan serving on a reload.
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError>;

    /// Makes the instance that takes the place of `running`, which is another handler's or an earlier one's of this name, on a
    /// reload; or returns `running` itself, where that can go on serving.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    fn replace(
        &self,
        running: &Arc<dyn Instance>,
        endpoint: &Arc<Endpoint>,
        settings: &Settings,
    ) -> Result<Arc<dyn Instance>, StartError> {
        let _ = running;
        self.start(endpoint, settings)
    }

    /// What it was made from that its words do not tell, such as the code of a plugin. Where it differs, a reload calls the
    /// endpoint changed.
    fn fingerprint(&self) -> String {
        String::new()
    }

    /// The protocols that it speaks, for ALPN where the endpoint names none: most preferred first.
    fn protocols(&self) -> &'static [&'static str] {
        &[]
    }
}

/// A handler as one endpoint sees it.
pub trait Instance: Send + Sync + 'static {
    /// Serves one connection to its end.
    ///
    /// Runs on the worker that accepted the connection: it must not block. Dropping the future ends the connection.
    fn serve(self: Arc<Self>, connection: Connection) -> Serving;

    /// Whether a new connection may come now. Asked at every accept, so it is answered at once.
    fn admits(&self) -> bool {
        true
    }

    /// Why the endpoint is not ready, although it is open; `None` while it is.
    fn unready(&self) -> Option<String> {
        None
    }

    /// Whether a reload should start a new instance although nothing about this one has changed.
    fn is_spent(&self) -> bool {
        false
    }

    /// A reload has put another instance in its place, or removed its endpoint: connections that are left by `deadline` from
    /// now should end then. It must not block.
    fn retire(&self, deadline: Duration) {
        let _ = deadline;
    }

    /// Its routes, for the admin port and for the instance that takes its place.
    fn routes(&self) -> Option<&Arc<Routes>> {
        None
    }

    /// The plugins behind it, for the admin port.
    fn plugin(&self) -> Option<&Chain> {
        None
    }

    /// Called once, after the instance's last connection has ended: when the gateway stops, or a reload has replaced the
    /// instance. It must not block.
    fn stop(&self) {}
}

/// An instance that was started. It is told to stop once, when the last connection and the last plan that refer to it are
/// gone; on whichever thread that is, so `stop` must not block.
pub struct Started(Arc<dyn Instance>);

impl Started {
    /// Takes charge of an instance.
    #[must_use]
    pub fn new(instance: Arc<dyn Instance>) -> Self {
        Self(instance)
    }

    /// What serves connections.
    #[must_use]
    pub fn instance(&self) -> &Arc<dyn Instance> {
        &self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A connection, ready to be served: accepted, within limits, its handshake done.
#[derive(Debug)]
pub struct Connection {
    /// The bytes, plain to the handler whatever they are on the wire.
    pub stream: Stream,
    /// Where it came from and by which endpoint.
    pub info: Arc<ConnectionInfo>,
    /// What the instance shares with the gateway for this endpoint.
    pub context: Arc<Context>,
    /// Begins when the connection should finish what it does and end.
    pub drain: Drain,
}

/// What every connection of an endpoint shares, besides its identity.
#[derive(Debug)]
pub struct Context {
    /// How long it waits for what.
    pub timeouts: Timeouts,
    /// How large a request may be.
    pub limits: Limits,
    /// What each client may use, and has used.
    pub clients: Clients,
    /// Which of many like events are logged.
    pub noise: Arc<Sampler>,
    /// Where it is counted.
    pub metrics: Arc<EndpointMetrics>,
    /// Where its line goes when it, or one of its requests, has ended.
    pub access_log: AccessLog,
    /// What says which trace a request belongs to, and takes its spans.
    pub tracer: Tracer,
    /// What ACME's HTTP challenges are answered from, on a plain endpoint.
    pub challenges: Arc<Challenges>,
}

/// How large a request may be, in bytes, and how slow its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its head, or its trailer section; in HTTP/2, as RFC 9113 (section 10.5.1) counts it.
    pub head: usize,
    /// Its request line; in HTTP/2, its target.
    pub request_line: usize,
    /// Its body; `None` for as large as it likes.
    pub body: Option<u64>,
    /// How many bytes a second a client must bring of a body, or take of an answer, while it is waited for; 0: as few as it likes.
    pub min_rate: u64,
    /// Over how long that is measured.
    pub min_rate_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let min_rate_grace = Duration::from_secs(30);
        Self { head: 16 * 1024, request_line: 8 * 1024, body: None, min_rate: 100, min_rate_grace }
    }
}

/// An endpoint's deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The TLS handshake, and the PROXY header before it.
    pub handshake: Duration,
    /// A request's head, from its first byte.
    pub header: Duration,
    /// Between two reads, or two writes, of a body.
    pub body: Duration,
    /// A kept connection without a request; a TCP session without a byte.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
        }
    }
}

/// Why a handler could not start for an endpoint.
#[derive(Debug)]
pub struct StartError {
    /// The key in the endpoint's `settings` that is to blame, if one is.
    pub setting: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Context {
    /// Counts a session that is over, writes its line, and hands over its span where traces are recorded.
    pub(crate) fn session_ended(&self, entry: Entry<'_>, result: &Result<(), ServeError>) {
        let error = result.as_ref().err();
        if let Some(error) = error {
            self.metrics.here().failures[error.word as usize].add(1);
        }
        let (word, detail) = (error.map(|error| error.word.as_str()), error.map(|error| error.message.as_str()));
        let active = self.tracer.of_session();
        let entry = Entry { error: word, detail, trace: active.as_ref().map(|active| active.trace), ..entry };
        self.access_log.write(&entry);
        if let Some(active) = active {
            self.tracer.record(spans::of_session(&active, &entry, error.map(|error| error.side)));
        }
    }
}

/// Says, once for each endpoint, that a handler which takes no settings was given some: they may be meant for the handler
/// that comes after it, so they are no error.
pub fn settings_are_unused(handler: &str, endpoint: &Endpoint, settings: &Settings) {
    if !settings.is_empty() {
        let keys: Vec<&str> = settings.keys().map(String::as_str).collect();
        tracing::warn!(endpoint = %endpoint.name, "the {handler} handler takes no settings; unused: {}", keys.join(", "));
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}

/// Whose fault ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client went away, stalled or broke the protocol.
    Client,
    /// The upstream did.
    Upstream,
    /// We did.
    Gateway,
}

/// Why a connection ended other than well.
#[derive(Debug)]
pub struct ServeError {
    /// Whose fault it was.
    pub side: Side,
    /// What happened.
    pub message: String,
    /// The word for it, in the access log and the metrics.
    pub word: RequestFailure,
}

impl ServeError {
    /// An error of one side, which broke the connection off.
    pub fn new(side: Side, message: impl fmt::Display) -> Self {
        let word = match side {
            Side::Client => RequestFailure::ClientClosed,
            Side::Upstream => RequestFailure::ConnectionTerminated,
            Side::Gateway => RequestFailure::ProxyInternalError,
        };
        Self { side, message: message.to_string(), word }
    }

    /// The same, called by another word.
    #[must_use]
    pub fn called(self, word: RequestFailure) -> Self {
        Self { word, ..self }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServeError {}
