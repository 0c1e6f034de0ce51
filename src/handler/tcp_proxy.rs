//! The `tcp-proxy` handler: passes bytes on to an upstream, both ways, with half-close.
//!
//! Owns the choice of a server, the PROXY header that tells it who is there, and how a break on one side reaches the
//! other. The bytes are moved by `relay`; servers come from `upstream`.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::{Connection, Handler, Instance, ServeError, Serving, Settings, Side, StartError, settings_are_unused};
use crate::access_log::{Entry, Facts};
use crate::config::{ProxyProtocol, TcpProxyConfig};
use crate::identity::{ConnectionInfo, Endpoint};
use crate::metrics::{RequestFailure, UpstreamFailure};
use crate::proxy_protocol;
use crate::relay::{Broken, relay};
use crate::trail::Trail;
use crate::upstream::{KeySource, LookUp, Session, Upstream, address_key};

/// Passes bytes on to an upstream.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    upstream: Arc<Upstream>,
    proxy_protocol: Option<ProxyProtocol>,
}

impl TcpProxy {
    /// A proxy to the upstream that the handler's table names; `upstream` looks it up.
    ///
    /// # Errors
    /// Each fault: its path within the table, and a sentence.
    pub fn new(config: &TcpProxyConfig, upstream: LookUp<'_>) -> Result<Self, Vec<(String, String)>> {
        let upstream = upstream(&config.upstream).map_err(|why| vec![("upstream".into(), why)])?;
        if let Some(KeySource::Header(_) | KeySource::Cookie(_)) = upstream.policy.key {
            let why = "its servers are chosen by a field of requests, which a tcp-proxy does not read; \
                       let another upstream balance by \"client-address\"";
            return Err(vec![("upstream".into(), why.into())]);
        }
        Ok(Self { upstream, proxy_protocol: config.proxy_protocol })
    }

    /// Connects to the first server that can be reached, and tells it who is there.
    async fn connect(&self, info: &ConnectionInfo, trail: &mut Trail) -> Result<Session, ServeError> {
        let key = self.upstream.policy.key.as_ref().map(|_| address_key(info.client.0.ip()));
        let opened = self.upstream.open_session(key).await;
        let mut session = opened.map_err(|error| {
            let failed = ServeError::new(Side::Upstream, &error).called(error.failure.word());
            *trail = error.trail;
            failed
        })?;
        *trail = std::mem::take(&mut session.trail);
        if let Some(version) = self.proxy_protocol {
            let header = proxy_protocol::header(version, info);
            let sent = timeout(self.upstream.timeouts.body, session.wire.write_all(&header)).await;
            if !matches!(sent, Ok(Ok(()))) {
                session.lease.metrics.fail(UpstreamFailure::Closed);
                return Err(ServeError::new(Side::Upstream, format_args!("{}: closed at once", session.lease.name)));
            }
        }
        Ok(session)
    }
}

impl Handler for TcpProxy {
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        settings_are_unused("tcp-proxy", endpoint, settings);
        Ok(Arc::new(self.clone()))
    }
}

impl Instance for TcpProxy {
    fn serve(self: Arc<Self>, mut connection: Connection) -> Serving {
        Box::pin(async move {
            let start = Instant::now();
            let mut session = Account::default();
            let result = self.session(&mut connection, &mut session).await;
            let facts = Facts::default();
            let entry = Entry {
                received: session.to_upstream,
                sent: session.to_client,
                upstream: Some(&self.upstream.name),
                ..Entry::session(&connection.info, &facts, start, &session.trail)
            };
            connection.context.session_ended(entry, &result);
            result
        })
    }
}

/// What a session's line in the access log says.
#[derive(Default)]
struct Account {
    trail: Trail,
    to_upstream: u64,
    to_client: u64,
}

impl TcpProxy {
    async fn session(&self, connection: &mut Connection, account: &mut Account) -> Result<(), ServeError> {
        let mut session = match self.connect(&connection.info, &mut account.trail).await {
            Ok(connected) => connected,
            Err(error) => {
                // No server: the client's bytes went nowhere, and a reset says so.
                connection.stream.abort();
                return Err(error);
            }
        };
        let (server, wire) = (&session.lease, &mut session.wire);
        let relayed = relay(&mut connection.stream, wire, connection.context.timeouts.idle).await;
        (account.to_upstream, account.to_client) = (relayed.to_upstream, relayed.to_client);
        // A break on one side is a reset on the other, never an end that looks like the whole.
        match relayed.broken {
            None => Ok(()),
            Some(Broken::Client(error)) => {
                wire.abort();
                Err(ServeError::new(Side::Client, error))
            }
            Some(Broken::Upstream(error)) => {
                connection.stream.abort();
                // A server that closes over what it has not read resets, which a client that has ended does not mind:
                // PostgreSQL does so over TLS, behind every session.
                if relayed.client_ended && error.kind() == io::ErrorKind::ConnectionReset {
                    return Ok(());
                }
                server.metrics.fail(UpstreamFailure::Closed);
                Err(ServeError::new(Side::Upstream, format_args!("{}: {error}", server.name)))
            }
            Some(Broken::Idle) => {
                wire.abort();
                connection.stream.abort();
                Err(ServeError::new(Side::Client, "idle").called(RequestFailure::IdleTimeout))
            }
        }
    }
}
