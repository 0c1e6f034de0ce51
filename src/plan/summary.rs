//! What start-up tells of each endpoint: one readable summary of where it listens and what it offers.
//!
//! Called by `gateway` when ports are open, and by `check` without any.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tracing::{error, info, warn};

use super::{EndpointPlan, EndpointState};
use crate::tls::audit::rules::Level;

impl EndpointPlan {
    /// Logs the summary; findings at warn and above get a line of their own, at their level.
    pub(crate) fn log_summary(&self, addresses: &[SocketAddr]) {
        info!(endpoint = %self.endpoint.name, class = %self.endpoint.class, "{}", self.summary(addresses));
        let findings = self.certificates.reports().flat_map(|report| &report.findings);
        for finding in findings.filter(|finding| finding.counts()) {
            match finding.level {
                Level::Info => {}
                Level::Warn => warn!(endpoint = %self.endpoint.name, rule = finding.rule, "{finding}"),
                Level::Error | Level::Deny => {
                    error!(endpoint = %self.endpoint.name, rule = finding.rule, "{finding}");
                }
            }
        }
        for fallback in &self.certificates.fallbacks {
            warn!(endpoint = %self.endpoint.name, "{fallback}");
        }
    }

    /// The summary, as text over several lines.
    #[must_use]
    pub fn summary(&self, addresses: &[SocketAddr]) -> String {
        let mut text = String::new();
        self.write_summary(addresses, &mut text);
        text
    }

    fn write_summary(&self, addresses: &[SocketAddr], text: &mut String) {
        // Writing to a String cannot fail.
        let scheme = if self.endpoint.tls { "TLS" } else { "plain" };
        let shown = if addresses.is_empty() { &self.listen } else { addresses };
        let list: Vec<String> = shown.iter().map(ToString::to_string).collect();
        let state = match &self.state {
            EndpointState::Ready { .. } => "serves",
            EndpointState::Refused(_) => "REFUSED",
        };
        let (handler, kind) = &self.handler;
        let _ = write!(text, "{state} {scheme} on {}, handler {handler} ({kind})", list.join(", "));
        if let Some(tls) = &self.tls {
            let _ = write!(text, "\n  versions  TLS {}", tls.offer.versions.join(", "));
            let _ = write!(text, "\n  suites    {}", tls.offer.cipher_suites.join(", "));
            let _ = write!(text, "\n  groups    {}", tls.offer.groups.join(", "));
            if !tls.alpn.is_empty() {
                let _ = write!(text, "\n  alpn      {}", tls.alpn.join(", "));
            }
        }
        for report in self.certificates.reports() {
            let _ = write!(text, "\n  chain     {}: {}", report.file, report.verdict);
            for certificate in &report.certificates {
                let _ = write!(
                    text,
                    "\n    {}. {}, {}, signed with {}, until {}",
                    certificate.position,
                    certificate.subject,
                    certificate.key,
                    certificate.signature_algorithm,
                    certificate.not_after
                );
            }
            for finding in &report.findings {
                let _ = write!(text, "\n    {:5} {}: {}", finding.level, finding.rule, finding.seen);
            }
        }
        for fallback in &self.certificates.fallbacks {
            let _ = write!(text, "\n  fallback  {fallback}");
        }
        if let EndpointState::Refused(reasons) = &self.state {
            for reason in reasons {
                let _ = write!(text, "\n  refused   {reason}");
            }
        }
    }
}
