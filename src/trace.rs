//! Traces: whose trace a request belongs to (W3C Trace Context, level 1), and where its spans go.
//!
//! `handler/http` asks the [`Tracer`] at the begin of each request and gives it the request's spans at its end; of other sessions
//! `handler` gives it one span each. Each worker keeps
//! them in a buffer of its own and passes whole buffers to `otlp`, which sends them, without waiting: what does not fit is
//! dropped and counted. `otlp/exports` says by which terms, and where to, each time a plan changes it. Where nothing is configured
//! nothing is traced, and a client's `traceparent` is a field like any other.

mod context;
mod ids;
mod span;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwapOption, Guard};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use thread_local::ThreadLocal;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

pub use self::context::{SpanId, TraceId, Traceparent};
pub use self::span::{Attribute, Calendar, Kind, Span, Value};
use crate::identity::Class;
use crate::metrics::{Counter, PerWorker};

/// The field that says which trace a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The field in which systems of tracing keep what is theirs.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A worker's buffer is passed on when it holds this many spans, or when the worker says so.
const PASS_ON: usize = 128;
/// How many buffers may wait to be sent.
const WAITING: usize = 32;

/// Who begins traces, and where spans go. Clones trace alike.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Something is traced: where nothing is, that is all that a request looks at.
    is_on: AtomicBool,
    tracing: ArcSwapOption<Tracing>,
    buffers: ThreadLocal<RefCell<Vec<Span>>>,
    overflow: PerWorker<Counter>,
    sent: Arc<Sent>,
}

/// By which terms traces are made, and where what is recorded of them goes.
#[derive(Debug)]
pub struct Tracing {
    /// The terms.
    pub terms: Terms,
    /// `None` where spans are not sent anywhere.
    pub queue: Option<Sender<Vec<Span>>>,
}

/// The way to whoever sends spans.
#[must_use]
pub fn queue() -> (Sender<Vec<Span>>, Receiver<Vec<Span>>) {
    channel(WAITING)
}

/// Whose traces are believed, and which are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Whose `traceparent` is gone on with.
    pub trust: Trust,
    /// The share of traces, from 0 to 1, that is recorded, of those that begin here.
    pub sampling: f64,
}

/// Whose `traceparent` is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// That of clients of internal endpoints.
    Internal,
    /// Everybody's.
    All,
    /// Nobody's.
    None,
}

/// What became of spans that were handed to `otlp`.
#[derive(Debug, Default)]
pub struct Sent {
    /// The collector took them.
    pub exported: AtomicU64,
    /// It could not be reached, or refused them.
    pub failed: AtomicU64,
}

/// A request's, or session's, place in a trace.
#[derive(Clone, Debug)]
pub struct Active {
    /// The trace.
    pub trace: TraceId,
    /// Its own span.
    pub span: SpanId,
    /// The client's span, where the trace is the client's.
    pub parent: Option<SpanId>,
    /// Whether it is recorded.
    pub sampled: bool,
}

/// One attempt at a server, as its span tells it.
#[derive(Debug)]
pub struct Attempt {
    /// Its span, which the server was told.
    pub span: SpanId,
    /// The server.
    pub server: Arc<str>,
    /// When it began, with the dial where there was one.
    pub begun: Instant,
    /// When it failed; `None` for the one that was answered, which ends with the request.
    pub ended: Option<Instant>,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<&'static str>,
}

impl Tracer {
    /// Nothing is traced, and no field is touched.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Traces like this from now on; not at all for `None`. What a worker has recorded and not passed on yet goes the new way.
    pub fn follow(&self, tracing: Option<Tracing>) {
        let is_on = tracing.is_some();
        self.0.tracing.store(tracing.map(Arc::new));
        self.0.is_on.store(is_on, Relaxed);
    }

