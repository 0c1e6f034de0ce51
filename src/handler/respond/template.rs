//! The body template of `respond`: text with placeholders, compiled at start.
//!
//! Owns the list of placeholders and their meaning. Used by `respond` alone.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::header::HOST;
use hyper::{Request, Version};

use crate::handler::{Settings, StartError};
use crate::identity::{Alpn, ConnectionInfo, Endpoint};

/// A compiled template.
#[derive(Clone, Debug, Default)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Word(Word),
    /// A key of the endpoint's settings; text once it is bound.
    Setting(String),
}

macro_rules! words {
    ($($word:ident = $text:literal,)+) => {
        /// What a placeholder stands for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Word { $($word,)+ }

        /// Every placeholder, by its text.
        const WORDS: &[(&str, Word)] = &[$(($text, Word::$word),)+];
    };
}

words! {
    Endpoint = "endpoint",
    Class = "class",
    Client = "client",
    Scheme = "scheme",
    TlsVersion = "tls.version",
    TlsCipher = "tls.cipher",
    TlsGroup = "tls.group",
    TlsServerName = "tls.server_name",
    TlsAlpn = "tls.alpn",
    TlsResumed = "tls.resumed",
    HttpVersion = "http.version",
    Method = "method",
    Path = "path",
    Host = "host",
}

impl Template {
    /// Compiles a text, in which `{{` and `}}` are braces.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let end = if brace == "{" { after.find('}') } else { None };
            let Some(end) = end else {
                return Err(format!("a {brace} stands alone; write {brace}{brace} for the character itself"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(placeholder(&after[..end])?);
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Fills in what is the same for all of an endpoint's requests.
    pub(super) fn bind(&self, endpoint: &Endpoint, settings: &Settings) -> Result<Self, StartError> {
        let parts = self.0.iter().map(|part| match part {
            Part::Setting(key) => setting(key, settings).map(Part::Text),
            Part::Word(Word::Endpoint) => Ok(Part::Text(endpoint.name.to_string())),
            Part::Word(Word::Class) => Ok(Part::Text(endpoint.class.to_string())),
            other => Ok(other.clone()),
        });
        parts.collect::<Result<_, _>>().map(Self)
    }

    /// The body for one request. What a connection does not have, such as TLS, is shown as `-`.
    pub(super) fn fill<B>(&self, request: &Request<B>, info: &ConnectionInfo) -> Bytes {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Word(word) => word.fill(&mut text, request, info),
                Part::Setting(_) => {} // bound at start
            }
        }
        text.into()
    }
}

fn placeholder(name: &str) -> Result<Part, String> {
    if let Some(key) = name.strip_prefix("settings.") {
        return if key.is_empty() {
            Err("{settings.} names no key; write {settings.KEY}".into())
        } else {
            Ok(Part::Setting(key.into()))
        };
    }
    if let Some((_, word)) = WORDS.iter().find(|(text, _)| *text == name) {
        return Ok(Part::Word(*word));
    }
    let known = WORDS.iter().map(|(text, _)| *text).chain(["settings.KEY"]);
    let nearest = known.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    let nearest = nearest.unwrap_or_default();
    Err(format!("{{{name}}} is not a placeholder; the nearest one is {{{nearest}}}"))
}

fn setting(key: &str, settings: &Settings) -> Result<String, StartError> {
    match settings.get(key) {
        Some(toml::Value::String(text)) => Ok(text.clone()),
        Some(value @ (toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_))) => {
            Ok(value.to_string())
        }
        Some(_) => Err(StartError {
            setting: Some(key.into()),
            message: format!("the body shows {{settings.{key}}}, which is neither a text, a number nor true or false"),
        }),
        None => Err(StartError {
            setting: Some(key.into()),
            message: format!("the body shows {{settings.{key}}}, which the endpoint's settings lack; add it"),
        }),
    }
}

impl Word {
    fn fill<B>(self, text: &mut String, request: &Request<B>, info: &ConnectionInfo) {
        let tls = info.tls.as_ref();
        // Writing to a String cannot fail, so the results are dropped.
        let _ = match self {
            Self::Endpoint => write!(text, "{}", info.endpoint.name),
            Self::Class => write!(text, "{}", info.endpoint.class),
            Self::Client => write!(text, "{}", info.client.0),
            Self::Scheme => text.write_str(info.scheme()),
            Self::TlsVersion => text.write_str(tls.map_or("-", |tls| tls.version.as_str())),
            Self::TlsCipher => text.write_str(tls.map_or("-", |tls| tls.cipher)),
            Self::TlsGroup => text.write_str(tls.map_or("-", |tls| tls.group.as_str())),
            Self::TlsServerName => text.write_str(tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or("-")),
            Self::TlsAlpn => text.write_str(tls.and_then(|tls| tls.alpn.as_ref()).map_or("-", Alpn::as_str)),
            Self::TlsResumed => text.write_str(tls.map_or("-", |tls| if tls.resumed { "true" } else { "false" })),
            Self::HttpVersion => text.write_str(match request.version() {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            }),
            Self::Method => text.write_str(request.method().as_str()),
            Self::Path => text.write_str(request.uri().path()),
            Self::Host => text.write_str(host(request)),
        };
    }
}

fn host<B>(request: &Request<B>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("-"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use hyper::Request;

    use super::Template;
    use crate::handler::Settings;
    use crate::identity::{Class, ConnectionInfo, Endpoint, EndpointName, Kept, Local, Remote};

    fn info() -> ConnectionInfo {
        ConnectionInfo {
            endpoint: Arc::new(Endpoint {
                name: EndpointName::new("internet").unwrap(),
                class: Class::Public,
                tls: false,
            }),
            client: Remote("192.0.2.1:5".parse().unwrap()),
            local: Local("192.0.2.2:80".parse().unwrap()),
            tls: None,
            asked: None,
            kept: Kept::default(),
        }
    }

    fn filled(text: &str, settings: &str) -> String {
        let (info, settings) = (info(), settings.parse::<Settings>().unwrap());
        let request = Request::get("http://example.com/a?secret").body(()).unwrap();
        let template = Template::compile(text).unwrap().bind(&info.endpoint, &settings).unwrap();
        String::from_utf8(template.fill(&request, &info).to_vec()).unwrap()
    }

    #[test]
    fn placeholders_are_filled_in_and_doubled_braces_are_braces() {
        let text = "{{{endpoint}}} {class} {client} {scheme} {method} {path} {host} {http.version} {tls.version}";
        let expected = "{internet} public 192.0.2.1:5 http GET /a example.com HTTP/1.1 -";
        assert_eq!(filled(text, ""), expected);
        assert_eq!(filled("{settings.banner}{settings.n}", "banner = \"hi {method}\"\nn = 3"), "hi {method}3");
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_the_nearest_known_one() {
        assert!(Template::compile("{endpont}").unwrap_err().contains("{endpoint}"));
        assert!(Template::compile("{tls.cypher}").unwrap_err().contains("{tls.cipher}"));
        for alone in ["{", "a } b", "{endpoint"] {
            assert!(Template::compile(alone).unwrap_err().contains("stands alone"), "{alone}");
        }
    }

    #[test]
    fn a_setting_that_the_endpoint_lacks_is_named() {
        let template = Template::compile("{settings.banner}").unwrap();
        let error = template.bind(&info().endpoint, &Settings::new()).unwrap_err();
        assert_eq!(error.setting.as_deref(), Some("banner"));
    }
}
