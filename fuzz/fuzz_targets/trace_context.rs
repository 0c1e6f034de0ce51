//! `traceparent` and `tracestate`: whatever a client sends, what is passed on is one field that every reader reads alike.

#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::identity::Class;
use portcullis::trace::{TRACEPARENT, TRACESTATE, Terms, Traceparent, Tracer, Tracing, Trust};

fuzz_target!(|data: &[u8]| {
    // The first line is the parent, and each other one a line of the state.
    let mut lines = data.split(|b| *b == b'\n');
    let parent = lines.next().unwrap_or_default();
    let mut fields = HeaderMap::new();
    fields.extend(HeaderValue::from_bytes(parent).ok().map(|value| (TRACEPARENT, value)));
    for line in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        fields.append(TRACESTATE, line);
    }
    let came = fields.get(TRACEPARENT).and_then(|value| Traceparent::parse(value.as_bytes()));
    let tracer = Tracer::off();
    tracer.follow(Some(Tracing { terms: Terms { trust: Trust::All, sampling: 1.0 }, queue: None }));
    let active = tracer.begin(Class::Public, &mut fields).expect("there is a tracer");

    assert_eq!(fields.get_all(TRACEPARENT).iter().count(), 1);
    let sent = Traceparent::parse(fields[TRACEPARENT].as_bytes()).expect("what is passed on is well formed");
    assert_eq!((sent.trace, sent.span), (active.trace, active.span));
    match came {
        Some(came) => {
            assert_eq!((came.trace, Some(came.span), came.sampled), (active.trace, active.parent, active.sampled));
            assert_ne!(came.span, active.span);
            let text = std::str::from_utf8(&parent[..52]).expect("digits and dashes");
            assert!(text.ends_with(&format!("{}-{}", came.trace, came.span)), "another reader sees other ids");
        }
        None => assert!(active.parent.is_none() && !fields.contains_key(TRACESTATE)),
    }
});
