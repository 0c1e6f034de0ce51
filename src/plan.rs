//! What is ready to run: a checked, immutable [`Plan`] made from a `Config`.
//!
//! Start-up, `check` and reload all go through here; it collects every error instead of stopping at the first.
//! `gateway` runs a plan; `admin` shows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::handler::{Context, Instance};
use crate::identity::Endpoint;
use crate::upstream::Upstream;

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
}

/// The admin port's settings.
#[derive(Clone)]
pub struct AdminPlan {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer token that a request must carry; `None` asks for none.
    pub token: Option<Arc<str>>,
}

/// One endpoint, ready to be opened, or refused with its reasons.
pub struct EndpointPlan {
    /// Its identity.
    pub endpoint: Arc<Endpoint>,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// What its connections share.
    pub context: Arc<Context>,
    /// How many connections it holds at most.
    pub max_connections: usize,
    /// Whether readiness needs it.
    pub required: bool,
    /// The handler's name and type, such as ("site", "http-proxy").
    pub handler: (String, &'static str),
    /// Whether it can serve.
    pub state: EndpointState,
}

/// Whether an endpoint can serve.
pub enum EndpointState {
    /// It can.
    Ready {
        /// What serves its connections.
        instance: Arc<dyn Instance>,
    },
    /// It cannot: none of its chains is fit. Each reason is a sentence that names file, rule and remedy.
    Refused(Vec<String>),
}
