//! When a certificate is renewed, when the authority is asked about that, and how long to wait after a failure.
//!
//! Pure functions of the clock; called by `job`. `fraction`, from 0 to 1, is what keeps many gateways from coming at once.

use std::time::{Duration, SystemTime};

/// What lives for less is short-lived.
const SHORT_LIFE: Duration = Duration::from_secs(10 * 24 * 60 * 60);
/// The wait after the first failure. It doubles with each one, so that the first hour sees five attempts: as many as the
/// strictest of the large authorities lets fail.
const FIRST_WAIT: Duration = Duration::from_secs(2 * 60);
/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 60 * 60);
/// How often an authority is asked about renewal where its answer cannot be had (RFC 9773, section 4.3.3).
const ASK_ANYWAY: Duration = Duration::from_secs(6 * 60 * 60);
/// Bounds of how often an authority may wish to be asked (RFC 9773, section 4.3.2).
const ASKING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 60 * 60));
/// A certificate that lives for minutes is asked about more often than by the minute: a hundred times in its life.
const ASKED_IN_A_LIFE: u32 = 100;

/// When a certificate is old enough, and why then: two thirds into its life, or half where that is short; up to a thirtieth of
/// it earlier. The audit warns of short-lived ones from three days before their end, and what it warns of is no first choice.
pub(super) fn old(not_before: SystemTime, not_after: SystemTime, fraction: f64) -> (SystemTime, &'static str) {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let (age, why) = match life < SHORT_LIFE {
        true => (life / 2, "half of its life is over"),
        false => (life * 2 / 3, "two thirds of its life are over"),
    };
    (not_before + age - (life / 30).mul_f64(fraction), why)
}

/// A moment in the window that an authority suggests (RFC 9773, section 4.2).
pub(super) fn within(start: SystemTime, end: SystemTime, fraction: f64) -> SystemTime {
    start + end.duration_since(start).unwrap_or_default().mul_f64(fraction)
}

/// How long to wait after so many failures on end.
pub(super) fn wait(failures: u32, fraction: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let wait = doubled.min(LONGEST_WAIT);
    wait + (wait / 4).mul_f64(fraction)
}

/// How long until the authority is asked again about renewal; `wish` is its `Retry-After`, if it answered.
pub(super) fn ask_again(wish: Option<Duration>, life: Duration) -> Duration {
    let shortest = ASKING.0.min(life / ASKED_IN_A_LIFE).max(Duration::from_secs(1));
    wish.map_or(ASK_ANYWAY.min((life / 20).max(shortest)), |wish| wish.clamp(shortest, ASKING.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn a_certificate_is_renewed_two_thirds_into_its_life_or_a_little_earlier() {
        let (start, end) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + 90 * DAY);
        assert_eq!(old(start, end, 0.0), (start + 60 * DAY, "two thirds of its life are over"));
        assert_eq!(old(start, end, 1.0).0, start + 57 * DAY);
        assert_eq!(old(start, start + 6 * DAY, 0.0), (start + 3 * DAY, "half of its life is over"));
        assert_eq!(old(end, start, 0.5).0, end, "a life that ends before it begins is over");
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let minutes: Vec<u64> = (1..=10).map(|failures| wait(failures, 0.0).as_secs() / 60).collect();
        assert_eq!(minutes, [2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
        assert_eq!(wait(u32::MAX, 1.0), LONGEST_WAIT + LONGEST_WAIT / 4);
    }

    #[test]
    fn an_authority_is_asked_as_it_wishes_within_bounds() {
        let life = 90 * DAY;
        assert_eq!(ask_again(Some(Duration::from_secs(21_600)), life), Duration::from_secs(21_600));
        assert_eq!(ask_again(Some(Duration::ZERO), life), Duration::from_secs(60));
        assert_eq!(ask_again(Some(100 * DAY), life), DAY);
        assert_eq!(ask_again(None, life), Duration::from_secs(21_600));
        assert_eq!(ask_again(Some(Duration::ZERO), Duration::from_secs(300)), Duration::from_secs(3));
    }

    proptest! {
        #[test]
        fn no_clock_makes_it_panic(start in 0..u64::MAX / 4, end in 0..u64::MAX / 4, failures: u32, fraction in 0.0..=1.0) {
            let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds % (1 << 40));
            let (start, end) = (at(start), at(end));
            let within = within(start, end, fraction);
            prop_assert!(within >= start && within <= end.max(start));
            prop_assert!(old(start, end, fraction).0 <= end.max(start));
            prop_assert!(wait(failures, fraction) >= FIRST_WAIT);
        }
    }
}
