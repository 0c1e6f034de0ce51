//! What is ready to run: a checked, immutable [`Plan`] made from a `Config`.
//!
//! Start-up, `check` and reload all go through [`Plan::new`], which collects every error instead of stopping at the
//! first. `gateway` runs a plan; `admin` shows it. `plan/endpoints.rs` makes the endpoints, `plan/certificates.rs`
//! their TLS.

pub mod acme;
mod basis;
mod certificates;
mod chains;
mod endpoints;
mod files;
pub mod passthrough;
mod scopes;
mod summary;
#[cfg(test)]
mod tests;
pub mod traces;
mod upstreams;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::access::Access;
use crate::config::{Config, HandlerConfig, Problems, nearest};
use crate::handler::echo::Echo;
use crate::handler::http_proxy::{Front, HttpProxy};
use crate::handler::plugin::Plugin;
use crate::handler::respond::Respond;
use crate::handler::tcp_proxy::TcpProxy;
use crate::handler::{Context, Handler, Started};
use crate::identity::{Endpoint, EndpointName};
use crate::sampler::Sampler;
use crate::telemetry::Telemetry;
use crate::tls::audit::decide::Fallback;
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::{Audited, AuditedChain, Span};
use crate::tls::challenge::Challenges;
use crate::tls::client_auth::Crl;
use crate::tls::server_config::{Acceptor, Offer};
use crate::tls::tickets::Tickets;
use crate::units;
use crate::upstream::Upstream;

pub use self::acme::AcmePlan;
pub use self::basis::Basis;
pub(crate) use self::files::Stamp;
use self::passthrough::PassRule;
use self::traces::TracingPlan;

/// A configuration that was checked and is ready to run.
pub struct Plan {
    /// The words that it was made from.
    pub config: Config,
    /// Worker threads; at least one.
    pub workers: usize,
    /// How long what is in flight may take to end.
    pub drain_timeout: Duration,
    /// How many connections are held at most, over all endpoints.
    pub max_connections: usize,
    /// Where the admin port listens; `None` for nowhere.
    pub admin: Option<AdminPlan>,
    /// Every endpoint, refused ones too, by name.
    pub endpoints: Vec<Arc<EndpointPlan>>,
    /// Every upstream, by name.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What the audit says of the authorities that vouch for upstreams, and of the gateway's own chains there.
    pub upstream_trust: Vec<Arc<ChainReport>>,
    /// Every handler, by name, for endpoints that are mended while the gateway runs.
    pub(crate) handlers: BTreeMap<String, Named>,
    /// What is managed by ACME.
    pub acme: AcmePlan,
    /// Traces; `None`: none.
    pub tracing: Option<TracingPlan>,
}

/// The admin port's settings.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminPlan {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer token that a request must carry; `None` asks for none.
    pub token: Option<Arc<str>>,
    /// Where it was read from.
    pub token_file: Option<PathBuf>,
}

/// One endpoint, ready to be opened, or refused with its reasons.
#[derive(Clone)]
pub struct EndpointPlan {
    /// Its identity.
    pub endpoint: Arc<Endpoint>,
    /// Where it listens; at least one address.
    pub listen: Vec<SocketAddr>,
    /// What its connections share.
    pub context: Arc<Context>,
    /// Whose connections it takes.
    pub access: Access,
    /// Which of many like events are logged.
    pub noise: Arc<Sampler>,
    /// How many connections it holds at most.
    pub max_connections: usize,
    /// Whether readiness needs it.
    pub required: bool,
    /// The handler's name and type, such as ("site", "http-proxy").
    pub handler: (String, &'static str),
    /// Which TLS connections are passed on unterminated.
    pub passthrough: Vec<PassRule>,
    /// What TLS needs at a handshake; `None` on a plain endpoint, and on a refused one.
    pub tls: Option<TlsTerms>,
    /// What the audit found; empty on a plain endpoint.
    pub certificates: Certificates,
    /// Whether it can serve.
    pub state: EndpointState,
    /// What it was made from, by which a reload finds out whether anything about it changed.
    pub basis: Basis,
}

/// What TLS needs at a handshake.
#[derive(Clone)]
pub struct TlsTerms {
    /// Chooses what answers a client's hello.
    pub acceptor: Acceptor,
    /// What is offered to clients.
    pub offer: Offer,
    /// Application protocols, most preferred first.
    pub alpn: Vec<String>,
    /// What seals session tickets.
    pub tickets: Arc<Tickets>,
    /// What TLS-ALPN-01 is answered from; `None` where no chain needs it.
    pub challenges: Option<Arc<Challenges>>,
}

/// What the audit found of an endpoint's chains.
#[derive(Clone, Default)]
pub struct Certificates {
    /// Every listed chain with its findings, in the order listed.
    pub audited: Vec<Audited>,
    /// The chains that may be served, best first.
    pub candidates: Vec<Arc<AuditedChain>>,
    /// Which chain stands in for which, and why.
    pub fallbacks: Vec<Fallback>,
    /// The revocation lists that clients' certificates are checked against.
    pub crls: Vec<Crl>,
    /// What vouches for clients.
    pub trust: Vec<Arc<ChainReport>>,
    /// Why files that have changed are not taken, and what was read before is served on; a sentence each.
    pub held: Vec<String>,
    /// Why there is no chain to serve yet although ACME will bring one: until then the endpoint is open and answers
    /// challenges alone. Each reason is a sentence that names the chain.
    pub waiting: Vec<String>,
    /// For how long all of this holds, as far as the clock is concerned.
    pub span: Span,
    /// Which files each of `audited` was read from.
    pub(crate) sources: Vec<chains::Source>,
}

impl Certificates {
    /// What the audit says of each listed chain, in the order listed, and of what vouches for clients.
    pub fn reports(&self) -> impl Iterator<Item = &ChainReport> {
        self.audited.iter().map(|audited| &*audited.report).chain(self.trust.iter().map(|report| &**report))
    }

