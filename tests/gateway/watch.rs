//! Files that change are taken without being asked for, and so is the clock; what is broken on disk changes nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use crate::support::tls::{endpoint_with, rustls, s_client, show};
use crate::support::{Folder, Gateway, cert};

const SUCCEEDED: &str = "portcullis_config_reloads_total{result=\"success\"}";
const FAILED: &str = "portcullis_config_reloads_total{result=\"failure\"}";
const LAST: &str = "portcullis_config_last_reload_successful";
const TAKEN: &str = "files or the clock have changed; reloaded: changed front; 0 unchanged";
const HELD: &str = "files have changed and are not taken; what was read before is served on: endpoint \"front\": ";
const MENDED: &str = "every file is fit again";

/// A TLS endpoint, `front`, with chains of the folder.
fn config(chains: &[&str]) -> String {
    let pairs: Vec<_> = chains.iter().map(|name| (format!("{name}.pem"), format!("{name}.key"))).collect();
    format!("{}{}", show(), endpoint_with("front", "internal", "show", &pairs, ""))
}

/// One of the two files of a chain of `certs/`.
fn part(chain: &str, kind: &str) -> Vec<u8> {
    fs::read(cert(&format!("{chain}.{kind}"))).unwrap()
}

/// A folder with a chain of `certs/` as `site.pem` and `site.key`, in a folder of its own.
fn site(chain: &str) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("tls")).unwrap();
    install(&folder, "tls", chain);
    folder
}

fn install(folder: &Folder, into: &str, chain: &str) {
    for kind in ["pem", "key"] {
        folder.write(&format!("{into}/site.{kind}"), part(chain, kind));
    }
}

/// Gives the gateway time to do what it must not do. A test that is wrong about it does not fail for being slow.
#[allow(clippy::disallowed_methods, reason = "nothing outside shows that files were looked at")]
fn let_it_look() {
    std::thread::sleep(Duration::from_millis(100));
}

fn subject(gateway: &Gateway) -> String {
    s_client(gateway.address("front"), &["-servername", "x.example"]).line("subject=").to_owned()
}

#[track_caller]
fn assert_serves(gateway: &Gateway, name: &str) {
    let subject = subject(gateway);
    assert!(subject.ends_with(name), "{subject} is served");
}

#[test]
fn a_pair_that_is_renamed_into_place_is_served_without_a_word() {
    let mut gateway = Gateway::start_in(site("localhost"), &config(&["tls/site"]));
    assert_serves(&gateway, "localhost");
    for kind in ["key", "pem"] {
        let new = gateway.folder.write(&format!("tls/new.{kind}"), part("www-rsa", kind));
        fs::rename(new, gateway.folder.path().join(format!("tls/site.{kind}"))).unwrap();
    }
    gateway.wait_for_log(TAKEN);
    assert_serves(&gateway, "www.example.com");
    assert_eq!(
        (gateway.metric(SUCCEEDED), gateway.metric(FAILED), gateway.metric(LAST)),
        (Some(1.0), Some(0.0), Some(1.0))
    );
}

