//! What start-up tells of each endpoint: one readable summary of where it listens and what it offers. And what vouches
//! for upstream servers.
//!
//! Called by `gateway` when ports are open, and by `check` without any.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tracing::{error, info, warn};

use super::{EndpointPlan, EndpointState, Plan};
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::rules::Level;

/// Of more chains than this, only those with findings are told of, and no more than so many.
const MOST: usize = 50;

impl EndpointPlan {
    /// Logs the summary as one event, as grave as the worst that the audit found.
    pub(crate) fn log_summary(&self, addresses: &[SocketAddr]) {
        let (name, class, text) = (&self.endpoint.name, self.endpoint.class, self.summary(addresses));
        let refused = matches!(self.state, EndpointState::Refused(_));
        let worst = self.certificates.reports().map(|report| report.verdict).max().unwrap_or_default();
        match worst.0 {
            _ if refused => error!(endpoint = %name, %class, "{text}"),
            Some(Level::Error | Level::Deny) => error!(endpoint = %name, %class, "{text}"),
            _ if self.is_waiting() => warn!(endpoint = %name, %class, "{text}"),
            Some(Level::Warn) => warn!(endpoint = %name, %class, "{text}"),
            Some(Level::Info) | None => info!(endpoint = %name, %class, "{text}"),
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
            EndpointState::Ready { .. } if self.is_waiting() => "WAITS",
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
        let mut reports: Vec<_> = self.certificates.reports().collect();
        let all = reports.len();
        if all > MOST {
            reports.retain(|report| report.verdict.0 >= Some(Level::Warn));
            reports.truncate(MOST);
            let _ = write!(text, "\n  chains    {all}, of which the first {} that are wanting follow", reports.len());
        }
        reports.into_iter().for_each(|report| write_report(report, text));
        for fallback in &self.certificates.fallbacks {
            let _ = write!(text, "\n  fallback  {fallback}");
        }
        for reason in &self.certificates.waiting {
            let _ = write!(text, "\n  waiting   {reason}");
        }
        if let EndpointState::Refused(reasons) = &self.state {
            for reason in reasons {
                let _ = write!(text, "\n  refused   {reason}");
            }
        }
    }
}

impl Plan {
    /// Logs what the audit found of the files that vouch for upstream servers, as grave as the worst of it.
    pub(crate) fn log_upstreams(&self) {
        let Some(text) = self.upstream_summary() else { return };
        let worst = self.upstream_trust.iter().map(|report| report.verdict).max().unwrap_or_default();
        match worst.0 {
            Some(Level::Error | Level::Deny) => error!("{text}"),
            Some(Level::Warn) => warn!("{text}"),
            Some(Level::Info) | None => info!("{text}"),
        }
    }

    /// The same as text over several lines; `None` where no upstream has TLS.
    #[must_use]
    pub fn upstream_summary(&self) -> Option<String> {
        let mut text = "upstreams:".to_owned();
        self.upstream_trust.iter().for_each(|report| write_report(report, &mut text));
        (!self.upstream_trust.is_empty()).then_some(text)
    }
}

fn write_report(report: &ChainReport, text: &mut String) {
    let what = if report.role.is_some() { "trust" } else { "chain" };
    let _ = write!(text, "\n  {what:9} {}: {}", report.file, report.verdict);
    // A file of authorities may hold all that a system trusts.
    let shown = if report.role.is_some() { &[] } else { report.certificates.as_slice() };
    for certificate in shown {
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
        let _ = write!(text, "\n    {:5} ", finding.level);
        if let Some(position) = finding.position {
            let _ = write!(text, "certificate {position} ");
        }
        let _ = write!(text, "{} (rule {}); {}", finding.seen, finding.rule, finding.fix);
    }
}
