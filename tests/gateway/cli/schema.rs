//! `portcullis schema` is a JSON Schema that admits what `config/` holds and refuses what the gateway refuses.

use serde_json::{Value, json};

use crate::support::{run, stdout};

fn schema() -> Value {
    serde_json::from_str(&stdout(&run(&["schema"]))).unwrap()
}

/// Whether a value fits a schema, by the keywords that the schema uses; a keyword that this does not know is a panic.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(keywords) = schema.as_object() else { return schema != &Value::Bool(false) };
    keywords.iter().all(|(keyword, word)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
        "$ref" => fits(root, root.pointer(word.as_str().unwrap().trim_start_matches('#')).unwrap(), value),
        "type" => is_of_type(value, word.as_str().unwrap()),
        "const" => value == word,
        "enum" => word.as_array().unwrap().contains(value),
        "minimum" => value.as_f64() >= word.as_f64(),
        "maximum" => value.as_f64() <= word.as_f64(),
        "oneOf" => word.as_array().unwrap().iter().filter(|one| fits(root, one, value)).count() == 1,
        "anyOf" => word.as_array().unwrap().iter().any(|one| fits(root, one, value)),
        "items" => value.as_array().into_iter().flatten().all(|item| fits(root, word, item)),
        "required" => word.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
        "dependentRequired" => {
            let given = word.as_object().unwrap().iter().filter(|(key, _)| value.get(key).is_some());
            given.flat_map(|(_, keys)| keys.as_array().unwrap()).all(|key| value.get(key.as_str().unwrap()).is_some())
        }
        "properties" => {
            word.as_object().unwrap().iter().all(|(key, one)| value.get(key).is_none_or(|v| fits(root, one, v)))
        }
        "additionalProperties" => {
            let known = |key: &String| schema["properties"].get(key).is_some();
            value.as_object().into_iter().flatten().all(|(key, v)| known(key) || fits(root, word, v))
        }
        other => panic!("the schema uses {other:?}; teach it to this test"),
    })
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("the schema uses the type {other:?}; teach it to this test"),
    }
}

#[test]
fn every_file_in_config_fits_the_schema() {
    let schema = schema();
    for entry in std::fs::read_dir("config").unwrap() {
        let path = entry.unwrap().path();
        let config: Value = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(fits(&schema, &schema, &config), "{}", path.display());
    }
}

#[test]
fn what_the_gateway_refuses_does_not_fit_the_schema() {
    let schema = schema();
    let right = json!({ "endpoints": { "a": { "listen": "127.0.0.1:80", "handler": "e" } }, "handlers": { "e": { "type": "echo" } } });
    assert!(fits(&schema, &schema, &right));
    for (pointer, wrong) in [
        ("/endpoints/a", json!({ "listen": "127.0.0.1:80" })),
        ("/endpoints/a", json!({ "listen": 80, "handler": "e" })),
        ("/endpoints/a", json!({ "listen": "127.0.0.1:80", "handler": "e", "clas": "public" })),
        ("/endpoints/a", json!({ "listen": "127.0.0.1:80", "handler": "e", "class": "publik" })),
        ("/handlers/e", json!({ "type": "ecko" })),
        ("/handlers/e", json!({ "type": "echo", "body": "" })),
    ] {
        let mut config = right.clone();
        *config.pointer_mut(pointer).unwrap() = wrong;
        assert!(!fits(&schema, &schema, &config), "{config}");
    }
}

#[test]
fn the_schema_says_what_it_is_and_describes_every_key() {
    let schema = schema();
    assert!(schema["$schema"].as_str().is_some_and(|uri| uri.contains("json-schema.org")), "{}", schema["$schema"]);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            assert!(
                property["description"].is_string() || property["const"].is_string(),
                "{name}.{key} has no description"
            );
        }
    }
}
