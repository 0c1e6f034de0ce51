//! Whether a file has the shape that the schema describes.
//!
//! Owns the walk over a file's tree beside the JSON Schema, which reports everything that it finds: unknown keys,
//! missing keys, wrong types, unknown words, numbers out of range. Serde would stop at the first, and knows no place in
//! a handler's table. Called by `config/source.rs`; what passes here deserializes.

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::document::{Document, Span};
use super::nearest::nearest;
use super::problem::{Problem, dotted, shown};

/// Everything in the file that is not as the schema has it, in no particular order.
pub(super) fn check(document: &Document<'_>, schema: &Value) -> Vec<Problem> {
    let mut walk = Walk { document, definitions: &schema["$defs"], path: Vec::new(), problems: Vec::new() };
    walk.table(schema, document.root.get_ref(), &(0..0));
    walk.problems
}

/// The walk: where it is, and what it has found. It is as deep as the file, and the parser bounds that.
struct Walk<'a> {
    document: &'a Document<'a>,
    definitions: &'a Value,
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &'a Value, value: &Spanned<DeValue<'_>>) {
        let schema = self.resolved(schema);
        if let Some(variants) = schema["oneOf"].as_array() {
            return if variants.iter().all(|variant| variant["const"].is_string()) {
                self.word(variants, value)
            } else {
                self.tagged(variants, value)
            };
        }
        if let Some(alternatives) = schema["anyOf"].as_array() {
            let types: Vec<&str> = alternatives.iter().filter_map(|one| self.resolved(one)["type"].as_str()).collect();
            return match alternatives.iter().find(|one| is_a(self.resolved(one)["type"].as_str(), value.get_ref())) {
                Some(fitting) => self.value(fitting, value),
                None => self.wrong_type(&types, value),
            };
        }
        match (schema["type"].as_str(), value.get_ref()) {
            (Some(wanted), found) if !is_a(Some(wanted), found) => self.wrong_type(&[wanted], value),
            (_, DeValue::Table(table)) => self.table(schema, table, &value.span()),
            (_, DeValue::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(&index.to_string(), |walk| walk.value(&schema["items"], item));
                }
            }
            (_, DeValue::Integer(integer)) => self.integer(schema, integer, &value.span()),
            (_, DeValue::Float(float)) => self.float(float, &value.span()),
            (_, DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_)) => {}
        }
    }

    fn table(&mut self, schema: &'a Value, table: &DeTable<'_>, span: &Span) {
        let properties = schema["properties"].as_object();
        for (key, value) in table {
            let property = properties.and_then(|properties| properties.get(key.get_ref().as_ref()));
            match property.unwrap_or(&schema["additionalProperties"]) {
                Value::Bool(false) => {
                    let known = properties.into_iter().flat_map(|all| all.keys().map(String::as_str)).collect();
                    self.unknown_key(key, known);
                }
                schema => self.within(key.get_ref(), |walk| walk.value(schema, value)),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                let example = self.example(&schema["properties"][name]);
                let remedy = format!("add {name} = {example}");
                self.within(name, |walk| walk.push(span, "missing".into(), Some(remedy)));
            }
        }
    }

    /// One of several words.
    fn word(&mut self, variants: &'a [Value], value: &Spanned<DeValue<'_>>) {
        let Some(word) = value.get_ref().as_str() else {
            return self.wrong_type(&["string"], value);
        };
        let known: Vec<&str> = variants.iter().filter_map(|variant| variant["const"].as_str()).collect();
        if !known.contains(&word) {
            self.unknown_word(word, &known, &value.span());
        }
    }

    /// A table whose shape depends on one of its words, as a handler's does on its `type`.
    fn tagged(&mut self, variants: &'a [Value], value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong_type(&["object"], value);
        };
        let tags: Vec<(&str, &str, &Value)> = variants.iter().filter_map(tag).collect();
        let Some((name, ..)) = tags.first().copied() else {
            return;
        };
        let known: Vec<&str> = tags.iter().map(|(_, word, _)| *word).collect();
        let Some(word) = table.get(name) else {
            let remedy = format!("add {name} = {}", one_of(&known));
            return self.within(name, |walk| walk.push(&value.span(), "missing".into(), Some(remedy)));
        };
        let Some(text) = word.get_ref().as_str() else {
            return self.within(name, |walk| walk.wrong_type(&["string"], word));
        };
        match tags.iter().find(|(_, tag, _)| *tag == text) {
            Some((.., variant)) => self.table(variant, table, &value.span()),
            None => self.within(name, |walk| walk.unknown_word(text, &known, &word.span())),
        }
    }

    /// TOML's own range is that of 64 bits with a sign; the schema may narrow it.
    fn integer(&mut self, schema: &Value, integer: &DeInteger<'_>, span: &Span) {
        let lowest = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let highest = schema["maximum"].as_i64().unwrap_or(i64::MAX);
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (lowest..=highest).contains(&number) => {}
            _ => {
                let remedy = Some(format!("write a whole number from {lowest} to {highest}"));
                self.push(span, format!("{} is out of range", shown(self.document.text(span), "")), remedy);
            }
        }
    }

    /// Numbers that would silently become infinite are refused.
    fn float(&mut self, float: &DeFloat<'_>, span: &Span) {
        let finite = float.as_str().parse().is_ok_and(f64::is_finite);
        let meant = ["inf", "nan"].iter().any(|word| float.as_str().contains(word));
        if !finite && !meant {
            self.push(span, format!("{} is out of range", shown(self.document.text(span), "")), None);
        }
    }

    fn unknown_key(&mut self, key: &Spanned<impl AsRef<str>>, known: Vec<&str>) {
        let name = key.get_ref().as_ref();
        let remedy = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => "this table has no keys".into(),
            None => format!("known keys: {}", known.join(", ")),
        };
        self.within(name, |walk| walk.push(&key.span(), "unknown key".into(), Some(remedy)));
    }

    fn unknown_word(&mut self, word: &str, known: &[&str], span: &Span) {
        let remedy = nearest(word, known.iter().copied()).map(|near| format!("did you mean {near:?}?"));
        self.push(span, format!("{} is not {}", shown(word, "\""), one_of(known)), remedy);
    }

    fn wrong_type(&mut self, wanted: &[&str], value: &Spanned<DeValue<'_>>) {
        let wanted_words: Vec<&str> = wanted.iter().map(|name| type_in_words(name)).collect();
        let message =
            format!("expected {}, found {}", wanted_words.join(" or "), type_in_words(value.get_ref().type_str()));
        let written = self.document.text(&value.span());
        let remedy = wanted.iter().find_map(|wanted| mend(wanted, value.get_ref(), written));
        self.push(&value.span(), message, remedy);
    }

    fn push(&mut self, span: &Span, message: String, remedy: Option<String>) {
        let place = Some(self.document.place(span));
        self.problems.push(Problem { place, item: dotted(&self.path), message, remedy });
    }

    fn within(&mut self, key: &str, walk: impl FnOnce(&mut Self)) {
        self.path.push(key.to_owned());
        walk(self);
        self.path.pop();
    }

    /// What a reference refers to.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
            Some(name) => self.resolved(&self.definitions[name]),
            None => schema,
        }
    }

    /// How a value of this schema is written, in a few characters.
    fn example(&self, schema: &'a Value) -> &'static str {
        let schema = self.resolved(schema);
        let first = schema["anyOf"].get(0).or_else(|| schema["oneOf"].get(0)).unwrap_or(schema);
        match first["type"].as_str() {
            Some("array") => "[…]",
            Some("object") => "{ … }",
            Some("integer") => "a whole number",
            Some("boolean") => "true or false",
            _ => "\"…\"",
        }
    }
}

