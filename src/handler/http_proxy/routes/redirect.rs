//! A route's redirection: where a client is sent instead.
//!
//! Compiled by `routes`; answered by `http_proxy`. The location is a text in which `{host}`, `{path}`, `{rest}` (the path
//! behind the route's prefix) and `{query}` (with its question mark, if there is one) stand for what the request says.

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::config::RedirectConfig;

/// A redirection, ready to be filled in.
#[derive(Clone, Debug)]
pub(in super::super) struct Redirect {
    pub(in super::super) status: StatusCode,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Host,
    Path,
    Rest,
    Query,
}

/// What a request says of where it was sent.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Asked<'a> {
    pub(in super::super) host: &'a str,
    /// In normal form.
    pub(in super::super) path: &'a str,
    /// The path behind the route's prefix: empty, or with a slash before it.
    pub(in super::super) rest: &'a str,
    pub(in super::super) query: Option<&'a str>,
}

impl Redirect {
    pub(super) fn compile(config: &RedirectConfig, report: &mut dyn FnMut(&str, String)) -> Option<Self> {
        let status = StatusCode::from_u16(config.status).ok();
        let status = status.filter(|status| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308));
        if status.is_none() {
            report(".status", format!("{} is not a redirection; take 301, 302, 303, 307 or 308", config.status));
        }
        let pieces = pieces(&config.to).map_err(|why| report(".to", why)).ok()?;
        Some(Self { status: status?, pieces })
    }

    /// Where the client is sent (RFC 9110, section 10.2.2); nothing where what it sent makes no reference.
    pub(in super::super) fn location(&self, asked: Asked<'_>) -> Option<HeaderValue> {
        let mut location = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => location.push_str(text),
                Piece::Host => location.push_str(asked.host),
                Piece::Path => location.push_str(asked.path),
                Piece::Rest => location.push_str(asked.rest),
                Piece::Query => location.extend(asked.query.map(|query| ["?", query]).into_iter().flatten()),
            }
        }
        if location.starts_with('/') || location.is_empty() {
            // Two slashes would begin another host's name, which the client has chosen.
            location.replace_range(..location.len() - location.trim_start_matches('/').len(), "/");
        }
        HeaderValue::try_from(location).ok()
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    const REMEDY: &str = "write {host}, {path}, {rest} or {query}";
    let begins_well = ["/", "http://", "https://", "{path}", "{rest}"].iter().any(|start| text.starts_with(start));
    if !begins_well || text.starts_with("//") {
        return Err(format!("{text:?} is no place to go: begin with \"https://\", \"http://\" or one slash"));
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '`')) {
        return Err(format!("{text:?} is no reference: it holds {bad:?}; escape it with a percent sign"));
    }
    let (mut pieces, mut left) = (Vec::new(), text);
    while let Some(open) = left.find(['{', '}']) {
        let (before, rest) = left.split_at(open);
        let (word, after) = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .ok_or_else(|| format!("{text:?} has a brace that is not closed, or none that it closes; {REMEDY}"))?;
        pieces.extend((!before.is_empty()).then(|| Piece::Text(before.to_owned())));
        pieces.push(match word {
            "host" => Piece::Host,
            "path" => Piece::Path,
            "rest" => Piece::Rest,
            "query" => Piece::Query,
            _ => return Err(format!("{{{word}}} is not known; {REMEDY}")),
        });
        left = after;
    }
    pieces.extend((!left.is_empty()).then(|| Piece::Text(left.to_owned())));
    Ok(pieces)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn compiled(to: &str, status: u16) -> Result<Redirect, Vec<String>> {
        let mut faults = Vec::new();
        let config = RedirectConfig { to: to.into(), status };
        Redirect::compile(&config, &mut |place, _| faults.push(place.to_owned())).ok_or(faults)
    }

    #[test]
    fn a_location_is_filled_in_with_what_the_request_says() {
        let asked = Asked { host: "a.example", path: "/old/b", rest: "/b", query: Some("c=d") };
        for (to, expected) in [
            ("https://{host}{path}{query}", "https://a.example/old/b?c=d"),
            ("/new{rest}", "/new/b"),
            ("https://example.com/", "https://example.com/"),
            ("{rest}{query}", "/b?c=d"),
        ] {
            assert_eq!(compiled(to, 308).unwrap().location(asked).unwrap(), expected, "{to}");
        }
    }

    #[test]
    fn a_client_cannot_choose_another_host_by_slashes() {
        for (path, rest) in
            [("//evil.example/x", "//evil.example/x"), ("/a//evil.example", "//evil.example"), ("/a", "")]
        {
            let asked = Asked { host: "a", path, rest, query: None };
            for to in ["{path}", "{rest}", "/{rest}", "/{path}"] {
                let location = compiled(to, 301).unwrap().location(asked).unwrap();
                let location = location.to_str().unwrap();
                assert!(location.starts_with('/') && !location.starts_with("//"), "{to}: {location}");
            }
        }
    }

    #[test]
    fn what_is_no_redirection_is_an_error() {
        for to in ["", "//evil", "ftp://a", "/a b", "/{nothing}", "/{path", "/path}", "/\"", "example.com"] {
            assert_eq!(compiled(to, 308).unwrap_err(), [".to"], "{to}");
        }
        for status in [200, 300, 304, 305, 400, 999] {
            assert_eq!(compiled("/", status).unwrap_err(), [".status"], "{status}");
        }
    }
}
