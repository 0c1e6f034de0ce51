//! Servers that are named: their addresses follow the answers of DNS.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use super::{GET, ONE_WORKER, answers, tally};
use crate::support::client::{ask, connect};
use crate::support::dns::Dns;
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Folder, Gateway, PATIENCE, http_proxy, run, stderr};

const ONE: [u8; 4] = [127, 0, 0, 1];
const TWO: [u8; 4] = [127, 0, 0, 2];

/// Two servers on the same port of two addresses, which say their address's last digit.
fn pair() -> (u16, [Upstream; 2]) {
    let start = |address: SocketAddr| {
        let SocketAddr::V4(v4) = address else { unreachable!() };
        let digit = v4.ip().octets()[3];
        Upstream::start_at(address, move |mut stream| {
            while read_request(&mut stream).is_some() {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{digit}");
            }
        })
    };
    let address = crate::support::peers::free_address();
    (address.port(), [start(address), start((TWO, address.port()).into())])
}

fn config(dns: &Dns, port: u16) -> String {
    let servers = format!("servers = [\"app.example:{port}\"]");
    let dns = format!("[dns]\nservers = [\"{}\"]\n", dns.address);
    http_proxy(&[], &format!("{ONE_WORKER}\n{dns}")).replace("servers = []", &servers)
}

/// Asks until all of so many answers are these bodies, each at least once.
fn wait_for(gateway: &Gateway, bodies: &[&str]) {
    let begun = Instant::now();
    loop {
        let tally = tally(&answers(gateway, GET, 6));
        if tally.keys().map(String::as_str).eq(bodies.iter().copied()) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the servers stay {tally:?}");
    }
}

#[test]
fn a_name_that_resolves_anew_moves_the_requests_and_several_addresses_share_them() {
    let (port, _servers) = pair();
    let dns = Dns::start(1, &[ONE]);
    let gateway = Gateway::start(&config(&dns, port));
    wait_for(&gateway, &["1"]);
    dns.answer(Some(&[TWO]));
    wait_for(&gateway, &["2"]);
    dns.answer(Some(&[TWO, ONE]));
    wait_for(&gateway, &["1", "2"]);
    let of = |metric: &str| format!("portcullis_upstream_{metric}{{upstream=\"app\",server=\"app.example:{port}\"}}");
    gateway.wait_for_metric(&of("addresses"), 2.0);
    assert!(gateway.metric(&of("requests_total")).unwrap() >= 18.0, "all addresses of a name are counted together");
}

#[test]
fn what_does_not_resolve_any_more_keeps_its_addresses_over_a_reload_too() {
    let (port, _servers) = pair();
    let dns = Dns::start(1, &[ONE]);
    let gateway = Gateway::start(&config(&dns, port));
    dns.answer(None);
    let labels = format!("upstream=\"app\",server=\"app.example:{port}\",result=\"failed\"");
    let begun = Instant::now();
    while gateway.metric(&format!("portcullis_upstream_lookups_total{{{labels}}}")).unwrap() < 1.0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).body, "1");
    gateway.configure(&format!("{}\n[upstreams.app.timeouts]\nconnect = \"1s\"\n", config(&dns, port)));
    gateway.reload();
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).body, "1");
}

#[test]
fn a_long_ttl_is_kept() {
    let (port, _servers) = pair();
    let dns = Dns::start(300, &[ONE]);
    let gateway = Gateway::start(&config(&dns, port));
    let labels = format!("upstream=\"app\",server=\"app.example:{port}\",result=\"passed\"");
    gateway.wait_for_metric(&format!("portcullis_upstream_lookups_total{{{labels}}}"), 1.0);
    let asked = dns.asked();
    dns.answer(Some(&[TWO]));
    wait_for(&gateway, &["1"]);
    assert_eq!(dns.asked(), asked);
}

#[test]
fn a_name_that_leads_nowhere_is_an_error_of_the_configuration() {
    let dns = Dns::start(1, &[]);
    let folder = Folder::new();
    let path = folder.write("gateway.toml", config(&dns, 80));
    let output = run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("upstreams.app.servers.0: cannot look up \"app.example\""), "{said}");
}
