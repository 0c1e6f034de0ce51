//! What was written: the configuration in exactly the file's words.
//!
//! Owns the serde types and nothing else: no sockets, no keys, no checks beyond the shape. A [`Source`] is a file's text;
//! it parses into a [`Config`], which `plan` turns into a `Plan`. The JSON Schema is made from these same types
//! (`config/schema.rs`), and `config/shape.rs` checks a file against it, so that each [`Problem`] has its place.
//!
//! Words such as durations and addresses stay text here. `plan` reads them, so that one run can report everything that
//! is wrong with a file, each with its line and column.

mod acme;
mod document;
mod nearest;
mod problem;
#[cfg(test)]
mod reference;
mod schema;
mod shape;
#[cfg(test)]
mod shipped;
mod source;
mod tracing;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Class;

pub use acme::{AcmeConfig, ChallengeConfig, ExternalAccountConfig};
pub use nearest::nearest;
pub use problem::{Place, Problem, Problems};
pub use schema::json_schema;
pub use source::Source;
pub use tracing::{TraceTrust, TracingConfig};

/// A configuration file.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The process as a whole.
    pub gateway: GatewayConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Traces of requests; left out: none.
    pub tracing: Option<TracingConfig>,
    /// The admin port.
    pub admin: AdminConfig,
    /// Who is asked for the addresses of upstream servers that are named.
    pub dns: DnsConfig,
    /// How findings about certificates weigh.
    pub audit: AuditConfig,
    /// Authorities that issue certificates by ACME (RFC 8555), by name.
    pub acme: BTreeMap<String, AcmeConfig>,
    /// The doors, by name. An endpoint's name is its identity in logs, metrics, headers and handlers.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// What serves connections, by name. Each endpoint that names a handler gets an instance of its own.
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// Groups of servers, by name.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
}

/// Reads a configuration that is not in a file.
impl std::str::FromStr for Config {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Source::new("configuration", text).parse().map_err(Invalid)
    }
}

/// Text that is no configuration, with everything that is wrong with it.
#[derive(Debug)]
pub struct Invalid(pub Vec<Problem>);

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Invalid {}

/// `[gateway]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Worker threads; 0 means one per CPU.
    pub workers: usize,
    /// How long what is in flight may take to end after SIGTERM, such as "30s".
    pub drain_timeout: String,
    /// How many connections the gateway holds at most, over all endpoints.
    pub max_connections: usize,
    /// Whether chains, keys, authorities and revocation lists are taken anew when their files change. The configuration
    /// itself is read anew only when a reload is asked for.
    pub watch: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { workers: 0, drain_timeout: "30s".into(), max_connections: 100_000, watch: true }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How a line is written.
    pub format: LogFormat,
    /// The least severe event that is logged.
    pub level: LogLevel,
    /// Whether every request or connection gets a line, with its endpoint, on standard output.
    pub access: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info, access: true }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something needs a person.
    Error,
    /// Something will need a person.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// `[dns]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Name servers, each "ADDRESS:PORT"; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<String>,
    /// A lookup as a whole.
    pub timeout: String,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: "5s".into() }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where health, metrics and views are served, read only; "off" for nowhere.
    pub listen: String,
    /// A file whose first line is the bearer token that every request must carry. Needed where `listen` is not loopback.
    pub token_file: Option<PathBuf>,
    /// A unix socket, made with mode 0600, that takes `portcullis reload`, `drain`, `log` and `status`; left out: none.
    pub control: Option<PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9090".into(), token_file: None, control: None }
    }
}

/// `[audit]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// What a refused endpoint means for the others.
    pub on_refused: OnRefused,
    /// From how long before its end a certificate is warned about, such as "30d". Left out: a third of its lifetime, 3 days at least, 30 at most.
    pub expiry_warning: Option<String>,
    /// Levels of rules that differ from the profile's, by rule id.
    pub rules: BTreeMap<String, RuleLevel>,
    /// Findings that are accepted until a day.
    pub waivers: Vec<WaiverConfig>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { on_refused: OnRefused::Endpoint, expiry_warning: None, rules: BTreeMap::new(), waivers: Vec::new() }
    }
}

/// What happens when an endpoint has no chain that is fit to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnRefused {
    /// That endpoint stays closed; the others serve.
    Endpoint,
    /// The gateway does not start.
    Gateway,
}