    /// Says of a chain whether it is among those that are served. Made once for all of them: there may be thousands.
    pub fn served(&self) -> impl Fn(&Audited) -> bool {
        let served: HashSet<_> = self.candidates.iter().map(Arc::as_ptr).collect();
        move |audited| audited.servable.as_ref().is_some_and(|chain| served.contains(&Arc::as_ptr(chain)))
    }
}

/// Whether an endpoint can serve.
#[derive(Clone)]
pub enum EndpointState {
    /// It can.
    Ready {
        /// What serves its connections.
        instance: Arc<Started>,
    },
    /// It cannot: none of its chains is fit. Each reason is a sentence that names file, rule and remedy.
    Refused(Vec<String>),
}

/// What a plan is made from.
pub struct Inputs<'a> {
    /// The words.
    pub config: &'a Config,
    /// The folder that relative paths are relative to.
    pub directory: &'a Path,
    /// Handlers that a library user brings, by name.
    pub handlers: &'a HashMap<String, Arc<dyn Handler>>,
    /// Whether a TLS endpoint without certificates gets one made in memory.
    pub development_certificate: bool,
    /// Where it is told what happened to requests.
    pub telemetry: Telemetry,
    /// What ACME's challenges are answered from.
    pub challenges: Arc<Challenges>,
    /// The time by which certificates are judged.
    pub now: SystemTime,
    /// The plan that runs, on a reload: what did not change is taken over from it, whole, and so are all counters.
    pub previous: Option<&'a Plan>,
    /// Which of it may be different.
    pub aim: Aim,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// To run what was written.
    Load,
    /// To run the words of the running plan on, with its files and the clock read anew. Upstreams and handlers are the
    /// running ones, and what became unfit on disk is held back: what was read before is served on.
    Renew {
        /// Whether files had their time to settle: a chain that only got worse is taken then.
        settled: bool,
    },
}

impl Inputs<'_> {
    /// The running plan, where its words are to run on.
    fn renewed(&self) -> Option<&Plan> {
        self.previous.filter(|_| self.aim != Aim::Load)
    }
}

