//! TLS that is passed on unterminated, by the name and protocol that a client asks for, beside TLS that is terminated.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::support::client::{connect, read_response, read_to_end};
use crate::support::tls::{endpoint, failures, rustls, s_client, show};
use crate::support::{Gateway, cert};

/// What stands behind: it has the certificate for `localhost`, and believes the PROXY header in front of TLS.
fn behind() -> Gateway {
    let endpoint = endpoint("behind", &["localhost"], "");
    let endpoint = endpoint.replacen("listen", "accept_proxy_protocol = [\"127.0.0.1\"]\nlisten", 1);
    Gateway::start(&format!("{}{endpoint}", show()).replace("{tls.version}", "{client} {tls.version}"))
}

/// A gateway that terminates TLS for www.example.com, and passes on what `rules` say to the handler `wire`.
fn gateway(behind: SocketAddr, keys: &str, rules: &str) -> Gateway {
    let wire = format!(
        "[handlers.wire]\ntype = \"tcp-proxy\"\nupstream = \"behind\"\nproxy_protocol = \"v2\"\n\
         [upstreams.behind]\nservers = [\"{behind}\"]\n"
    );
    let front = endpoint("front", &["www"], "").replacen("listen", &format!("{keys}\nlisten"), 1);
    Gateway::start(&format!("{}{wire}{front}{rules}", show()))
}

const BY_NAME: &str = "[[endpoints.front.passthrough]]\nserver_names = [\"localhost\"]\nhandler = \"wire\"\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn one_name_is_passed_on_and_another_terminated_on_one_port() {
    let behind = behind();
    let gateway = gateway(behind.address("behind"), "", BY_NAME);
    let front = gateway.address("front");
    let passed = s_client(front, &["-servername", "LOCALHOST", "-CAfile", &cert("ca.pem"), "-alpn", "http/1.1"]);
    let shown = passed.shown();
    assert!(shown.starts_with("behind 127.0.0.1:") && shown.contains(" 1.3 http/1.1 localhost"), "{shown}");
    assert_eq!(passed.line("Verify return code: "), "0 (ok)");
    let terminated = s_client(front, &["-servername", "www.example.com"]);
    assert!(terminated.shown().starts_with("front "), "{}", terminated.text);
    let unnamed = s_client(front, &["-noservername", "-tls1_2"]);
    assert!(unnamed.shown().starts_with("front 1.2"), "{}", unnamed.text);
}

#[test]
fn a_hello_in_many_records_and_segments_is_understood() {
    let behind = behind();
    let gateway = gateway(behind.address("behind"), "", BY_NAME);
    let mut client = rustls(gateway.address("front"));
    let mut hello = Vec::new();
    client.conn.write_tls(&mut hello).unwrap();
    let piece = hello.len() / 50;
    client.sock.set_nodelay(true).unwrap();
    for part in hello[5..].chunks(piece) {
        let record = [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
        record.chunks(30).for_each(|bytes| client.sock.write_all(bytes).unwrap());
    }
    client.write_all(GET).unwrap();
    let answer = read_response(&mut client);
    assert!(answer.body.starts_with("shown: behind 127.0.0.1:"), "{}", answer.body);
}

#[test]
fn the_server_behind_is_told_the_name_by_the_proxy_header() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway(listener.local_addr().unwrap(), "", BY_NAME);
    let mut client = rustls(gateway.address("front"));
    let mut hello = Vec::new();
    client.conn.write_tls(&mut hello).unwrap();
    client.sock.write_all(&hello).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut header = [0; 16];
    server.read_exact(&mut header).unwrap();
    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
    server.read_exact(&mut rest).unwrap();
    let tlvs = &rest[12..];
    assert_eq!(
        tlvs,
        [&[2, 0, 9][..], b"localhost", &[0xE0, 0, 5], b"front"].concat(),
        "authority and endpoint, no SSL"
    );
    let mut came = vec![0; hello.len()];
    server.read_exact(&mut came).unwrap();
    assert_eq!(came, hello, "byte for byte");
}

#[test]
fn a_protocol_chooses_as_well_and_what_no_rule_takes_can_be_refused() {
    let behind = behind();
    let rules = "[[endpoints.front.passthrough]]\nalpn = [\"acme-tls/1\", \"http/1.1\"]\nhandler = \"wire\"\n\
        [[endpoints.front.passthrough]]\nserver_names = [\"*.refused.example\"]\n";
    let gateway = gateway(behind.address("behind"), "", rules);
    let front = gateway.address("front");
    let name = ["-servername", "www.example.com"];
    assert!(s_client(front, &[&name[..], &["-alpn", "h3,http/1.1"]].concat()).shown().starts_with("behind "));
    assert!(s_client(front, &name).shown().starts_with("front "));
    let refused = s_client(front, &["-servername", "a.refused.example"]);
    assert!(refused.text.contains("unrecognized name"), "{}", refused.text);
    gateway.wait_for_metric("portcullis_connections_rejected_total{endpoint=\"front\",reason=\"server_name\"}", 1.0);
}

#[test]
fn what_is_no_hello_is_told_so_in_time_and_counted() {
    let behind = behind();
    let gateway = gateway(behind.address("behind"), "timeouts = { handshake = \"300ms\" }", BY_NAME);
    let front = gateway.address("front");
    let answer = |bytes: &[u8]| {
        let mut client = connect(front);
        client.write_all(bytes).unwrap();
        read_to_end(&mut client).0
    };
    assert!(answer(GET).starts_with(b"HTTP/1.1 400"), "in its own words");
    assert_eq!(answer(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"), [21, 3, 3, 0, 2, 2, 50], "decode_error");
    assert_eq!(answer(b"\x16\x03\x01\x02\x00\x01"), b"", "half a hello");
    for reason in ["plain_http", "protocol", "timeout"] {
        gateway.wait_for_metric(&failures("front", reason), 1.0);
    }
}

#[test]
fn check_names_rules_that_lead_nowhere() {
    let front = endpoint("front", &["www"], "");
    let rules = "[[endpoints.front.passthrough]]\nserver_names = [\"*.a.example\", \"b c\"]\nhandler = \"show\"\n\
        [[endpoints.front.passthrough]]\nserver_names = [\"x.a.example\"]\nhandler = \"shaw\"\n";
    let folder = crate::support::Folder::new();
    let path = folder.write("gateway.toml", format!("{}{front}{rules}", show()));
    let output = crate::support::run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let errors = crate::support::stderr(&output);
    for part in
        ["\"b c\" is not a name", "cannot read what is encrypted", "no handler is called \"shaw\"", "never reached"]
    {
        assert!(errors.contains(part), "{part}:\n{errors}");
    }
}
