//! Which certificates are managed by ACME, from which authority, and where they are kept: the one place that says so.
//!
//! Called by `plan`. `certificates` and `basis` ask `files` where a chain and its key are, stored or listed; `acme` orders
//! and renews what the [`AcmePlan`] lists. Nothing here asks an authority anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hyper::Uri;

use super::Inputs;
use crate::config::{AcmeConfig, CertificateConfig, ChallengeConfig, Config, ExternalAccountConfig, HandlerConfig};
use crate::config::{Problems, nearest};
use crate::identity::EndpointName;
use crate::tls::roots;
use crate::units;

/// What is managed by ACME.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmePlan {
    /// Every certificate, by authority and name; listed once however many endpoints serve it.
    pub certificates: Vec<Arc<Managed>>,
}

/// A certificate that is ordered and renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// What it goes by: the first of its names.
    pub name: String,
    /// The names that it is for, in lower case; at least one.
    pub names: Vec<String>,
    /// Who issues it.
    pub authority: Arc<Authority>,
    /// Where its key and chain are kept, in one file, so that one rename replaces both.
    pub file: PathBuf,
    /// The endpoints that list it.
    pub endpoints: Vec<EndpointName>,
}

/// An authority, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its name in the configuration.
    pub name: String,
    /// Its directory's URL.
    pub directory: String,
    /// Where it may reach the operator.
    pub contact: Vec<String>,
    /// The folder of the account and the certificates; no other directory's.
    pub folder: PathBuf,
    /// How it finds out whose the names are.
    pub challenge: ChallengeConfig,
    /// The roots that its server is verified by; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The certificate profile that is ordered.
    pub profile: Option<String>,
    /// The account that ours is bound to: its key's identifier, and the file that holds the key.
    pub external_account: Option<(String, PathBuf)>,
}

/// The longest name of an authority's folder.
const LONGEST_FOLDER: usize = 200;
/// How many names one certificate has at most; authorities allow no more.
const MOST_NAMES: usize = 100;

/// Where a listed certificate's chain and key are, relative to the configuration's folder; `None` where its table is wrong,
/// which [`plan`] reports.
pub(super) fn files(config: &Config, listed: &CertificateConfig) -> Option<(PathBuf, PathBuf)> {
    match (&listed.chain, &listed.key, &listed.acme) {
        (Some(chain), Some(key), None) => Some((chain.clone(), key.clone())),
        (None, None, Some(authority)) => {
            let name = units::dns_name(listed.names.first()?).ok()?;
            let file = folder(config.acme.get(authority)?).ok()?.join(format!("{name}.pem"));
            Some((file.clone(), file))
        }
        _ => None,
    }
}

/// Each directory has a folder of its own, so that what a test authority issued never passes for the real one's.
fn folder(authority: &AcmeConfig) -> Result<PathBuf, String> {
    let text = &authority.directory;
    let example = "write such as \"https://acme-v02.api.letsencrypt.org/directory\"";
    let uri: Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}; {example}"))?;
    let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']')).unwrap_or_default();
    if uri.scheme_str() != Some("https") || host.is_empty() {
        return Err(format!("{text:?} is not an https URL, which ACME needs (RFC 8555, section 6.1); {example}"));
    }
    let flat = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let port = uri.port().map(|port| format!("-{port}")).unwrap_or_default();
    let name: String = format!("{host}{port}{}", uri.path()).chars().map(flat).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() || name.len() > LONGEST_FOLDER {
        return Err(format!("{text:?} makes no name for a folder: it is empty, or too long"));
    }
    Ok(authority.storage.join(name))
}

/// Checks every authority and every certificate that names one.
pub(super) fn plan(inputs: &Inputs<'_>, problems: &mut Problems) -> AcmePlan {
    let mut authorities = BTreeMap::<&str, Option<Arc<Authority>>>::new();
    for (name, config) in &inputs.config.acme {
        let authority = authority(inputs, name, config, problems);
        let others = || authorities.values().flatten().map(|other| (&other.folder, &other.name));
        if let Some((_, other)) = authority.iter().find_map(|new| others().find(|(folder, _)| **folder == new.folder)) {
            let message = format!("[acme.{other}] has the same directory and storage");
            problems.push(&["acme", name, "storage"], message, Some("give each an account and a folder".into()));
        }
        authorities.insert(name.as_str(), authority.map(Arc::new));
    }
    let mut plan = AcmePlan::default();
    for (endpoint, config) in &inputs.config.endpoints {
        let Ok(endpoint) = EndpointName::new(endpoint) else { continue };
        for (index, listed) in config.tls.iter().flat_map(|tls| &tls.certificates).enumerate() {
            let place = Place { endpoint: &endpoint, index: index.to_string() };
            certificate(inputs, &place, listed, &authorities, &mut plan, problems);
        }
    }
    plan.certificates.sort_by(|a, b| (&a.authority.name, &a.name).cmp(&(&b.authority.name, &b.name)));
    plan
}