impl Plan {
    /// Checks a configuration and makes it ready: reads keys and chains, audits them, resolves upstreams, starts
    /// handlers. Opens no port.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration. What is wrong with a chain or key file is no error here: it
    /// refuses its endpoint, or makes another chain stand in.
    pub fn new(inputs: &Inputs<'_>) -> Result<Self, Problems> {
        let config = inputs.config;
        let mut problems = Problems::default();
        let drain_timeout =
            problems.take(&["gateway", "drain_timeout"], units::duration(&config.gateway.drain_timeout));
        let admin = admin(inputs, &mut problems);
        let policy = policy(config, &mut problems);
        let (upstreams, acme, tracing) = match inputs.renewed() {
            Some(running) => {
                (upstreams::renew(inputs, running, &mut problems), running.acme.clone(), running.tracing.clone())
            }
            None => (
                upstreams::plan(inputs, &mut problems),
                acme::plan(inputs, &mut problems),
                traces::plan(inputs, &mut problems),
            ),
        };
        let handlers = handlers(inputs, &upstreams, &mut problems);
        let endpoints = endpoints::plan(inputs, &handlers, &upstreams, policy.as_ref(), &mut problems);
        if config.gateway.max_connections == 0 {
            problems.push(&["gateway", "max_connections"], "nothing could connect", Some("give 1 or more".into()));
        }
        if config.gateway.workers > MAX_WORKERS {
            let message = format!("more than {MAX_WORKERS} workers");
            problems.push(&["gateway", "workers"], message, Some("0 means one per CPU".into()));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let workers = match config.gateway.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        Ok(Self {
            config: config.clone(),
            workers,
            drain_timeout: drain_timeout.unwrap_or_default(),
            max_connections: config.gateway.max_connections,
            admin,
            endpoints,
            upstream_trust: policy.map_or_else(Vec::new, |policy| upstreams::trust(inputs, &policy)),
            upstreams,
            handlers: handlers.into_iter().filter_map(|(name, named)| Some((name, named?))).collect(),
            acme,
            tracing,
        })
    }

    /// Every file that it was made from, besides the configuration.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let token = self.admin.iter().filter_map(|admin| admin.token_file.as_deref());
        let upstreams = self.upstreams.iter().flat_map(|upstream| upstream.files());
        self.endpoints.iter().flat_map(|endpoint| endpoint.basis.files()).chain(upstreams).chain(token)
    }

    /// For how long its verdicts hold, as far as the clock is concerned.
    #[must_use]
    pub fn span(&self) -> Span {
        let spans = self.endpoints.iter().map(|endpoint| endpoint.certificates.span);
        spans.reduce(Span::and).unwrap_or_default()
    }

    /// Why files that have changed are not taken, each a sentence that names its endpoint.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().flat_map(|endpoint| &endpoint.certificates.held).map(String::as_str)
    }

    /// An endpoint by its name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&Arc<EndpointPlan>> {
        self.endpoints.iter().find(|plan| plan.endpoint.name.as_str() == name)
    }

    /// What the audit says of every chain and every file of trust, refused endpoints' too.
    pub fn reports(&self) -> impl Iterator<Item = &ChainReport> {
        let of_endpoints = self.endpoints.iter().flat_map(|endpoint| endpoint.certificates.reports());
        of_endpoints.chain(self.upstream_trust.iter().map(|report| &**report))
    }

    /// The reasons of every refused endpoint, each a sentence that names it.
    pub fn refusals(&self) -> impl Iterator<Item = String> {
        self.endpoints.iter().flat_map(|endpoint| endpoint.refusals())
    }
}

impl EndpointPlan {
    /// What serves its connections, unless it is refused.
    #[must_use]
    pub fn instance(&self) -> Option<&Arc<Started>> {
        match &self.state {
            EndpointState::Ready { instance } => Some(instance),
            EndpointState::Refused(_) => None,
        }
    }

    /// Whether it can serve.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, EndpointState::Ready { .. })
    }

    /// Whether it is open but has no chain to serve yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.certificates.waiting.is_empty()
    }

    /// Why it is refused, each reason a sentence that names it; nothing where it can serve.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        match &self.state {
            EndpointState::Ready { .. } => Vec::new(),
            EndpointState::Refused(reasons) => {
                reasons.iter().map(|reason| refusal(&self.endpoint.name, reason)).collect()
            }
        }
    }
}

/// A reason, which may or may not begin with the endpoint, as a sentence that does.
pub(crate) fn refusal(endpoint: &EndpointName, reason: &str) -> String {
    let rest = reason.strip_prefix(&format!("endpoint \"{endpoint}\": ")).unwrap_or(reason);
    format!("endpoint \"{endpoint}\" is refused: {rest}")
}

/// More threads than any machine has cores is a slip of the pen.
const MAX_WORKERS: usize = 1024;

fn policy(config: &Config, problems: &mut Problems) -> Option<Policy> {
    match Policy::new(&config.audit) {
        Ok(policy) => Some(policy),
        Err(faults) => {
            for (path, message) in faults {
                let path: Vec<&str> = std::iter::once("audit").chain(path.iter().map(String::as_str)).collect();
                problems.push(&path, message, None);
            }
            None
        }
    }
}

