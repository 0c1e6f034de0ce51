//! Client authentication for one chain's names alone: who is asked for a certificate, and that no request comes in by
//! another name than the one that its connection was authenticated for.

use crate::support::client::{curl, parse};
use crate::support::tls::{Handshake, failures, s_client_sending, show};
use crate::support::{Folder, Gateway, cert, portcullis, stderr};

/// An endpoint's `certificates`, each a chain of `certs/` with the mode of its own client authentication, if any.
fn front(certificates: &[(&str, Option<&str>)]) -> String {
    let mut config = format!("{}[endpoints.front]\nlisten = \"127.0.0.1:0\"\nhandler = \"show\"\n", show());
    for (name, mode) in certificates {
        let (chain, key) = (cert(&format!("{name}.pem")), cert(&format!("{name}.key")));
        config += &format!("[[endpoints.front.tls.certificates]]\nchain = {chain:?}\nkey = {key:?}\n");
        if let Some(mode) = mode {
            let ca = cert("clients-ca.pem");
            config += &format!("client_auth = {{ mode = \"{mode}\", ca = {ca:?} }}\n");
        }
    }
    config
}

/// A port with an open name (`localhost`) and one for those with a certificate (`www.example.com`).
fn two_names() -> Gateway {
    Gateway::start(&front(&[("localhost", None), ("www", Some("required"))]))
}

/// Connects by a name, or by none, and asks for a host.
fn ask(gateway: &Gateway, sni: Option<&str>, host: &str, args: &[&str]) -> Handshake {
    let sni = sni.map_or(vec!["-noservername"], |name| vec!["-servername", name]);
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    s_client_sending(gateway.address("front"), &[&["-ign_eof"], &sni[..], args].concat(), &request)
}

fn as_client() -> Vec<String> {
    ["-cert", &cert("client.pem"), "-key", &cert("client.key")].map(str::to_owned).to_vec()
}

