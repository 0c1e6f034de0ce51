//! A gateway made by hand, for the tests of the admin port.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use crate::access::Access;
use crate::access_log::AccessLog;
use crate::admin::state::Snapshot;
use crate::clients::Clients;
use crate::config::{AuditConfig, Config, OnUnfit, WaiverConfig};
use crate::handler::{Connection, Context, Instance, Limits, Serving, Started, Timeouts};
use crate::identity::{Class, Endpoint, EndpointName};
use crate::metrics::EndpointMetrics;
use crate::plan::{AcmePlan, AdminPlan, Basis, Certificates, EndpointPlan, EndpointState, Plan};
use crate::tls::audit::decide::{Decision, decide};
use crate::tls::audit::policy::Policy;
use crate::tls::audit::{Subject, audit_all};
use crate::tls::chain::Material;
use crate::tls::client_auth::Crl;
use crate::upstream::{Server, Upstream, UpstreamPolicy, UpstreamTimeouts};

/// The unfit chain's file, whose name holds everything that a format might trip over.
pub(crate) const HOSTILE_FILE: &str = "certs/\"quoted\"\\<b>.pem";
/// The chain that is served in its place.
pub(crate) const FIT_FILE: &str = "certs/site.pem";
/// A rule that both break, and that is waived for the unfit one.
pub(crate) const WAIVED: &str = "validity-too-long";

struct Nothing;

impl Instance for Nothing {
    fn serve(self: Arc<Self>, _: Connection) -> Serving {
        Box::pin(async { Ok(()) })
    }
}

/// A TLS endpoint "internet" on a fallback, a plain "internal", and a refused, optional "spare".
pub(crate) fn snapshot() -> Snapshot {
    let mut internet = endpoint("internet", Class::Public, true);
    internet.certificates = certificates(&internet.endpoint);
    let internal = endpoint("internal", Class::Internal, false);
    let mut spare = endpoint("spare", Class::Public, true);
    spare.required = false;
    spare.state = EndpointState::Refused(vec!["certs/spare.pem: signed with MD5 (rule sig-md5); reissue it".into()]);
    let plan = Plan {
        upstream_trust: Vec::new(),
        config: config(),
        workers: 1,
        drain_timeout: Duration::from_secs(30),
        max_connections: 1000,
        admin: Some(AdminPlan { listen: ([127, 0, 0, 1], 0).into(), token: None, token_file: None }),
        endpoints: [internal, internet, spare].map(Arc::new).into(),
        upstreams: vec![Arc::new(upstream())],
        handlers: BTreeMap::new(),
        acme: AcmePlan::default(),
        tracing: None,
    };
    Snapshot { plan: Arc::new(plan), addresses: BTreeMap::new(), drained: BTreeSet::new() }
}

/// The same with its plan changed.
pub(crate) fn running_with(change: impl FnOnce(&mut Plan)) -> Snapshot {
    let mut running = snapshot();
    change(Arc::get_mut(&mut running.plan).unwrap());
    running
}

fn config() -> Config {
    let text = r#"
        [endpoints.internet]
        listen = "127.0.0.1:443"
        handler = "site"
        settings = { banner = "hello", api_key = "hunter2" }
        [handlers.site]
        type = "respond"
    "#;
    toml::from_str(text).unwrap()
}

fn endpoint(name: &str, class: Class, tls: bool) -> EndpointPlan {
    let name = EndpointName::new(name).unwrap();
    EndpointPlan {
        endpoint: Arc::new(Endpoint { name, class, tls }),
        listen: vec![([127, 0, 0, 1], 443).into()],
        context: Arc::new(Context {
            limits: Limits::default(),
            clients: Clients::default(),
            noise: Arc::default(),
            timeouts: Timeouts::default(),
            metrics: Arc::new(EndpointMetrics::default()),
            access_log: AccessLog::off(),
            tracer: crate::trace::Tracer::off(),
            challenges: Arc::default(),
        }),
        access: Access::default(),
        passthrough: Vec::new(),
        noise: Arc::default(),
        tls: None,
        certificates: Certificates::default(),
        max_connections: 100,
        required: true,
        handler: ("site".into(), "respond"),
        state: EndpointState::Ready { instance: Arc::new(Started::new(Arc::new(Nothing))) },
        basis: Basis::default(),
    }
}

fn upstream() -> Upstream {
    // The second has two addresses, which are counted together.
    let first = Server::new("127.0.0.1:3000", ([127, 0, 0, 1], 3000).into());
    let second = Server::new("app:3001", ([127, 0, 0, 1], 3001).into());
    let third = second.at(([127, 0, 0, 2], 3001).into());
    let servers = [first, second, third].map(|server| (server, 1)).into();
    Upstream::new("app", servers, UpstreamTimeouts::default(), UpstreamPolicy::default())
}

/// What start-up makes of an unfit chain with a fit one below it, which stands twice, as a careless hand may have it.
fn certificates(endpoint: &Endpoint) -> Certificates {
    let unfit = material(HOSTILE_FILE, "md5-www");
    let waiver = WaiverConfig {
        rule: WAIVED.into(),
        certificate: format!("sha256:{}", unfit.certificates[0].sha256),
        until: "9999-12-31".into(),
        reason: "it is a fixture".into(),
    };
    let policy = Policy::new(&AuditConfig { waivers: vec![waiver], ..AuditConfig::default() }).unwrap();
    let subject = Subject {
        profile: endpoint.class,
        endpoint: Some(endpoint.name.clone()),
        server_names: &[],
        listen_ips: &[],
        now: SystemTime::now(),
    };
    let materials = [unfit, material(FIT_FILE, "www-rsa"), material(FIT_FILE, "www-rsa")];
    let mut audited = audit_all(&materials, &subject, &policy);
    let Decision::Serve { candidates, fallbacks } = decide(&audited, OnUnfit::Fallback, &[]) else {
        panic!("the fit chain covers the names")
    };
    // Nothing stops an authority from signing such a subject.
    Arc::get_mut(&mut audited[0].report).unwrap().certificates[0].subject = "CN=<site>".into();
    let crls = vec![Crl { file: "certs/clients.crl".into(), next_update: Some(OffsetDateTime::UNIX_EPOCH) }];
    Certificates { audited, candidates, fallbacks, crls, ..Certificates::default() }
}

/// A chain and key of `certs/`, under another name.
fn material(file: &str, name: &str) -> Material {
    let read = |suffix: &str| {
        let path = format!("{}/certs/{name}.{suffix}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    Material::from_pem(Path::new(file), &read("pem"), Some((Path::new("certs/site.key"), &read("key"))))
}
