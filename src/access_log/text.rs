//! A line for people: what is always there in the same order first, then what there is besides as `name=value`.

use std::fmt::{self, Write as _};

use super::entry::{Entry, millis};

// Writing to a String cannot fail, so the results are dropped, here and below.
pub(super) fn write(entry: &Entry<'_>, line: &mut String) {
    let info = entry.info;
    let _ = write!(line, "{} {} {} ", super::now(), info.endpoint.name, info.client.0);
    match &entry.request {
        Some(r) => {
            let _ = write!(line, "{} {}://", Plain(r.method), info.scheme());
            let _ = write!(line, "{}{} {} {}", Plain(r.host), Plain(r.path), r.version, r.status);
        }
        None => line.push_str("session"),
    }
    let _ = write!(line, " {:.3}ms in={} out={}", millis(entry.duration()), entry.received, entry.sent);
    if let Some(route) = entry.request.as_ref().and_then(|request| request.route) {
        let _ = write!(line, " route={}", Plain(route));
    }
    if let Some(upstream) = entry.upstream {
        let _ = write!(line, " upstream={}", Plain(upstream));
    }
    if let Some(server) = &entry.trail.server {
        let _ = write!(line, " server={server}");
    }
    if entry.trail.tries > 1 {
        let _ = write!(line, " tries={}", entry.trail.tries);
    }
    for (phase, duration) in entry.phases() {
        let _ = write!(line, " {phase}={:.3}ms", millis(duration));
    }
    line.push_str(entry.facts.text(info));
    if let Some(trace) = entry.trace {
        let _ = write!(line, " trace={trace}");
    }
    if let Some(error) = entry.error {
        let _ = write!(line, " error={error}");
    }
    if let Some(detail) = entry.detail {
        let _ = write!(line, " detail={detail:?}");
    }
}

/// A client's word on a line of text: what could end the line or imitate a field is escaped.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if self.0.bytes().all(is_plain) {
            return f.write_str(self.0); // as nearly always
        }
        for c in self.0.chars() {
            if c.is_control() || c == ' ' || c == '"' || c == '\\' {
                write!(f, "\\u{{{:x}}}", u32::from(c))?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}
