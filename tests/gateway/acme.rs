//! Certificates by ACME from a real authority: Pebble, which asks the gateway its challenges over real sockets.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::pebble::{EXTERNAL, Pebble, Places};
use crate::support::tls::{Handshake, failures, s_client, show};
use crate::support::{Folder, Gateway, cert, run, stderr, stdout};

const NAME: &str = "www.example.com";
/// Certificates that live for so many seconds are not renewed within a test.
const LONG: u32 = 90 * 24 * 60 * 60;
const ISSUED: &str = "issued, audited and served";

/// A plain endpoint and a TLS one, `front`, whose certificate the authority issues; `more` follows its table.
fn config(places: Places, challenge: &str, more: &str) -> String {
    format!(
        "{}[acme.pebble]\ndirectory = \"https://{}/dir\"\nca = {:?}\nchallenge = \"{challenge}\"\n\
         terms_of_service_agreed = true\ncontact = [\"mailto:ops@example.com\"]\n\
         [endpoints.plain]\nlisten = \"{}\"\nclass = \"internal\"\nhandler = \"show\"\n\
         [endpoints.front]\nlisten = \"{}\"\nclass = \"internal\"\nhandler = \"show\"\n\
         [[endpoints.front.tls.certificates]]\nacme = \"pebble\"\nnames = [\"{NAME}\", \"example.com\"]\n{more}\n",
        show(),
        places.directory,
        cert("ca.pem"),
        places.http,
        places.tls,
    )
}

fn ask(places: Places) -> Handshake {
    s_client(places.tls, &["-servername", NAME])
}

/// A metric of the certificate.
fn series(name: &str) -> String {
    format!("portcullis_{name}{{authority=\"pebble\",certificate=\"{NAME}\"}}")
}

/// Where the certificate is stored.
fn stored(gateway: &Gateway) -> PathBuf {
    let folders = std::fs::read_dir(gateway.folder.path().join("acme")).unwrap();
    let [folder] = <[_; 1]>::try_from(folders.collect::<Vec<_>>()).unwrap();
    folder.unwrap().path().join(format!("{NAME}.pem"))
}

/// The folder of a gateway that is no longer needed, for the next one.
fn folder_of(mut gateway: Gateway) -> Folder {
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    std::mem::replace(&mut gateway.folder, Folder::new())
}

fn issues_by(challenge: &str) {
    let places = Places::new();
    let pebble = Pebble::start(places, LONG, false);
    let mut gateway = Gateway::start(&config(places, challenge, ""));
    gateway.wait_for_log(ISSUED);
    let root = gateway.folder.write("root.pem", pebble.ask("/roots/0"));
    let served =
        s_client(places.tls, &["-servername", NAME, "-verify_hostname", NAME, "-CAfile", root.to_str().unwrap()]);
    assert!(served.answered() && served.text.contains("Verify return code: 0 (ok)"), "{}", served.text);
    assert_eq!(gateway.get("/readyz").status, 200);
    assert_eq!(gateway.metric(&series("acme_certificates_issued_total")), Some(1.0));
    let certificate = &gateway.json("/acme")["certificates"][0];
    assert_eq!((&certificate["state"], &certificate["challenge"]), (&"stored".into(), &challenge.into()));
    let file = stored(&gateway);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&file.with_file_name("account.json")), 0o600);
    // Not a second order once the first is done, and nothing of the keys in sight.
    assert_eq!(gateway.count_in_log("ordering a certificate"), 1);
    let key = std::fs::read_to_string(file.with_file_name("account.json")).unwrap();
    let key = key.split("key_pkcs8\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(key.len() > 100 && gateway.count_in_log(&key) == 0 && !gateway.get("/config").body.contains(&key));
}

#[test]
fn a_certificate_is_issued_by_tls_alpn_01_and_served_without_a_restart() {
    issues_by("tls-alpn-01");
}

#[test]
fn a_certificate_is_issued_by_http_01_and_served_without_a_restart() {
    issues_by("http-01");
}

#[test]
fn an_endpoint_waits_for_its_first_certificate_and_says_so_while_the_authority_is_down() {
    let places = Places::new();
    let mut gateway = Gateway::start(&config(places, "tls-alpn-01", ""));
    let line = gateway.wait_for_log("no new certificate for www.example.com, example.com: unreachable");
    assert!(line.contains("there is none to serve; trying again"), "{line}");
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 503);
    let waiting = "waiting for the first certificate for www.example.com, example.com from pebble";
    assert!(ready.body.contains(waiting), "{}", ready.body);
    assert!(!ask(places).answered());
    gateway.wait_for_metric(&failures("front", "no_certificate"), 1.0);
    assert_eq!(gateway.metric("portcullis_endpoint_up{endpoint=\"front\"}"), Some(0.0));
    let certificate = &gateway.json("/acme")["certificates"][0];
    assert_eq!((&certificate["state"], &certificate["failing"]), (&"failing".into(), &1.into()));
    assert_eq!(certificate["last_failure"]["reason"], "unreachable");
    // It does not ask again at once.
    assert_eq!(gateway.count_in_log("ordering a certificate"), 1);
}

