#![allow(clippy::unwrap_used, clippy::print_stdout)]
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::policy::Policy;
use super::{Audited, Subject, audit};
use crate::identity::Class;
use crate::tls::chain;

fn certs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certs").join(name)
}

fn subject(profile: Class) -> Subject<'static> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_219_200); // 2026-11-21
    Subject { profile, endpoint: None, server_names: &[], listen_ips: &[], now }
}

fn audited(chain: &str, key: Option<&str>, profile: Class) -> Audited {
    let key = key.map(certs);
    audit(&chain::read(&certs(chain), key.as_deref()), &subject(profile), &Policy::default())
}

#[test]
fn dump() {
    let mut names: Vec<_> =
        std::fs::read_dir(certs("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names.iter().filter(|n| !n.ends_with(".key")) {
        let key = format!("{}.key", name.split('.').next().unwrap());
        let key = names.contains(&key).then_some(key.as_str());
        for p in [Class::Internal, Class::Public] {
            let a = audited(name, key, p);
            let list: Vec<String> = a
                .report
                .findings
                .iter()
                .map(|f| format!("{}@{}:{}", f.rule, f.position.map_or("-".into(), |p| p.to_string()), f.level))
                .collect();
            println!("{name} {p} {} {} | {}", a.report.verdict, a.servable.is_some(), list.join(" "));
            if p == Class::Internal {
                for f in &a.report.findings {
                    println!("      {f}");
                }
            }
        }
    }
}
