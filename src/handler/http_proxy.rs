//! Passes HTTP requests on to upstreams: routes, fields, errors and upgrades.
//!
//! [`HttpProxy`] is made by `plan` from the configuration and serves several endpoints through one
//! [`HttpProxyService`] each, which the HTTP engine (`handler/http`) calls. What follows a request from here is
//! `upstream::exchange`.

mod client_cert;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod path;
mod request;
mod response;
mod routes;
mod upgrade;
mod via;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{HeaderValue, MAX_FORWARDS};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

pub use self::response::ProxyBody;
pub use self::routes::Front;

use self::request::{Asks, Signature, Target};
use self::routes::{Action, Asked, Changes, Facts, Names, Route};
use crate::config::HttpProxyConfig;
use crate::fields;
use crate::handler::http::{self, HttpInstance, HttpService, Interim, Reply, RequestBody, Told};
use crate::handler::{Handler, Instance, Settings, StartError, settings_are_unused};
use crate::identity::{ConnectionInfo, Endpoint};
use crate::metrics::routes::{RouteId, Routes};
use crate::trace::{self, TRACEPARENT};
use crate::upstream::{Answer, Answered, ExchangeError, LookUp, Outgoing, OwnFields, Protocol, Sending, Upstream};

/// The `http-proxy` handler, before it is told its endpoint.
#[derive(Debug)]
pub struct HttpProxy {
    routes: Vec<Route>,
    default: Option<Arc<Upstream>>,
    passes_double_encoding: bool,
    /// What `Via` calls the gateway.
    via: String,
}

/// The `http-proxy` handler as one endpoint has it.
#[derive(Debug)]
pub struct HttpProxyService {
    /// Those that are for this endpoint.
    routes: Vec<Route>,
    /// For requests that no route takes, with what they are counted under.
    default: Option<(Arc<Upstream>, RouteId)>,
    /// What requests are counted under.
    counted: Arc<Routes>,
    /// Passes on a path with a slash that is encoded twice.
    passes_double_encoding: bool,
    signature: Signature,
}

impl HttpProxy {
    /// Checks and compiles a handler's table. `upstream` looks the configuration's names up; `fronts` are its endpoints.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place in the handler's table (`routes.0.path`).
    pub fn new(
        config: &HttpProxyConfig,
        upstream: LookUp<'_>,
        fronts: &[Front<'_>],
    ) -> Result<Self, Vec<(String, String)>> {
        let mut errors = Vec::new();
        let default = config
            .upstream
            .as_deref()
            .and_then(|name| upstream(name).map_err(|why| errors.push(("upstream".to_owned(), why))).ok());
        if config.upstream.is_none() && config.routes.is_empty() {
            errors.push((String::new(), "it leads nowhere; add `upstream` or `routes`".to_owned()));
        }
        let routes = routes::compile(&config.routes, &Names { upstream, fronts }, &mut errors);
        let passes_double_encoding = config.double_encoded_slashes;
        let via = config.via.clone().unwrap_or_else(|| via::DEFAULT.to_owned());
        errors.extend(via::check(&via).err().map(|why| ("via".to_owned(), why)));
        if errors.is_empty() { Ok(Self { routes, default, passes_double_encoding, via }) } else { Err(errors) }
    }

    /// The service of one endpoint; it goes on with the counters of `before`, where it takes that one's place.
    #[must_use]
    pub fn service(&self, endpoint: &Endpoint, before: Option<&Routes>) -> HttpProxyService {
        let mut routes: Vec<Route> = self.routes.iter().filter(|route| route.serves(endpoint)).cloned().collect();
        let own = routes.iter().map(|route| (Arc::clone(&route.name), route.action.upstream()));
        let default = self.default.iter().map(|upstream| (routes::DEFAULT.into(), Some(upstream)));
        let all =
            own.chain(default).map(|(name, upstream)| (name, upstream.map(|upstream| Arc::clone(&upstream.name))));
        let counted = Routes::new(all, before);
        for (place, route) in routes.iter_mut().enumerate() {
            route.id = Some(counted.id(place));
        }
        let default = self.default.clone().map(|upstream| (upstream, counted.id(routes.len())));
        HttpProxyService {
            routes,
            default,
            counted: Arc::new(counted),
            passes_double_encoding: self.passes_double_encoding,
            signature: Signature::new(&endpoint.name, via::Name::new(&self.via)),
        }
    }
}

impl Handler for HttpProxy {
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        settings_are_unused("http-proxy", endpoint, settings);
        Ok(Arc::new(HttpInstance::new(self.service(endpoint, None))))
    }

