//! A gateway made by hand, for the tests of the admin port.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::access::Access;
use crate::access_log::AccessLog;
use crate::admin::facts::{CertificateFacts, ChainFacts, CrlFacts, FallbackFacts, FindingFacts, TlsFacts};
use crate::admin::state::Snapshot;
use crate::config::Config;
use crate::handler::{Connection, Context, Instance, Serving, Timeouts};
use crate::identity::{Class, Endpoint, EndpointName};
use crate::metrics::EndpointMetrics;
use crate::plan::{AdminPlan, Certificates, EndpointPlan, EndpointState, Plan};
use crate::sampler::Sampler;
use crate::upstream::{Server, Upstream, UpstreamTimeouts};

/// The unfit chain's file, whose name holds everything that a format might trip over.
pub(crate) const HOSTILE_FILE: &str = "certs/\"quoted\"\\<b>.pem";

struct Nothing;

impl Instance for Nothing {
    fn serve(self: Arc<Self>, _: Connection) -> Serving {
        Box::pin(async { Ok(()) })
    }
}

/// A TLS endpoint "internet" on a fallback, a plain "internal", and a refused, optional "spare".
pub(crate) fn snapshot() -> Snapshot {
    let internet = endpoint("internet", Class::Public, true);
    let internal = endpoint("internal", Class::Internal, false);
    let mut spare = endpoint("spare", Class::Public, true);
    spare.required = false;
    spare.state = EndpointState::Refused(vec!["certs/spare.pem: signed with MD5 (rule sig-md5); reissue it".into()]);
    let tls = BTreeMap::from([(internet.endpoint.name.clone(), facts(&internet.endpoint.name))]);
    let plan = Plan {
        config: config(),
        workers: 1,
        drain_timeout: Duration::from_secs(30),
        max_connections: 1000,
        admin: Some(AdminPlan { listen: ([127, 0, 0, 1], 0).into(), token: None }),
        endpoints: [internal, internet, spare].map(Arc::new).into(),
        upstreams: vec![Arc::new(upstream())],
    };
    Snapshot { plan: Arc::new(plan), addresses: BTreeMap::new(), tls }
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
            timeouts: Timeouts::default(),
            metrics: Arc::new(EndpointMetrics::default()),
            access_log: AccessLog::off(),
        }),
        access: Access::default(),
        noise: Sampler::default(),
        tls: None,
        certificates: Certificates::default(),
        max_connections: 100,
        required: true,
        handler: ("site".into(), "respond"),
        state: EndpointState::Ready { instance: Arc::new(Nothing) },
    }
}

fn upstream() -> Upstream {
    let server = |name: &str| Server::new(name, ([127, 0, 0, 1], 3000).into());
    let second = Duration::from_secs(1);
    let timeouts = UpstreamTimeouts { connect: second, response: second, body: second, idle: second };
    // The first stands twice: it is taken twice as often.
    let servers = ["127.0.0.1:3000", "127.0.0.1:3001", "127.0.0.1:3000"].map(server).into();
    Upstream::new("app", servers, timeouts)
}

fn facts(endpoint: &EndpointName) -> TlsFacts {
    let good = chain(endpoint, "certs/site.pem", true, Vec::new());
    let unfit = chain(endpoint, HOSTILE_FILE, false, vec![finding("sig-md5", "deny", None), waived()]);
    let by = good.file.clone();
    TlsFacts {
        // The good one stands twice, as a careless hand may have it.
        chains: vec![unfit, good.clone(), good],
        fallbacks: vec![FallbackFacts {
            unfit: HOSTILE_FILE.into(),
            rules: vec!["sig-md5".into()],
            by,
            names: vec!["www.example.com".into()],
        }],
        crls: vec![CrlFacts { file: "certs/clients.crl".into(), next_update: Some(OffsetDateTime::UNIX_EPOCH) }],
    }
}

fn chain(endpoint: &EndpointName, file: &str, served: bool, findings: Vec<FindingFacts>) -> ChainFacts {
    let leaf = CertificateFacts {
        position: 1,
        subject: "CN=<site>".into(),
        issuer: "CN=ca".into(),
        serial: "01".into(),
        sha256: "ab".repeat(32),
        signature_algorithm: "sha256WithRSAEncryption".into(),
        key_type: "RSA 2048".into(),
        not_before: OffsetDateTime::UNIX_EPOCH,
        not_after: OffsetDateTime::UNIX_EPOCH + time::Duration::days(40_000),
        names: vec!["www.example.com".into()],
    };
    ChainFacts {
        file: file.into(),
        key: Some("certs/site.key".into()),
        endpoint: endpoint.clone(),
        verdict: findings.first().map_or("ok", |finding| finding.level),
        certificates: vec![leaf],
        findings,
        leaf: Some(1),
        served,
    }
}

fn waived() -> FindingFacts {
    finding("key-rsa-small", "deny", Some("2027-03-01".into()))
}

fn finding(rule: &'static str, level: &'static str, waived_until: Option<String>) -> FindingFacts {
    FindingFacts {
        rule,
        level,
        file: HOSTILE_FILE.into(),
        position: Some(1),
        subject: Some("CN=<site>".into()),
        sha256: Some("ab".repeat(32)),
        seen: "signed with MD5".into(),
        why: "no TLS 1.2 client accepts it (RFC 9155)".into(),
        fix: "ask the CA to reissue it with SHA-256".into(),
        waived_until,
    }
}