/// How a rule's finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleLevel {
    /// Never serve the chain.
    Deny,
    /// Serve it only where nothing better covers the names.
    Error,
    /// Serve and report.
    Warn,
    /// Report where details are asked for.
    Info,
    /// Say nothing.
    Off,
}

/// One `[[audit.waivers]]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiverConfig {
    /// The rule's id.
    pub rule: String,
    /// The certificate's fingerprint: "sha256:" and 64 hex digits.
    pub certificate: String,
    /// The last day of the waiver, such as "2027-03-01" (UTC).
    pub until: String,
    /// Why it is accepted.
    pub reason: String,
}

/// `[endpoints.NAME]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Where it listens: "ADDRESS:PORT", one or several.
    pub listen: OneOrMany,
    /// Whom it faces: chooses the audit profile, and is a label everywhere.
    #[serde(default)]
    pub class: ClassConfig,
    /// The handler that serves it.
    pub handler: String,
    /// This endpoint's own settings, handed to the handler's instance.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub settings: toml::Table,
    /// How many connections it holds at most.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// Networks whose clients may connect; empty means every network.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Networks whose clients may not; wins over `allow`.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Peers whose PROXY v1 or v2 header is required and believed; others must not send one.
    #[serde(default)]
    pub accept_proxy_protocol: Vec<String>,
    /// Whether readiness needs this endpoint: while it is refused, `/readyz` answers 503.
    #[serde(default = "yes")]
    pub required: bool,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
    /// What one client, and one request, may use.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// TLS connections that are passed on unterminated; the first that matches wins.
    #[serde(default)]
    pub passthrough: Vec<PassthroughConfig>,
    /// TLS; left out on a plain endpoint.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

fn default_max_connections() -> usize {
    10_000
}

fn yes() -> bool {
    true
}

/// Text, or a list of texts.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Whom an endpoint faces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClassConfig {
    /// Anyone. The default, since it is the stricter one.
    #[default]
    Public,
    /// One's own network.
    Internal,
}

impl From<ClassConfig> for Class {
    fn from(class: ClassConfig) -> Self {
        match class {
            ClassConfig::Public => Self::Public,
            ClassConfig::Internal => Self::Internal,
        }
    }
}

/// `[endpoints.NAME.timeouts]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsConfig {
    /// The TLS handshake, and the PROXY header before it.
    pub handshake: String,
    /// A request's head, from its first byte.
    pub header: String,
    /// Between two reads, or two writes, of a body.
    pub body: String,
    /// A kept connection without a request; a tcp-proxy connection without a byte.
    pub idle: String,
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self { handshake: "5s".into(), header: "10s".into(), body: "30s".into(), idle: "60s".into() }
    }
}

/// `[endpoints.NAME.limits]`. A client is an IPv4 address or an IPv6 network of 64 bits; what is left out is not limited.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// How many connections one client holds at most.
    pub client_connections: Option<u32>,
    /// How often one client may connect.
    pub client_connection_rate: Option<RateConfig>,
    /// How often one client may begin a TLS handshake.
    pub client_handshake_rate: Option<RateConfig>,
    /// How often one client may make an HTTP request; what is more is answered 429.
    pub client_request_rate: Option<RateConfig>,
    /// How large an HTTP request's head may be: "1KiB" to "60KiB"; what is larger is answered 431.
    pub head_size: String,
    /// How long its request line may be, or in HTTP/2 its target: as far as `head_size`; what is longer is answered 414.
    pub request_line_size: String,
    /// How large its body may be, such as "10MiB"; what is larger is answered 413. Left out: as large as it likes.
    pub body_size: Option<String>,
    /// How much a client must send of a request's body, or take of an answer, each second for as long as it alone is waited for;
    /// "0B" for as little as it likes. A slower one is cut off. Bodies over HTTP/2 that say no length, such as gRPC's
    /// streams, and connections that were upgraded, such as WebSockets, are not measured.
    pub min_rate: String,
    /// Over how long `min_rate` is measured: "1s" or longer.
    pub min_rate_grace: String,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            client_connections: None,
            client_connection_rate: None,
            client_handshake_rate: None,
            client_request_rate: None,
            head_size: "16KiB".into(),
            request_line_size: "8KiB".into(),
            body_size: None,
            min_rate: "100B".into(),
            min_rate_grace: "30s".into(),
        }
    }
}

/// A rate, such as `{ rate = "20/s", burst = 50 }`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// How many in a second ("20/s"), a minute ("30/m") or an hour ("100/h").
    pub rate: String,
    /// How many may come at once; left out: as many as `rate` says for its whole time.
    pub burst: Option<u32>,
}

