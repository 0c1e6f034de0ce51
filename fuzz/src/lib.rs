//! What several fuzz targets share: how an input is cut, and what holds of every audit.

use std::path::Path;
use std::time::{Duration, SystemTime};

use portcullis::identity::Class;
use portcullis::tls::audit::policy::Policy;
use portcullis::tls::audit::{Audited, Subject, audit};
use portcullis::tls::chain::Material;

/// Cuts an input into pieces. Where depends on the input alone, so that a finding stays one.
pub fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut state =
        data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let mut pieces = Vec::new();
    while !data.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (piece, rest) = data.split_at((1 + (state >> 59) as usize).min(data.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces
}

/// Audits a chain with its key for both classes, and checks what holds whatever is in the files.
pub fn audit_holds(chain: &[u8], key: &[u8]) {
    let material = Material::from_pem(Path::new("chain.pem"), chain, Some((Path::new("chain.key"), key)));
    assert!(material.certificates.len() <= material.begun, "more certificates than were begun");
    // The rest must be accounted for: nothing is dropped silently.
    assert!(material.certificates.len() == material.begun || !material.faults.is_empty(), "a certificate was dropped");
    for profile in [Class::Public, Class::Internal] {
        let audited = judged(&material, profile);
        let again = judged(&material, profile);
        assert_eq!(format!("{:?}", audited.report), format!("{:?}", again.report), "two audits differ");
        one_holds(&material, &audited);
    }
}

fn judged(material: &Material, profile: Class) -> Audited {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_219_200); // 2026-11-21
    let names = ["www.example.com".to_owned()];
    let subject = Subject { profile, endpoint: None, server_names: &names, listen_ips: &[], now };
    audit(material, &subject, &Policy::default())
}

fn one_holds(material: &Material, audited: &Audited) {
    let report = &audited.report;
    for finding in &report.findings {
        // A certificate's own text goes to logs and terminals.
        assert!(!finding.to_string().chars().any(char::is_control), "a finding holds a control character: {finding:?}");
    }
    for view in &report.certificates {
        let texts = [&view.subject, &view.issuer, &view.serial, &view.signature_algorithm, &view.key];
        for text in texts.into_iter().chain(&view.names) {
            assert!(!text.chars().any(char::is_control), "a certificate's text holds a control character: {text:?}");
        }
    }
    let Some(chain) = &audited.servable else { return };
    assert!(!report.verdict.is_denied(), "what is denied would be served");
    assert!(!chain.chain().is_empty(), "an empty chain would be served");
    for sent in chain.chain() {
        assert!(material.certificates.iter().any(|read| read.der == *sent), "what was not in the file would be served");
    }
}