    /// Begins a request's part of a trace: a trusted client's trace goes on, any other is a new one. The fields say so then, to
    /// whoever gets the request next. `None` where nothing is traced.
    pub fn begin(&self, class: Class, fields: &mut HeaderMap) -> Option<Box<Active>> {
        let tracing = self.0.now();
        let Tracing { terms, queue } = &**tracing.as_ref()?.as_ref()?;
        let trusted = match terms.trust {
            Trust::Internal => class == Class::Internal,
            Trust::All => true,
            Trust::None => false,
        };
        let came = if trusted { context::received(fields) } else { None };
        if came.is_none() || !context::is_state(fields.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes)) {
            fields.remove(TRACESTATE);
        }
        let active = match came {
            Some(Traceparent { trace, span, sampled }) => {
                Active { trace, span: SpanId::random(), parent: Some(span), sampled }
            }
            None => {
                let trace = TraceId::random();
                let sampled = queue.is_some() && trace.is_among(terms.sampling);
                Active { trace, span: SpanId::random(), parent: None, sampled }
            }
        };
        let written = Traceparent { trace: active.trace, span: active.span, sampled: active.sampled }.to_field();
        fields.insert(TRACEPARENT, written);
        Some(Box::new(active))
    }

    /// A session's trace: its own, since nobody tells one; `None` where it is not recorded. Asked when the session is over.
    #[must_use]
    pub fn of_session(&self) -> Option<Active> {
        let tracing = self.0.now();
        let Tracing { terms, queue } = &**tracing.as_ref()?.as_ref()?;
        let trace = TraceId::random();
        let active = || Active { trace, span: SpanId::random(), parent: None, sampled: true };
        (queue.is_some() && trace.is_among(terms.sampling)).then(active)
    }

    /// Whether spans are sent anywhere.
    #[must_use]
    pub fn records(&self) -> bool {
        self.0.now().is_some_and(|tracing| tracing.as_ref().is_some_and(|tracing| tracing.queue.is_some()))
    }

    /// Hands a span over.
    pub fn record(&self, span: Span) {
        let mut buffer = self.0.buffers.get_or_default().borrow_mut();
        buffer.push(span);
        if buffer.len() >= PASS_ON {
            self.0.pass_on(&mut buffer);
        }
    }

    /// Passes on what this worker has recorded so far. Called by each worker a few times a second, and before it ends.
    pub fn flush(&self) {
        self.0.pass_on(&mut self.0.buffers.get_or_default().borrow_mut());
    }

    /// What became of spans that were sent, to whichever collector.
    #[must_use]
    pub fn sent(&self) -> &Arc<Sent> {
        &self.0.sent
    }

    /// How many spans were dropped because too many waited to be sent.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.0.overflow.total(|counter| counter)
    }
}

impl Shared {
    /// By what is traced now; `None` where nothing is.
    fn now(&self) -> Option<Guard<Option<Arc<Tracing>>>> {
        self.is_on.load(Relaxed).then(|| self.tracing.load())
    }

    fn pass_on(&self, buffer: &mut Vec<Span>) {
        if buffer.is_empty() {
            return;
        }
        let tracing = self.tracing.load();
        let Some(queue) = tracing.as_ref().and_then(|tracing| tracing.queue.as_ref()) else { return buffer.clear() };
        if let Err(TrySendError::Full(lost) | TrySendError::Closed(lost)) = queue.try_send(std::mem::take(buffer)) {
            self.overflow.here().add(lost.len() as u64);
        }
    }
}

