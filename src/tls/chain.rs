//! Reads a chain file and its key file into a [`Material`], with everything that is wrong with the files.
//!
//! Nothing is dropped silently and nothing ends early: a fault of a file is data, a [`Fault`] under the id of a rule,
//! so that one run of the audit reports all of them. `plan`, `collect` and the demo call this; `audit` weighs it.

pub(super) mod bundle;
pub(super) mod foreign;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

use crate::tls::audit::rules::RuleId;
use crate::tls::certificate::{Certificate, fingerprint};
use crate::tls::der;
use crate::tls::ocsp;
use crate::tls::pem::{self, Block};

/// The largest chain or key file, in bytes. The largest honest bundle, every public root there is, has a fifth of it.
pub const MAX_FILE: u64 = 1024 * 1024;

/// A hostile file gets this many faults at most. The first one already keeps it from being served.
const MOST_FAULTS: usize = 100;

/// What a chain file and its key file hold.
#[derive(Debug)]
pub struct Material {
    /// The chain file.
    pub file: PathBuf,
    /// The key file, where one is named.
    pub key_file: Option<PathBuf>,
    /// Every certificate that could be read, in the file's order.
    pub certificates: Vec<Certificate>,
    /// How many certificates were begun in the chain file, readable or not.
    pub begun: usize,
    /// The line that each of them begins on, from 1; empty where the file is not text.
    pub(super) lines: Vec<usize>,
    /// Whether the certificates' order means something: in a bundle it does not.
    pub(super) ordered: bool,
    /// Whether a status came with the certificates, where a server presented them.
    pub(super) stapled: Option<bool>,
    /// What is wrong with the files themselves.
    pub faults: Vec<Fault>,
    /// Blocks in the chain file that are no certificates, each in words.
    pub strangers: Vec<String>,
    /// The stapled status, where a file of it is named.
    pub(super) staple: Option<StapleFile>,
    /// The private key, if there is exactly one and it is not encrypted. Its `Debug` output is elided.
    pub(super) key: Option<PrivateKeyDer<'static>>,
}

/// A staple file: what it holds, or why it cannot be read.
#[derive(Debug)]
pub(super) struct StapleFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Result<Vec<u8>, String>,
}

/// Something wrong with a file.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The rule that it breaks.
    pub rule: RuleId,
    /// The file.
    pub file: PathBuf,
    /// Which of the file's certificates, from 1; `None` for the file as a whole.
    pub position: Option<usize>,
    /// The fingerprint of that certificate.
    pub sha256: Option<String>,
    /// What was seen.
    pub seen: String,
    /// What to do; `None` where the rule's own remedy says it.
    pub fix: Option<String>,
}

impl Fault {
    /// What was seen and what to do, in a sentence that names the file.
    pub(super) fn sentence(&self) -> String {
        let fix = self.fix.as_deref().unwrap_or(self.rule.rule().fix);
        format!("{}: {}; {fix}", self.file.display(), self.seen)
    }
}

/// Reads a chain file and, where one is named, its key file.
#[must_use]
pub fn read(file: &Path, key_file: Option<&Path>) -> Material {
    let mut material = Material::empty(file, key_file);
    match read_file(file) {
        Ok(bytes) => material.read_chain(&bytes),
        Err(seen) => material.fault(RuleId::FileUnreadable, None, seen, None),
    }
    match key_file.map(|key| (key, read_file(key))) {
        Some((_, Ok(bytes))) => material.read_key(&bytes),
        Some((key, Err(seen))) => {
            material.key_fault(seen, Some(format!("correct the path or mode of {}", key.display())))
        }
        None => {}
    }
    material
}

/// The largest file of authorities or revocation lists, in bytes: some authorities have revoked a million certificates.
pub(super) const MAX_TRUST: u64 = 64 * MAX_FILE;

/// Reads a file of roots.
#[must_use]
pub(super) fn read_roots(file: &Path) -> Material {
    let mut material = Material::empty(file, None);
    match read_at_most(MAX_TRUST, file) {
        Ok(bytes) => material.read_chain(&bytes),
        Err(seen) => material.fault(RuleId::FileUnreadable, None, seen, None),
    }
    material
}

