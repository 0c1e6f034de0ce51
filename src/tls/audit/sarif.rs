//! Reports as SARIF 2.1.0 (OASIS), which code hosts and editors show beside the files that findings are about.
//!
//! `portcullis audit --format sarif` writes one log; its results are made while they are written.

use std::collections::HashMap;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Value, json};

use super::finding::{ChainReport, Finding};
use super::report::Stream;
use super::rules::{Level, RULES, Rule, RuleId};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A SARIF log with one run.
#[derive(Serialize)]
struct Log<R> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<R>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<R> {
    tool: Value,
    invocations: Value,
    original_uri_base_ids: Value,
    column_kind: &'static str,
    results: R,
}

/// The log of an audit. `directory`: what relative paths are relative to.
pub fn log(chains: impl Iterator<Item = ChainReport>, directory: &Path) -> impl Serialize {
    let results = chains.flat_map(|chain| results(&chain));
    let base = format!("file://{}/", uri(&directory.display().to_string()).trim_end_matches('/'));
    Log {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [Run {
            tool: json!({ "driver": {
                "name": "portcullis",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
            }}),
            invocations: json!([{ "executionSuccessful": true }]),
            original_uri_base_ids: json!({ BASE: { "uri": base } }),
            column_kind: "unicodeCodePoints",
            results: Stream::new(results),
        }],
    }
}

/// Stands for the folder that relative paths are relative to.
const BASE: &str = "PWD";

fn rule(rule: &Rule) -> Value {
    let mut shown = json!({
        "id": rule.id,
        "shortDescription": { "text": format!("{}.", rule.checks) },
        "fullDescription": { "text": format!("{}: {}.", rule.checks, rule.why) },
        "help": { "text": format!("Remedy: {}. Source: {}.", rule.fix, rule.source) },
        "helpUri": rule.help_uri(),
        "defaultConfiguration": { "level": level(rule.public) },
        "properties": { "public": rule.public, "internal": rule.internal },
    });
    // A name that only repeats the id must be left out (section 3.49.7).
    let name = pascal(rule.id);
    if !name.eq_ignore_ascii_case(rule.id) {
        shown["name"] = name.into();
    }
    shown
}

/// "sig-md5" as "SigMd5".
fn pascal(id: &str) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    id.split('-').filter(|part| !part.is_empty()).map(word).collect()
}

/// SARIF has three levels; what `deny` and `error` have in common is that clients fail.
fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "note",
        Level::Warn => "warning",
        Level::Error | Level::Deny => "error",
    }
}

fn results<'a>(chain: &'a ChainReport) -> Vec<Value> {
    let mut seen: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    let mut one = |finding: &'a Finding| {
        let again = seen.entry((finding.rule, finding.sha256.as_deref())).or_default();
        *again += 1;
        result(chain, finding, *again)
    };
    chain.findings.iter().map(&mut one).collect()
}

/// `number`: the how manieth finding of its rule about its certificate this is.
fn result(chain: &ChainReport, finding: &Finding, number: usize) -> Value {
    let place = match (finding.position, &finding.subject) {
        (Some(position), Some(subject)) => format!("Certificate {position} of {} ({subject}): ", finding.of),
        (Some(position), None) => format!("Certificate {position} of {}: ", finding.of),
        (None, _) => "The file: ".to_owned(),
    };
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": RuleId::by_name(finding.rule).map(|id| id as usize),
        "kind": "fail",
        "level": level(finding.level),
        "message": { "text": format!("{place}{}. Why: {}. Remedy: {}.", finding.seen, finding.why, finding.fix) },
        "locations": [location(finding, chain.remote)],
        "partialFingerprints": { "finding/v1": fingerprint(finding, number) },
        "properties": {
            "level": finding.level,
            "endpoint": finding.endpoint,
            "subject": finding.subject,
            "serial": finding.serial,
            "sha256": finding.sha256,
        },
    });
    if let Some(day) = &finding.waived_until {
        let reason = finding.waiver.as_deref().unwrap_or_default();
        let why = format!("waived until {day}: {reason}");
        result["suppressions"] = json!([{ "kind": "external", "status": "accepted", "justification": why }]);
    }
    result
}

fn location(finding: &Finding, remote: bool) -> Value {
    if remote {
        return json!({ "physicalLocation": { "artifactLocation": { "uri": format!("tls://{}", finding.file) } } });
    }
    let artifact = if finding.file.starts_with('/') {
        json!({ "uri": format!("file://{}", uri(&finding.file)) })
    } else {
        json!({ "uri": uri(&finding.file), "uriBaseId": BASE })
    };
    // Without a line the finding is about the whole file, and is shown at its beginning.
    json!({ "physicalLocation": { "artifactLocation": artifact, "region": { "startLine": finding.line.unwrap_or(1) } } })
}

/// The same for the same finding about the same certificate, wherever in the file it moves, and whatever day it is.
fn fingerprint(finding: &Finding, number: usize) -> String {
    let endpoint = finding.endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
    let about = finding.sha256.as_deref().unwrap_or(&finding.file);
    let text = [finding.rule, about, &endpoint, &number.to_string()].join("\0");
    digest(&SHA256, text.as_bytes()).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path as the path of a URI (RFC 3986, section 3.3).
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::{Path, log, pascal, uri};
    use crate::tls::audit::tests::endpoint;

    fn written(chains: &[&str]) -> Value {
        let chains = endpoint(chains, &[]).into_iter().map(|audited| Arc::unwrap_or_clone(audited.report));
        serde_json::to_value(log(chains, Path::new("/srv"))).unwrap()
    }

    #[test]
    fn a_result_names_its_rule_its_file_and_the_line_of_its_certificate() {
        let log = written(&["md5-intermediate"]);
        let result = &log["runs"][0]["results"][0];
        assert_eq!((&result["ruleId"], &result["level"]), (&"sig-md5".into(), &"error".into()));
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][index]["id"], "sig-md5");
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("/certs/md5-intermediate.pem"));
        let text = std::fs::read_to_string(crate::tls::audit::tests::certs("md5-intermediate.pem")).unwrap();
        let line = text.lines().enumerate().filter(|(_, line)| line.starts_with("-----BEGIN")).nth(1).unwrap().0 + 1;
        assert_eq!(place["region"]["startLine"], line);
    }

    #[test]
    fn a_finding_has_a_fingerprint_of_its_own_that_stays() {
        let prints = |name| -> Vec<Value> {
            let log = written(&[name]);
            let results = log["runs"][0]["results"].as_array().unwrap().clone();
            results.into_iter().map(|result| result["partialFingerprints"]["finding/v1"].clone()).collect()
        };
        assert_eq!(prints("md5"), prints("md5"));
        assert_ne!(prints("md5"), prints("md5-www"));
    }

    #[test]
    fn every_rule_has_a_name_a_description_and_somewhere_to_read_on() {
        let log = written(&[]);
        for rule in log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap() {
            assert!(rule["helpUri"].as_str().is_some_and(|uri| uri.starts_with("https://")), "{rule}");
            assert!(rule["shortDescription"]["text"].as_str().is_some_and(|text| text.ends_with('.')), "{rule}");
        }
        assert_eq!(pascal("sig-md5"), "SigMd5");
    }

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(uri("/a b/ü#.pem"), "/a%20b/%C3%BC%23.pem");
    }
}
