//! `portcullis audit`: start-up's audit on files, folders and configurations.

use serde_json::Value;

use super::on;
use crate::support::tls::{endpoint, show};
use crate::support::{Folder, cert, run, stderr, stdout};

/// Audits with these arguments: the status and standard output.
pub fn audit(args: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["audit"], args].concat());
    (output.status.code(), stdout(&output))
}

pub fn json(args: &[&str]) -> (Option<i32>, Value) {
    let (status, text) = audit(&[&["--format", "json"], args].concat());
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

#[test]
fn the_status_follows_the_worst_finding_and_the_level_that_fails() {
    let (fit, expired, md5) = (cert("localhost.pem"), cert("expired.pem"), cert("md5.pem"));
    for (path, level, status) in [
        (&fit, None, 0),
        (&fit, Some("warn"), 1), // no public certificate is without a warning here
        (&expired, None, 1),
        (&expired, Some("deny"), 0),
        (&md5, Some("deny"), 1),
    ] {
        let mut args = vec![path.as_str()];
        args.extend(level.iter().flat_map(|level| ["--fail-on", level]));
        assert_eq!(audit(&args).0, Some(status), "{args:?}");
    }
    assert_eq!(audit(&[&fit, "--profile", "internal", "--fail-on", "warn"]).0, Some(0));
}

#[test]
fn what_cannot_be_understood_or_read_exits_with_2() {
    assert_eq!(audit(&[]).0, Some(2));
    assert_eq!(audit(&["--fail-on", "info", &cert("localhost.pem")]).0, Some(2));
    let missing = run(&["audit", "--config", "/nowhere/gateway.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/nowhere/gateway.toml: cannot read"), "{}", stderr(&missing));
}

#[test]
fn a_file_that_cannot_be_read_is_a_chain_with_a_finding() {
    let (status, report) = json(&["/nowhere/site.pem", &cert("localhost.pem")]);
    assert_eq!(status, Some(1));
    assert_eq!(report["chains"].as_array().unwrap().len(), 2);
    let finding = &report["chains"][0]["findings"][0];
    assert_eq!((&finding["rule"], &finding["file"]), (&"file-unreadable".into(), &"/nowhere/site.pem".into()));
}

#[test]
fn the_json_has_the_shape_that_scripts_rely_on() {
    let (_, report) = json(&[&cert("md5.pem"), "--key", &cert("md5.key")]);
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(&report), "chains profile");
    let chain = &report["chains"][0];
    assert_eq!(keys(chain), "certificates endpoint file findings key verdict");
    assert_eq!(
        keys(&chain["certificates"][0]),
        "issuer key names not_after not_before position serial sha256 signature_algorithm subject"
    );
    assert_eq!(keys(&chain["findings"][0]), "file fix level position rule seen sha256 subject waived_until why");
    assert_eq!((&chain["verdict"], &chain["endpoint"]), (&"deny".into(), &Value::Null));
    assert_eq!(chain["key"], cert("md5.key"));
}

#[test]
fn sarif_places_each_finding_at_its_certificates_line_and_suppresses_what_is_waived() {
    let print =
        |file: &str| json(&[&cert(file)]).1["chains"][0]["certificates"][0]["sha256"].as_str().unwrap().to_owned();
    let waiver = format!(
        "[[audit.waivers]]\nrule = \"sig-sha1\"\ncertificate = \"sha256:{}\"\nuntil = \"2999-01-01\"\nreason = \"soon\"\n",
        print("sha1.pem")
    );
    let ends = [endpoint("front", &["sha1"], ""), endpoint("back", &["md5-intermediate", "localhost"], "")];
    let (status, out, err) = on(&format!("{}{}{waiver}", show(), ends.concat()), &["audit", "--format", "sarif"]);
    assert_eq!((status, err.as_str()), (Some(1), ""));
    let log: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let results = log["runs"][0]["results"].as_array().unwrap();
    let of = |rule: &str| results.iter().find(|result| result["ruleId"] == rule).unwrap();
    assert_eq!(of("sig-sha1")["suppressions"][0]["justification"], "waived until 2999-01-01: soon");
    let place = &of("sig-md5")["locations"][0]["physicalLocation"];
    assert!(place["region"]["startLine"].as_u64().unwrap() > 1, "the second certificate of its file: {place}");
    assert!(place["artifactLocation"]["uri"].as_str().unwrap().starts_with("file:///"), "{place}");
    assert_eq!(of("sig-md5")["properties"]["endpoint"], "back");
}

#[test]
fn the_files_of_a_large_folder_are_reported_in_the_order_of_their_names() {
    let folder = Folder::new();
    let chain = std::fs::read(cert("localhost.pem")).unwrap();
    for number in 0..600 {
        folder.write(&format!("{number:03}.pem"), &chain);
    }
    let (status, report) = json(&[folder.path().to_str().unwrap(), "--profile", "internal"]);
    assert_eq!(status, Some(0));
    let files: Vec<_> =
        report["chains"].as_array().unwrap().iter().map(|chain| chain["file"].as_str().unwrap()).collect();
    assert!(files.len() == 600 && files.is_sorted());
}