#[test]
fn a_kubernetes_volume_is_followed_through_its_swaps_broken_ones_too() {
    let folder = Folder::new();
    let point = |folder: &Folder, at: &str| {
        symlink(at, folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    for (version, chain) in [("..1", "localhost"), ("..2", "localhost"), ("..3", "www-rsa")] {
        fs::create_dir(folder.path().join(version)).unwrap();
        install(&folder, version, chain);
    }
    folder.write("..2/site.pem", "-----BEGIN CERTIFICATE-----\n");
    point(&folder, "..1");
    for kind in ["pem", "key"] {
        symlink(format!("..data/site.{kind}"), folder.path().join(format!("site.{kind}"))).unwrap();
    }
    let mut gateway = Gateway::start_in(folder, &config(&["site"]));

    point(&gateway.folder, "..2");
    let said = gateway.wait_for_log(HELD);
    assert!(said.contains("site.pem"), "{said}");
    assert_serves(&gateway, "localhost");
    assert_eq!((gateway.metric(FAILED), gateway.metric(LAST)), (Some(1.0), Some(0.0)));
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 200, "the old one serves");
    assert!(gateway.json("/readyz")["not_taken"][0].as_str().unwrap().contains("site.pem"), "{}", ready.body);

    point(&gateway.folder, "..3");
    gateway.wait_for_log(MENDED);
    assert_serves(&gateway, "www.example.com");
    assert_eq!((gateway.metric(SUCCEEDED), gateway.metric(LAST)), (Some(1.0), Some(1.0)));
    assert_eq!(gateway.json("/readyz")["not_taken"].as_array().unwrap().len(), 0);
}

#[test]
fn a_pair_of_which_half_is_written_is_waited_for() {
    let mut gateway = Gateway::start_in(site("localhost"), &config(&["tls/site"]));
    gateway.folder.write("tls/site.pem", part("www-rsa", "pem"));
    // The gateway looks in between, and must not speak of it.
    let_it_look();
    gateway.folder.write("tls/site.key", part("www-rsa", "key"));
    gateway.wait_for_log(TAKEN);
    assert_serves(&gateway, "www.example.com");
    assert_eq!((gateway.metric(FAILED), gateway.count_in_log("not taken")), (Some(0.0), 0));
}

#[test]
fn what_is_broken_and_put_back_is_said_twice_and_changes_nothing() {
    let mut gateway = Gateway::start_in(site("localhost"), &config(&["tls/site"]));
    gateway.folder.write("tls/site.key", part("www-rsa", "key"));
    gateway.wait_for_log(HELD);
    assert_serves(&gateway, "localhost");
    // Whoever asks is told what start-up would say.
    assert_eq!(gateway.command(&["reload"]).status.code(), Some(1));
    gateway.folder.write("tls/site.key", part("localhost", "key"));
    gateway.wait_for_log(MENDED);
    assert_eq!(gateway.metric(LAST), Some(1.0), "what the reload was asked for is served");
    assert_serves(&gateway, "localhost");
}

#[test]
fn a_folder_that_is_removed_and_made_anew_is_watched_on() {
    let mut gateway = Gateway::start_in(site("localhost"), &config(&["tls/site"]));
    let tls = gateway.folder.path().join("tls");
    fs::remove_dir_all(&tls).unwrap();
    gateway.wait_for_log(HELD);
    assert_serves(&gateway, "localhost");
    fs::create_dir(&tls).unwrap();
    install(&gateway.folder, "tls", "www-rsa");
    gateway.wait_for_log(MENDED);
    assert_serves(&gateway, "www.example.com");
    // The folder itself gives way to another one.
    fs::create_dir(gateway.folder.path().join("next")).unwrap();
    install(&gateway.folder, "next", "localhost");
    fs::rename(&tls, gateway.folder.path().join("before")).unwrap();
    fs::rename(gateway.folder.path().join("next"), &tls).unwrap();
    gateway.wait_for_log(TAKEN);
    assert_serves(&gateway, "localhost");
}

#[test]
fn the_same_content_and_a_new_configuration_alone_are_no_reload() {
    let mut gateway = Gateway::start_in(site("localhost"), &config(&["tls/site"]));
    gateway.configure(&config(&["tls/site"]).replace("internal", "public"));
    for _ in 0..3 {
        install(&gateway.folder, "tls", "localhost");
        let_it_look();
    }
    install(&gateway.folder, "tls", "www-rsa");
    gateway.wait_for_log(TAKEN);
    assert_eq!((gateway.metric(SUCCEEDED), gateway.metric(FAILED)), (Some(1.0), Some(0.0)));
    assert_eq!(gateway.json("/endpoints/front")["class"], "internal");
}

#[test]
fn files_are_let_be_where_the_configuration_says_so() {
    let unwatched = config(&["tls/site"]).replace("workers = 1", "workers = 1\nwatch = false");
    let gateway = Gateway::start_in(site("localhost"), &unwatched);
    install(&gateway.folder, "tls", "www-rsa");
    let_it_look();
    assert_serves(&gateway, "localhost");
    assert_eq!(gateway.reload(), "reloaded: changed front; 0 unchanged\n");
    assert_serves(&gateway, "www.example.com");
}

/// A chain of `www.example.com` with its key, valid for so long from now; its subject is `name`.
fn issue(folder: &Folder, name: &str, lasts: Duration) {
    let mut params = CertificateParams::new(["www.example.com".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
    params.not_after = (SystemTime::now() + lasts).into();
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    folder.write(&format!("{name}.pem"), params.self_signed(&key).unwrap().pem());
    folder.write(&format!("{name}.key"), key.serialize_pem());
}

#[test]
fn a_chain_gives_way_before_its_end_and_comes_back_when_it_is_renewed() {
    let folder = Folder::new();
    // A minute before its end the next chain takes over: here, in three seconds.
    issue(&folder, "first", Duration::from_secs(63));
    issue(&folder, "second", Duration::from_secs(90 * 24 * 3600));
    // So that both are equally good until then.
    let audit = "[audit]\nexpiry_warning = \"1s\"\nrules = { validity-too-long = \"off\" }\n";
    let mut gateway = Gateway::start_in(folder, &format!("{}{audit}", config(&["first", "second"])));
    assert_serves(&gateway, "first");
    gateway.wait_for_log("second.pem is served in its place");
    assert_serves(&gateway, "second");
    assert_eq!(gateway.metric("portcullis_certificate_fallback_active{endpoint=\"front\"}"), Some(1.0));
    issue(&gateway.folder, "first", Duration::from_secs(80 * 24 * 3600));
    gateway.wait_for_log(TAKEN);
    assert_serves(&gateway, "first");
    assert_eq!(gateway.metric("portcullis_certificate_fallback_active{endpoint=\"front\"}"), Some(0.0));
}

/// An authority that issues certificates for clients, and lists of those that it revoked.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Clients");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        Self { params, key: KeyPair::generate().unwrap() }
    }

    /// Writes its certificate, and one of a client with the serial number 7.
    fn issue(&self, folder: &Folder) {
        folder.write("clients-ca.pem", self.params.self_signed(&self.key).unwrap().pem());
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "client");
        params.serial_number = Some(7.into());
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        folder.write("client.pem", params.signed_by(&key, &issuer).unwrap().pem());
        folder.write("client.key", key.serialize_pem());
    }

    fn revoke(&self, folder: &Folder, serials: &[u64]) {
        let now = SystemTime::now();
        let revoked = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(60)).into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        folder.write("clients.crl", list.signed_by(&issuer).unwrap().pem().unwrap());
    }
}

