//! An endpoint's chains: read and audited, or taken over from the running plan where neither file, word nor clock is new.
//!
//! Called by `certificates`. While a gateway runs, a chain that became unfit on disk is held back: what was read before is
//! served on, and the reasons are kept.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::certificates::Subject;
use super::files::Digest;
use super::{Aim, acme};
use crate::config::{CertificateConfig, Problems};
use crate::tls::audit::decide::sentences;
use crate::tls::audit::{self, Audited, Span, audit_all};
use crate::tls::chain::{self, Material};
use crate::tls::parallel::in_order;

/// The chains of an endpoint, in the order listed.
#[derive(Default)]
pub(super) struct Chains {
    pub(super) audited: Vec<Audited>,
    /// Where each of them is listed, from 0: what ACME has yet to bring is not among them.
    pub(super) places: Vec<usize>,
    /// What each was read from.
    pub(super) sources: Vec<Source>,
    /// Why files are not taken, a sentence each.
    pub(super) held: Vec<String>,
    /// What ACME has yet to bring, a sentence each.
    pub(super) missing: Vec<String>,
}

/// The files that a chain was read from, and what they held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    chain: PathBuf,
    key: PathBuf,
    /// `None` for what could not be read, or was never a file.
    digests: Option<(Digest, Digest)>,
    /// The staple file, where one is named, and what it held.
    staple: Option<(PathBuf, Option<Digest>)>,
}

/// Reads and audits every chain that the running endpoint does not know already; `None` where none is listed.
pub(super) fn chains(subject: &Subject<'_>, problems: &mut Problems) -> Option<Chains> {
    let own_addresses = own_addresses(subject.listen);
    let judged = audit::Subject {
        profile: subject.endpoint.class,
        endpoint: Some(subject.endpoint.name.clone()),
        server_names: &subject.config.server_names,
        listen_ips: &own_addresses,
        now: subject.inputs.now,
    };
    if subject.config.certificates.is_empty() {
        let material = in_memory(subject, problems)?;
        let audited = audit_all(&[material], &judged, subject.policy);
        return Some(Chains { audited, places: vec![0], ..Chains::default() });
    }
    let running = Running::new(subject);
    let (mut sources, mut places, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (place, listed) in subject.config.certificates.iter().enumerate() {
        // What is wrong with a table is `acme`'s to report.
        let source = Source::new(subject, listed)?;
        match &listed.acme {
            // One that was there before and is gone is a fault like any other.
            Some(authority) if !source.chain.exists() && !running.known.contains_key(&source.files()) => {
                let names = listed.names.join(", ");
                missing.push(format!("waiting for the first certificate for {names} from {authority}"));
            }
            _ => {
                sources.push(source);
                places.push(place);
            }
        }
    }
    let mut known: Vec<Option<Audited>> = sources.iter().map(|source| running.same(source)).collect();
    // Which names are covered is a matter of all chains together.
    if !subject.config.server_names.is_empty() && known.iter().any(Option::is_none) {
        known.fill(None);
    }
    let new = sources.iter().zip(&known).filter(|(_, known)| known.is_none());
    let new: Vec<&Source> = new.map(|(source, _)| source).collect();
    let materials: Vec<Material> = in_order(&new, |source| source.read()).collect();
    let fresh = audit_all(&materials, &judged, subject.policy);
    Some(Chains { places, missing, ..running.hold_back(sources, known, fresh) })
}

impl Source {
    fn new(subject: &Subject<'_>, listed: &CertificateConfig) -> Option<Self> {
        let (chain, key) = acme::files(subject.inputs.config, listed)?;
        let [chain, key] = [chain, key].map(|file| subject.inputs.directory.join(file));
        let digests = subject.basis.digest(&chain).zip(subject.basis.digest(&key));
        let staple = listed.ocsp.as_ref().map(|file| subject.inputs.directory.join(file));
        let staple = staple.map(|file| (file.clone(), subject.basis.digest(&file)));
        Some(Self { chain, key, digests, staple })
    }

    fn read(&self) -> Material {
        let material = chain::read(&self.chain, Some(&self.key));
        match &self.staple {
            Some((file, _)) => material.with_staple(file),
            None => material,
        }
    }

    fn files(&self) -> (&Path, &Path) {
        (&self.chain, &self.key)
    }
}

/// What the running endpoint knows of its chains, by their files.
struct Running<'a> {
    known: HashMap<(&'a Path, &'a Path), (&'a Source, &'a Audited)>,
    now: SystemTime,
    aim: Aim,
}

impl<'a> Running<'a> {
    fn new(subject: &Subject<'a>) -> Self {
        let certificates = subject.running.map(|running| &running.certificates);
        let pairs = certificates.into_iter().flat_map(|known| known.sources.iter().zip(&known.audited));
        let known = pairs.map(|(source, audited)| (source.files(), (source, audited))).collect();
        Self { known, now: subject.inputs.now, aim: subject.inputs.aim }
    }

    /// What the audit said of a chain, where it would say the same again.
    fn same(&self, source: &Source) -> Option<Audited> {
        let (before, audited) = self.known.get(&source.files())?;
        let holds = *before == source && source.digests.is_some() && audited.span.holds_at(self.now);
        holds.then(|| (*audited).clone())
    }

    /// Puts known and fresh chains together in the order listed, but for fresh ones that must not take over.
    fn hold_back(&self, sources: Vec<Source>, known: Vec<Option<Audited>>, fresh: Vec<Audited>) -> Chains {
        let mut chains = Chains::default();
        let mut fresh = fresh.into_iter();
        for (mut source, known) in sources.into_iter().zip(known) {
            let Some(mut audited) = known.or_else(|| fresh.next()) else { continue };
            if let Some((before, better)) = self.instead_of(&source, &audited) {
                chains.held.extend(sentences(&audited));
                (source, audited) = (before, better);
            }
            chains.sources.push(source);
            chains.audited.push(audited);
        }
        chains
    }

    /// What was read before and is to be served on, where the files have changed for the worse. What only the clock made
    /// unfit is not held back, since restoring the file would not help.
    fn instead_of(&self, source: &Source, fresh: &Audited) -> Option<(Source, Audited)> {
        let Aim::Renew { settled } = self.aim else { return None };
        let (before, audited) = self.known.get(&source.files())?;
        let chain = audited.servable.as_ref().filter(|chain| chain.is_valid_at(self.now))?;
        let worse = fresh.report.verdict.rank() > audited.report.verdict.rank();
        let unfit = fresh.servable.is_none() || (worse && !settled);
        let span = Span::endless(self.now).ending_at(chain.not_after() + Duration::from_secs(1));
        let kept = || ((*before).clone(), Audited { span, ..(*audited).clone() });
        (unfit && before.digests != source.digests).then(kept)
    }
}

/// A chain for an endpoint that lists none, which only the demo may.
fn in_memory(subject: &Subject<'_>, problems: &mut Problems) -> Option<Material> {
    if subject.inputs.development_certificate {
        return development_certificate();
    }
    let path = ["endpoints", subject.endpoint.name.as_str(), "tls", "certificates"];
    problems.push(&path, "there is no certificate", Some("list a chain with its key".into()));
    None
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

/// The addresses that are this endpoint's alone, not every address of the machine.
fn own_addresses(listen: &[SocketAddr]) -> Vec<IpAddr> {
    listen.iter().map(|a| a.ip().to_canonical()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect()
}
