//! temp
#![allow(missing_docs)]
pub mod policy {
    pub struct Policy;
    impl Policy {
        pub fn new(_: &crate::config::AuditConfig) -> Result<Self, Vec<(Vec<String>, String)>> {
            Ok(Self)
        }
    }
}
use std::fmt;
use std::sync::Arc;
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Level {
    Info,
    Warn,
    Error,
    Deny,
}
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("x")
    }
}
#[derive(Debug)]
pub struct AuditedChain {
    k: Arc<rustls::sign::CertifiedKey>,
    n: Vec<String>,
}
impl AuditedChain {
    pub fn dns_names(&self) -> &[String] {
        &self.n
    }
    pub fn certified_key(&self) -> Arc<rustls::sign::CertifiedKey> {
        self.k.clone()
    }
}
pub struct Cert {
    pub position: usize,
    pub subject: String,
    pub key: String,
    pub signature_algorithm: String,
    pub not_after: String,
}
pub struct Finding {
    pub level: Level,
    pub rule: &'static str,
    pub seen: String,
}
impl Finding {
    pub fn effective_level(&self) -> Option<Level> {
        Some(self.level)
    }
}
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("x")
    }
}
pub struct ChainReport {
    pub file: String,
    pub verdict: String,
    pub certificates: Vec<Cert>,
    pub findings: Vec<Finding>,
}
pub struct Fallback;
impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("x")
    }
}
