//! Passes HTTP requests on to upstreams: routes, fields, errors and upgrades.
//!
//! [`HttpProxy`] is made by `plan` from the configuration and serves several endpoints through one
//! [`HttpProxyService`] each, which the HTTP engine (`handler/http`) calls. What follows a request from here is
//! `upstream::exchange`.

mod client_cert;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod path;
mod request;
mod response;
mod routes;
mod upgrade;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{HeaderValue, MAX_FORWARDS};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

pub use self::response::ProxyBody;

use self::request::{Asks, Signature, Target};
use self::routes::{Action, Names, Route};
use crate::config::HttpProxyConfig;
use crate::handler::http::{self, HttpInstance, HttpService, Reply, RequestBody};
use crate::handler::{Handler, Instance, Settings, StartError, settings_are_unused};
use crate::identity::{ConnectionInfo, Endpoint};
use crate::upstream::{Answer, Answered, LookUp, Outgoing, Upstream};

/// The `http-proxy` handler, before it is told its endpoint.
#[derive(Debug)]
pub struct HttpProxy {
    routes: Vec<Route>,
    default: Option<Arc<Upstream>>,
}

/// The `http-proxy` handler as one endpoint has it.
#[derive(Debug)]
pub struct HttpProxyService {
    /// Those that are for this endpoint.
    routes: Vec<Route>,
    /// For requests that no route takes.
    default: Option<Arc<Upstream>>,
    signature: Signature,
}

impl HttpProxy {
    /// Checks and compiles a handler's table. `upstream` and `endpoint` look the configuration's names up.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place in the handler's table (`routes.0.path`).
    pub fn new(
        config: &HttpProxyConfig,
        upstream: LookUp<'_>,
        endpoint: &dyn Fn(&str) -> bool,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut errors = Vec::new();
        let default = config
            .upstream
            .as_deref()
            .and_then(|name| upstream(name).map_err(|why| errors.push(("upstream".to_owned(), why))).ok());
        if config.upstream.is_none() && config.routes.is_empty() {
            errors.push((String::new(), "it leads nowhere; add `upstream` or `routes`".to_owned()));
        }
        let routes = routes::compile(&config.routes, &Names { upstream, endpoint }, &mut errors);
        if errors.is_empty() { Ok(Self { routes, default }) } else { Err(errors) }
    }

    /// The service of one endpoint.
    #[must_use]
    pub fn service(&self, endpoint: &Endpoint) -> HttpProxyService {
        let routes = self.routes.iter().filter(|route| route.is_for(endpoint.name.as_str())).cloned().collect();
        HttpProxyService { routes, default: self.default.clone(), signature: Signature::new(&endpoint.name) }
    }
}

impl Handler for HttpProxy {
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        settings_are_unused("http-proxy", endpoint, settings);
        Ok(Arc::new(HttpInstance::new(self.service(endpoint))))
    }

    fn protocols(&self) -> &'static [&'static str] {
        http::PROTOCOLS
    }
}

impl HttpService for HttpProxyService {
    type Body = ProxyBody;

    async fn call(self: Arc<Self>, request: Request<RequestBody>, info: &Arc<ConnectionInfo>) -> Reply<ProxyBody> {
        let (head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return response::refuse(StatusCode::NOT_IMPLEMENTED, "CONNECT is not served");
        }
        let target = match Target::of(&head) {
            Ok(target) => target,
            Err(why) => return response::refuse(StatusCode::BAD_REQUEST, why),
        };
        let upstream = match routes::choose(&self.routes, target.host(), target.path(&head)) {
            Err(why) => return response::refuse(StatusCode::BAD_REQUEST, why),
            Ok(Some(Action::Respond(status, body))) => return response::text(*status, body.clone()).into(),
            Ok(Some(Action::PassOn(upstream))) => upstream,
            Ok(None) => match &self.default {
                Some(upstream) => upstream,
                None => return response::text(StatusCode::NOT_FOUND, Bytes::from_static(b"404 Not Found\n")).into(),
            },
        };
        self.pass_on(upstream, head, body, target, info).await
    }
}

impl HttpProxyService {
    async fn pass_on(
        &self,
        upstream: &Upstream,
        mut head: Parts,
        body: RequestBody,
        target: Target,
        info: &ConnectionInfo,
    ) -> Reply<ProxyBody> {
        match count_forwards(&mut head) {
            Ok(Onward::Go) => {}
            Ok(Onward::Stop) => return last_hop(&head.method),
            Err(why) => return response::refuse(StatusCode::BAD_REQUEST, why),
        }
        let has_body = !body.is_end_stream();
        let protocol = upgrade::asked(&head, has_body);
        let switch = protocol.and_then(|p| upgrade::Pending::take(&mut head, p, upstream.timeouts.idle));
        let asks = Asks {
            switch: switch.as_ref().map(|pending| pending.protocol().clone()),
            body: has_body.then(|| body.size_hint().exact()),
        };
        if let Err(why) = self.signature.rewrite(&mut head, target, &asks, info) {
            return response::refuse(StatusCode::BAD_REQUEST, why);
        }
        head.extensions.clear(); // the engine's, and none of hyper's concern
        match upstream.exchange(Request::from_parts(head, outgoing(body))).await {
            Ok(Answered { answer, server }) => {
                Reply { response: answered(answer, switch), upstream: Some(server), error: None }
            }
            Err(error) => {
                tracing::debug!(endpoint = %info.endpoint.name, upstream = %upstream.name, %error, "a request failed");
                response::upstream_failed(&error)
            }
        }
    }
}

/// The client's body on its way; its errors abort the request to the upstream.
fn outgoing(body: RequestBody) -> Outgoing {
    Outgoing::new(body.map_err(Into::into).map_frame(|mut frame| {
        frame.trailers_mut().map(request::strip_trailers);
        frame
    }))
}

fn answered(answer: Answer, switch: Option<upgrade::Pending>) -> Response<ProxyBody> {
    match (answer, switch) {
        (Answer::Response(answer), _) => response::pass_back(answer).map(ProxyBody::Upstream),
        (Answer::Switched(switched, tunnel), Some(pending)) => pending.switch(switched, tunnel),
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

/// Counts `Max-Forwards` down, for the methods that it is for (RFC 9110, section 7.6.2).
fn count_forwards(head: &mut Parts) -> Result<Onward, &'static str> {
    if !matches!(head.method, Method::OPTIONS | Method::TRACE) {
        return Ok(Onward::Go);
    }
    let Some(value) = head.headers.get(MAX_FORWARDS) else { return Ok(Onward::Go) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let left: u32 = digits.and_then(|digits| digits.parse().ok()).ok_or("Max-Forwards is not a number")?;
    let Some(left) = left.checked_sub(1) else { return Ok(Onward::Stop) };
    head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
    Ok(Onward::Go)
}

/// Answers a request that was to come this far and no further.
fn last_hop(method: &Method) -> Reply<ProxyBody> {
    if *method == Method::TRACE {
        // Reflecting a request would show a page's script the fields that it may not see.
        return response::refuse(StatusCode::NOT_IMPLEMENTED, "TRACE is not answered here");
    }
    response::text(StatusCode::NO_CONTENT, Bytes::new()).into()
}
