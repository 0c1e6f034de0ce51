//! A span, as it is handed over: what took place when, and what there is to say of it.
//!
//! Made by `handler/spans` and `handler/http/spans`; written out by `otlp`, on its own thread.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::{SpanId, TraceId};

/// A span that is over.
#[derive(Debug, Default)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Which it is.
    pub id: SpanId,
    /// What it is part of; `None` for the first of a trace.
    pub parent: Option<SpanId>,
    /// Whose side it tells.
    pub kind: Kind,
    /// What it is called: few names for many spans.
    pub name: String,
    /// When it began, in nanoseconds of Unix time.
    pub begun: u64,
    /// When it ended.
    pub ended: u64,
    /// Whether it failed.
    pub failed: bool,
    /// What there is to say of it, by the names of OpenTelemetry's conventions where they have one.
    pub attributes: Vec<Attribute>,
}

/// Something to say of a span, by its name.
pub type Attribute = (&'static str, Value);

/// Whose side of an exchange a span tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// That of the gateway, towards its client.
    #[default]
    Server,
    /// That of the gateway, towards a server of an upstream.
    Client,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text of ours, or of a client's.
    Text(Cow<'static, str>),
    /// A name of the configuration's.
    Name(Arc<str>),
    /// A number.
    Number(i64),
    /// A number with a fraction, such as seconds.
    Fraction(f64),
    /// Yes or no.
    Flag(bool),
}

/// Where moments of a running clock are on the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    at: Instant,
    nanos: u64,
}

impl Calendar {
    /// `now` is now.
    #[must_use]
    pub fn of(now: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at: now, nanos: nanos(since) }
    }

    /// A moment that is past, in nanoseconds of Unix time.
    #[must_use]
    pub fn nanos(&self, moment: Instant) -> u64 {
        self.nanos.saturating_sub(nanos(self.at.saturating_duration_since(moment)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(name: Arc<str>) -> Self {
        Self::Name(name)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<Duration> for Value {
    /// In seconds.
    fn from(duration: Duration) -> Self {
        Self::Fraction(duration.as_secs_f64())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
