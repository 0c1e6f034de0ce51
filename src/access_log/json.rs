//! A line for machines: one JSON object. Times are in milliseconds, sizes in bytes.

use std::fmt::{Display, Write as _};

use super::entry::{Entry, millis};

pub(super) fn write(entry: &Entry<'_>, line: &mut String) {
    let info = entry.info;
    let mut object = Object::new(line);
    object.text("time", &super::now());
    object.text("endpoint", info.endpoint.name.as_str());
    object.text("class", info.endpoint.class.as_str());
    object.quoted("client", info.client.0);
    if let Some(r) = &entry.request {
        object.text("method", r.method);
        object.text("scheme", info.scheme());
        object.text("host", r.host);
        object.text("path", r.path);
        object.text("http", r.version);
        object.value("status", r.status);
        object.maybe("route", r.route);
    }
    object.value("duration_ms", millis(entry.duration()));
    for (phase, duration) in entry.phases() {
        let _ = write!(object.name(phase, "_ms"), "{}", millis(duration));
    }
    object.value("received", entry.received);
    object.value("sent", entry.sent);
    if let Some(upstream) = entry.upstream {
        object.text("upstream", upstream);
        object.maybe("server", entry.trail.server.as_deref());
        object.value("tries", entry.trail.tries);
    }
    object.raw(entry.facts.json(info));
    if let Some(trace) = entry.trace {
        object.quoted("trace_id", trace);
    }
    if let Some(error) = entry.error {
        object.text("error", error);
    }
    if let Some(detail) = entry.detail {
        object.text("detail", detail);
    }
    object.end();
}

/// A JSON object being written: a tree of values would be built and thrown away for every line.
pub(super) struct Object<'a> {
    line: &'a mut String,
    is_first: bool,
}

// Writing to a String cannot fail, so the results are dropped.
impl<'a> Object<'a> {
    fn new(line: &'a mut String) -> Self {
        line.push('{');
        Self { line, is_first: true }
    }

    /// Members only, for an object that has some already.
    pub(super) fn going_on(line: &'a mut String) -> Self {
        Self { line, is_first: false }
    }

    fn end(self) {
        self.line.push('}');
    }

    /// Begins a member, whose name needs no escape; its value is to be written behind.
    fn name(&mut self, name: &str, suffix: &str) -> &mut String {
        if !std::mem::take(&mut self.is_first) {
            self.line.push(',');
        }
        let _ = write!(self.line, "\"{name}{suffix}\":");
        self.line
    }

    /// A number or a truth value.
    pub(super) fn value(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.name(name, ""), "{value}");
    }

    /// What is text, and needs no escape.
    fn quoted(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.name(name, ""), "\"{value}\"");
    }

    /// Any text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        let line = self.name(name, "");
        line.push('"');
        escape(line, text);
        line.push('"');
    }

    /// Text or `null`.
    pub(super) fn maybe(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.value(name, "null"),
        }
    }

    /// An object within.
    pub(super) fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::new(self.name(name, ""));
        members(&mut object);
        object.end();
    }

    /// Members that were written before, each with a comma before it.
    fn raw(&mut self, members: &str) {
        self.line.push_str(members);
    }
}

/// RFC 8259, section 7.
fn escape(line: &mut String, text: &str) {
    let needs_none = |b: u8| b >= b' ' && b != b'"' && b != b'\\';
    if text.bytes().all(needs_none) {
        return line.push_str(text); // as nearly always
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            c if c < ' ' => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Object;

    proptest! {
        #[test]
        fn any_text_can_be_read_back(text in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            let mut line = String::new();
            let mut object = Object::new(&mut line);
            object.text("a", &text);
            object.object("b", |inner| inner.maybe("c", None));
            object.end();
            let read: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            prop_assert_eq!(read["a"].as_str(), Some(text.as_str()));
            prop_assert!(read["b"]["c"].is_null() && read["b"].is_object());
        }
    }
}