fn admin(inputs: &Inputs<'_>, problems: &mut Problems) -> Option<AdminPlan> {
    let config = &inputs.config.admin;
    if config.listen == "off" {
        return None;
    }
    let listen = problems.take(&["admin", "listen"], units::listen_address(&config.listen))?;
    let token_file = config.token_file.as_ref().map(|file| inputs.directory.join(file));
    let token = token_file.as_ref().map(|path| {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        match text.lines().next().map(str::trim) {
            Some(token) if token.len() >= MIN_TOKEN => Ok(Arc::from(token)),
            _ => Err(format!("{}: its first line is shorter than {MIN_TOKEN} characters", path.display())),
        }
    });
    let token = match token {
        None => None,
        Some(token) => Some(problems.take(&["admin", "token_file"], token)?),
    };
    if !listen.ip().to_canonical().is_loopback() && token.is_none() {
        let message = format!("{listen} can be reached from other machines, and no token is asked for");
        problems.push(&["admin", "listen"], message, Some("listen on 127.0.0.1, or set token_file".into()));
    }
    Some(AdminPlan { listen, token, token_file })
}

/// A token that is shorter can be guessed.
const MIN_TOKEN: usize = 16;

/// A handler with its type's name.
type Named = (Arc<dyn Handler>, &'static str);

/// Faults of a handler's table: the dotted path within it, and a sentence.
type Faults = Vec<(String, String)>;

/// Every handler by name; `None` for one that is defined but wrong, so that endpoints that name it are not to blame
/// as well.
fn handlers(
    inputs: &Inputs<'_>,
    upstreams: &[Arc<Upstream>],
    problems: &mut Problems,
) -> BTreeMap<String, Option<Named>> {
    let mut handlers: BTreeMap<String, Option<Named>> = BTreeMap::new();
    for (name, config) in &inputs.config.handlers {
        if let Some(known) = inputs.renewed().and_then(|running| known_handler(running, name, config, upstreams)) {
            handlers.insert(name.clone(), Some(known));
            continue;
        }
        let made = handler(inputs, name, config, upstreams).map_err(|faults| {
            for (path, message) in faults {
                let path: Vec<&str> = ["handlers", name].into_iter().chain(path.split_terminator('.')).collect();
                problems.push(&path, message, None);
            }
        });
        handlers.insert(name.clone(), made.ok());
    }
    for (name, handler) in inputs.handlers {
        if handlers.insert(name.clone(), Some((Arc::clone(handler), "library"))).is_some() {
            let message = "a handler of this name was also given to the builder";
            problems.push(&["handlers", name], message, Some("rename one of them".into()));
        }
    }
    handlers
}

/// The running handler, where none of its upstreams is new.
fn known_handler(running: &Plan, name: &str, config: &HandlerConfig, upstreams: &[Arc<Upstream>]) -> Option<Named> {
    let runs = |upstream: &Arc<Upstream>| running.upstreams.iter().any(|known| Arc::ptr_eq(known, upstream));
    let named = basis::named_upstreams(config);
    let all_run = upstreams.iter().filter(|upstream| named.contains(&&*upstream.name)).all(runs);
    running.handlers.get(name).filter(|_| all_run).cloned()
}

fn handler(
    inputs: &Inputs<'_>,
    name: &str,
    config: &HandlerConfig,
    upstreams: &[Arc<Upstream>],
) -> Result<Named, Faults> {
    let upstream = |wanted: &str| match upstreams.iter().find(|upstream| *upstream.name == *wanted) {
        Some(found) => Ok(Arc::clone(found)),
        None => Err(match nearest(wanted, upstreams.iter().map(|upstream| &*upstream.name)) {
            Some(near) => format!("there is no upstream {wanted:?}; did you mean {near:?}?"),
            None => format!("there is no upstream {wanted:?}; add an [upstreams.{wanted}] table"),
        }),
    };
    let fronts = inputs.config.endpoints.iter().map(|(endpoint, config)| Front {
        name: endpoint,
        class: config.class.into(),
        is_ours: config.handler == name,
    });
    let fronts: Vec<Front<'_>> = fronts.collect();
    Ok(match config {
        HandlerConfig::HttpProxy(config) => (Arc::new(HttpProxy::new(config, &upstream, &fronts)?), "http-proxy"),
        HandlerConfig::TcpProxy(config) => (Arc::new(TcpProxy::new(config, &upstream)?), "tcp-proxy"),
        HandlerConfig::Respond(config) => (Arc::new(Respond::new(config)?), "respond"),
        HandlerConfig::Echo(_) => (Arc::new(Echo), "echo"),
        HandlerConfig::Plugin(config) => (Arc::new(Plugin::new(name, config, inputs.directory)?), "plugin"),
        HandlerConfig::Wasm(config) => (Arc::new(Plugin::wasm(name, config, inputs.directory)?), "wasm"),
    })
}