/// One `[[endpoints.NAME.passthrough]]`: TLS connections that are passed on as they come, by what the client asks for.
///
/// What none of these takes is terminated, or on an endpoint without `tls` handed to its handler as it comes.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassthroughConfig {
    /// The names that the client asks for, each a name, or "*." and a name for any one label; empty means any.
    pub server_names: Vec<String>,
    /// The protocols of which the client offers one; empty means any.
    pub alpn: Vec<String>,
    /// The handler that gets the bytes, of type tcp-proxy; left out: the client is refused.
    pub handler: Option<String>,
}

/// `[endpoints.NAME.tls]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The lowest protocol version.
    #[serde(default)]
    pub min_version: MinVersion,
    /// Application protocols, in order of preference; the default follows the handler.
    #[serde(default)]
    pub alpn: Option<Vec<String>>,
    /// Names that this endpoint must be able to serve.
    #[serde(default)]
    pub server_names: Vec<String>,
    /// What to do about a chain that the audit denies.
    #[serde(default)]
    pub on_unfit: OnUnfit,
    /// Chains with their keys, in order of preference.
    pub certificates: Vec<CertificateConfig>,
    /// Client certificates; left out: none are asked for.
    #[serde(default)]
    pub client_auth: Option<ClientAuthConfig>,
    /// Session tickets.
    #[serde(default)]
    pub tickets: TicketsConfig,
}

/// The lowest TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// What to do about a chain that the audit denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnfit {
    /// Serve the next fit chain below that covers the same names; refuse where there is none.
    #[default]
    Fallback,
    /// Refuse the endpoint at once.
    Refuse,
}

/// One `[[endpoints.NAME.tls.certificates]]`: either `chain` and `key`, or `acme` and `names`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = { "chain": ["key"], "key": ["chain"], "acme": ["names"], "names": ["acme"] }))]
pub struct CertificateConfig {
    /// PEM file: the leaf, then its issuers.
    #[serde(default)]
    pub chain: Option<PathBuf>,
    /// PEM file: the leaf's private key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The `[acme.NAME]` that issues and renews it.
    #[serde(default)]
    pub acme: Option<String>,
    /// The names that it is issued for. It goes by the first one; changing the others has it issued anew.
    #[serde(default)]
    pub names: Vec<String>,
    /// The responder's answer about the leaf, as DER (`openssl ocsp -respout`), stapled to handshakes while it is fresh.
    #[serde(default)]
    pub ocsp: Option<PathBuf>,
    /// Client certificates for this chain's names alone, in place of the endpoint's own `client_auth`.
    #[serde(default)]
    pub client_auth: Option<ClientAuthConfig>,
}

/// `[endpoints.NAME.tls.tickets]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TicketsConfig {
    /// File of keys that gateways share, so that each resumes the others' sessions: a line of base64 for each, 48 or 80 bytes (`openssl rand -base64 48`); the first seals, all open. Left out: the endpoint's own, which change by themselves.
    pub keys: Option<PathBuf>,
    /// How long a session can be resumed, such as "12h"; at most "7d".
    pub lifetime: String,
}

impl Default for TicketsConfig {
    fn default() -> Self {
        Self { keys: None, lifetime: "12h".into() }
    }
}

/// `[endpoints.NAME.tls.client_auth]`, or `[endpoints.NAME.tls.certificates.client_auth]` under one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthConfig {
    /// Whether a client must present a certificate.
    pub mode: ClientAuthMode,
    /// PEM file: the authorities that vouch for clients.
    pub ca: PathBuf,
    /// PEM files: revocation lists.
    #[serde(default)]
    pub crl: Vec<PathBuf>,
    /// Clients that are let in, each "dns:…", "uri:…", "email:…" or "cn:…"; `*` stands for one label or path segment. Empty: all that verify.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// Whether a client must present a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthMode {
    /// No certificate, no connection.
    Required,
    /// A certificate is verified if one comes.
    Optional,
}

/// `[handlers.NAME]`: what serves connections.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum HandlerConfig {
    /// Passes HTTP requests on to an upstream.
    HttpProxy(HttpProxyConfig),
    /// Passes bytes on to an upstream.
    TcpProxy(TcpProxyConfig),
    /// Answers HTTP requests itself.
    Respond(RespondConfig),
    /// Sends back every byte it gets.
    Echo(EchoConfig),
    /// Serves connections by shared libraries of your own.
    Plugin(PluginConfig),
    /// Serves connections by WebAssembly components, each in a box of its own.
    Wasm(WasmConfig),
}

