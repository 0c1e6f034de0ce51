//! How findings weigh: the profile's levels, the configuration's overrides, and waivers.
//!
//! `plan` makes one [`Policy`] from `[audit]`; `audit` asks it for every finding. A rule reports, the policy weighs.

use std::collections::HashMap;

use time::{Date, Duration, Month, OffsetDateTime};

use crate::config::{AuditConfig, RuleLevel, WaiverConfig};
use crate::identity::Class;
use crate::tls::audit::rules::{Level, RULES, RuleId};

/// A fault of the configuration: where under `[audit]`, and what is wrong.
pub type Problem = (Vec<String>, String);

/// How findings weigh.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Levels that differ from the profile's; `None` for a rule that says nothing.
    overrides: HashMap<RuleId, Option<Level>>,
    waivers: Vec<Waiver>,
    expiry_warning: Option<Duration>,
}

/// A finding that is accepted until a day.
#[derive(Clone, Debug)]
struct Waiver {
    rule: RuleId,
    /// The certificate's SHA-256 fingerprint, in lower-case hex.
    sha256: String,
    /// The last day, in UTC.
    until: Date,
    reason: String,
}

/// What waivers say of a finding.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waived {
    /// There is none for it.
    No,
    /// It is accepted until this day, for this reason.
    Until(String, String),
    /// It was accepted until this day, for this reason.
    Passed(String, String),
}

impl Policy {
    /// Reads `[audit]`.
    ///
    /// # Errors
    /// Everything that is wrong with it: unknown rules, levels and waivers for what cannot be served at all, malformed
    /// fingerprints, days and durations.
    pub fn new(config: &AuditConfig) -> Result<Self, Vec<Problem>> {
        let mut policy = Self::default();
        let mut problems = Vec::new();
        for (id, level) in &config.rules {
            match override_of(id, *level) {
                Ok((rule, level)) => _ = policy.overrides.insert(rule, level),
                Err(message) => problems.push((vec!["rules".into(), id.clone()], message)),
            }
        }
        for (index, waiver) in config.waivers.iter().enumerate() {
            match read_waiver(waiver) {
                Ok(waiver) => policy.waivers.push(waiver),
                Err(faults) => problems.extend(
                    faults
                        .into_iter()
                        .map(|(field, message)| (vec!["waivers".into(), index.to_string(), field.into()], message)),
                ),
            }
        }
        match config.expiry_warning.as_deref().map(read_duration).transpose() {
            Ok(duration) => policy.expiry_warning = duration,
            Err(message) => problems.push((vec!["expiry_warning".into()], message)),
        }
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }

    /// The level of a finding, `None` where it is not reported. `own`: a level that the check itself gave it.
    ///
    /// An override does not reach a finding that was raised above its rule's usual level: that is another fault.
    pub(super) fn level(&self, rule: RuleId, own: Option<Level>, profile: Class) -> Option<Level> {
        let usual = match profile {
            Class::Public => rule.rule().public,
            Class::Internal => rule.rule().internal,
        };
        let level = own.unwrap_or(usual);
        match self.overrides.get(&rule) {
            Some(level_instead) if level <= usual => *level_instead,
            _ => Some(level),
        }
    }

    /// Whether a waiver accepts the finding of this rule on the certificate with this fingerprint.
    pub(super) fn waived(&self, rule: RuleId, sha256: Option<&str>, now: OffsetDateTime) -> Waived {
        let mine = self.waivers.iter().filter(|waiver| waiver.rule == rule && Some(waiver.sha256.as_str()) == sha256);
        match mine.max_by_key(|waiver| waiver.until) {
            None => Waived::No,
            Some(waiver) if now.date() <= waiver.until => {
                Waived::Until(waiver.until.to_string(), waiver.reason.clone())
            }
            Some(waiver) => Waived::Passed(waiver.until.to_string(), waiver.reason.clone()),
        }
    }

    /// The first moments at which waivers accept nothing any more.
    pub(super) fn waivers_end(&self) -> impl Iterator<Item = OffsetDateTime> {
        self.waivers.iter().filter_map(|waiver| Some(waiver.until.next_day()?.midnight().assume_utc()))
    }

