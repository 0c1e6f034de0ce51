//! The JSON Schema of the configuration, made from the serde types.
//!
//! Owns the one description of a file's shape: `portcullis schema` prints it for editors, `config/shape.rs` checks
//! files against it, and `docs/configuration.md` is written from it.

use serde_json::{Map, Value};

use super::Config;

/// The schema (JSON Schema, draft 2020-12), with a description of every key from the types' own comments.
///
/// TOML has no null, so the schema has none either: what may be left out is only not required.
#[must_use]
pub fn json_schema() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    without_null(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "Portcullis configuration".into());
    }
    schema
}

/// Takes null out of types, alternatives and defaults, everywhere below. As deep as the types nest.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            single_type(object);
            single_alternative(object);
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// `"type": ["string", "null"]` becomes `"type": "string"`.
fn single_type(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
}

/// `"anyOf": [X, {"type": "null"}]` becomes X; a description of its own stays.
fn single_alternative(object: &mut Map<String, Value>) {
    let Some(Value::Array(mut alternatives)) = object.remove("anyOf") else {
        return;
    };
    alternatives.retain(|schema| schema.get("type").is_none_or(|name| name != "null"));
    match alternatives.as_slice() {
        [Value::Object(only)] => only.iter().for_each(|(key, value)| {
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }),
        _ => {
            object.insert("anyOf".into(), alternatives.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_says_what_it_is() {
        let schema = json_schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["title"], "Portcullis configuration");
        assert_eq!(schema["$defs"]["EndpointConfig"]["properties"]["tls"]["$ref"], "#/$defs/TlsConfig");
    }

    #[test]
    fn no_null_is_left_anywhere() {
        assert!(!json_schema().to_string().contains("null"));
    }

    #[test]
    fn every_key_is_described() {
        fn walk(name: &str, value: &Value) {
            for (key, property) in value["properties"].as_object().into_iter().flatten() {
                assert!(key == "type" || property["description"].is_string(), "{name}.{key} has no description");
            }
            match value {
                Value::Object(object) => object.iter().for_each(|(key, value)| walk(key, value)),
                Value::Array(items) => items.iter().for_each(|value| walk(name, value)),
                _ => {}
            }
        }
        walk("", &json_schema());
    }
}