/// `type = "http-proxy"`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProxyConfig {
    /// The upstream for requests that no route takes; without one they are answered 404.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Where requests go; the first match wins.
    #[serde(default)]
    pub routes: Vec<RouteConfig>,
    /// Whether a path is passed on whose slash is encoded twice, such as `/a%252Fb`: who takes escapes back twice reads `/a/b`.
    /// Otherwise it is refused. Routes that such a reader would not keep to refuse it in any case, and so do dot segments.
    #[serde(default)]
    pub double_encoded_slashes: bool,
    /// What the gateway is called in `Via`; left out: "portcullis". Requests have a part at random behind it, another for each
    /// endpoint, by which one that comes back is known.
    #[serde(default)]
    pub via: Option<String>,
}

/// One `[[handlers.NAME.routes]]`: what a request must match, and where it then goes.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// What it is called in logs, metrics and traces; left out: what it matches, such as "api.example.com/v1/".
    #[serde(default)]
    pub name: Option<String>,
    /// The request's host: a name, or "*." and a name for any one label before it.
    #[serde(default)]
    pub host: Option<String>,
    /// A prefix of the path, by whole segments.
    #[serde(default)]
    pub path: Option<String>,
    /// The request's method, one of these, such as "GET"; empty means all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Fields that the request must have, each with this value; "*" stands for any value.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The endpoints that the route is for, besides those of `class`; without either it is for all.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// The class of endpoints that the route is for.
    #[serde(default)]
    pub class: Option<ClassConfig>,
    /// Pass the request on to this upstream.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Answer it here.
    #[serde(default)]
    pub respond: Option<RouteRespondConfig>,
    /// Send the client elsewhere.
    #[serde(default)]
    pub redirect: Option<RedirectConfig>,
    /// What stands in the place of `path` in what the upstream is sent.
    #[serde(default)]
    pub replace_path: Option<String>,
    /// What is changed about the fields of the request that the upstream is sent.
    #[serde(default)]
    pub request_headers: HeaderChangesConfig,
    /// What is changed about the fields of the answer that the client gets.
    #[serde(default)]
    pub response_headers: HeaderChangesConfig,
}

/// `redirect = { … }` of a route.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectConfig {
    /// Where to: `{host}`, `{path}`, `{rest}` (the path behind the route's `path`) and `{query}` (with its question mark) are
    /// filled in.
    pub to: String,
    /// The status code: 301, 302, 303, 307 or 308.
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

/// `request_headers = { … }` or `response_headers = { … }` of a route: fields are removed, then set, then added.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChangesConfig {
    /// Fields that have this value and no other.
    pub set: BTreeMap<String, String>,
    /// Fields that are there once more, with this value.
    pub add: BTreeMap<String, String>,
    /// Fields that are taken away.
    pub remove: Vec<String>,
}

/// `respond = { … }` of a route.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRespondConfig {
    /// The status code.
    pub status: u16,
    /// The body, as plain text.
    #[serde(default)]
    pub body: String,
}

/// `type = "tcp-proxy"`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProxyConfig {
    /// The upstream.
    pub upstream: String,
    /// The PROXY header that the upstream is sent; left out: none.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text: addresses only.
    V1,
    /// Binary: addresses, TLS facts, and the endpoint's name.
    V2,
}

/// `type = "respond"`. An endpoint's `settings` are at hand in the body as `{settings.KEY}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RespondConfig {
    /// The status code.
    pub status: u16,
    /// The body. `{endpoint}`, `{class}`, `{client}`, `{scheme}`, `{tls.version}`, `{tls.cipher}`, `{tls.group}`,
    /// `{tls.server_name}`, `{tls.alpn}`, `{tls.resumed}`, `{http.version}`, `{method}`, `{path}`, `{host}` and
    /// `{settings.KEY}` are filled in; `{{` and `}}` are braces.
    pub body: String,
    /// The fields of the answer, by name.
    pub headers: BTreeMap<String, String>,
}

impl Default for RespondConfig {
    fn default() -> Self {
        Self { status: 200, body: String::new(), headers: BTreeMap::new() }
    }
}

/// `type = "echo"`
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EchoConfig {}

