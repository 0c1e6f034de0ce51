//! Tests of the files in `config/`: each is a way of use that someone will copy, so each has to be right.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use serde_json::Value;

use super::{Source, json_schema};

const FULL: &str = include_str!("../../config/full.toml");
/// A plugin has to be built first, so its keys have a file of their own.
const PLUGIN: &str = include_str!("../../config/plugin.toml");
/// So has a component.
const WASM: &str = include_str!("../../config/wasm.toml");

#[test]
fn every_file_in_config_parses() {
    let mut seen = 0;
    for entry in fs::read_dir("config").unwrap() {
        let source = Source::read(&entry.unwrap().path()).unwrap();
        let config = source.parse().unwrap_or_else(|problems| panic!("{}", problems[0]));
        assert!(!config.endpoints.is_empty(), "{} opens nothing", source.file());
        for (name, endpoint) in &config.endpoints {
            assert!(config.handlers.contains_key(&endpoint.handler), "{}: {name} has no handler", source.file());
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn full_toml_plugin_toml_and_wasm_toml_show_every_key_and_every_default() {
    let mut shown = Vec::new();
    gather(&toml::from_str(FULL).unwrap(), &mut shown);
    gather(&toml::from_str(PLUGIN).unwrap(), &mut shown);
    gather(&toml::from_str(WASM).unwrap(), &mut shown);
    let schema = json_schema();
    let tables = schema["$defs"].as_object().unwrap().values();
    let variants = schema["$defs"]["HandlerConfig"]["oneOf"].as_array().unwrap();
    for (key, property) in tables.chain(variants).filter_map(|table| table["properties"].as_object()).flatten() {
        // Naming these would ask for a file, or make one.
        if ["token_file", "control", "keys", "ocsp", "external_account", "key_id", "hmac_key_file"]
            .contains(&key.as_str())
        {
            assert!(FULL.contains(&format!(" {key} = ")));
            continue;
        }
        let values: Vec<&Value> = shown.iter().filter(|(name, _)| name == key).map(|(_, value)| value).collect();
        assert!(!values.is_empty(), "full.toml does not show {key}");
        let default = &property["default"];
        let scalar = default.is_string() || default.is_number() || default.is_boolean();
        assert!(!scalar || values.contains(&default), "full.toml shows {key} without its default, {default}");
    }
}

fn gather(value: &Value, shown: &mut Vec<(String, Value)>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        shown.push((key.clone(), value.clone()));
        gather(value, shown);
    }
    value.as_array().into_iter().flatten().for_each(|item| gather(item, shown));
}
