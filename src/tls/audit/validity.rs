//! Rules about time: what has ended, what has not begun, what ends soon, and what lasts too long.

use time::{Date, Duration, Month, OffsetDateTime};

use super::finding::rfc3339;
use super::{Found, View};
use crate::identity::Class;
use crate::tls::audit::rules::RuleId;
use crate::tls::certificate::Certificate;

/// Looks at the validity of every certificate on the path.
pub(super) fn check(view: &View<'_>, found: &mut Found) {
    for certificate in view.members() {
        moment(view, certificate, found);
    }
    let leaf = view.leaf();
    lifetime(view, leaf, found);
    for issuer in view.served().skip(1).filter(|issuer| issuer.not_after < leaf.not_after) {
        let seen = format!(
            "ends at {}, before the leaf, which ends at {}",
            rfc3339(issuer.not_after),
            rfc3339(leaf.not_after)
        );
        found.at(RuleId::IssuerExpiresFirst, issuer, seen);
    }
}

/// What is seen is said without "in three days": a running gateway shows it for as long as the verdict holds.
fn moment(view: &View<'_>, certificate: &Certificate, found: &mut Found) {
    let (begin, end, now) = (certificate.not_before, certificate.not_after, view.now);
    if end < begin {
        let seen = format!("ends at {}, before it begins at {}", rfc3339(end), rfc3339(begin));
        found.at(RuleId::NotYetValid, certificate, seen);
    } else if now < begin {
        found.at(RuleId::NotYetValid, certificate, format!("is not valid before {}", rfc3339(begin)));
    }
    if certificate.is_valid_at(now) {
        let left = end - now;
        if left < view.expiry_warning(end - begin) {
            found.at(RuleId::ExpiringSoon, certificate, format!("ends at {}", rfc3339(end)));
        }
    } else if end < now {
        found.at(RuleId::Expired, certificate, format!("ended at {}", rfc3339(end)));
    }
}

/// Days that a leaf may last, by the day it was issued (BR 6.3.2, ballot SC-081v3); the newest first.
const PUBLIC_DAYS: [(i32, Month, u8, i64); 4] = [
    (2029, Month::March, 15, 47),
    (2027, Month::March, 15, 100),
    (2026, Month::March, 15, 200),
    (2020, Month::September, 1, 398),
];
/// Before the first of those days.
const PUBLIC_DAYS_BEFORE: i64 = 825;
/// What common clients hold private authorities to.
const INTERNAL_DAYS: i64 = 825;

fn lifetime(view: &View<'_>, leaf: &Certificate, found: &mut Found) {
    let allowed = match view.subject.profile {
        Class::Public => public_days(leaf.not_before),
        Class::Internal => INTERNAL_DAYS,
    };
    // Both ends are included (RFC 5280, section 4.1.2.5), and the BR count any part of a day as a day.
    let lasts = leaf.not_after - leaf.not_before + Duration::SECOND;
    if lasts > Duration::days(allowed) {
        let days = (lasts - Duration::SECOND).whole_days() + 1;
        let seen = format!("lasts {days} days; issued at {}, it may last {allowed}", rfc3339(leaf.not_before));
        found.at(RuleId::ValidityTooLong, leaf, seen);
    }
}

fn public_days(issued: OffsetDateTime) -> i64 {
    let since = |(year, month, day, _): &(i32, Month, u8, i64)| {
        Date::from_calendar_date(*year, *month, *day).is_ok_and(|day| issued >= day.midnight().assume_utc())
    };
    PUBLIC_DAYS.iter().find(|step| since(step)).map_or(PUBLIC_DAYS_BEFORE, |step| step.3)
}
