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
use super::problem::{Problem, dotted, shown, sort};

/// How deep tables and lists may nest. The schema needs 7; the rest is for `settings`. Whoever takes the configuration
/// apart after this does so by recursion, and the parser alone would let thousands of levels through.
const DEEPEST: usize = 32;

/// How many problems are told one by one: a file with more of them is some other file.
const MOST: usize = 200;

/// Everything in the file that is not as the schema has it, in the order of the file.
pub(super) fn check(document: &Document<'_>, schema: &Value) -> Vec<Problem> {
    let mut walk = Walk { document, definitions: &schema["$defs"], path: Vec::new(), problems: Vec::new(), more: 0 };
    walk.table(schema, document.root.get_ref(), &(0..0));
    let Walk { mut problems, more, .. } = walk;
    sort(&mut problems);
    if more > 0 {
        let message = format!("{more} more problems are not shown");
        problems.push(Problem { place: None, item: String::new(), message, remedy: None });
    }
    problems
}

/// The walk: where it is, and what it has found.
struct Walk<'a> {
    document: &'a Document<'a>,
    definitions: &'a Value,
    path: Vec<String>,
    problems: Vec<Problem>,
    /// How many were found beyond [`MOST`].
    more: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &'a Value, value: &Spanned<DeValue<'_>>) {
        if self.path.len() > DEEPEST {
            return self.push(&value.span(), format!("nested more than {DEEPEST} levels deep"), None);
        }
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
        // Keys that come together, and keys that are always there.
        let given = schema["dependentRequired"].as_object().into_iter().flatten();
        let given = given.filter(|(key, _)| table.contains_key(key.as_str())).map(|(_, needed)| needed);
        let needed = given.chain(Some(&schema["required"])).filter_map(Value::as_array).flatten();
        for name in needed.filter_map(Value::as_str) {
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
        if self.problems.len() == MOST {
            self.more += 1;
            return;
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Source, json_schema};
    use super::*;

    /// Every problem with a text, a line each, without the file's name.
    fn problems(text: &str) -> Vec<String> {
        let problems = Source::new("a.toml", text).parse().err().unwrap_or_default();
        problems.iter().map(|problem| problem.to_string().replacen("a.toml:", "", 1)).collect()
    }

    #[test]
    fn every_fault_is_reported_in_one_go_with_its_place() {
        let text = "\
[gateway]
workers = \"4\"
drain_timout = \"30s\"

[endpoints.internet]
lisen = \"0.0.0.0:443\"
class = \"publik\"
timeouts = \"5s\"

[[endpoints.internet.tls.certificates]]
chain = 7

[handlers.site]
type = \"http_proxy\"
";
        assert_eq!(
            problems(text),
            [
                "2:11: gateway.workers: expected a whole number, found text in quotes; take off the quotes: 4",
                "3:1: gateway.drain_timout: unknown key; did you mean \"drain_timeout\"?",
                "5:1: endpoints.internet.listen: missing; add listen = \"…\"",
                "5:1: endpoints.internet.handler: missing; add handler = \"…\"",
                "6:1: endpoints.internet.lisen: unknown key; did you mean \"listen\"?",
                "7:9: endpoints.internet.class: \"publik\" is not \"public\" or \"internal\"; did you mean \"public\"?",
                "8:12: endpoints.internet.timeouts: expected a table, found text in quotes",
                "10:1: endpoints.internet.tls.certificates.0.key: missing; add key = \"…\"",
                "11:9: endpoints.internet.tls.certificates.0.chain: expected text in quotes, found a whole number; put it in quotes: \"7\"",
                "14:8: handlers.site.type: \"http_proxy\" is not \"http-proxy\", \"tcp-proxy\", \"respond\", \"echo\", \"plugin\" or \"wasm\"; did you mean \"http-proxy\"?",
            ]
        );
    }

    #[test]
    fn keys_that_come_together_are_missed_where_one_of_them_is_given() {
        let table = "[endpoints.a]\nlisten = \"127.0.0.1:0\"\nhandler = \"x\"\n[[endpoints.a.tls.certificates]]\n";
        assert_eq!(
            problems(&format!("{table}acme = \"le\"\n")),
            ["4:1: endpoints.a.tls.certificates.0.names: missing; add names = […]"]
        );
        assert_eq!(
            problems(&format!("{table}key = \"a.key\"\n")),
            ["4:1: endpoints.a.tls.certificates.0.chain: missing; add chain = \"…\""]
        );
    }

    #[test]
    fn an_unknown_key_in_a_handler_is_refused_with_its_place() {
        assert_eq!(
            problems("[handlers.site]\ntype = \"http-proxy\"\nupstrem = \"app\"\n"),
            ["3:1: handlers.site.upstrem: unknown key; did you mean \"upstream\"?"]
        );
        assert_eq!(
            problems("[handlers.a]\ntype = \"echo\"\nbody = \"x\"\n"),
            ["3:1: handlers.a.body: unknown key; known keys: type"]
        );
        assert_eq!(
            problems("[handlers.a]\ntype = \"tcp-proxy\"\nupstream = \"x\"\nproxy_protocol = \"V2\"\n"),
            ["4:18: handlers.a.proxy_protocol: \"V2\" is not \"v1\" or \"v2\"; did you mean \"v2\"?"]
        );
    }

    #[test]
    fn serde_too_refuses_an_unknown_key_in_every_handler() {
        for kind in ["http-proxy", "tcp-proxy", "respond", "echo"] {
            let text = format!("[handlers.a]\ntype = {kind:?}\nupstream = \"x\"\nsurplus = 1\n");
            assert!(toml::from_str::<super::super::Config>(&text).is_err(), "{kind}");
        }
    }

    #[test]
    fn a_handler_without_a_type_is_told_the_types() {
        assert_eq!(
            problems("[handlers.site]\nupstream = \"app\"\n"),
            [
                "1:1: handlers.site.type: missing; add type = \"http-proxy\", \"tcp-proxy\", \"respond\", \"echo\", \"plugin\" or \"wasm\""
            ]
        );
        assert_eq!(
            problems("[handlers.site]\ntype = 1\n"),
            ["2:8: handlers.site.type: expected text in quotes, found a whole number; put it in quotes: \"1\""]
        );
        assert_eq!(problems("handlers.site = 1\n"), ["1:17: handlers.site: expected a table, found a whole number"]);
    }

    #[test]
    fn a_key_unlike_all_known_ones_is_told_the_known_ones() {
        assert_eq!(
            problems("[log]\ncolour = true\n"),
            ["2:1: log.colour: unknown key; known keys: access, format, level"]
        );
    }

    #[test]
    fn one_text_or_several_is_neither_number_nor_list_of_numbers() {
        let with = |listen: &str| problems(&format!("[endpoints.a]\nhandler = \"h\"\nlisten = {listen}\n"));
        assert!(with("\"127.0.0.1:80\"").is_empty() && with("[\"127.0.0.1:80\"]").is_empty());
        assert_eq!(
            with("80"),
            [
                "3:10: endpoints.a.listen: expected text in quotes or a list, found a whole number; put it in quotes: \"80\""
            ]
        );
        assert_eq!(
            with("[\"127.0.0.1:80\", 81]"),
            ["3:27: endpoints.a.listen.1: expected text in quotes, found a whole number; put it in quotes: \"81\""]
        );
    }

    #[test]
    fn brackets_too_many_or_too_few_are_told_from_each_other() {
        assert_eq!(
            problems("[[gateway]]\nworkers = 1\n"),
            ["1:1: gateway: expected a table, found a list; write it once, in single brackets: [gateway]"]
        );
        assert_eq!(
            problems("[audit.waivers]\nrule = \"sig-sha1\"\n"),
            ["1:1: audit.waivers: expected a list, found a table; double the brackets: [[audit.waivers]]"]
        );
    }

    #[test]
    fn a_number_out_of_range_is_told_the_range() {
        assert_eq!(
            problems("[handlers.a]\ntype = \"respond\"\nstatus = 70_000\n"),
            ["3:10: handlers.a.status: 70_000 is out of range; write a whole number from 0 to 65535"]
        );
        assert!(problems("[gateway]\nworkers = -1\n")[0].contains("out of range"));
        assert!(
            problems("[endpoints.a]\nlisten = \"\"\nhandler = \"\"\nsettings.x = 1e999\n")[0].contains("out of range")
        );
    }

    #[test]
    fn settings_may_hold_anything_that_toml_can_say() {
        let settings = "{ a = 1, b = [1.5, \"x\", { c = 2026-11-21 }], d = inf, e = 0xFF, f = true }";
        let text = format!("[endpoints.a]\nlisten = \"\"\nhandler = \"\"\nsettings = {settings}\n");
        assert_eq!(problems(&text), [""; 0]);
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let text = format!(
            "[endpoints.a]\nlisten = \"\"\nhandler = \"\"\nsettings.a = {}1{}\n",
            "[".repeat(60),
            "]".repeat(60)
        );
        assert!(problems(&text)[0].contains("nested more than 32 levels deep"));
    }

    #[test]
    fn a_file_that_is_wrong_throughout_is_told_so_and_soon() {
        let keys: Vec<String> = (0..50_000).map(|key| format!("k{key} = 1")).collect();
        let problems = problems(&format!("log = {{ {} }}\n", keys.join(", ")));
        assert_eq!(problems.len(), 201);
        assert_eq!(problems[200], "49800 more problems are not shown");
    }

    #[test]
    fn the_walk_knows_every_word_of_the_schema() {
        const KNOWN: [&str; 17] = [
            "$defs",
            "$ref",
            "$schema",
            "additionalProperties",
            "anyOf",
            "const",
            "default",
            "dependentRequired",
            "description",
            "format",
            "items",
            "maximum",
            "minimum",
            "oneOf",
            "properties",
            "required",
            "title",
        ];
        fn words<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
            for (word, below) in schema.as_object().into_iter().flatten() {
                found.push(word);
                match word.as_str() {
                    "properties" | "$defs" => below.as_object().unwrap().values().for_each(|one| words(one, found)),
                    "oneOf" | "anyOf" => below.as_array().unwrap().iter().for_each(|one| words(one, found)),
                    "items" | "additionalProperties" => words(below, found),
                    _ => {}
                }
            }
        }
        let (schema, mut found) = (json_schema(), Vec::new());
        words(&schema, &mut found);
        for word in found {
            assert!(word == "type" || KNOWN.contains(&word), "{word} is not checked");
        }
    }
}