impl Material {
    /// Takes a chain and a key that are in memory, under names that findings can give for files.
    #[must_use]
    pub fn from_pem(file: &Path, chain: &[u8], key: Option<(&Path, &[u8])>) -> Self {
        let mut material = Self::empty(file, key.map(|(name, _)| name));
        material.read_chain(chain);
        if let Some((_, key)) = key {
            material.read_key(key);
        }
        material
    }

    /// What a server presented, under its name.
    pub(super) fn presented(server: &Path, chain: &[CertificateDer<'static>], stapled: bool) -> Self {
        let mut material = Self { stapled: Some(stapled), begun: chain.len(), ..Self::empty(server, None) };
        for (index, certificate) in chain.iter().enumerate() {
            material.add(certificate.clone(), index + 1, "");
        }
        material
    }

    /// Adds what was found by other means than its files.
    pub(super) fn note(&mut self, rule: RuleId, seen: String) {
        self.fault(rule, None, seen, None);
    }

    /// The same with the stapled status that a file holds.
    #[must_use]
    pub fn with_staple(self, file: &Path) -> Self {
        let bytes = read_at_most(ocsp::MAX_FILE, file);
        Self { staple: Some(StapleFile { path: file.to_owned(), bytes }), ..self }
    }

    /// What could not be read at all, and why.
    pub(super) fn unread(file: &Path, rule: RuleId, seen: String) -> Self {
        let mut material = Self::empty(file, None);
        material.fault(rule, None, seen, None);
        material
    }

    /// Nothing yet.
    pub(super) fn empty(file: &Path, key_file: Option<&Path>) -> Self {
        Self {
            file: file.to_owned(),
            key_file: key_file.map(Path::to_owned),
            certificates: Vec::new(),
            begun: 0,
            lines: Vec::new(),
            ordered: true,
            stapled: None,
            faults: Vec::new(),
            strangers: Vec::new(),
            staple: None,
            key: None,
        }
    }

    fn fault(&mut self, rule: RuleId, position: Option<usize>, seen: String, fix: Option<String>) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault { rule, file: self.file.clone(), position, sha256: None, seen, fix });
        }
    }

    fn key_fault(&mut self, seen: String, fix: Option<String>) {
        let file = self.key_file.clone().unwrap_or_default();
        self.faults.push(Fault { rule: RuleId::KeyUnusable, file, position: None, sha256: None, seen, fix });
    }

    fn read_chain(&mut self, bytes: &[u8]) {
        let blocks = pem::blocks(bytes);
        let plain = |block: &&Block| block.label == "CERTIFICATE" && block.hidden.is_none();
        if !blocks.iter().any(|block| plain(&block)) {
            let (seen, fix) = foreign::instead_of_a_certificate(&self.file, bytes, &blocks);
            self.fault(RuleId::PemNoCert, None, seen, fix);
        }
        let reported = !self.faults.is_empty();
        for block in blocks {
            if block.promises_certificates() {
                self.begun += 1;
                self.lines.push(block.line);
                self.read_certificate(block, self.begun, reported);
            } else if !(block.promises_key() && self.key_file.as_ref() == Some(&self.file)) {
                // A key in the chain file is a stranger, unless the configuration says that the two are one file.
                self.strangers.push(format!("a {} block at line {}", block.label, block.line));
            }
        }
    }

    /// `reported`: the file as a whole was reported to have no certificate that readers see.
    fn read_certificate(&mut self, block: Block, position: usize, reported: bool) {
        let place = format!("the block at line {}", block.line);
        if let (Some(hidden), false) = (block.hidden, reported) {
            self.fault(RuleId::PemMalformed, Some(position), format!("{place} {hidden}"), None);
        }
        match block.item {
            Ok(Some(Item::X509Certificate(der))) => self.add(der, position, &format!("{place} ")),
            Err(seen) => self.fault(RuleId::PemMalformed, Some(position), format!("{place} {seen}"), None),
            Ok(_) if block.label == "CERTIFICATE" => {
                self.fault(RuleId::PemMalformed, Some(position), format!("{place} has no readable certificate"), None);
            }
            Ok(_) if !reported => {
                let seen = format!("{place} is labelled {}, which PEM readers pass over", block.label);
                let fix = foreign::relabel(&self.file, &block.label);
                self.fault(RuleId::PemMalformed, Some(position), seen, fix);
            }
            Ok(_) => {}
        }
    }

    /// Reads a certificate. `place`: what a fault's words begin with.
    fn add(&mut self, der: CertificateDer<'static>, position: usize, place: &str) {
        let sha256 = fingerprint(&der);
        match Certificate::read(der, position) {
            Ok(certificate) => self.certificates.push(certificate),
            Err(seen) if self.faults.len() < MOST_FAULTS => self.faults.push(Fault {
                rule: RuleId::CertUnparseable,
                file: self.file.clone(),
                position: Some(position),
                sha256: Some(sha256),
                seen: format!("{place}{seen}"),
                fix: None,
            }),
            Err(_) => {}
        }
    }

    fn read_key(&mut self, bytes: &[u8]) {
        let file = self.key_file.clone().unwrap_or_default();
        let keys: Vec<Block> = pem::blocks(bytes).into_iter().filter(Block::promises_key).collect();
        let key = match <[Block; 1]>::try_from(keys) {
            Ok([key]) => key,
            Err(none) if none.is_empty() => {
                let (seen, fix) = foreign::instead_of_a_key(&file, bytes);
                return self.key_fault(seen, fix);
            }
            Err(several) => {
                let lines: Vec<String> = several.iter().take(8).map(|key| key.line.to_string()).collect();
                let seen = format!("holds {} private keys (lines {})", several.len(), lines.join(", "));
                return self.key_fault(seen, Some("keep the one key that belongs to the leaf".into()));
            }
        };
        match key.item {
            _ if key.encrypted => self.key_fault("the private key is encrypted".into(), Some(foreign::decrypt(&file))),
            Ok(Some(item)) if !is_outlined(&item) => {
                let seen =
                    format!("the private key at line {} is damaged, or not what {:?} stands for", key.line, key.label);
                self.key_fault(seen, None);
            }
            Ok(Some(Item::Pkcs1Key(key))) => self.key = Some(key.into()),
            Ok(Some(Item::Pkcs8Key(key))) => self.key = Some(key.into()),
            Ok(Some(Item::Sec1Key(key))) => self.key = Some(key.into()),
            Err(seen) => self.key_fault(format!("the private key at line {} {seen}", key.line), None),
            Ok(_) => {
                let seen = format!("a key of the form {:?} cannot be read", key.label);
                self.key_fault(seen, foreign::convert_key(&file, &key.label));
            }
        }
    }
}