#[test]
fn a_restart_serves_what_is_stored_with_the_authority_down() {
    let places = Places::new();
    let pebble = Pebble::start(places, LONG, false);
    let config = config(places, "tls-alpn-01", "");
    let mut gateway = Gateway::start(&config);
    gateway.wait_for_log(ISSUED);
    let before = ask(places).leaf();
    drop(pebble);
    let gateway = Gateway::start_in(folder_of(gateway), &config);
    assert_eq!(gateway.get("/readyz").status, 200);
    assert_eq!(ask(places).leaf(), before);
    assert_eq!(gateway.count_in_log("ordering a certificate"), 0);
}

#[test]
fn a_certificate_is_renewed_before_it_ends_without_a_restart() {
    let places = Places::new();
    let _pebble = Pebble::start(places, 12, false);
    let mut gateway = Gateway::start(&config(places, "tls-alpn-01", ""));
    gateway.wait_for_log(ISSUED);
    let before = ask(places).leaf();
    gateway.wait_for_log("half of its life is over");
    gateway.wait_for_log(ISSUED);
    assert_ne!(ask(places).leaf(), before);
    gateway.wait_for_metric(&series("acme_certificates_issued_total"), 2.0);
    assert!(gateway.metric(&series("acme_renewal_timestamp_seconds")).is_some());
}

#[test]
fn a_renewal_that_fails_keeps_the_certificate_before_and_waits_longer_and_longer() {
    let places = Places::new();
    let pebble = Pebble::start(places, 12, false);
    let mut gateway = Gateway::start(&config(places, "http-01", ""));
    gateway.wait_for_log(ISSUED);
    let before = ask(places).leaf();
    drop(pebble);
    let line = gateway.wait_for_log("no new certificate for www.example.com, example.com: unreachable");
    assert!(line.contains("the one before is kept; it ends 20") && line.contains("trying again 20"), "{line}");
    assert_eq!(ask(places).leaf(), before);
    let failures =
        format!("portcullis_acme_failures_total{{authority=\"pebble\",certificate=\"{NAME}\",reason=\"unreachable\"}}");
    gateway.wait_for_metric(&failures, 1.0);
    assert!(gateway.metric(&series("acme_last_failure_timestamp_seconds")).is_some());
    assert_eq!(gateway.get("/readyz").status, 200);
}

#[test]
fn what_the_audit_denies_is_neither_served_nor_stored() {
    let places = Places::new();
    let _pebble = Pebble::start(places, 12, false);
    // What is issued ends soon.
    let strict = "[audit]\nrules = { expiring-soon = \"deny\" }";
    let mut gateway = Gateway::start(&config(places, "tls-alpn-01", strict));
    let line = gateway.wait_for_log("no new certificate for www.example.com, example.com: audit");
    assert!(line.contains("(rule expiring-soon)"), "{line}");
    let folder = stored(&gateway).parent().unwrap().to_owned();
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["account.json"]);
    assert_eq!(gateway.get("/readyz").status, 503);
}

#[test]
fn an_account_is_bound_to_an_external_one_whose_key_is_shown_nowhere() {
    let places = Places::new();
    let _pebble = Pebble::start(places, LONG, true);
    let folder = Folder::new();
    folder.write("eab.key", format!("{}\n", EXTERNAL.1));
    let bound = format!("[acme.pebble.external_account]\nkey_id = {:?}\nhmac_key_file = \"eab.key\"\n", EXTERNAL.0);
    let mut gateway = Gateway::start_in(folder, &config(places, "tls-alpn-01", &bound));
    gateway.wait_for_log(ISSUED);
    assert!(ask(places).answered());
    assert!(gateway.count_in_log(EXTERNAL.1) == 0 && !gateway.get("/config").body.contains(EXTERNAL.1));
}

#[test]
fn an_account_that_is_refused_is_a_failure_of_its_own() {
    let places = Places::new();
    let _pebble = Pebble::start(places, LONG, true);
    let mut gateway = Gateway::start(&config(places, "tls-alpn-01", ""));
    let line = gateway.wait_for_log("no new certificate for www.example.com, example.com: account");
    assert!(line.contains("see that the authority takes this contact and external_account"), "{line}");
}

#[test]
fn a_challenge_that_leads_elsewhere_is_told_by_name_with_what_the_authority_saw() {
    let places = Places::new();
    // The authority asks where nobody listens.
    let _pebble = Pebble::start(Places { tls: Places::new().tls, ..places }, LONG, false);
    let mut gateway = Gateway::start(&config(places, "tls-alpn-01", ""));
    let line = gateway.wait_for_log("no new certificate for www.example.com, example.com: challenge");
    assert!(
        line.contains("www.example.com: ") && line.contains("see that each name's addresses in DNS lead here"),
        "{line}"
    );
}

