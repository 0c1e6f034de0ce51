//! What a running plan becomes when its files or the clock change.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::{Aim, EndpointPlan, EndpointState, Inputs, Plan};
use crate::config::Config;
use crate::telemetry::Telemetry;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder with chains of `www.example.com`, removed in the end.
struct Site {
    folder: PathBuf,
    config: Config,
    now: SystemTime,
}

impl Site {
    /// One endpoint, `front`, with these chains, each of which ends after so many days.
    fn new(test: &str, chains: &[(&str, u32)]) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-plan-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let names = chains.iter().map(|(name, _)| format!("{{ chain = \"{name}.pem\", key = \"{name}.key\" }}"));
        let names: Vec<String> = names.collect();
        let text = format!(
            "[endpoints.front]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"ok\"\n\
             [handlers.ok]\ntype = \"respond\"\n[audit]\nrules = {{ self-signed-leaf = \"off\" }}\n\
             [endpoints.front.tls]\ncertificates = [{}]\n",
            names.join(", ")
        );
        let site = Self { folder, config: toml::from_str(&text).unwrap(), now: SystemTime::now() };
        chains.iter().for_each(|(name, days)| site.issue(name, *days));
        site
    }

    /// Writes a chain that ends so many days from now, with its key.
    fn issue(&self, name: &str, days: u32) {
        let mut params = CertificateParams::new(["www.example.com".to_owned()]).unwrap();
        params.not_before = (self.now - 10 * DAY).into();
        params.not_after = (self.now + days * DAY).into();
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        self.write(&format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    fn plan(&self, previous: Option<&Plan>, aim: Aim, now: SystemTime) -> Plan {
        let inputs = Inputs {
            config: &self.config,
            directory: &self.folder,
            handlers: &HashMap::new(),
            development_certificate: false,
            telemetry: Telemetry::default(),
            challenges: Arc::default(),
            now,
            previous,
            aim,
        };
        Plan::new(&inputs).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn load(&self) -> Plan {
        self.plan(None, Aim::Load, self.now)
    }

    fn renew(&self, previous: &Plan, now: SystemTime) -> Plan {
        self.plan(Some(previous), Aim::Renew { settled: true }, now)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn front(plan: &Plan) -> &Arc<EndpointPlan> {
    plan.endpoint("front").unwrap()
}

/// The chains that are served, best first, by their files' names.
fn served(plan: &Plan) -> Vec<&str> {
    let name = |file: &Path| -> usize { file.to_str().unwrap().rfind('/').unwrap() + 1 };
    let files = front(plan).certificates.candidates.iter().map(|chain| chain.file());
    files.map(|file| &file.to_str().unwrap()[name(file)..]).collect()
}

fn rules(plan: &Plan) -> Vec<&str> {
    front(plan).certificates.reports().flat_map(|report| &report.findings).map(|finding| finding.rule).collect()
}

fn instance(plan: &Plan) -> *const () {
    let EndpointState::Ready { instance } = &front(plan).state else { panic!("refused") };
    Arc::as_ptr(instance).cast()
}

#[test]
fn the_clock_alone_warns_switches_to_the_next_chain_before_the_end_and_back_when_it_is_renewed() {
    let site = Site::new("clock", &[("first", 60), ("second", 200)]);
    let fresh = site.load();
    assert_eq!((served(&fresh), rules(&fresh)), (vec!["first.pem", "second.pem"], vec![]));
    // A third of 70 days before the end.
    let warned_at = fresh.span().until.unwrap();
    assert!(warned_at > site.now + 36 * DAY && warned_at < site.now + 37 * DAY);
    assert!(Arc::ptr_eq(front(&fresh), front(&site.renew(&fresh, warned_at - DAY))), "nothing has changed until then");

    let warned = site.renew(&fresh, warned_at);
    assert_eq!((served(&warned), rules(&warned)), (vec!["second.pem", "first.pem"], vec!["expiring-soon"]));

    let ending_at = warned.span().until.unwrap();
    let end = site.now + 60 * DAY;
    assert!(ending_at < end - Duration::from_secs(50) && ending_at > end - Duration::from_secs(61));
    let switched = site.renew(&warned, ending_at);
    assert_eq!(served(&switched), ["second.pem"]);
    assert!(front(&switched).certificates.fallbacks[0].to_string().contains("second.pem is served in its place"));
    assert_eq!(instance(&switched), instance(&fresh), "the handler need not know");

    site.issue("first", 300);
    let renewed = site.renew(&switched, ending_at + DAY);
    assert_eq!((served(&renewed), rules(&renewed)), (vec!["first.pem", "second.pem"], vec![]));
}

#[test]
fn a_clock_that_is_set_back_is_believed() {
    let site = Site::new("back", &[("first", 60), ("second", 200)]);
    let late = site.renew(&site.load(), site.now + 61 * DAY);
    assert_eq!(served(&late), ["second.pem"]);
    let back = site.renew(&late, site.now);
    assert_eq!(served(&back), ["first.pem", "second.pem"]);
}

#[test]
fn a_chain_that_broke_on_disk_is_held_back_and_its_neighbour_renewed() {
    let site = Site::new("held", &[("first", 60), ("second", 200)]);
    let running = site.load();
    let before = front(&running).certificates.audited[1].report.certificates[0].sha256.clone();
    site.write("first.pem", "-----BEGIN CERTIFICATE-----\nhalf\n");
    site.issue("second", 90);
    let held = site.renew(&running, site.now);
    assert_eq!(served(&held), ["first.pem", "second.pem"]);
    assert_ne!(front(&held).certificates.audited[1].report.certificates[0].sha256, before);
    let reasons: Vec<&str> = held.held().collect();
    assert!(reasons[0].starts_with("endpoint \"front\": ") && reasons[0].contains("first.pem"), "{reasons:?}");
    assert!(Arc::ptr_eq(front(&held), front(&site.renew(&held, site.now))), "nothing new on disk, nothing to do");

    // Whoever asks for a reload is told what start-up would make of the files: here, that the second chain stands in.
    assert_eq!(served(&site.plan(Some(&held), Aim::Load, site.now)), ["second.pem"]);
    // Once the end comes near, what was read before is no better than what is on disk.
    assert_eq!(served(&site.renew(&held, site.now + 61 * DAY)), ["second.pem"]);

    site.issue("first", 90);
    let mended = site.renew(&held, site.now);
    assert_eq!((mended.held().count(), served(&mended)), (0, vec!["first.pem", "second.pem"]));
}

#[test]
fn a_chain_that_only_got_worse_is_taken_once_its_file_has_settled() {
    let site = Site::new("worse", &[("first", 60)]);
    let running = site.load();
    site.issue("first", 1);
    let hasty = site.plan(Some(&running), Aim::Renew { settled: false }, site.now);
    assert_eq!((hasty.held().count(), rules(&hasty)), (1, vec![]));
    let settled = site.renew(&running, site.now);
    assert_eq!((settled.held().count(), rules(&settled)), (0, vec!["expiring-soon"]));
    assert_eq!(instance(&settled), instance(&running), "the handler need not know");
}

#[test]
fn a_verdict_that_is_made_again_and_is_the_same_leaves_what_is_served_alone() {
    let site = Site::new("same", &[("first", 60)]);
    let running = site.load();
    let warned = site.renew(&running, running.span().until.unwrap());
    let acceptor = |plan: &Plan| Arc::as_ptr(&front(plan).tls.as_ref().unwrap().acceptor.choose(None).config);
    assert_eq!(rules(&warned), ["expiring-soon"]);
    assert_eq!((acceptor(&warned), instance(&warned)), (acceptor(&running), instance(&running)));
}

#[test]
fn an_endpoint_that_the_clock_would_refuse_goes_on_and_says_why() {
    let mut site = Site::new("waiver", &[("first", 60)]);
    let sha256 = site.load().endpoints[0].certificates.audited[0].report.certificates[0].sha256.clone();
    let tomorrow: time::OffsetDateTime = (site.now + DAY).into();
    let audit = format!(
        "rules = {{ self-signed-leaf = \"deny\" }}\n[[waivers]]\nrule = \"self-signed-leaf\"\n\
         certificate = \"sha256:{sha256}\"\nuntil = \"{}\"\nreason = \"a test\"\n",
        tomorrow.date()
    );
    site.config.audit = toml::from_str(&audit).unwrap();
    let running = site.load();
    let passed = running.span().until.unwrap();
    assert!(passed > site.now + DAY && passed <= site.now + 2 * DAY, "the waiver's last day counts whole");
    let after = site.renew(&running, passed);
    assert_eq!(served(&after), ["first.pem"]);
    let reasons: Vec<&str> = after.held().collect();
    assert!(reasons.len() == 1 && reasons[0].contains("(rule self-signed-leaf)"), "{reasons:?}");
    assert!(after.span().holds_at(passed), "it is not asked again at once");
    // Start-up would refuse it.
    assert!(!front(&site.plan(None, Aim::Load, passed)).is_ready());
}