/// The tag of one variant of a table: its key, its word, and the variant.
fn tag(variant: &Value) -> Option<(&str, &str, &Value)> {
    let (name, word) = variant["properties"]
        .as_object()?
        .iter()
        .find_map(|(name, property)| Some((name.as_str(), property["const"].as_str()?)))?;
    Some((name, word, variant))
}

/// Whether a value is of a type as JSON Schema names it; every value is of no type.
fn is_a(wanted: Option<&str>, value: &DeValue<'_>) -> bool {
    match wanted {
        Some("object") => value.is_table(),
        Some("array") => value.is_array(),
        Some("string") => value.is_str(),
        Some("integer") => value.is_integer(),
        Some("boolean") => value.is_bool(),
        _ => true,
    }
}

/// A type, as JSON Schema or TOML names it, as people do.
fn type_in_words(name: &str) -> &'static str {
    match name {
        "object" | "table" => "a table",
        "array" => "a list",
        "string" => "text in quotes",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "float" => "a number with a fraction",
        _ => "a date or time",
    }
}

/// How what was written becomes what is wanted, where that is plain.
fn mend(wanted: &str, found: &DeValue<'_>, written: &str) -> Option<String> {
    let header = written.trim_matches(['[', ']']);
    let scalar = !found.is_table() && !found.is_array() && !written.contains('\n');
    match wanted {
        "string" if scalar => Some(format!("put it in quotes: {}", shown(written, "\""))),
        "integer" | "boolean" => {
            let text = found.as_str().filter(|text| match wanted {
                "integer" => text.parse::<i64>().is_ok(),
                _ => text.parse::<bool>().is_ok(),
            })?;
            Some(format!("take off the quotes: {text}"))
        }
        "array" if scalar => Some(format!("put it in brackets: [{}]", shown(written, ""))),
        "array" if written.starts_with('[') => Some(format!("double the brackets: [[{}]]", shown(header, ""))),
        "object" if written.starts_with("[[") => {
            Some(format!("write it once, in single brackets: [{}]", shown(header, "")))
        }
        _ => None,
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