/// Whether a key has the outline of what its label stands for: a version, and then in PKCS#8 an algorithm, in PKCS#1 a
/// number, in SEC 1 octets.
fn is_outlined(item: &Item) -> bool {
    let (key, second) = match item {
        Item::Pkcs1Key(key) => (key.secret_pkcs1_der(), der::INTEGER),
        Item::Pkcs8Key(key) => (key.secret_pkcs8_der(), der::SEQUENCE),
        Item::Sec1Key(key) => (key.secret_sec1_der(), der::OCTET_STRING),
        // Told of by its label.
        _ => return true,
    };
    let after = der::take(der::SEQUENCE, key).and_then(|(content, _)| der::take(der::INTEGER, content));
    after.and_then(|(_, rest)| der::split(rest)).is_some_and(|(element, _)| element.tag == second)
}

/// Reads a file whole, if it is one and not too large. Neither a FIFO nor a folder is opened, so nothing blocks.
///
/// # Errors
/// What is wrong, in words that follow the file's name.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    read_at_most(MAX_FILE, path)
}

/// As [`read_file`], with a limit in bytes of its own.
pub(super) fn read_at_most(limit: u64, path: &Path) -> Result<Vec<u8>, String> {
    let found = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !found.is_file() {
        let kind = found.file_type();
        let what = match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        return Err(format!("is {what}, not a file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("is larger than {} KiB", limit / 1024));
    }
    Ok(bytes)
}