/// `type = "plugin"`. An endpoint's `settings` go to its instance as JSON.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginConfig {
    /// The shared library; several are listed as `layers` instead.
    pub file: Option<PathBuf>,
    /// Where it runs.
    pub run: RunConfig,
    /// How many threads its pool has.
    pub threads: usize,
    /// A chain of plugins, the first next to the client.
    pub layers: Vec<PluginLayerConfig>,
    /// How many events may wait for a pool before new connections are refused.
    pub queue: usize,
    /// How long a call into a plugin may take; one that takes longer has the instance given up.
    pub timeout: String,
    /// The largest message, in bytes; without framing, how much input may wait to be consumed.
    pub max_message: u32,
    /// How much may be queued for a client, in bytes.
    pub max_queue: u32,
    /// How much an instance's queues and buffers may hold together, in bytes.
    pub max_buffered: usize,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            file: None,
            run: RunConfig::Pool,
            threads: default_threads(),
            layers: Vec::new(),
            queue: 1024,
            timeout: "10s".into(),
            max_message: 65_536,
            max_queue: 1_048_576,
            max_buffered: 268_435_456,
        }
    }
}

/// One layer of a chain of plugins.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginLayerConfig {
    /// The shared library.
    pub file: PathBuf,
    /// Where it runs.
    #[serde(default)]
    pub run: RunConfig,
    /// How many threads its pool has.
    #[serde(default = "default_threads")]
    pub threads: usize,
}

/// `type = "wasm"`, for gateways built with it. An endpoint's `settings` go to its instance as JSON.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WasmConfig {
    /// The component; several are listed as `layers` instead.
    pub file: Option<PathBuf>,
    /// A chain of components, the first next to the client.
    pub layers: Vec<WasmLayerConfig>,
    /// How much memory an instance may have, in bytes.
    pub max_memory: usize,
    /// How many events may wait for the instance's thread before new connections are refused.
    pub queue: usize,
    /// How long a call into a component may take; one that takes longer is cut, and the instance started again.
    pub timeout: String,
    /// The largest message, in bytes; without framing, how much input may wait to be consumed.
    pub max_message: u32,
    /// How much may be queued for a client, in bytes.
    pub max_queue: u32,
    /// How much an instance's queues and buffers may hold together, in bytes.
    pub max_buffered: usize,
}

impl Default for WasmConfig {
    fn default() -> Self {
        let PluginConfig { queue, max_message, max_queue, max_buffered, .. } = PluginConfig::default();
        let (max_memory, timeout) = (67_108_864, "1s".into());
        Self { file: None, layers: Vec::new(), max_memory, queue, timeout, max_message, max_queue, max_buffered }
    }
}

/// One layer of a chain of components.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WasmLayerConfig {
    /// The component.
    pub file: PathBuf,
}

fn default_threads() -> usize {
    4
}

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunConfig {
    /// On threads of its own: it may block.
    #[default]
    Pool,
    /// On the gateway's workers: quicker, for plugins that promise never to block.
    Inline,
}

/// `[upstreams.NAME]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The servers, each "HOST:PORT", or with a weight, `{ address = "HOST:PORT", weight = 3 }`.
    pub servers: Vec<ServerConfig>,
    /// How a server is chosen: "round-robin", "least-connections", "two-choices" (of two at random, the one with less in work), or `{ hash = … }`.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// How many requests or sessions each server has in work at most, over all workers; left out: as many as come.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Who waits while every server has `max_connections` in work; left out: nobody, the answer is 503 with `Retry-After`.
    #[serde(default)]
    pub queue: Option<QueueConfig>,
    /// How long a server that comes back, or is new, gets less than its share, which rises from nothing; "0s": not at all.
    #[serde(default = "no_time")]
    pub slow_start: String,
    /// What requests are sent in.
    #[serde(default)]
    pub protocol: ProtocolConfig,
    /// TLS to the servers; left out: plain. Their certificates are always verified.
    #[serde(default)]
    pub tls: Option<UpstreamTlsConfig>,
    /// How the servers are asked whether they are well; left out: they are not.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// When a server that fails is taken out. The last one never is.
    #[serde(default)]
    pub ejection: EjectionConfig,
    /// When a request that failed at one server is tried at another.
    #[serde(default)]
    pub retries: RetriesConfig,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: UpstreamTimeoutsConfig,
}

fn no_time() -> String {
    "0s".into()
}

/// A server of an upstream.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ServerConfig {
    /// "ADDRESS:PORT", with a weight of 1.
    Address(String),
    /// With its weight.
    Weighted(WeightedServerConfig),
}