    /// From how long before its end a certificate of this lifetime is warned about.
    pub(super) fn expiry_warning(&self, lifetime: Duration) -> Duration {
        let third = Duration::seconds(lifetime.whole_seconds() / 3);
        self.expiry_warning.unwrap_or_else(|| third.clamp(Duration::days(3), Duration::days(30)))
    }
}

fn override_of(id: &str, level: RuleLevel) -> Result<(RuleId, Option<Level>), String> {
    let rule = known(id)?;
    let level = match level {
        RuleLevel::Deny => Some(Level::Deny),
        RuleLevel::Error => Some(Level::Error),
        RuleLevel::Warn => Some(Level::Warn),
        RuleLevel::Info => Some(Level::Info),
        RuleLevel::Off => None,
    };
    if rule.rule().unservable && level != Some(Level::Deny) {
        return Err(format!("a chain with a finding of {id} cannot be served at all; its level stays \"deny\""));
    }
    Ok((rule, level))
}

/// The rule of this name; an unknown one is answered with the nearest known one.
fn known(id: &str) -> Result<RuleId, String> {
    RuleId::by_name(id).ok_or_else(|| {
        let near =
            RULES.iter().map(|rule| (strsim::jaro_winkler(id, rule.id), rule.id)).max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((likeness, near)) if likeness > 0.75 => format!("there is no rule {id:?}; did you mean {near:?}?"),
            _ => format!("there is no rule {id:?}"),
        }
    })
}

fn read_waiver(waiver: &WaiverConfig) -> Result<Waiver, Vec<(&'static str, String)>> {
    let mut faults = Vec::new();
    let rule = known(&waiver.rule).and_then(|rule| match rule.rule().unservable {
        true => {
            Err(format!("a chain with a finding of {} cannot be served at all, so it cannot be waived", waiver.rule))
        }
        false => Ok(rule),
    });
    let rule = rule.map_err(|message| faults.push(("rule", message))).ok();
    let sha256 = read_fingerprint(&waiver.certificate).map_err(|message| faults.push(("certificate", message))).ok();
    let until = read_day(&waiver.until).map_err(|message| faults.push(("until", message))).ok();
    if waiver.reason.trim().is_empty() {
        faults.push(("reason", "a waiver needs a reason".into()));
    }
    match (rule, sha256, until) {
        (Some(rule), Some(sha256), Some(until)) if faults.is_empty() => {
            Ok(Waiver { rule, sha256, until, reason: waiver.reason.clone() })
        }
        _ => Err(faults),
    }
}

fn read_fingerprint(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default().replace(':', "").to_ascii_lowercase();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(hex)
    } else {
        Err(format!(
            "{text:?} is no fingerprint; write \"sha256:\" and the 64 hex digits that `portcullis audit` prints"
        ))
    }
}

fn read_day(text: &str) -> Result<Date, String> {
    let number = |part: Option<&str>, digits| part.filter(|part| part.len() == digits)?.parse::<u16>().ok();
    let mut parts = text.split('-');
    let day = (number(parts.next(), 4), number(parts.next(), 2), number(parts.next(), 2), parts.next());
    let (Some(year), Some(month), Some(day), None) = day else {
        return Err(format!("{text:?} is no day; write it like \"2027-03-01\""));
    };
    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok());
    let day = month.zip(u8::try_from(day).ok()).map(|(month, day)| Date::from_calendar_date(year.into(), month, day));
    day.and_then(Result::ok).ok_or_else(|| format!("there is no day {text:?}"))
}

