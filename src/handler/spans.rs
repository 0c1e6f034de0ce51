//! Spans of what an endpoint serves: the attributes that all of them have, and the one of a session that is not HTTP.
//!
//! `http/spans` makes those of requests with these attributes; `Context::session_ended` has a session's made here.
//! Attributes have the names of OpenTelemetry's conventions where these have one, and begin with `portcullis.` where not.

use super::Side;
use crate::access_log::Entry;
use crate::identity::ConnectionInfo;
use crate::trace::{Active, Attribute, Calendar, Kind, Span};

/// What there is to say of a connection.
pub(super) fn of_connection(info: &ConnectionInfo) -> Vec<Attribute> {
    let mut attributes: Vec<Attribute> = vec![
        ("client.address", info.client.0.ip().to_string().into()),
        ("client.port", u64::from(info.client.0.port()).into()),
        ("portcullis.endpoint", info.endpoint.name.to_string().into()),
        ("portcullis.class", info.endpoint.class.as_str().into()),
    ];
    if let Some(tls) = &info.tls {
        attributes.push(("tls.protocol.version", tls.version.as_str().into()));
        attributes.push(("tls.cipher", tls.cipher.into()));
        attributes.push(("tls.curve", tls.group.as_str().into()));
        attributes.push(("tls.resumed", tls.resumed.into()));
        attributes.extend(tls.alpn.as_ref().map(|alpn| ("tls.next_protocol", alpn.as_str().to_owned().into())));
    }
    let name = info.tls.as_ref().and_then(|tls| tls.server_name.as_ref()).or(info.asked.as_ref());
    attributes.extend(name.map(|name| ("tls.client.server_name", name.clone().into())));
    attributes
}

/// The span of a session, as its line in the access log tells it; `side` is whose fault ended it, if it was one.
pub(super) fn of_session(active: &Active, entry: &Entry<'_>, side: Option<Side>) -> Span {
    let mut attributes = of_connection(entry.info);
    attributes.push(("network.transport", "tcp".into()));
    attributes.push(("portcullis.received.bytes", entry.received.into()));
    attributes.push(("portcullis.sent.bytes", entry.sent.into()));
    if let Some(upstream) = entry.upstream {
        attributes.push(("portcullis.upstream", upstream.to_owned().into()));
        attributes.push(("portcullis.tries", u64::from(entry.trail.tries).into()));
        attributes.extend(entry.trail.server.clone().map(|server| ("portcullis.server", server.into())));
    }
    let phases = [
        ("portcullis.handshake.seconds", entry.handshake),
        ("portcullis.queue.seconds", Some(entry.trail.queued).filter(|queued| !queued.is_zero())),
        ("portcullis.connect.seconds", Some(entry.trail.connect).filter(|connect| !connect.is_zero())),
    ];
    attributes.extend(phases.into_iter().filter_map(|(name, took)| Some((name, took?.into()))));
    attributes.extend(entry.error.map(|error| ("error.type", error.to_owned().into())));
    attributes.extend(entry.detail.map(|detail| ("portcullis.detail", detail.to_owned().into())));
    let calendar = Calendar::of(entry.ended);
    Span {
        trace: active.trace,
        id: active.span,
        parent: active.parent,
        kind: Kind::Server,
        name: entry.upstream.map_or_else(|| "session".to_owned(), |upstream| format!("session {upstream}")),
        begun: calendar.nanos(entry.begun),
        ended: calendar.nanos(entry.ended),
        // A client that goes away, or is idle, is no failure of the service.
        failed: side.is_some_and(|side| side != Side::Client),
        attributes,
    }
}