    fn replace(
        &self,
        running: &Arc<dyn Instance>,
        endpoint: &Arc<Endpoint>,
        settings: &Settings,
    ) -> Result<Arc<dyn Instance>, StartError> {
        settings_are_unused("http-proxy", endpoint, settings);
        Ok(Arc::new(HttpInstance::new(self.service(endpoint, running.routes().map(AsRef::as_ref)))))
    }

    fn protocols(&self) -> &'static [&'static str] {
        http::PROTOCOLS
    }
}

impl HttpService for HttpProxyService {
    // `response` sees to it, and `routes` takes no change that would undo it.
    const ANSWERS_END_TO_END: bool = true;
    type Body = ProxyBody;

    fn routes(&self) -> Option<&Arc<Routes>> {
        Some(&self.counted)
    }

    // Not an `async fn`: what can be settled before anything is waited for stays out of the future, and so do the
    // request's parts; a future is moved and kept as large as the largest of its states.
    fn call(
        &self,
        request: Request<RequestBody>,
        info: &Arc<ConnectionInfo>,
        interim: &Interim,
    ) -> impl Future<Output = Reply<ProxyBody>> + Send {
        let (outcome, via) = (self.prepare(request, info), self.signature.via());
        async move {
            let Ready { upstream, route, request, key, switch, changes } = match outcome {
                Ok(ready) => ready,
                Err(reply) => return reply,
            };
            let early = |mut head| {
                response::pass_back(&mut head, via);
                interim.send(head);
            };
            let mut reply = match upstream.exchange(request, key, interim.begun(), &early).await {
                Ok(Answered { answer, trail }) => {
                    Reply::new(answered(answer, switch, via), Told { route, trail, error: None })
                }
                Err(error) => failed(error, upstream, route, info),
            };
            change(changes, &mut reply);
            reply
        }
    }
}

/// A request as its upstream is to see it.
struct Ready<'a> {
    upstream: &'a Upstream,
    /// What took the request.
    route: Option<RouteId>,
    request: Box<Sending>,
    /// What its server is chosen by, where that is by a key.
    key: Option<u64>,
    /// The client's end, where it asks to switch protocols.
    switch: Option<Box<upgrade::Pending>>,
    /// What its route changes about the answer.
    changes: Option<&'a Changes>,
}

impl HttpProxyService {
    /// Everything before the upstream is asked; an answer where it need not be.
    fn prepare(&self, request: Request<RequestBody>, info: &ConnectionInfo) -> Result<Ready<'_>, Reply<ProxyBody>> {
        let (mut head, body) = request.into_parts();
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(response::refuse(StatusCode::NOT_IMPLEMENTED, "the method is not served")); // whatever engine it came by
        }
        let target = Target::of(&head).map_err(bad_request)?;
        if !self.passes_double_encoding && path::hides_slash(target.path(&head)) {
            return Err(bad_request("the path holds a slash that is encoded twice"));
        }
        let facts =
            || Facts { host: target.host(), path: target.path(&head), method: &head.method, fields: &head.headers };
        let route = routes::choose(&self.routes, facts).map_err(bad_request)?;
        let upstream = match route.map(|route| &route.action) {
            Some(Action::PassOn(upstream)) => upstream,
            None => self.default.as_ref().map(|(upstream, _)| upstream).ok_or_else(|| {
                Reply::from(response::text(StatusCode::NOT_FOUND, Bytes::from_static(b"404 Not Found\n")))
            })?,
            Some(Action::Respond(status, body)) => {
                return Err(answer(route, response::text(*status, body.clone())));
            }
            Some(Action::Redirect(redirect)) => {
                let (host, path) = (target.host(), target.path(&head));
                let rest = route.map_or("", |route| route.rest(path));
                let asked = Asked { host, path, rest, query: head.uri.query() };
                let location = redirect.location(asked).ok_or_else(|| bad_request("the target is malformed"))?;
                return Err(answer(route, response::redirect(redirect.status, location)));
            }
        };
        self.address(upstream, route, &mut head, body, target, info)
    }

    /// Makes the request that the upstream is sent.
    fn address<'a>(
        &'a self,
        upstream: &'a Upstream,
        route: Option<&'a Route>,
        head: &mut Parts,
        body: RequestBody,
        mut target: Target,
        info: &ConnectionInfo,
    ) -> Result<Ready<'a>, Reply<ProxyBody>> {
        if self.signature.via().is_in(&head.headers) {
            return Err(response::looped());
        }
        if count_forwards(head).map_err(bad_request)? == Onward::Stop {
            return Err(response::text(StatusCode::NO_CONTENT, Bytes::new()).into());
        }
        let has_body = !body.is_end_stream();
        let key = upstream.policy.key.as_ref().and_then(|source| request::key(source, head, info));
        let is_http2 = upstream.policy.protocol == Protocol::Http2;
        // HTTP/2 has no upgrades (RFC 9113, section 8.6): there the request is an ordinary one.
        let protocol = upgrade::asked(head, has_body).filter(|_| !is_http2);
        let switch = protocol.and_then(|p| upgrade::Pending::take(head, p)).map(Box::new);
        let asks = Asks {
            switch: switch.as_ref().map(|pending| pending.protocol().clone()),
            body: has_body.then(|| body.size_hint().exact()),
        };
        let received = head.version;
        if let Some((length, by)) = route.and_then(Route::replacement) {
            target.replace_prefix(head, length, by).map_err(bad_request)?;
        }
        request::rewrite(head, &target, &asks).map_err(bad_request)?;
        if let Some(changes) = route.and_then(|route| route.request.as_ref()) {
            changes.make(&mut head.headers);
        }
        // Each attempt says which span it is, in the place of the request's own.
        let trace = head.extensions.remove::<trace::Active>().inspect(|_| drop(head.headers.remove(TRACEPARENT)));
        let sign = |fields: &mut OwnFields| {
            self.signature.sign(fields, received, &target, info);
            if let Some(active) = trace {
                fields.add_trace(active.trace);
            }
        };
        let body = outgoing(body);
        let request = if is_http2 {
            Sending::over_http2(head, body, upstream.scheme(), sign)
        } else {
            Sending::new(head, body, sign)
        };
        let changes = route.and_then(|route| route.response.as_deref());
        let route = route.map_or_else(|| self.default.as_ref().map(|(_, id)| *id), |route| route.id);
        Ok(Ready { upstream, route, request, key, switch, changes })
    }
}