fn read_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text);
    let duration = duration.map_err(|error| format!("{text:?} is no duration ({error}); write it like \"30d\""))?;
    Duration::try_from(duration).map_err(|_| format!("{text:?} is too long"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Policy, Waived};
    use crate::config::{AuditConfig, RuleLevel, WaiverConfig};
    use crate::identity::Class;
    use crate::tls::audit::rules::{Level, RuleId};
    use time::{Date, Duration, Month};

    fn waiver(rule: &str, certificate: &str, until: &str) -> WaiverConfig {
        WaiverConfig { rule: rule.into(), certificate: certificate.into(), until: until.into(), reason: "r".into() }
    }

    #[test]
    fn an_override_changes_or_silences_a_rule() {
        let mut config = AuditConfig::default();
        config.rules.insert("sig-sha1".into(), RuleLevel::Warn);
        config.rules.insert("public-web".into(), RuleLevel::Off);
        let policy = Policy::new(&config).unwrap();
        assert_eq!(policy.level(RuleId::SigSha1, None, Class::Public), Some(Level::Warn));
        assert_eq!(policy.level(RuleId::PublicWeb, None, Class::Public), None);
        assert_eq!(policy.level(RuleId::SigMd5, None, Class::Internal), Some(Level::Deny));
    }

    #[test]
    fn an_override_does_not_reach_a_finding_that_was_raised() {
        let mut config = AuditConfig::default();
        config.rules.insert("key-rsa-odd".into(), RuleLevel::Off);
        config.rules.insert("eku-no-server".into(), RuleLevel::Info);
        let policy = Policy::new(&config).unwrap();
        assert_eq!(policy.level(RuleId::KeyRsaOdd, Some(Level::Deny), Class::Public), Some(Level::Deny));
        assert_eq!(policy.level(RuleId::EkuNoServer, Some(Level::Warn), Class::Public), Some(Level::Info));
    }

    #[test]
    fn every_fault_of_the_configuration_is_reported_with_its_place() {
        let mut config = AuditConfig { expiry_warning: Some("soon".into()), ..AuditConfig::default() };
        config.rules.insert("sig-sha-1".into(), RuleLevel::Warn);
        config.rules.insert("key-mismatch".into(), RuleLevel::Warn);
        config.waivers.push(waiver("pem-malformed", "sha256:12", "2027-02-30"));
        let problems = Policy::new(&config).unwrap_err();
        let places: Vec<String> = problems.iter().map(|(path, _)| path.join(".")).collect();
        let expected = ["rules.key-mismatch", "rules.sig-sha-1", "waivers.0.rule", "waivers.0.certificate"];
        assert_eq!(places[..4], expected);
        assert_eq!(places[4..], ["waivers.0.until", "expiry_warning"]);
        assert!(problems[1].1.contains("did you mean \"sig-sha1\"?"), "{}", problems[1].1);
    }

    #[test]
    fn a_waiver_holds_through_its_last_day_and_not_longer() {
        let print = "ab".repeat(32);
        let mut config = AuditConfig::default();
        config.waivers.push(waiver("key-rsa-small", &format!("sha256:{}", print.to_uppercase()), "2027-03-01"));
        let policy = Policy::new(&config).unwrap();
        let next_day = Date::from_calendar_date(2027, Month::March, 2).unwrap().midnight().assume_utc();
        let waived = |now| policy.waived(RuleId::KeyRsaSmall, Some(&print), now);
        assert_eq!(waived(next_day - Duration::SECOND), Waived::Until("2027-03-01".into(), "r".into()));
        assert_eq!(waived(next_day), Waived::Passed("2027-03-01".into(), "r".into()));
        assert_eq!(policy.waived(RuleId::SigMd5, Some(&print), next_day), Waived::No);
        assert_eq!(policy.waived(RuleId::KeyRsaSmall, None, next_day), Waived::No);
    }

    #[test]
    fn the_expiry_warning_is_a_third_of_the_lifetime_within_limits() {
        let policy = Policy::default();
        for (lifetime, warning) in [(365, 30), (60, 20), (6, 3)] {
            assert_eq!(policy.expiry_warning(Duration::days(lifetime)), Duration::days(warning));
        }
        let config = AuditConfig { expiry_warning: Some("14d".into()), ..AuditConfig::default() };
        assert_eq!(Policy::new(&config).unwrap().expiry_warning(Duration::days(90)), Duration::days(14));
    }
}
