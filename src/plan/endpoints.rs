//! Endpoints from their words: names, addresses, lists, deadlines, the handler's instance; TLS is `certificates.rs`'.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::certificates::{self, Outcome};
use super::passthrough;
use super::{Aim, Basis, Certificates, EndpointPlan, EndpointState, Inputs, Named};
use crate::access::Access;
use crate::clients::{ClientLimits, Clients};
use crate::config::Problems;
use crate::config::nearest;
use crate::config::{EndpointConfig, LimitsConfig, RateConfig, TimeoutsConfig};
use crate::handler::{Context, Handler, Limits, Started, Timeouts};
use crate::identity::{Class, Endpoint, EndpointName};
use crate::sampler::Sampler;
use crate::sketch::Rate;
use crate::tls::audit::Span;
use crate::tls::audit::policy::Policy;
use crate::units;
use crate::upstream::Upstream;

/// Makes every endpoint that is free of faults of configuration; those whose chains are unfit are made, and refused.
pub(super) fn plan(
    inputs: &Inputs<'_>,
    handlers: &BTreeMap<String, Option<Named>>,
    upstreams: &[Arc<Upstream>],
    policy: Option<&Policy>,
    problems: &mut Problems,
) -> Vec<Arc<EndpointPlan>> {
    let configs = &inputs.config.endpoints;
    if configs.is_empty() {
        problems.push(&["endpoints"], "there is no endpoint", Some("add an [endpoints.NAME] table".into()));
    }
    let addresses = addresses(inputs, problems);
    let mut endpoints = Vec::new();
    for (name, config) in configs {
        let listen = addresses.get(name.as_str()).cloned().unwrap_or_default();
        let handler = handlers.get(&config.handler).and_then(Option::as_ref);
        let fingerprint = handler.map(|(handler, _)| handler.fingerprint()).unwrap_or_default();
        let basis = Basis::new(inputs, name, config, upstreams, &fingerprint);
        let running = inputs.previous.and_then(|plan| plan.endpoint(name));
        if let Some(running) = running.filter(|running| is_same(running, &basis, inputs)) {
            endpoints.push(Arc::clone(running));
            continue;
        }
        let mut faults = Problems::default();
        let mut one = One { inputs, name, config, running, problems: &mut faults };
        match (one.plan(listen, handlers, policy, basis), inputs.renewed().and(running)) {
            (Some(fresh), Some(running)) if running.serves() && !fresh.serves() => {
                let span = fresh.certificates.span;
                let why = fresh.refusals().into_iter().chain(fresh.certificates.waiting).collect();
                endpoints.push(Arc::new(running.held_back(why, span)));
            }
            (Some(fresh), _) if faults.is_empty() => endpoints.push(Arc::new(fresh)),
            (_, Some(running)) => {
                let span = Span::endless(inputs.now);
                endpoints.push(Arc::new(running.held_back(vec![faults.to_string()], span)));
            }
            (_, None) => problems.append(faults),
        }
    }
    endpoints
}

/// Whether planning an endpoint again would make the running one.
fn is_same(running: &EndpointPlan, basis: &Basis, inputs: &Inputs<'_>) -> bool {
    let certificates = &running.certificates;
    // What is held back while the gateway runs is an error to whoever asks for a reload.
    let held = inputs.aim == Aim::Load && !certificates.held.is_empty();
    let spent = running.instance().is_some_and(|running| running.instance().is_spent());
    basis.has_inputs_of(&running.basis) && certificates.span.holds_at(inputs.now) && !held && !spent
}

impl EndpointPlan {
    fn serves(&self) -> bool {
        self.is_ready() && !self.is_waiting()
    }

    /// The endpoint as it runs, which goes on for these reasons until a file changes or the span is over.
    fn held_back(&self, held: Vec<String>, span: Span) -> Self {
        Self { certificates: Certificates { held, span, ..self.certificates.clone() }, ..self.clone() }
    }
}

/// Reads every endpoint's addresses, and finds those that two of them claim.
fn addresses<'a>(inputs: &Inputs<'a>, problems: &mut Problems) -> BTreeMap<&'a str, Vec<SocketAddr>> {
    let mut claimed: Vec<(SocketAddr, String)> = Vec::new();
    if let Ok(admin) = units::listen_address(&inputs.config.admin.listen) {
        claimed.push((admin, "the admin port".into()));
    }
    let mut all = BTreeMap::new();
    for (name, config) in &inputs.config.endpoints {
        let listen = config.listen.as_slice();
        if listen.is_empty() {
            let remedy = Some(r#"list one, such as "127.0.0.1:8080""#.into());
            problems.push(&["endpoints", name, "listen"], "there is no address", remedy);
        }
        let mut addresses = Vec::new();
        for (index, text) in listen.iter().enumerate() {
            let path = ["endpoints", name, "listen", &index.to_string()];
            let Some(address) = problems.take(&path, units::listen_address(text)) else { continue };
            if let Some((_, owner)) = claimed.iter().find(|(other, _)| collide(*other, address)) {
                let remedy = Some("give one of them another port".into());
                problems.push(&path, format!("{address} is taken by {owner}"), remedy);
            }
            claimed.push((address, format!("endpoint {name:?}")));
            addresses.push(address);
        }
        all.insert(name.as_str(), addresses);
    }
    all
}