/// The gateway's own answer by a route.
fn answer(route: Option<&Route>, response: Response<ProxyBody>) -> Reply<ProxyBody> {
    let told = Told { route: route.and_then(|route| route.id), ..Told::default() };
    let mut reply = Reply::new(response, told);
    change(route.and_then(|route| route.response.as_deref()), &mut reply);
    reply
}

/// The answer for an upstream that gave none.
#[cold]
fn failed(
    error: ExchangeError,
    upstream: &Upstream,
    route: Option<RouteId>,
    info: &ConnectionInfo,
) -> Reply<ProxyBody> {
    let (endpoint, upstream) = (&info.endpoint.name, &upstream.name);
    tracing::debug!(%endpoint, %upstream, %error, "a request failed");
    let mut reply = response::upstream_failed(error);
    reply.told.route = route;
    reply
}

/// Makes a route's changes to an answer.
fn change(changes: Option<&Changes>, reply: &mut Reply<ProxyBody>) {
    if let Some(changes) = changes {
        changes.make(reply.response.headers_mut());
    }
}

#[cold]
fn bad_request(why: &'static str) -> Reply<ProxyBody> {
    response::refuse(StatusCode::BAD_REQUEST, why)
}

/// The client's body on its way; its errors abort the request to the upstream.
fn outgoing(body: RequestBody) -> Outgoing {
    Outgoing::new(body.map_err(Into::into).map_frame(|mut frame| {
        frame.trailers_mut().map(request::strip_trailers);
        frame
    }))
}

fn answered(answer: Answer, switch: Option<Box<upgrade::Pending>>, via: &via::Name) -> Response<ProxyBody> {
    match (answer, switch) {
        (Answer::Response(mut answer), _) => {
            response::pass_back(&mut answer, via);
            answer.map(ProxyBody::Upstream)
        }
        (Answer::Switched(switched, tunnel), Some(pending)) => pending.switch(switched, tunnel, via),
        // Nobody asked, so `exchange` does not let it come to this; the tunnel ends here.
        (Answer::Switched(..), None) => response::text(StatusCode::BAD_GATEWAY, Bytes::new()),
    }
}

/// Whether a request goes on to the upstream.
#[derive(Debug, PartialEq, Eq)]
enum Onward {
    Go,
    Stop,
}

/// Counts `Max-Forwards` down, for the method that it is for and that is passed on (RFC 9110, section 7.6.2).
fn count_forwards(head: &mut Parts) -> Result<Onward, &'static str> {
    if head.method != Method::OPTIONS {
        return Ok(Onward::Go);
    }
    let Some(value) = head.headers.get(MAX_FORWARDS) else { return Ok(Onward::Go) };
    let left = fields::number(value.as_bytes()).ok_or("Max-Forwards is not a number")?;
    let Some(left) = left.checked_sub(1) else { return Ok(Onward::Stop) };
    head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
    Ok(Onward::Go)
}