fn authority(inputs: &Inputs<'_>, name: &str, config: &AcmeConfig, problems: &mut Problems) -> Option<Authority> {
    if let Err(why) = EndpointName::new(name) {
        problems.push(&["acme", name], why, Some("rename it: the name is a label in metrics".into()));
    }
    if !config.terms_of_service_agreed {
        let remedy = "read them at the authority's, then write true".to_owned();
        problems.push(&["acme", name, "terms_of_service_agreed"], "the terms are not agreed to", Some(remedy));
    }
    for (index, contact) in config.contact.iter().enumerate() {
        if !contact.strip_prefix("mailto:").is_some_and(|address| address.contains('@')) {
            let remedy = Some(r#"write such as "mailto:ops@example.com""#.into());
            let path = ["acme", name, "contact", &index.to_string()];
            problems.push(&path, format!("{contact:?} is no mail address as a URL"), remedy);
        }
    }
    let ca = config.ca.as_ref().map(|file| inputs.directory.join(file));
    if let Some(file) = &ca {
        problems.take(&["acme", name, "ca"], roots::trusted(Some(file)).map(drop));
    }
    let external_account = config.external_account.as_ref().map(|ExternalAccountConfig { key_id, hmac_key_file }| {
        let file = inputs.directory.join(hmac_key_file);
        problems.take(&["acme", name, "external_account", "hmac_key_file"], external_key(&file).map(drop));
        (key_id.clone(), file)
    });
    Some(Authority {
        name: name.to_owned(),
        directory: config.directory.clone(),
        contact: config.contact.clone(),
        folder: inputs.directory.join(problems.take(&["acme", name, "directory"], folder(config))?),
        challenge: config.challenge,
        ca,
        profile: config.profile.clone(),
        external_account,
    })
}

/// The key of an external account, from the first line of its file (RFC 8555, section 7.3.4: base64url).
///
/// # Errors
/// A sentence that names the file and holds nothing of it.
pub fn external_key(file: &Path) -> Result<Vec<u8>, String> {
    let fault = |why: String| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
    let line = text.lines().next().unwrap_or_default().trim().trim_end_matches('=');
    // Some authorities hand it out in the other alphabet.
    let line = line.replace('+', "-").replace('/', "_");
    match BASE64_URL_SAFE_NO_PAD.decode(line) {
        Ok(key) if !key.is_empty() => Ok(key),
        _ => Err(fault("its first line is no key in base64url".into())),
    }
}

/// Where a certificate's table stands.
struct Place<'a> {
    endpoint: &'a EndpointName,
    index: String,
}

impl Place<'_> {
    fn push(&self, problems: &mut Problems, rest: &[&str], message: impl Into<String>, remedy: Option<String>) {
        let path = ["endpoints", self.endpoint.as_str(), "tls", "certificates", &self.index];
        problems.push(&[&path, rest].concat(), message, remedy);
    }
}

/// Checks one listed certificate, and adds it where an authority issues it.
fn certificate(
    inputs: &Inputs<'_>,
    place: &Place<'_>,
    listed: &CertificateConfig,
    authorities: &BTreeMap<&str, Option<Arc<Authority>>>,
    plan: &mut AcmePlan,
    problems: &mut Problems,
) {
    let wanted = match (&listed.chain, &listed.acme) {
        (Some(_), None) => return,
        (None, Some(wanted)) => wanted,
        (found, _) => {
            let message = if found.is_some() { "names both files and an authority" } else { "names no certificate" };
            return place.push(problems, &[], message, Some("give chain and key, or acme and names".into()));
        }
    };
    let Some(authority) = authorities.get(wanted.as_str()) else {
        let remedy = match nearest(wanted, authorities.keys().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("add an [acme.{wanted}] table"),
        };
        return place.push(problems, &["acme"], format!("no authority is called {wanted:?}"), Some(remedy));
    };
    let names = names(place, &listed.names, problems);
    // One that is wrong has been reported where it is defined.
    let (Some(authority), Some(name)) = (authority, names.first()) else { return };
    if authority.challenge == ChallengeConfig::Http01 && !answers_http(inputs) {
        let remedy = "add one on port 80, or set challenge = \"tls-alpn-01\"".to_owned();
        place.push(problems, &["acme"], "no plain HTTP endpoint could answer http-01", Some(remedy));
    }
    let known = plan.certificates.iter_mut().find(|known| known.authority == *authority && known.name == *name);
    match known.map(Arc::make_mut) {
        Some(known) if known.names == names => known.endpoints.push(place.endpoint.clone()),
        Some(known) => {
            let message =
                format!("endpoint {:?} lists {name:?} first, too, with other names", known.endpoints[0].as_str());
            place.push(problems, &["names"], message, Some("list the same names, or begin with another".into()));
        }
        None => plan.certificates.push(Arc::new(Managed {
            name: name.clone(),
            file: authority.folder.join(format!("{name}.pem")),
            names,
            authority: Arc::clone(authority),
            endpoints: vec![place.endpoint.clone()],
        })),
    }
}

/// The names in lower case, without those that are wrong.
fn names(place: &Place<'_>, listed: &[String], problems: &mut Problems) -> Vec<String> {
    let mut names = Vec::new();
    if listed.is_empty() || listed.len() > MOST_NAMES {
        let remedy = Some(r#"list such as ["www.example.com"]"#.into());
        place.push(problems, &["names"], format!("a certificate has 1 to {MOST_NAMES} names"), remedy);
    }
    for (index, text) in listed.iter().enumerate() {
        let index = index.to_string();
        match units::dns_name(text) {
            Ok(name) if names.contains(&name) => {
                place.push(
                    problems,
                    &["names", &index],
                    format!("{text:?} is listed twice"),
                    Some("remove one".into()),
                );
            }
            Ok(name) => names.push(name),
            Err(why) => place.push(problems, &["names", &index], why, None),
        }
    }
    names
}

/// Whether some plain endpoint's handler speaks HTTP. Of a library's own handlers nothing is known; they may.
fn answers_http(inputs: &Inputs<'_>) -> bool {
    let plain = inputs.config.endpoints.values().filter(|endpoint| endpoint.tls.is_none());
    let handlers = plain.map(|endpoint| inputs.config.handlers.get(&endpoint.handler));
    handlers.into_iter().any(|handler| !matches!(handler, Some(HandlerConfig::TcpProxy(_) | HandlerConfig::Echo(_))))
}