/// Whether two addresses cannot both be listened on: the same port, and the same or every address of one family.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_family && overlap
}

/// How large a request's head may be allowed to be: places in it are counted with 16 bits.
const HEAD_SIZES: RangeInclusive<u64> = 1024..=60 * 1024;
/// More than some lines carry that are in use.
const MOST_RATE: u64 = 1 << 20;

/// One endpoint in the making.
struct One<'a, 'p> {
    inputs: &'a Inputs<'a>,
    name: &'a str,
    config: &'a EndpointConfig,
    running: Option<&'a Arc<EndpointPlan>>,
    problems: &'p mut Problems,
}

impl One<'_, '_> {
    fn plan(
        &mut self,
        listen: Vec<SocketAddr>,
        handlers: &BTreeMap<String, Option<Named>>,
        policy: Option<&Policy>,
        mut basis: Basis,
    ) -> Option<EndpointPlan> {
        let name = match EndpointName::new(self.name) {
            Ok(name) => Some(name),
            Err(why) => {
                self.problem(&[], why, Some("rename it: the name is a label, a header and a log field".into()));
                None
            }
        };
        let class = Class::from(self.config.class);
        let access = self.access();
        let timeouts = self.timeouts(&self.config.timeouts);
        let limits = self.limits(&self.config.limits);
        let client_limits = self.client_limits(&self.config.limits);
        if self.config.max_connections == 0 {
            self.problem(&["max_connections"], "nobody could connect".into(), Some("give 1 or more".into()));
        }
        let handler = self.handler(handlers);
        let endpoint = Arc::new(Endpoint { name: name?, class, tls: self.config.tls.is_some() });
        let clients = Clients::new(client_limits, self.running.map(|running| &running.context.clients));
        let metrics = self.running.map(|running| Arc::clone(&running.context.metrics)).unwrap_or_default();
        let noise = Arc::new(Sampler::default());
        let context = Arc::new(Context {
            timeouts,
            limits: limits?,
            clients,
            noise: Arc::clone(&noise),
            metrics: Arc::clone(&metrics),
            access_log: self.inputs.telemetry.access_log.clone(),
            tracer: self.inputs.telemetry.tracer.clone(),
            challenges: Arc::clone(&self.inputs.challenges),
        });
        let (handler, kind) = handler?;
        let passthrough = passthrough::plan(&self.config.passthrough, &endpoint, self.inputs, handlers, self.problems);
        let alike = self.running.filter(|running| running.basis.has_words_of(&basis));
        let (tls, certificates, refused) = match &self.config.tls {
            None => (None, Certificates::default(), None),
            Some(config) => {
                let subject = certificates::Subject {
                    inputs: self.inputs,
                    endpoint: &endpoint,
                    listen: &listen,
                    config,
                    policy: policy?,
                    protocols: handler.protocols(),
                    metrics,
                    basis: &basis,
                    running: alike.map(AsRef::as_ref),
                };
                match certificates::plan(subject, self.problems)? {
                    Outcome::Serve(terms, certificates) => (Some(*terms), certificates, None),
                    Outcome::Refuse(reasons, certificates) => (None, certificates, Some(reasons)),
                }
            }
        };
        basis.note_verdict(&certificates);
        let state = match (refused, alike.map(|running| &running.state)) {
            (Some(reasons), _) => EndpointState::Refused(reasons),
            // Its handler need not know that a file is new.
            (None, Some(EndpointState::Ready { instance })) if !instance.instance().is_spent() => {
                EndpointState::Ready { instance: Arc::clone(instance) }
            }
            (None, _) => EndpointState::Ready { instance: self.start(&handler, &endpoint)? },
        };
        Some(EndpointPlan {
            endpoint,
            listen,
            context,
            access,
            noise,
            passthrough,
            max_connections: self.config.max_connections,
            required: self.config.required,
            handler: (self.config.handler.clone(), kind),
            tls,
            certificates,
            state,
            basis,
        })
    }

    fn start(&mut self, handler: &Arc<dyn Handler>, endpoint: &Arc<Endpoint>) -> Option<Arc<Started>> {
        let settings = &self.config.settings;
        let running = self.running.and_then(|running| running.instance());
        let instance = match running {
            Some(running) => handler.replace(running.instance(), endpoint, settings),
            None => handler.start(endpoint, settings),
        };
        match (instance, running) {
            (Ok(instance), Some(running)) if Arc::ptr_eq(&instance, running.instance()) => Some(Arc::clone(running)),
            (Ok(instance), _) => Some(Arc::new(Started::new(instance))),
            (Err(error), _) => {
                let path: Vec<&str> = std::iter::once("settings").chain(error.setting.as_deref()).collect();
                self.problem(&path, error.message, None);
                None
            }
        }
    }