#[test]
fn a_fit_chain_below_is_served_until_the_first_certificate_is_there() {
    let places = Places::new();
    let below =
        format!("[[endpoints.front.tls.certificates]]\nchain = {:?}\nkey = {:?}\n", cert("www.pem"), cert("www.key"));
    let config = config(places, "http-01", &below);
    let mut gateway = Gateway::start(&config);
    gateway.wait_for_log("no new certificate");
    let before = ask(places);
    assert!(before.answered() && gateway.get("/readyz").status == 200, "{}", before.text);
    // The wait after a failure ends with the process.
    let folder = folder_of(gateway);
    let _pebble = Pebble::start(places, LONG, false);
    let mut gateway = Gateway::start_in(folder, &config);
    gateway.wait_for_log(ISSUED);
    assert!(ask(places).line("issuer=").contains("Pebble Intermediate"));
}

#[test]
fn check_lists_everything_that_is_wrong_and_asks_nobody() {
    let folder = Folder::new();
    let file = folder.write(
        "gateway.toml",
        "[acme.a]\ndirectory = \"http://ca.example/dir\"\nterms_of_service_agreed = false\ncontact = [\"ops\"]\n\
         ca = \"missing.pem\"\n[acme.b]\ndirectory = \"https://ca.example/dir\"\nterms_of_service_agreed = true\n\
         challenge = \"http-01\"\nexternal_account = { key_id = \"k\", hmac_key_file = \"missing.key\" }\n\
         [acme.c]\ndirectory = \"https://ca.example/dir\"\nterms_of_service_agreed = true\n\
         [endpoints.front]\nlisten = \"127.0.0.1:0\"\nhandler = \"echo\"\n\
         [[endpoints.front.tls.certificates]]\nacme = \"b\"\nnames = [\"*.example.com\", \"a.example\", \"A.example\"]\n\
         [[endpoints.front.tls.certificates]]\nacme = \"bb\"\nnames = [\"a.example\"]\n\
         [[endpoints.front.tls.certificates]]\nacme = \"b\"\nnames = [\"a.example\"]\nchain = \"x\"\nkey = \"y\"\n\
         [[endpoints.front.tls.certificates]]\nacme = \"b\"\nnames = []\n[[endpoints.front.tls.certificates]]\n\
         [handlers.echo]\ntype = \"echo\"\n",
    );
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    let said = stderr(&output);
    for part in [
        "acme.a.directory: \"http://ca.example/dir\" is not an https URL",
        "acme.a.terms_of_service_agreed: the terms are not agreed to; read them",
        "acme.a.contact.0: \"ops\" is no mail address as a URL; write such as \"mailto:ops@example.com\"",
        "acme.a.ca: ",
        "acme.b.external_account.hmac_key_file: ",
        "acme.c.storage: [acme.b] has the same directory and storage",
        "certificates.0.names.0: \"*.example.com\" is no name to order for: a wildcard",
        "certificates.0.names.2: \"A.example\" is listed twice",
        "certificates.0.acme: no plain HTTP endpoint could answer http-01; add one on port 80",
        "certificates.1.acme: no authority is called \"bb\"; did you mean \"b\"?",
        "certificates.2: names both files and an authority",
        "certificates.3.names: a certificate has 1 to 100 names",
        "certificates.4: names no certificate; give chain and key, or acme and names",
    ] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_operator_renews_a_certificate_and_has_the_one_before_revoked() {
    let places = Places::new();
    let pebble = Pebble::start(places, LONG, false);
    let mut gateway = Gateway::start(&config(places, "tls-alpn-01", ""));
    gateway.wait_for_log(ISSUED);
    let before = std::fs::read(stored(&gateway)).unwrap();
    let serial = |pem: &[u8]| {
        let file = gateway.folder.write("leaf.pem", pem);
        let args = ["x509", "-noout", "-serial", "-in", file.to_str().unwrap()];
        let output = std::process::Command::new("openssl").args(args).output().unwrap();
        stdout(&output).trim().trim_start_matches("serial=").to_lowercase()
    };
    let status = |serial: &str| pebble.ask(&format!("/cert-status-by-serial/{serial}"));
    let renewed = gateway.command(&["renew", NAME, "--revoke", "superseded"]);
    assert_eq!(renewed.status.code(), Some(0), "{}", stderr(&renewed));
    assert!(stdout(&renewed).ends_with("; the one before is revoked\n"), "{}", stdout(&renewed));
    let after = std::fs::read(stored(&gateway)).unwrap();
    assert!(before != after && status(&serial(&before)).contains("Revoked"), "{}", status(&serial(&before)));
    assert!(status(&serial(&after)).contains("Valid"), "{}", status(&serial(&after)));
    let unknown = gateway.command(&["renew", "other.example.com"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("there are: pebble/www.example.com"), "{}", stderr(&unknown));
}
