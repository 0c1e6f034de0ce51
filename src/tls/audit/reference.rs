//! Writes `docs/audit.md` and `docs/audit.schema.json` from the table of rules and the types of the report, and fails
//! where the files that are committed say something else.
//!
//! `UPDATE=1 cargo test --lib audit::reference` writes them anew.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::finding::ChainReport;
use super::report::Report;
use super::rules::RULES;

const PAGE: &str = "docs/audit.md";
const SCHEMA: &str = "docs/audit.schema.json";

#[test]
fn the_audits_page_and_its_schema_are_up_to_date() {
    let schema = schema();
    for (file, written) in [(PAGE, page(&schema)), (SCHEMA, format!("{schema:#}\n"))] {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, &written).unwrap();
        }
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(committed == written, "{file} is stale; run: UPDATE=1 cargo test --lib audit::reference");
    }
}

fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Report<Vec<ChainReport>>>().to_value();
    schema["title"] = "Portcullis audit".into();
    schema
}

fn page(schema: &Value) -> String {
    let mut md =
        String::from("<!-- Made from the table in src/tls/audit/rules.rs and the types of the report by a test. -->\n");
    md.push_str(include_str!("audit.md"));
    md.push_str("\n## The JSON\n\nOne object, the same from `portcullis audit --format json` and from the admin port's `/audit` (which adds `fallbacks`). ");
    md.push_str("[audit.schema.json](audit.schema.json) is its JSON Schema.\n");
    fields(&mut md, "the object", schema);
    for (name, title) in [
        ("Server", "`servers[]`"),
        ("Handshake", "`servers[].handshakes[]`"),
        ("ChainReport", "`chains[]`"),
        ("CertificateView", "`chains[].certificates[]`"),
        ("Finding", "`chains[].findings[]`"),
    ] {
        fields(&mut md, title, &schema["$defs"][name]);
    }
    md.push_str("\n## The rules\n\n| id | finds | public | internal | source | remedy |\n|---|---|---|---|---|---|\n");
    for rule in RULES {
        let columns = [rule.checks, rule.public.as_str(), rule.internal.as_str(), rule.source, rule.fix];
        let columns: Vec<String> = columns.iter().map(|text| text.replace('|', "\\|")).collect();
        writeln!(md, "| `{}` | {} |", rule.id, columns.join(" | ")).unwrap();
    }
    md
}

fn fields(md: &mut String, title: &str, schema: &Value) {
    writeln!(md, "\n| {title} | type | |\n|---|---|---|").unwrap();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let about = field["description"].as_str().unwrap_or_default().replace('\n', " ").replace("`None`", "null");
        writeln!(md, "| `{name}` | {} | {about} |", kind(field)).unwrap();
    }
}

fn kind(field: &Value) -> String {
    let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // The one type that is referred to is a closed set of words.
    if field["$ref"].is_string() {
        return "string".into();
    }
    match &field["type"] {
        Value::Array(kinds) => kinds.iter().map(of).collect::<Vec<_>>().join(" or "),
        Value::String(kind) if kind == "array" => "list".into(),
        kind => of(kind),
    }
}