impl Sent {
    /// Counts what became of some spans.
    pub fn count(&self, exported: u64, failed: u64) {
        self.exported.fetch_add(exported, Relaxed);
        self.failed.fetch_add(failed, Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CAME: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn tracer(terms: Terms) -> (Tracer, Receiver<Vec<Span>>) {
        let (tracer, (queue, spans)) = (Tracer::off(), queue());
        tracer.follow(Some(Tracing { terms, queue: Some(queue) }));
        (tracer, spans)
    }

    fn begin(trust: Trust, sampling: f64, class: Class, fields: &mut HeaderMap) -> Active {
        *tracer(Terms { trust, sampling }).0.begin(class, fields).unwrap()
    }

    #[test]
    fn a_trusted_clients_trace_goes_on_with_its_decision_and_its_state() {
        for (trust, class) in [(Trust::Internal, Class::Internal), (Trust::All, Class::Public)] {
            let mut fields = fields(&[("traceparent", CAME), ("tracestate", "a=1,b@c=2")]);
            let active = begin(trust, 0.0, class, &mut fields);
            assert_eq!(active.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(active.parent.unwrap().to_string(), "b7ad6b7169203331");
            assert!(active.sampled && fields.contains_key(TRACESTATE));
            let expected = format!("00-{}-{}-01", active.trace, active.span);
            assert_eq!(fields.get(TRACEPARENT).unwrap(), expected.as_str());
        }
        let mut unsampled = fields(&[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]);
        assert!(!begin(Trust::All, 1.0, Class::Public, &mut unsampled).sampled, "the parent's decision counts");
    }

    #[test]
    fn what_is_not_trusted_or_malformed_begins_a_new_trace_without_any_state() {
        for (trust, class, came) in [
            (Trust::Internal, Class::Public, CAME),
            (Trust::None, Class::Internal, CAME),
            (Trust::All, Class::Public, "00-0af7651916cd43dd8448eb211c80319C-b7ad6b7169203331-01"),
        ] {
            let mut fields = fields(&[("traceparent", came), ("tracestate", "a=1")]);
            let active = begin(trust, 1.0, class, &mut fields);
            assert!(active.parent.is_none() && active.sampled && !fields.contains_key(TRACESTATE));
            assert_ne!(active.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        }
        let mut twice = fields(&[("traceparent", CAME)]);
        twice.append(TRACEPARENT, HeaderValue::from_static(CAME));
        assert!(begin(Trust::All, 1.0, Class::Public, &mut twice).parent.is_none());
        assert_eq!(twice.get_all(TRACEPARENT).iter().count(), 1);
        let mut state = fields(&[("traceparent", CAME), ("tracestate", "a=1,a=2")]);
        assert!(begin(Trust::All, 1.0, Class::Public, &mut state).parent.is_some());
        assert!(!state.contains_key(TRACESTATE), "a state that is malformed goes, and the trace stays");
    }

    #[test]
    fn what_does_not_fit_in_the_queue_is_dropped_and_counted() {
        let (tracer, mut receiver) = tracer(Terms { trust: Trust::None, sampling: 1.0 });
        for _ in 0..(WAITING + 2) * PASS_ON {
            tracer.record(Span::default());
        }
        assert_eq!(tracer.overflow(), 2 * PASS_ON as u64);
        assert_eq!(
            std::iter::from_fn(|| receiver.try_recv().ok()).map(|spans| spans.len()).sum::<usize>(),
            WAITING * PASS_ON
        );
    }

    #[test]
    fn what_is_traced_can_change_at_any_time() {
        let (tracer, mut first) = tracer(Terms { trust: Trust::None, sampling: 1.0 });
        let trace = |tracer: &Tracer| tracer.begin(Class::Public, &mut HeaderMap::new()).map(|active| active.sampled);
        assert_eq!((trace(&tracer), tracer.of_session().is_some()), (Some(true), true));
        tracer.record(Span::default());
        tracer.follow(Some(Tracing { terms: Terms { trust: Trust::None, sampling: 1.0 }, queue: None }));
        assert_eq!((trace(&tracer), tracer.of_session().is_some()), (Some(false), false));
        assert!(first.blocking_recv().is_none(), "nobody else sends there");
        let (queue, mut second) = queue();
        tracer.follow(Some(Tracing { terms: Terms { trust: Trust::None, sampling: 0.0 }, queue: Some(queue) }));
        assert_eq!((trace(&tracer), tracer.of_session().is_some()), (Some(false), false));
        tracer.flush();
        assert_eq!(second.try_recv().unwrap().len(), 1, "what was recorded goes where spans go now");
        tracer.follow(None);
        assert_eq!((trace(&tracer), tracer.records()), (None, false));
    }
}
