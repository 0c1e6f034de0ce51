//! The fields of W3C Trace Context, level 1: `traceparent` (section 3.2) and `tracestate` (section 3.3).
//!
//! Pure. Read strictly: what could be read in two ways begins a new trace.

use std::collections::HashSet;
use std::fmt;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::TRACEPARENT;
use super::ids::random;

/// Which trace; never all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Which span of it; never all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// The value of a `traceparent` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace: TraceId,
    /// The sender's span.
    pub span: SpanId,
    /// Whether the sender records it.
    pub sampled: bool,
}

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;

impl TraceId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let (high, low) = (random().to_be_bytes(), random().to_be_bytes());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high);
        id[8..].copy_from_slice(&low);
        Self(id)
    }

    /// Whether it is among a share of all traces, from 0 to 1. Whoever else decides by the trace's last seven bytes, which are
    /// random, decides alike.
    #[must_use]
    pub fn is_among(self, share: f64) -> bool {
        let last = self.0[9..].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        (last as f64) < share * (1_u64 << 56) as f64
    }
}

impl SpanId {
    /// How many digits it is written with.
    pub const DIGITS: usize = 16;

    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(random().to_be_bytes())
    }
}

impl Traceparent {
    /// How much of a value stands from the span's first digit on.
    pub const BEHIND_TRACE: usize = SpanId::DIGITS + 3;

    /// Reads a value; `None` where it is malformed. A later version is read as far as this one goes (section 3.2.1).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = digits::<1>(value.get(..2)?)?[0];
        let rest_is_fit = match version {
            0 => value.len() == LENGTH,
            0xff => false,
            _ => value.len() == LENGTH || value.get(LENGTH) == Some(&b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
        if !rest_is_fit || !dashes {
            return None;
        }
        let trace = TraceId(digits(&value[3..35])?);
        let span = SpanId(digits(&value[36..52])?);
        let flags = digits::<1>(&value[53..55])?[0];
        let is_valid = trace != TraceId::default() && span != SpanId::default();
        is_valid.then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// Writes it, in version 00.
    #[must_use]
    pub fn to_field(self) -> HeaderValue {
        let text = format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")) // digits and dashes are a value
    }
}

/// What a request says of its trace; `None` where it says nothing, or it is malformed or said twice.
pub(super) fn received(fields: &HeaderMap) -> Option<Traceparent> {
    let mut lines = fields.get_all(TRACEPARENT).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    Traceparent::parse(line.as_bytes())
}

/// Whether the lines of a `tracestate` are one list of at most 32 members, none of them twice (section 3.3.1).
pub(super) fn is_state<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let members = lines.flat_map(|line| line.split(|b| *b == b',')).map(trimmed).filter(|member| !member.is_empty());
    let mut keys = HashSet::new();
    for member in members {
        let Some(equals) = member.iter().position(|b| *b == b'=') else { return false };
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        if keys.len() == 32 || !is_key(key) || !is_value(value) || !keys.insert(key) {
            return false;
        }
    }
    true
}

fn trimmed(member: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let begin = member.iter().position(|b| !is_space(b)).unwrap_or(member.len());
    let end = member.iter().rposition(|b| !is_space(b)).map_or(begin, |last| last + 1);
    &member[begin..end]
}

/// `name`, or `tenant@system`.
fn is_key(key: &[u8]) -> bool {
    let is_rest = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(b);
    let (tenant, system) = match key.iter().position(|b| *b == b'@') {
        None => return key.len() <= 256 && key.first().is_some_and(u8::is_ascii_lowercase) && key.iter().all(is_rest),
        Some(at) => (&key[..at], &key[at + 1..]),
    };
    let begins = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_tenant = tenant.len() <= 241 && tenant.first().is_some_and(begins) && tenant.iter().all(is_rest);
    let is_system =
        system.len() <= 14 && system.first().is_some_and(u8::is_ascii_lowercase) && system.iter().all(is_rest);
    is_tenant && is_system
}

fn is_value(value: &[u8]) -> bool {
    let is_character = |b: &u8| (b' '..=b'~').contains(b) && !b",=".contains(b);
    (1..=256).contains(&value.len()) && value.iter().all(is_character) && value.last() != Some(&b' ')
}

/// Lower-case hexadecimal digits, and nothing else.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parent_is_read_as_the_recommendation_says() {
        let id = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        let good = ["00-ID-01", "00-ID-00", "00-ID-ff", "01-ID-01", "01-ID-01-more", "fe-ID-03-"];
        for text in good {
            let read = Traceparent::parse(text.replace("ID", id).as_bytes()).unwrap();
            assert_eq!(read.sampled, !text.contains("-00"), "{text}");
            assert_eq!(format!("{}-{}", read.trace, read.span), id);
        }
        let bad = [
            "",
            "00",
            "00-ID",
            "00-ID-1",
            "00-ID-01-",
            "00-ID-01-x",
            "ff-ID-01",
            "01-ID-01x",
            "0g-ID-01",
            "00-ID-0G",
            "00_ID-01",
            " 00-ID-01",
        ];
        for text in bad {
            assert_eq!(Traceparent::parse(text.replace("ID", id).as_bytes()), None, "{text}");
        }
        for id in [
            "00000000000000000000000000000000-b7ad6b7169203331",
            "0af7651916cd43dd8448eb211c80319c-0000000000000000",
            "0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331",
        ] {
            assert_eq!(Traceparent::parse(format!("00-{id}-01").as_bytes()), None, "{id}");
        }
    }

    #[test]
    fn a_state_is_a_list_of_at_most_32_members_none_of_them_twice() {
        let is_state = |text: &str| is_state(text.split('\n').map(str::as_bytes));
        let many = |n: usize| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        for good in ["", "a=1", "a=1 , b=2", "a=1\nb=2", "1t@sys=x", "a=b c", ",a=1,,", "a*/_-=!", &many(32)] {
            assert!(is_state(good), "{good}");
        }
        let long = format!("a={}", "v".repeat(257));
        for bad in ["a", "=1", "a=", "A=1", "1=1", "a=1,a=2", "a=b=c", "a@=1", "@a=1", "a=\u{e4}", &many(33), &long] {
            assert!(!is_state(bad), "{bad}");
        }
    }

    #[test]
    fn a_share_of_traces_is_about_that_share() {
        let taken = (0..10_000).filter(|_| TraceId::random().is_among(0.25)).count();
        assert!((2000..3000).contains(&taken), "{taken}");
        assert!((0..1000).all(|_| TraceId::random().is_among(1.0) && !TraceId::random().is_among(0.0)));
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read_and_nothing_makes_it_panic(bytes in ".{0,60}", sampled: bool) {
            let written = Traceparent { trace: TraceId::random(), span: SpanId::random(), sampled };
            prop_assert_eq!(Traceparent::parse(written.to_field().as_bytes()), Some(written));
            let _ = (Traceparent::parse(bytes.as_bytes()), is_state(std::iter::once(bytes.as_bytes())));
        }
    }
}
