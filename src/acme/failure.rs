//! Why a certificate could not be had, with a remedy for whoever reads the log.
//!
//! Made by every other file of this folder; `acme` logs it and decides when to try again.

use std::fmt;
use std::time::SystemTime;

use instant_acme::{Error, Problem};

use super::https::Noted;
use crate::config::ChallengeConfig;
use crate::metrics::AcmeFailure;

/// Text of an authority's own is cut here.
const LONGEST: usize = 600;

/// One failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) reason: AcmeFailure,
    pub(super) message: String,
    /// The authority asks not to be asked before this.
    pub(super) not_before: Option<SystemTime>,
    /// The authority has forgotten the account that we have stored.
    pub(super) account_is_gone: bool,
}

impl Failure {
    /// A failure of our own finding. What an authority says may be in the message, so it is made fit for a log's line.
    pub(super) fn new(reason: AcmeFailure, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        Self { reason, message, not_before: None, account_is_gone: false }
    }

    /// What the client library reports; `noted` is what the last answer said besides.
    pub(super) fn of(error: &Error, noted: &Noted) -> Self {
        let busy = noted.status == Some(429) || noted.status.is_some_and(|status| status >= 500);
        let (reason, gone) = match error {
            Error::Api(problem) => reason(problem),
            Error::Timeout(_) => (AcmeFailure::Timeout, false),
            Error::Other(_) | Error::Http(_) | Error::InvalidUri(_) => (AcmeFailure::Unreachable, false),
            _ => (AcmeFailure::Refused, false),
        };
        let reason = match (reason, noted.status) {
            (AcmeFailure::Refused, Some(429)) => AcmeFailure::RateLimited,
            (AcmeFailure::Refused, _) if busy => AcmeFailure::Unreachable,
            (reason, _) => reason,
        };
        let message = match (error, noted.status) {
            (Error::Json(_), Some(status)) if busy => format!("it answered {status}"),
            _ => error.to_string(),
        };
        Self { not_before: noted.retry_after, account_is_gone: gone, ..Self::new(reason, message) }
    }

    /// Whether every other order with the same authority would fail the same way.
    pub(super) fn is_the_authoritys(&self) -> bool {
        matches!(self.reason, AcmeFailure::Unreachable | AcmeFailure::RateLimited | AcmeFailure::Account)
    }

    /// What to do about it.
    pub(super) fn remedy(&self, challenge: ChallengeConfig) -> &'static str {
        match (self.reason, challenge) {
            (AcmeFailure::Unreachable, _) => {
                "see that this machine can reach the directory and trusts its certificate (acme ca)"
            }
            (AcmeFailure::RateLimited, _) => "wait; while you try things out, use the authority's test directory",
            (AcmeFailure::Account, _) => "see that the authority takes this contact and external_account",
            (AcmeFailure::Challenge, ChallengeConfig::TlsAlpn01) => {
                "see that each name's addresses in DNS lead here, port 443 to this endpoint, with TLS passed through"
            }
            (AcmeFailure::Challenge, ChallengeConfig::Http01) => {
                "see that each name's addresses in DNS lead here, port 80 to a plain endpoint of this gateway"
            }
            (AcmeFailure::Refused, _) => "see that the authority issues for these names and this profile",
            (AcmeFailure::Timeout, _) => "see the authority's status page if it goes on",
            (AcmeFailure::Audit, _) => "see /audit; choose another profile or authority, or waive the rule",
            (AcmeFailure::Storage, _) => "see that the storage can be written by this user and has room",
            (AcmeFailure::Reload, _) => "mend what it names; the certificate is stored and is taken then",
        }
    }
}

/// By the kinds of RFC 8555, section 6.7; the second is whether our account is gone.
fn reason(problem: &Problem) -> (AcmeFailure, bool) {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    match kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind) {
        "rateLimited" => (AcmeFailure::RateLimited, false),
        "serverInternal" => (AcmeFailure::Unreachable, false),
        "accountDoesNotExist" => (AcmeFailure::Account, true),
        "externalAccountRequired" | "userActionRequired" | "invalidContact" | "unsupportedContact" => {
            (AcmeFailure::Account, false)
        }
        "caa" | "connection" | "dns" | "incorrectResponse" | "tls" => (AcmeFailure::Challenge, false),
        _ => (AcmeFailure::Refused, false),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn problem(kind: &str) -> Error {
        let text = format!(r#"{{"type": "urn:ietf:params:acme:error:{kind}", "detail": "no\u001b[2J\nway"}}"#);
        Error::Api(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn what_an_authority_says_is_sorted_into_a_closed_set() {
        let of = |error: Error, status| Failure::of(&error, &Noted { status, retry_after: None }).reason;
        assert_eq!(of(problem("rateLimited"), Some(429)), AcmeFailure::RateLimited);
        assert_eq!(of(problem("dns"), Some(400)), AcmeFailure::Challenge);
        assert_eq!(of(problem("rejectedIdentifier"), Some(400)), AcmeFailure::Refused);
        assert_eq!(of(problem("malformed"), Some(503)), AcmeFailure::Unreachable);
        let page = serde_json::from_str::<u8>("<html>").unwrap_err();
        let failure = Failure::of(&Error::Json(page), &Noted { status: Some(502), retry_after: None });
        assert_eq!((failure.reason, failure.message.as_str()), (AcmeFailure::Unreachable, "it answered 502"));
    }

    #[test]
    fn what_an_authority_says_stays_on_one_line() {
        let failure = Failure::of(&problem("dns"), &Noted::default());
        assert!(!failure.message.contains(['\n', '\u{1b}']), "{:?}", failure.message);
        assert!(Failure::new(AcmeFailure::Refused, "x".repeat(10_000)).message.len() <= LONGEST);
    }
}
