use std::path::Path;

use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::config::{ClientAuthConfig, ClientAuthMode};

fn of_certs(name: &str) -> String {
    format!("{}/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn auth(change: impl FnOnce(&mut ClientAuthConfig)) -> ClientAuth {
    let mut config = ClientAuthConfig {
        mode: ClientAuthMode::Required,
        ca: of_certs("clients-ca.pem").into(),
        crl: Vec::new(),
        allow: Vec::new(),
    };
    change(&mut config);
    ClientAuth::read(&config, Path::new("")).unwrap()
}

fn file(keys: &[u8]) -> KeyFile {
    let secrets = keys.iter().map(|n| Zeroizing::new((0..48).map(|i| i ^ n).collect()));
    KeyFile { path: "tickets.key".into(), secrets: secrets.collect(), modified: 7 }
}

const HOUR: u64 = 60 * 60;

/// An endpoint whose only scope has these settings.
fn tickets(endpoint: &str, auth: Option<&ClientAuth>, keys: Option<&[u8]>) -> ScopeTickets {
    let name = EndpointName::new(endpoint).unwrap();
    let scopes = [auth.cloned()];
    let file = keys.map(file);
    let lifetime = Duration::from_secs(12 * HOUR);
    let tickets = Tickets::new(name, &scopes, file.as_ref(), lifetime, Arc::default()).unwrap();
    Arc::new(tickets).of_scope(0, auth)
}

/// Within a handshake of a client that came with `client`.
fn handshake<T>(client: &[CertificateDer<'static>], within: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (outcome, _) = runtime.block_on(notes::taking(async {
        notes::set_client_chain(client.to_vec());
        within()
    }));
    outcome
}

fn opened(by: &ScopeTickets, ticket: &[u8]) -> bool {
    handshake(&[], || by.decrypt(ticket)) == Some(b"state".to_vec())
}