#[test]
fn a_renewed_revocation_list_turns_its_clients_away_and_a_broken_one_lets_nobody_in_that_the_last_did_not() {
    let (folder, authority) = (site("localhost"), Authority::new());
    authority.issue(&folder);
    authority.revoke(&folder, &[]);
    let client_auth = "[endpoints.front.tls.client_auth]\nmode = \"required\"\nca = \"clients-ca.pem\"\n\
                       crl = [\"clients.crl\"]\n";
    let mut gateway = Gateway::start_in(folder, &format!("{}{client_auth}", config(&["tls/site"])));
    let (chain, key) = (gateway.folder.path().join("client.pem"), gateway.folder.path().join("client.key"));
    let client = ["-cert", chain.to_str().unwrap(), "-key", key.to_str().unwrap()];
    assert!(s_client(gateway.address("front"), &client).answered());
    authority.revoke(&gateway.folder, &[7]);
    gateway.wait_for_log(TAKEN);
    assert!(!s_client(gateway.address("front"), &client).answered());
    gateway.folder.write("clients.crl", "half of it");
    let said = gateway.wait_for_log("files have changed and are not taken");
    assert!(said.contains("endpoints.front.tls.client_auth.crl") && said.contains("clients.crl"), "{said}");
    assert!(!s_client(gateway.address("front"), &client).answered());
    authority.revoke(&gateway.folder, &[]);
    gateway.wait_for_log(MENDED);
    assert!(s_client(gateway.address("front"), &client).answered());
}

/// A TLS connection that can be asked again and again.
fn kept(gateway: &Gateway) -> impl FnMut() {
    let mut stream = rustls(gateway.address("front"));
    move || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        // The body ends in a bare line feed, the head does not.
        while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "cut: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..n]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    }
}

#[test]
fn many_renewals_under_load_fail_no_request_and_leave_nothing_behind() {
    const ROUNDS: u32 = 24;
    let folder = Folder::new();
    let days = |round: u32| Duration::from_secs(u64::from(30 + round) * 24 * 3600);
    // What clients verify is always the first chain; the second is the one that is renewed.
    for kind in ["pem", "key"] {
        folder.write(&format!("first.{kind}"), part("localhost", kind));
    }
    issue(&folder, "second", days(0));
    let audit =
        "[audit]\nexpiry_warning = \"1s\"\nrules = { validity-too-long = \"off\", self-signed-leaf = \"off\" }\n";
    let gateway = Gateway::start_in(folder, &format!("{}{audit}", config(&["first", "second"])));
    let mut idle: Vec<_> = (0..20).map(|_| kept(&gateway)).collect();
    idle.iter_mut().for_each(|ask| ask());
    let stop = AtomicBool::new(false);
    let load = |mut ask: Box<dyn FnMut() + Send>| {
        while !stop.load(Ordering::Relaxed) {
            ask();
        }
    };
    let measure = || ["process_open_fds", "process_resident_memory_bytes"].map(|name| gateway.metric(name).unwrap());
    let measured = std::thread::scope(|scope| {
        let asking: Box<dyn FnMut() + Send> = Box::new(kept(&gateway));
        let coming: Box<dyn FnMut() + Send> = Box::new(|| kept(&gateway)());
        scope.spawn(|| load(asking));
        scope.spawn(|| load(coming));
        let measured: Vec<_> = (1..=ROUNDS)
            .map(|round| {
                issue(&gateway.folder, "second", days(round));
                gateway.wait_for_metric(SUCCEEDED, f64::from(round));
                measure()
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        measured
    });
    idle.iter_mut().for_each(|ask| ask());
    assert_eq!(gateway.metric(FAILED), Some(0.0));
    // The first third warms up.
    let growth = |index: usize| measured[ROUNDS as usize - 1][index] - measured[ROUNDS as usize / 3][index];
    assert!(growth(0) < 5.0, "descriptors: {measured:?}");
    assert!(growth(1) < 8.0 * 1024.0 * 1024.0, "memory: {measured:?}");
}

#[test]
fn a_reload_that_failed_for_what_the_configuration_says_is_not_made_good_by_a_file() {
    let mut gateway = Gateway::start_in(site("localhost"), &config(&["tls/site"]));
    gateway.configure("nonsense = 1");
    assert_eq!(gateway.command(&["reload"]).status.code(), Some(1));
    install(&gateway.folder, "tls", "www-rsa");
    gateway.wait_for_log(TAKEN);
    assert_eq!(gateway.metric(LAST), Some(0.0));
}