#[test]
fn the_table_names_each_certificate_each_finding_and_its_remedy() {
    let (_, table) = audit(&[&cert("md5-intermediate.pem")]);
    for part in [
        "md5-intermediate.pem  deny",
        "1  CN=localhost",
        "2  CN=Portcullis Test MD5 Issuing CA",
        "md5WithRSAEncryption",
        "until 9999-12-31",
        "deny   sig-md5               certificate 2: signed with MD5",
        "ask the CA to reissue it with SHA-256",
        "1 chain: 1 deny",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    assert!(!table.contains('\u{1b}'), "colour is for terminals");
}

#[test]
fn each_file_with_a_certificate_in_a_folder_is_a_chain() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("deeper")).unwrap();
    for (from, to) in [
        ("md5.pem", "b.pem"),
        ("localhost.pem", "deeper/a.crt"),
        ("localhost.key", "localhost.key"),
        ("clients.crl", "c.crl"),
    ] {
        std::fs::copy(cert(from), folder.path().join(to)).unwrap();
    }
    folder.write("notes.txt", "no certificate here");
    let (status, report) = json(&[folder.path().to_str().unwrap()]);
    assert_eq!(status, Some(1));
    let files: Vec<_> =
        report["chains"].as_array().unwrap().iter().map(|chain| chain["file"].as_str().unwrap()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].ends_with("/b.pem") && files[1].ends_with("/deeper/a.crt"), "{files:?}");
}

#[test]
fn a_key_is_held_against_the_chain_and_a_name_against_its_names() {
    let chain = cert("localhost.pem");
    let internal = |more: &[&str]| audit(&[&[chain.as_str(), "--profile", "internal"], more].concat());
    assert_eq!(internal(&["--key", &cert("localhost.key"), "--name", "localhost"]).0, Some(0));
    let (status, table) = internal(&["--key", &cert("www.key")]);
    assert!(status == Some(1) && table.contains("key-mismatch"), "{table}");
    let (status, table) = internal(&["--name", "localhost", "--name", "www.example.com"]);
    assert!(status == Some(1) && table.contains("san-mismatch") && table.contains("www.example.com"), "{table}");
}

#[test]
fn the_profile_weighs_and_is_named() {
    let chain = cert("sha1.pem");
    for (profile, verdict) in [("public", "deny"), ("internal", "warn")] {
        let (_, report) = json(&[&chain, "--profile", profile]);
        assert_eq!((&report["profile"], &report["chains"][0]["verdict"]), (&profile.into(), &verdict.into()));
    }
}

#[test]
fn a_configurations_chains_are_judged_by_its_own_classes_and_policy() {
    let ends = [endpoint("front", &["sha1"], ""), endpoint("back", &["localhost"], "")];
    let config = format!("{}{}[audit.rules]\nsig-sha1 = \"warn\"\n", show(), ends.concat());
    let (status, out, err) = on(&config, &["audit", "--format", "json"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["profile"], Value::Null, "each chain has its endpoint's");
    let chains = report["chains"].as_array().unwrap();
    let endpoints: Vec<_> = chains.iter().map(|chain| chain["endpoint"].as_str().unwrap()).collect();
    assert_eq!(endpoints, ["back", "front"]);
    let (status, _, _) = on(&config.replace("sig-sha1 = \"warn\"", ""), &["audit"]);
    assert_eq!(status, Some(1));
}

#[test]
fn a_bundle_is_audited_with_its_key_by_the_password_from_a_file_or_the_environment() {
    let folder = Folder::new();
    let bundle = cert("localhost.p12");
    let right = folder.write("right", "secret\n").display().to_string();
    let wrong = folder.write("wrong", "guess\n").display().to_string();
    let rules = |report: &Value| {
        let findings = report["chains"][0]["findings"].as_array().unwrap().iter();
        findings.map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (status, report) = json(&[&bundle, "--profile", "internal", "--password-file", &right]);
    assert_eq!((status, rules(&report)), (Some(0), vec!["validity-too-long".to_owned()]), "{report:#}");
    let chain = &report["chains"][0];
    assert_eq!((&chain["key"], chain["certificates"].as_array().unwrap().len()), (&bundle.as_str().into(), 2));

    let (status, report) = json(&[&bundle, "--password-file", &wrong]);
    assert_eq!((status, rules(&report)), (Some(1), vec!["pkcs12-password".to_owned()]));
    let (status, report) = json(&[&bundle]);
    assert_eq!((status, rules(&report)), (Some(1), vec!["pem-no-cert".to_owned()]), "no password was given");
    assert_eq!(audit(&[&bundle, "--password-file", "/nowhere/password"]).0, Some(2));

    let mut command = crate::support::portcullis(&["audit", "--profile", "internal", &bundle]);
    let output = command.env("PORTCULLIS_PASSWORD", "secret").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(!stdout(&output).contains("secret"));
}

#[test]
fn a_bundle_with_old_ciphers_is_opened_and_warned_of() {
    let folder = Folder::new();
    let (old, chain, key) = (folder.path().join("old.p12"), cert("localhost.pem"), cert("localhost.key"));
    let args = ["pkcs12", "-export", "-legacy", "-passout", "pass:", "-in", &chain, "-inkey", &key, "-out"];
    let made = std::process::Command::new("openssl").args(args).arg(&old).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let (_, report) = json(&[old.to_str().unwrap(), "--profile", "internal"]);
    let finding = &report["chains"][0]["findings"][0];
    assert_eq!((&finding["rule"], &finding["level"]), (&"pkcs12-weak".into(), &"warn".into()));
    for part in ["HMAC-SHA-1", "RC2-40", "3DES"] {
        assert!(finding["seen"].as_str().unwrap().contains(part), "{finding}");
    }
}
