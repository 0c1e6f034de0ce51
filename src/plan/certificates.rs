//! An endpoint's TLS: its chains read, audited and decided upon, and a server configuration for what is fit.
//!
//! Called by `endpoints`. What is wrong with a chain or key file never stops start-up: it is a finding, and at worst the
//! endpoint is refused. What is wrong with the settings does.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::TlsAcceptor;

use super::{Certificates, Inputs, TlsTerms};
use crate::config::{Problems, TlsConfig};
use crate::identity::Endpoint;
use crate::metrics::EndpointMetrics;
use crate::tls::audit::decide::{Decision, decide};
use crate::tls::audit::policy::Policy;
use crate::tls::audit::{self, audit_all};
use crate::tls::chain::{self, Material};
use crate::tls::client_auth::{ClientAuth, Crl};
use crate::tls::server_config::{Offer, Terms, server_config};

/// Whose TLS is planned.
pub(super) struct Subject<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) listen: &'a [SocketAddr],
    pub(super) config: &'a TlsConfig,
    pub(super) policy: &'a Policy,
    /// What the handler speaks.
    pub(super) protocols: &'static [&'static str],
    pub(super) metrics: Arc<EndpointMetrics>,
}

/// What became of it.
pub(super) enum Outcome {
    Serve(Box<TlsTerms>, Certificates),
    Refuse(Vec<String>, Certificates),
}

/// Plans an endpoint's TLS; `None` where the settings are wrong, which is then among the problems.
pub(super) fn plan(subject: Subject<'_>, problems: &mut Problems) -> Option<Outcome> {
    let alpn = alpn(&subject, problems);
    let client_auth = client_auth(&subject, problems);
    let crls: Vec<Crl> = client_auth.iter().flatten().flat_map(ClientAuth::crls).cloned().collect();
    let materials = materials(&subject, problems)?;
    let config = subject.config;
    let judged = audit::Subject {
        profile: subject.endpoint.class,
        endpoint: Some(subject.endpoint.name.clone()),
        server_names: &config.server_names,
        listen_ips: &own_addresses(subject.listen),
        now: subject.inputs.now,
    };
    let audited = audit_all(&materials, &judged, subject.policy);
    let (candidates, fallbacks) = match decide(&audited, config.on_unfit, &config.server_names) {
        Decision::Serve { candidates, fallbacks } => (candidates, fallbacks),
        Decision::Refuse { reasons } => {
            return Some(Outcome::Refuse(reasons, Certificates { audited, crls, ..Certificates::default() }));
        }
    };
    let terms = Terms { min_version: config.min_version, alpn: alpn.clone(), client_auth: client_auth? };
    let path = ["endpoints", subject.endpoint.name.as_str(), "tls"];
    let made = server_config(&candidates, terms, subject.metrics).map_err(|e| e.to_string());
    let acceptor = TlsAcceptor::from(Arc::new(problems.take(&path, made)?));
    let terms = TlsTerms { acceptor, offer: Offer::new(config.min_version), alpn };
    Some(Outcome::Serve(Box::new(terms), Certificates { audited, candidates, fallbacks, crls }))
}

fn materials(subject: &Subject<'_>, problems: &mut Problems) -> Option<Vec<Material>> {
    let listed = &subject.config.certificates;
    if listed.is_empty() {
        if subject.inputs.development_certificate {
            return Some(vec![development_certificate()?]);
        }
        let path = ["endpoints", subject.endpoint.name.as_str(), "tls", "certificates"];
        problems.push(&path, "there is no certificate", Some("list a chain with its key".into()));
        return None;
    }
    let read = |file: &Path| subject.inputs.directory.join(file);
    Some(listed.iter().map(|pair| chain::read(&read(&pair.chain), Some(&read(&pair.key)))).collect())
}

/// A certificate for `localhost`, made in memory and gone with the process. Only the demo asks for it.
fn development_certificate() -> Option<Material> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut params = CertificateParams::new(names).ok()?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Portcullis development certificate");
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
    params.not_after = params.not_before + time::Duration::days(90);
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().ok()?;
    let chain = params.self_signed(&key).ok()?.pem();
    let file = Path::new("(development certificate, in memory)");
    Some(Material::from_pem(file, chain.as_bytes(), Some((file, key.serialize_pem().as_bytes()))))
}

/// What the configuration says, else what the handler speaks.
fn alpn(subject: &Subject<'_>, problems: &mut Problems) -> Vec<String> {
    let Some(configured) = &subject.config.alpn else {
        return subject.protocols.iter().map(ToString::to_string).collect();
    };
    let name = subject.endpoint.name.as_str();
    for (index, protocol) in configured.iter().enumerate() {
        let path = ["endpoints", name, "tls", "alpn", &index.to_string()];
        // RFC 7301, section 3.1: 1 to 255 bytes.
        if protocol.is_empty() || protocol.len() > 255 {
            problems.push(&path, "a protocol's name has 1 to 255 bytes", Some(r#"write "h2" or "http/1.1""#.into()));
        } else if !subject.protocols.is_empty() && !subject.protocols.contains(&protocol.as_str()) {
            let known = subject.protocols.join(", ");
            problems.push(
                &path,
                format!("the handler does not speak {protocol:?}"),
                Some(format!("it speaks {known}")),
            );
        }
    }
    configured.clone()
}

/// `None` where the table is wrong; `Some(None)` where there is none.
#[allow(clippy::option_option, reason = "both levels have a meaning, and one caller")]
fn client_auth(subject: &Subject<'_>, problems: &mut Problems) -> Option<Option<ClientAuth>> {
    let Some(config) = &subject.config.client_auth else { return Some(None) };
    match ClientAuth::read(config, subject.inputs.directory) {
        Ok(auth) => Some(Some(auth)),
        Err(faults) => {
            for (key, message) in faults {
                let path = ["endpoints", subject.endpoint.name.as_str(), "tls", "client_auth", key];
                problems.push(&path, message, None);
            }
            None
        }
    }
}

/// The addresses that are this endpoint's alone, not every address of the machine.
fn own_addresses(listen: &[SocketAddr]) -> Vec<IpAddr> {
    listen.iter().map(|a| a.ip().to_canonical()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect()
}
