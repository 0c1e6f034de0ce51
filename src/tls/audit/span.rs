//! For how long a verdict holds: until the clock reaches a moment at which a rule would say something else.
//!
//! The audit notes it beside each chain; `plan` keeps verdicts that hold, and `reload` sleeps until one does not.

use std::time::SystemTime;

use time::{Duration, OffsetDateTime};

use crate::tls::audit::policy::Policy;
use crate::tls::certificate::Certificate;

/// A chain that ends within this time gives way to a fit one as if it had ended: clients' clocks are not all right, and the
/// switch should be over before the end.
pub(super) const ENDING: Duration = Duration::MINUTE;

/// Moments between which the clock changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When the verdict was made. A clock that is set back to before it may make another.
    pub since: SystemTime,
    /// The first moment of another verdict; `None` where none will come.
    pub until: Option<SystemTime>,
}

/// Always.
impl Default for Span {
    fn default() -> Self {
        Self::endless(SystemTime::UNIX_EPOCH)
    }
}

impl Span {
    /// From `since` on, without an end.
    #[must_use]
    pub fn endless(since: SystemTime) -> Self {
        Self { since, until: None }
    }

    /// Whether a moment lies in it.
    #[must_use]
    pub fn holds_at(&self, now: SystemTime) -> bool {
        self.since <= now && self.until.is_none_or(|until| now < until)
    }

    /// The moments that lie in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let until = [self.until, other.until].into_iter().flatten().min();
        Self { since: self.since.max(other.since), until }
    }

    /// The same, ending at `moment` at the latest, unless that is past.
    #[must_use]
    pub fn ending_at(self, moment: SystemTime) -> Self {
        let until = (moment > self.since).then_some(moment);
        self.and(Self { since: self.since, until })
    }

    /// Of a chain of these certificates that is judged `now`.
    pub(super) fn of(certificates: &[Certificate], policy: &Policy, now: OffsetDateTime) -> Self {
        let of_certificate = |certificate: &Certificate| {
            let (begin, end) = (certificate.not_before, certificate.not_after);
            // Both ends of the validity are included, and a warning begins when less than its time is left.
            let past = |moment: OffsetDateTime, less: Duration| {
                moment.checked_sub(less).and_then(|moment| moment.checked_add(Duration::SECOND))
            };
            [Some(begin), past(end, policy.expiry_warning(end - begin)), past(end, ENDING), past(end, Duration::ZERO)]
        };
        let moments = certificates.iter().flat_map(of_certificate).flatten().chain(policy.waivers_end());
        let until = moments.filter(|moment| *moment > now).min();
        Self { since: now.into(), until: until.map(Into::into) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::Span;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_span_ends_at_its_first_moment_and_does_not_reach_before_its_beginning() {
        let span = Span::endless(at(10)).ending_at(at(30)).and(Span::endless(at(5)).ending_at(at(20)));
        assert_eq!(span, Span { since: at(10), until: Some(at(20)) });
        let holds: Vec<bool> = [9, 10, 19, 20].map(|second| span.holds_at(at(second))).into();
        assert_eq!(holds, [false, true, true, false]);
        assert_eq!(span.ending_at(at(7)), span, "what is past ends nothing");
    }
}