impl ServerConfig {
    /// Its address as written.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) => address,
            Self::Weighted(server) => &server.address,
        }
    }

    /// Its weight.
    #[must_use]
    pub fn weight(&self) -> u32 {
        match self {
            Self::Address(_) => 1,
            Self::Weighted(server) => server.weight,
        }
    }
}

/// A server with its weight.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedServerConfig {
    /// "ADDRESS:PORT".
    pub address: String,
    /// Its share of the load, in proportion to the others'.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
}

/// How a server is chosen.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum BalanceConfig {
    /// One of the words.
    Word(String),
    /// By a key.
    Hash(HashConfig),
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self::Word("round-robin".into())
    }
}

/// `balance = { hash = … }`: the same server for the same key, and few keys move when servers come or go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashConfig {
    /// "client-address", "header:NAME" or "cookie:NAME". A request without that field or cookie goes in turn.
    pub hash: String,
}

/// What requests to an upstream are sent in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProtocolConfig {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2; with prior knowledge where there is no TLS.
    #[serde(rename = "h2")]
    Http2,
}

/// `[upstreams.NAME.tls]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTlsConfig {
    /// PEM file: the authorities that vouch for the servers. For public ones, the system's, such as "/etc/ssl/certs/ca-certificates.crt".
    pub ca: PathBuf,
    /// The name that every server must prove, and that is sent as SNI; left out: each server's own, as it stands in `servers`.
    #[serde(default)]
    pub server_name: Option<String>,
    /// PEM file: the gateway's own chain, for servers that ask for one.
    #[serde(default)]
    pub chain: Option<PathBuf>,
    /// PEM file: the key of that chain.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The lowest protocol version.
    #[serde(default)]
    pub min_version: MinVersion,
}

/// `[upstreams.NAME.health]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// What is asked for, by GET; left out: that a connection can be opened is enough.
    pub path: Option<String>,
    /// Statuses of a server that is well; empty: 200 to 399.
    pub status: Vec<u16>,
    /// Between two checks of a server.
    pub interval: String,
    /// A check as a whole.
    pub timeout: String,
    /// How many checks in a row must go well before a server that is down counts as well again.
    #[schemars(range(min = 1, max = 1000))]
    pub healthy: u32,
    /// How many checks in a row must fail before a server that is well counts as down.
    #[schemars(range(min = 1, max = 1000))]
    pub unhealthy: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        let [interval, timeout] = ["5s", "2s"].map(String::from);
        Self { path: None, status: Vec::new(), interval, timeout, healthy: 2, unhealthy: 3 }
    }
}

/// `[upstreams.NAME.queue]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    /// How many wait at most, over all workers.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub length: u32,
    /// For how long at most.
    #[serde(default = "one_second")]
    pub timeout: String,
}

fn one_second() -> String {
    "1s".into()
}

/// `[upstreams.NAME.ejection]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EjectionConfig {
    /// After how many failures in a row; 0: never.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub failures: u32,
    /// For how long; each time in a row, twice as long as before.
    pub duration: String,
    /// But no longer than this.
    pub max_duration: String,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self { failures: 5, duration: "10s".into(), max_duration: "5m".into() }
    }
}

/// `[upstreams.NAME.retries]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetriesConfig {
    /// To how many servers a request is sent at most; 1: no retries. Servers that cannot be reached do not count.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// How many retries each hundred requests allow.
    #[schemars(range(min = 0, max = 100))]
    pub budget: u32,
    /// Statuses that are a reason to try another server, such as 503; only for requests without a body whose method is idempotent.
    pub statuses: Vec<u16>,
}

impl Default for RetriesConfig {
    fn default() -> Self {
        Self { attempts: 2, budget: 20, statuses: Vec::new() }
    }
}

/// `[upstreams.NAME.timeouts]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTimeoutsConfig {
    /// Opening a connection.
    pub connect: String,
    /// From the last byte of the request to the head of the response.
    pub response: String,
    /// Between two reads, or two writes, of a body.
    pub body: String,
    /// A kept connection without a request.
    pub idle: String,
    /// Each server that a request is sent to, from the dial to the head of the response; left out: the others alone count.
    pub attempt: Option<String>,
    /// A request as a whole, from its head to the end of the response; left out: as long as something moves.
    pub total: Option<String>,
}

impl Default for UpstreamTimeoutsConfig {
    fn default() -> Self {
        let [connect, response, body, idle] = ["2s", "30s", "30s", "60s"].map(String::from);
        Self { connect, response, body, idle, attempt: None, total: None }
    }
}