fn ticket(of: &ScopeTickets, client: &[CertificateDer<'static>]) -> Vec<u8> {
    handshake(client, || of.encrypt(b"state")).unwrap()
}

fn client(name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(of_certs(name)).unwrap().map(Result::unwrap).take(1).collect()
}

#[test]
fn gateways_that_share_a_file_open_each_others_tickets_and_others_do_not() {
    let (first, second) = (tickets("front", None, Some(&[1, 2])), tickets("front", None, Some(&[2, 1])));
    assert!(opened(&second, &ticket(&first, &[])) && opened(&first, &ticket(&second, &[])));
    let alone = tickets("front", None, Some(&[3]));
    assert!(!opened(&alone, &ticket(&first, &[])));
    assert!(!opened(&tickets("front", None, None), &ticket(&tickets("front", None, None), &[])));
}

#[test]
fn no_ticket_leads_to_another_endpoint_or_past_other_settings() {
    let settings = [
        None,
        Some(auth(|_| {})),
        Some(auth(|config| config.mode = ClientAuthMode::Optional)),
        Some(auth(|config| config.allow = vec!["dns:*.clients.example.org".into()])),
        Some(auth(|config| config.crl = vec![of_certs("clients.crl").into()])),
    ];
    let all: Vec<_> = settings
        .iter()
        .flat_map(|auth| ["front", "back"].map(|endpoint| tickets(endpoint, auth.as_ref(), Some(&[1]))))
        .collect();
    for (from, first) in all.iter().enumerate() {
        let chain = if first.verifier.is_some() { client("client.pem") } else { Vec::new() };
        let ticket = ticket(first, &chain);
        for (to, second) in all.iter().enumerate() {
            assert_eq!(opened(second, &ticket), from == to, "from {from} to {to}");
        }
    }
}

#[test]
fn a_client_that_was_revoked_since_is_not_resumed() {
    let trusting = auth(|_| {});
    let (front, chain) = (tickets("front", Some(&trusting), Some(&[1])), client("client-revoked.pem"));
    let ticket = ticket(&front, &chain);
    assert!(opened(&front, &ticket));
    // The same settings, but for what the list says by now.
    let revoking = auth(|config| config.crl = vec![of_certs("clients.crl").into()]);
    let today = ScopeTickets { verifier: Some(revoking.verifier().clone()), ..front };
    assert!(!opened(&today, &ticket));
}

#[test]
fn where_a_certificate_is_required_a_session_without_one_is_not_resumed() {
    let required = auth(|_| {});
    let front = tickets("front", Some(&required), None);
    assert!(!opened(&front, &ticket(&front, &[])));
    let optional = auth(|config| config.mode = ClientAuthMode::Optional);
    let front = tickets("front", Some(&optional), None);
    assert!(opened(&front, &ticket(&front, &[])));
}

#[test]
fn a_resumed_session_passes_its_client_and_its_age_on_to_the_next_ticket() {
    let required = auth(|_| {});
    let (front, chain) = (tickets("front", Some(&required), Some(&[1])), client("client.pem"));
    let key = &front.tickets.ring.load().keys[0];
    let seal = |begun| ticket::seal(&key.scopes[0], &key.id, write(begun, &chain, b"state").unwrap()).unwrap();
    let now = unix(SystemTime::now());
    let next = handshake(&[], || {
        front.decrypt(&seal(now - 11 * HOUR)).unwrap();
        front.encrypt(b"state").unwrap()
    });
    let plain = ticket::open(&key.scopes[0], &key.id, &next).unwrap();
    let session = read(&plain).unwrap();
    assert_eq!((session.begun, session.client), (now - 11 * HOUR, chain.clone()));
    assert!(!opened(&front, &seal(now - 12 * HOUR - 60)), "it is older than any ticket may be");
}

#[test]
fn own_keys_change_by_themselves_and_open_what_they_sealed_for_as_long_as_it_is_good() {
    let front = tickets("front", None, None);
    let (keys, now) = (&front.tickets, unix(SystemTime::now()));
    let id = |now| keys.ring(now).keys[0].id;
    let first = id(now);
    assert_eq!(id(now + 6 * HOUR - 1), first);
    let opens = |now: u64| keys.ring(now).keys.iter().any(|key| key.id == first);
    assert!(opens(now + 6 * HOUR) && id(now + 6 * HOUR) != first);
    // Sealed in its last second, good for 12 hours.
    assert!(opens(now + 12 * HOUR) && !opens(now + 18 * HOUR));
    assert!(keys.ring(now + 24 * HOUR).keys.len() <= 4);
    assert!(keys.metrics.here().ticket_key_rotations.get() >= 3);
}

#[test]
fn keys_of_a_file_stay_and_are_shown_by_names_that_gateways_agree_on() {
    let names = |keys: &[u8]| {
        let view = tickets("front", None, Some(keys)).tickets.view();
        assert_eq!((view.file.as_deref(), view.next_key_due), (Some("tickets.key"), None));
        view.keys.into_iter().map(|key| (key.id, key.seals)).collect::<Vec<_>>()
    };
    let (one, other) = (names(&[1, 2]), names(&[2, 1]));
    assert_eq!((one[0].0.clone(), one[0].1, one[1].1), (other[1].0.clone(), true, false));
    assert_ne!(one[0].0, one[1].0);
    let shown = serde_json::to_string(&tickets("front", None, Some(&[1])).tickets.view()).unwrap();
    assert!(shown.contains("\"since\":\"1970-01-01T00:00:07Z\""), "{shown}");
    assert!(!format!("{:?}", file(&[1])).contains("secrets"));
}

#[test]
fn a_ticket_is_made_only_within_a_handshake() {
    assert_eq!(tickets("front", None, None).encrypt(b"state"), None);
}

fn parsed(text: impl AsRef<[u8]>) -> Result<usize, String> {
    key_file::parse(text.as_ref()).map(|secrets| secrets.len())
}

#[test]
fn a_key_file_has_a_key_a_line_or_is_one() {
    let line = |n: u8, length: u8| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode((0..length).map(|i| i ^ n).collect::<Vec<u8>>())
    };
    let both = format!("# today's\r\n{}\r\n\n  {} # yesterday's\n", line(1, 48), line(2, 80));
    assert_eq!(parsed(both), Ok(2));
    assert_eq!(parsed((0..80).collect::<Vec<u8>>()), Ok(1));
    for (text, said) in [
        (String::new(), "it has no key"),
        ("# none\n".into(), "it has no key"),
        (line(1, 32), "line 1: a key has 48 or 80 bytes, and this has 32"),
        (format!("{}\n!", line(1, 48)), "line 2: it is not base64"),
        (format!("{0}\n{0}", line(1, 48)), "line 2: the key stands there before"),
        ("A".repeat(64), "line 1: the key is one byte repeated"),
        ((0..65).map(|n| line(n, 48) + "\n").collect(), "it has more than 64 keys"),
    ] {
        let why = parsed(&text).unwrap_err();
        assert!(why.starts_with(said), "{why}");
        assert!(!why.contains(&line(1, 48)), "a key is told: {why}");
    }
    assert!(parsed([&[0xff][..], &[1; 40]].concat()).unwrap_err().contains("this has 41"));
}

proptest! {
    #[test]
    fn any_key_file_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for secret in key_file::parse(&bytes).unwrap_or_default() {
            prop_assert!([48, 80].contains(&secret.len()));
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_anything_else_is_read_or_refused(
        begun: u64,
        chain in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70), 0..4),
        state in proptest::collection::vec(any::<u8>(), 0..70),
        noise in proptest::collection::vec(any::<u8>(), 0..70),
    ) {
        let client: Vec<CertificateDer<'_>> = chain.into_iter().map(CertificateDer::from).collect();
        let plain = write(begun, &client, &state).unwrap();
        prop_assert_eq!(read(&plain), Some(Session { begun, client, state: &state }));
        let _ = read(&noise);
        prop_assert_eq!(tickets("front", None, Some(&[1])).decrypt(&noise), None);
    }
}