    fn problem(&mut self, rest: &[&str], message: String, remedy: Option<String>) {
        let path: Vec<&str> = ["endpoints", self.name].iter().chain(rest).copied().collect();
        self.problems.push(&path, message, remedy);
    }

    fn handler(&mut self, handlers: &BTreeMap<String, Option<Named>>) -> Option<Named> {
        let wanted = &self.config.handler;
        if let Some(found) = handlers.get(wanted) {
            return found.clone();
        }
        let remedy = match nearest(wanted, handlers.keys().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("add a [handlers.{wanted}] table"),
        };
        self.problem(&["handler"], format!("no handler is called {wanted:?}"), Some(remedy));
        None
    }

    fn access(&mut self) -> Access {
        let config = self.config;
        Access {
            allow: self.networks("allow", &config.allow),
            deny: self.networks("deny", &config.deny),
            proxies: self.networks("accept_proxy_protocol", &config.accept_proxy_protocol),
        }
    }

    fn networks(&mut self, key: &str, texts: &[String]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let path = ["endpoints", self.name, key, &index.to_string()];
            networks.extend(self.problems.take(&path, units::network(text)));
        }
        networks
    }

    fn limits(&mut self, config: &LimitsConfig) -> Option<Limits> {
        let mut read = |key: &str, text: &str, range: RangeInclusive<u64>, remedy: &str| {
            let path = ["endpoints", self.name, "limits", key];
            let size = self.problems.take(&path, units::size(text))?;
            if !range.contains(&size) {
                self.problems.push(&path, format!("{text:?} is out of range"), Some(remedy.into()));
            }
            Some(size)
        };
        let head = read("head_size", &config.head_size, HEAD_SIZES, "write \"1KiB\" to \"60KiB\"")?;
        let line = 64..=head;
        let line = read("request_line_size", &config.request_line_size, line, "write \"64B\" to head_size")?;
        let body = config.body_size.as_deref().map(|text| read("body_size", text, 0..=u64::MAX, ""));
        let body = body.map_or(Some(None), |size| size.map(Some))?;
        let min_rate = read("min_rate", &config.min_rate, 0..=MOST_RATE, "write \"0B\" to \"1MiB\"")?;
        let path = ["endpoints", self.name, "limits", "min_rate_grace"];
        let min_rate_grace = self.problems.take(&path, units::duration(&config.min_rate_grace))?;
        if min_rate_grace < Duration::from_secs(1) {
            self.problems.push(&path, "it is too short", Some("write \"1s\" or more".into()));
        }
        Some(Limits { head: head as usize, request_line: line as usize, body, min_rate, min_rate_grace })
    }

    fn client_limits(&mut self, config: &LimitsConfig) -> ClientLimits {
        if config.client_connections == Some(0) {
            let remedy = Some("give 1 or more, or leave it out for no limit".into());
            self.problem(&["limits", "client_connections"], "nobody could connect".into(), remedy);
        }
        if let (Some(_), None) = (&config.client_handshake_rate, &self.config.tls) {
            let remedy = Some("leave it out, or set client_connection_rate".into());
            self.problem(&["limits", "client_handshake_rate"], "a plain endpoint has no handshakes".into(), remedy);
        }
        ClientLimits {
            connections: config.client_connections,
            connection_rate: self.rate("client_connection_rate", config.client_connection_rate.as_ref()),
            request_rate: self.rate("client_request_rate", config.client_request_rate.as_ref()),
            handshake_rate: self.rate("client_handshake_rate", config.client_handshake_rate.as_ref()),
        }
    }

    fn rate(&mut self, key: &str, config: Option<&RateConfig>) -> Option<Rate> {
        let config = config?;
        let path = ["endpoints", self.name, "limits", key, "rate"];
        let (count, time) = self.problems.take(&path, units::rate(&config.rate))?;
        let burst = config.burst.unwrap_or(count);
        if burst == 0 {
            let remedy = Some("give 1 or more, or leave it out".into());
            self.problem(&["limits", key, "burst"], "nothing could ever come".into(), remedy);
        }
        Some(Rate { interval: time / count, burst })
    }

    fn timeouts(&mut self, config: &TimeoutsConfig) -> Timeouts {
        let mut read = |key: &str, text: &str| {
            let path = ["endpoints", self.name, "timeouts", key];
            self.problems.take(&path, units::positive_duration(text)).unwrap_or_default()
        };
        Timeouts {
            handshake: read("handshake", &config.handshake),
            header: read("header", &config.header),
            body: read("body", &config.body),
            idle: read("idle", &config.idle),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_by_port_family_and_wildcard() {
        let collide = |a: &str, b: &str| collide(a.parse().unwrap(), b.parse().unwrap());
        assert!(collide("127.0.0.1:80", "127.0.0.1:80"));
        assert!(collide("0.0.0.0:80", "127.0.0.1:80"));
        assert!(!collide("0.0.0.0:80", "[::]:80"));
        assert!(!collide("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!collide("127.0.0.1:0", "127.0.0.1:0"));
    }
}
