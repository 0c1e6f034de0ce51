//! Takes secrets out of a configuration before it is shown.
//!
//! The admin token is not among them: the configuration names its file only. What may hold secrets are the words that
//! the gateway does not know: an endpoint's `settings`, a handler's `headers`, and a collector's `otlp_headers`.

use serde_json::Value;

/// What stands in a secret's place.
const REDACTED: &str = "[redacted]";
/// Tables whose keys are the user's own.
const FREE_TABLES: [&str; 2] = ["settings", "headers"];
/// The table of fields that a collector of traces wants: whatever they are called, they are keys.
const SECRET_TABLE: &str = "otlp_headers";
/// A key that holds one of these names a secret.
const SECRET_WORDS: [&str; 10] =
    ["secret", "password", "passwd", "passphrase", "token", "key", "credential", "authorization", "cookie", "private"];

/// Redacts every secret below `value`.
pub(crate) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value {
            Value::Object(fields) if name == SECRET_TABLE => {
                fields.values_mut().for_each(|value| *value = REDACTED.into())
            }
            Value::Object(_) if FREE_TABLES.contains(&name.as_str()) => redact_table(value),
            _ => redact(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// Redacts within a table of the user's own.
fn redact_table(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| {
            let name = name.to_ascii_lowercase();
            if SECRET_WORDS.iter().any(|word| name.contains(word)) {
                *value = REDACTED.into();
            } else {
                redact_table(value);
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(redact_table),
        // A URL may carry a password whatever its key is called (RFC 3986, section 3.2.1).
        Value::String(text) if has_user_info(text) => *value = REDACTED.into(),
        _ => {}
    }
}

fn has_user_info(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default().contains('@'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::redact;

    #[test]
    fn secrets_in_settings_and_headers_are_redacted_and_file_names_are_not() {
        let mut config = json!({
            "admin": { "token_file": "admin.token" },
            "endpoints": { "token": {
                "tls": { "certificates": [{ "chain": "a.pem", "key": "a.key" }] },
                "settings": {
                    "banner": "hello", "API_Key": "hunter2", "db": [{ "Password": { "deep": 1 } }],
                    "store": "redis://me:hunter2@10.0.0.1/0", "docs": "https://example.com/@me",
                },
            } },
            "tracing": { "otlp_headers": { "x-team": "hunter2" } },
            "handlers": { "site": { "headers": { "set-cookie": "hunter2", "server": "x" } } },
        });
        redact(&mut config);
        assert!(!config.to_string().contains("hunter2"), "{config}");
        assert_eq!(config["admin"]["token_file"], "admin.token");
        assert_eq!(config["endpoints"]["token"]["tls"]["certificates"][0]["key"], "a.key");
        let settings = &config["endpoints"]["token"]["settings"];
        assert_eq!(settings["db"][0]["Password"], "[redacted]");
        assert_eq!((&settings["banner"], &settings["docs"]), (&json!("hello"), &json!("https://example.com/@me")));
        assert_eq!(config["handlers"]["site"]["headers"]["server"], "x");
    }
}
