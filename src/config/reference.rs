//! Writes `docs/configuration.md` from the schema, and fails where the file that is committed says something else.
//!
//! `UPDATE=1 cargo test reference` writes it anew.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use serde_json::Value;

use super::json_schema;

const FILE: &str = "docs/configuration.md";

const OPENING: &str = "\
# Configuration reference

Every table and key of the configuration file, which is [TOML](https://toml.io). This page is written from the types that
read the file; `portcullis schema` prints the same as a JSON Schema for editors. `config/full.toml` shows all of it in
one file, and the other files in `config/` one way of use each.

- Unknown keys are errors; `portcullis check` names file, line, column and the nearest known key.
- Durations are written `\"30s\"`, `\"1m30s\"`, `\"250ms\"` or `\"30d\"`.
- Listening addresses are written `\"127.0.0.1:8080\"` or `\"[::1]:8080\"`; networks `\"10.0.0.0/8\"`, or one address.
- Relative paths are relative to the configuration file.
- `NAME` stands for a name of your choice.
";

#[test]
fn the_reference_is_what_the_schema_says() {
    let written = reference(&json_schema());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &written).unwrap();
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(committed == written, "{FILE} is stale; run: UPDATE=1 cargo test reference");
}

fn reference(schema: &Value) -> String {
    let mut page = Page { definitions: &schema["$defs"], text: OPENING.into() };
    for (name, property) in schema["properties"].as_object().unwrap() {
        page.sections(name, property, &property["description"], false);
    }
    page.text
}

struct Page<'a> {
    definitions: &'a Value,
    text: String,
}

impl<'a> Page<'a> {
    /// The sections of a key that holds a table, or several; of any other key, none.
    fn sections(&mut self, path: &str, schema: &'a Value, description: &Value, listed: bool) {
        let schema = self.resolved(schema);
        if schema["properties"].is_object() {
            let header = if listed { format!("[[{path}]]") } else { format!("[{path}]") };
            self.table(&header, path, schema, description);
        } else if self.resolved(&schema["items"])["properties"].is_object() {
            self.sections(path, &schema["items"], description, true);
        } else if schema["additionalProperties"].is_object() {
            let below = self.resolved(&schema["additionalProperties"]);
            let words = below["oneOf"].as_array().is_some_and(|all| all.iter().all(|one| one["const"].is_string()));
            if !words {
                self.sections(&format!("{path}.NAME"), &schema["additionalProperties"], description, false);
            }
        } else {
            for variant in schema["oneOf"].as_array().into_iter().flatten() {
                let Some(word) = variant["properties"]["type"]["const"].as_str() else { continue };
                self.table(&format!("[{path}]` with `type = \"{word}\""), path, variant, &variant["description"]);
            }
        }
    }

    fn table(&mut self, header: &str, path: &str, schema: &'a Value, description: &Value) {
        write!(self.text, "\n## `{header}`\n\n{}\n\n", line(description)).unwrap();
        self.text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut rows: Vec<(&String, &Value)> = schema["properties"].as_object().unwrap().iter().collect();
        rows.sort_by_key(|(name, _)| (*name != "type", !required.contains(&name.as_str())));
        for (name, property) in &rows {
            let default =
                if required.contains(&name.as_str()) { "**required**".into() } else { self.default(property) };
            let (kind, meaning) = (self.kind(property), self.meaning(property));
            writeln!(self.text, "| `{name}` | {kind} | {default} | {meaning} |").unwrap();
        }
        for (name, property) in rows {
            self.sections(&format!("{path}.{name}"), property, &property["description"], false);
        }
    }

    fn kind(&self, schema: &'a Value) -> String {
        let schema = self.resolved(schema);
        if let Some(alternatives) = schema["anyOf"].as_array() {
            let kinds: Vec<String> = alternatives.iter().map(|one| self.kind(one)).collect();
            return kinds.join(" or ");
        }
        match schema["type"].as_str() {
            Some("string") => "text".into(),
            Some("integer") => "whole number".into(),
            Some("boolean") => "`true` or `false`".into(),
            Some("array") => format!("list of {}s", self.kind(&schema["items"])),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("table of {}s", self.kind(&schema["additionalProperties"]))
            }
            Some("object") => "table".into(),
            _ if schema["oneOf"][0]["const"].is_string() => "word".into(),
            _ => "table".into(),
        }
    }

    fn default(&self, property: &Value) -> String {
        match &property["default"] {
            Value::Null => "–".into(),
            Value::Object(_) if property["$ref"].is_string() => "see below".into(),
            Value::Object(table) if table.is_empty() => "`{}`".into(),
            default => format!("`{default}`"),
        }
    }

    /// What a key means, and what each of its words does.
    fn meaning(&self, property: &'a Value) -> String {
        if let Some(word) = property["const"].as_str() {
            return format!("`\"{word}\"`");
        }
        let below = &self.resolved(property)["additionalProperties"];
        let words = [self.resolved(property), self.resolved(below)].into_iter().find_map(|all| all["oneOf"].as_array());
        let mut meaning = line(&property["description"]);
        for word in words.into_iter().flatten() {
            let Some(name) = word["const"].as_str() else { continue };
            write!(meaning, "<br>`\"{name}\"`: {}", line(&word["description"])).unwrap();
        }
        meaning
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
            Some(name) => self.resolved(&self.definitions[name]),
            None => schema,
        }
    }
}

/// A description on one line, fit for a table's cell.
fn line(description: &Value) -> String {
    description.as_str().unwrap_or("").replace('\n', " ").replace('|', "\\|")
}
