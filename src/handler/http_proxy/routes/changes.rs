//! What a route changes about the fields of a request that it passes on, or of its answers.
//!
//! Compiled by `routes`; made by `http_proxy`. Fields that frame a message, that belong to one connection or that the
//! gateway writes itself are nobody else's to change, so a route that names one is an error.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING, VIA};

use super::super::request;
use crate::config::HeaderChangesConfig;
use crate::handler::http::hop::is_hop_by_hop;

/// Which message's fields are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Request,
    Response,
}

/// Changes, in the order in which they are made.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl Changes {
    /// Compiles a table; `report` is told of each fault, with its place within it.
    pub(super) fn compile(
        config: &HeaderChangesConfig,
        of: Of,
        report: &mut dyn FnMut(&str, String),
    ) -> Option<Arc<Self>> {
        let mut changes = Self::default();
        for (i, name) in config.remove.iter().enumerate() {
            match field_name(name, of, "remove") {
                Ok(name) => changes.remove.push(name),
                Err(why) => report(&format!(".remove.{i}"), why),
            }
        }
        for (key, fields, list) in [("set", &config.set, &mut changes.set), ("add", &config.add, &mut changes.add)] {
            for (name, value) in fields {
                match field(name, value, of, key) {
                    Ok(field) => list.push(field),
                    Err(why) => report(&format!(".{key}.{name}"), why),
                }
            }
        }
        Some(Arc::new(changes)).filter(|changes| !changes.is_empty())
    }

    /// Makes them.
    pub(in super::super) fn make(&self, fields: &mut HeaderMap) {
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in &self.set {
            fields.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            fields.append(name, value.clone());
        }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

fn field(name: &str, value: &str, of: Of, key: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = field_name(name, of, key)?;
    let value = HeaderValue::from_str(value).map_err(|_| format!("the value of {name} has a control character"))?;
    Ok((name, value))
}

fn field_name(name: &str, of: Of, key: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{name:?} is not a field name; it is made of letters, digits and hyphens"))?;
    let frames = is_hop_by_hop(&name) || [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER].contains(&name);
    let ours = name == VIA || (of == Of::Request && (name == EXPECT || request::is_not_the_clients_to_say(&name)));
    if frames || ours || (of == Of::Response && name == HOST) {
        return Err(format!("{name} is the gateway's to set; leave it out"));
    }
    if name == HOST && key != "set" {
        return Err("a request has exactly one Host; write it under `set`".into());
    }
    Ok(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(lines: &[(&str, &str)]) -> BTreeMap<String, String> {
        lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let config = HeaderChangesConfig {
            set: table(&[("X-A", "set")]),
            add: table(&[("x-b", "more")]),
            remove: vec!["X-C".into(), "x-a".into()],
        };
        let changes = Changes::compile(&config, Of::Request, &mut |place, why| panic!("{place}: {why}")).unwrap();
        let mut fields = HeaderMap::new();
        for name in ["x-a", "x-a", "x-b", "x-c"] {
            fields.append(name, HeaderValue::from_static("old"));
        }
        changes.make(&mut fields);
        let mut left: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_by_key(|(name, _)| *name);
        assert_eq!(left, [("x-a", "set"), ("x-b", "old"), ("x-b", "more")]);
    }

    #[test]
    fn what_frames_a_message_or_speaks_for_the_gateway_cannot_be_changed() {
        for name in ["Connection", "content-length", "Transfer-Encoding", "upgrade", "trailer", "Via", "a b"] {
            for of in [Of::Request, Of::Response] {
                let mut faults = Vec::new();
                let config = HeaderChangesConfig {
                    set: table(&[(name, "1")]),
                    add: table(&[(name, "1")]),
                    remove: vec![name.into()],
                };
                Changes::compile(&config, of, &mut |place, _| faults.push(place.to_owned()));
                assert_eq!(faults, [".remove.0".into(), format!(".set.{name}"), format!(".add.{name}")]);
            }
        }
        let faults = |name: &str, of| {
            let mut faults = 0;
            let config = HeaderChangesConfig { add: table(&[(name, "1")]), ..HeaderChangesConfig::default() };
            Changes::compile(&config, of, &mut |_, _| faults += 1);
            faults
        };
        for name in ["X-Forwarded-For", "portcullis_endpoint", "Client-Cert", "Host"] {
            assert_eq!(faults(name, Of::Request), 1, "{name}");
        }
        assert_eq!(faults("X-Forwarded-For", Of::Response), 0);
    }
}