/// The same, with a certificate.
fn ask_as_client(gateway: &Gateway, sni: Option<&str>, host: &str, version: &str) -> Handshake {
    let args = as_client();
    ask(gateway, sni, host, &[&[version], &args.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
}

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[test]
fn each_name_asks_its_own_clients_for_a_certificate() {
    let gateway = two_names();
    for version in VERSIONS {
        let open = ask(&gateway, Some("localhost"), "localhost", &[version]);
        assert!(open.answered() && open.text.contains("No client certificate CA names sent"), "{}", open.text);
        let closed = ask(&gateway, Some("WWW.example.com"), "www.example.com", &[version]);
        assert!(!closed.answered() && closed.text.contains("SSL alert number"), "{}", closed.text);
        assert!(ask_as_client(&gateway, Some("www.example.com"), "www.example.com", version).answered());
    }
    gateway.wait_for_metric(&failures("front", "client_certificate_missing"), 2.0);
}

#[test]
fn a_request_for_a_name_that_needs_other_client_authentication_is_misdirected() {
    let gateway = two_names();
    let answer = |seen: &Handshake| {
        let from = seen.text.find("HTTP/1.1 ").unwrap_or_else(|| panic!("no answer: {}", seen.text));
        parse(&seen.text[from..])
    };
    let mut refused = 0.0;
    for sni in [Some("localhost"), Some("unknown.test"), None] {
        for host in ["www.example.com", "WWW.Example.com:443", "example.com.", "www.example.com.:8443"] {
            let seen = ask(&gateway, sni, host, &[]);
            let answer = answer(&seen);
            assert_eq!(answer.status, 421, "{host} by {sni:?}: {}", seen.text);
            assert_eq!(answer.field("connection"), Some("close"));
            assert!(answer.body.contains("a connection of its own"), "{}", seen.text);
            refused += 1.0;
        }
        assert!(ask(&gateway, sni, "localhost", &[]).answered(), "by {sni:?}");
        assert!(ask(&gateway, sni, "elsewhere.test", &[]).answered(), "by {sni:?}");
    }
    for host in ["localhost", "elsewhere.test", "127.0.0.1"] {
        let seen = ask_as_client(&gateway, Some("www.example.com"), host, "-tls1_3");
        assert_eq!(answer(&seen).status, 421, "{host}: {}", seen.text);
        refused += 1.0;
    }
    let request = "GET http://www.example.com/ HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n";
    let absolute = s_client_sending(gateway.address("front"), &["-ign_eof", "-servername", "localhost"], request);
    assert_eq!(answer(&absolute).status, 421, "{}", absolute.text);
    let nameless = "GET / HTTP/1.0\r\n\r\n";
    let args = as_client();
    let args =
        [&["-ign_eof", "-servername", "www.example.com"], &args.iter().map(String::as_str).collect::<Vec<_>>()[..]];
    let nameless = s_client_sending(gateway.address("front"), &args.concat(), nameless);
    assert!(nameless.text.contains(" 421 "), "{}", nameless.text);
    let metric = "portcullis_http_requests_refused_total{endpoint=\"front\",reason=\"misdirected\"}";
    gateway.wait_for_metric(metric, refused + 2.0);
}

#[test]
fn curl_is_misdirected_over_http_2_and_served_by_the_right_name() {
    let gateway = two_names();
    let port = gateway.address("front").port();
    let resolve = format!("www.example.com:{port}:127.0.0.1");
    let root = cert("ca.pem");
    let ask = |args: &[&str]| {
        let always =
            ["--cacert", &root, "--ipv4", "--resolve", &resolve, "--output", "-", "--write-out", "%{http_code}"];
        curl(&[&always[..], args].concat())
    };
    let (open, closed) = (format!("https://localhost:{port}/"), format!("https://www.example.com:{port}/"));
    for version in ["--http2", "--http1.1"] {
        let other = ask(&[version, &open, "--header", &format!("Host: www.example.com:{port}")]);
        assert!(other.starts_with("421 Misdirected Request: ") && other.ends_with("421"), "{version}: {other}");
        assert!(ask(&[version, &open]).ends_with("200"));
        let certificate = ["--cert", &cert("client.pem"), "--key", &cert("client.key")];
        let served = ask(&[&[version, &closed], &certificate[..]].concat());
        assert!(served.contains("www.example.com") && served.ends_with("200"), "{version}: {served}");
    }
    // One connection for both, as a browser might: the second request goes by the first one's name.
    let both = ask(&["--http2", &open, &open, "--header", "Host: example.com"]);
    assert_eq!(both.matches("421 Misdirected").count(), 2, "{both}");
}

#[test]
fn a_name_keeps_its_client_authentication_when_another_chain_stands_in() {
    // The first is denied, and the second has the same names; the third covers them by a wildcard.
    for certificates in
        [&[("md5-www", Some("required")), ("www", None)][..], &[("www", Some("required")), ("www-rsa", None)]]
    {
        let gateway = Gateway::start(&front(certificates));
        for sigalgs in ["ECDSA+SHA256", "RSA-PSS+SHA256"] {
            let refused = ask(&gateway, Some("www.example.com"), "www.example.com", &["-sigalgs", sigalgs]);
            assert!(!refused.answered(), "{certificates:?}, {sigalgs}: {}", refused.text);
        }
        assert!(ask_as_client(&gateway, Some("www.example.com"), "www.example.com", "-tls1_3").answered());
    }
}

#[test]
fn the_first_chains_client_authentication_is_that_of_clients_that_ask_for_no_name() {
    let gateway = Gateway::start(&front(&[("www", Some("required")), ("localhost", None)]));
    for sni in [None, Some("unknown.test")] {
        assert!(!ask(&gateway, sni, "www.example.com", &[]).answered());
        assert!(ask_as_client(&gateway, sni, "www.example.com", "-tls1_3").answered());
    }
    assert!(ask(&gateway, Some("localhost"), "localhost", &[]).answered());
}

/// What `check` says against a configuration.
fn faults(config: &str) -> String {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config);
    let output = portcullis(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn settings_that_contradict_each_other_for_one_name_are_refused_with_their_place() {
    let said = faults(&front(&[("www", Some("required")), ("www-rsa", Some("optional"))]));
    for part in ["certificates.1.client_auth: www.example.com is in this chain and in number 1", "signature algorithms"]
    {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let gateway = Gateway::start(&front(&[("www", Some("required")), ("www-rsa", Some("required"))]));
    assert!(ask_as_client(&gateway, Some("www.example.com"), "localhost", "-tls1_3").answered(), "they are one");
}

#[test]
fn a_chain_with_settings_of_its_own_that_cannot_be_read_refuses_its_endpoint() {
    let said = faults(&front(&[("missing", Some("required")), ("wildcard", None)]));
    assert!(said.contains("missing.pem: it has client authentication of its own"), "{said}");
}

#[test]
fn every_faulty_table_is_told_with_its_place() {
    let config = front(&[("localhost", None), ("www", Some("required"))]).replace("clients-ca.pem", "missing.pem");
    let said = faults(&config);
    assert!(said.contains("certificates.1.client_auth.ca: ") && said.contains("missing.pem"), "{said}");
}
