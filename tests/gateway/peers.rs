//! Sessions with software that others run: HAProxy on either side, Redis through a `tcp-proxy`, plain and by server name.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;

use crate::support::client::{connect_from, read_response};
use crate::support::peers::{Peer, free_address};
use crate::support::tls::endpoint;
use crate::support::{Folder, Gateway, cert, http_proxy, tcp_proxy, with_front};

/// HAProxy with this section, which listens on `address`.
fn haproxy(address: SocketAddr, section: &str) -> Peer {
    let folder = Folder::new();
    let defaults = "defaults\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n";
    let file = folder.write("haproxy.cfg", format!("{defaults}listen peer\n bind {address}\n{section}\n"));
    let mut command = Command::new("/usr/sbin/haproxy");
    command.args(["-db", "-f", file.to_str().unwrap()]);
    Peer::start(command, address, folder)
}

/// Redis with these arguments, besides those that keep it in memory.
fn redis(address: SocketAddr, args: &[&str]) -> Peer {
    let folder = Folder::new();
    let mut command = Command::new("/usr/bin/redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--dir", folder.path().to_str().unwrap()]).args(args);
    Peer::start(command, address, folder)
}

/// What redis-cli says to a command, asking `address`.
fn redis_cli(address: SocketAddr, args: &[&str]) -> String {
    let output =
        Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &address.port().to_string()]).args(args).output();
    let output = output.expect("redis-cli runs; scripts/test installs it");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn haproxy_in_front_names_the_client_by_proxy_v2_and_haproxy_behind_is_told_it() {
    let told = " mode http\n http-request return status 200 content-type text/plain \
                lf-string \"%[req.hdr(x-forwarded-for)] by %[req.hdr(portcullis-endpoint)]\"";
    let behind = haproxy(free_address(), told);
    let config = http_proxy(&[behind.address], "");
    let gateway = Gateway::start(&with_front(&config, "accept_proxy_protocol = [\"127.0.0.1\"]"));
    let pass_on = format!(" mode tcp\n server gateway {} send-proxy-v2", gateway.address("front"));
    let front = haproxy(free_address(), &pass_on);
    let mut client = connect_from([127, 0, 0, 9], front.address);
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = read_response(&mut client);
        assert_eq!((answer.status, answer.body.as_str()), (200, "127.0.0.9 by front"));
    }
}

#[test]
fn a_redis_session_passes_through_a_tcp_proxy() {
    let address = free_address();
    let redis = redis(address, &["--port", &address.port().to_string()]);
    let gateway = Gateway::start(&tcp_proxy(&[redis.address], ""));
    let front = gateway.address("front");
    assert_eq!(redis_cli(front, &["set", "key", "value"]), "OK");
    assert_eq!(redis_cli(front, &["get", "key"]), "value");
    let large = "x".repeat(100_000);
    assert_eq!(redis_cli(front, &["append", "key", &large]), "100005");
    assert_eq!(redis_cli(front, &["get", "key"]), format!("value{large}"));
}

#[test]
fn a_redis_session_over_tls_is_passed_on_by_its_server_name() {
    let address = free_address();
    let (chain, key, ca) = (cert("localhost.pem"), cert("localhost.key"), cert("ca.pem"));
    let port = address.port().to_string();
    let tls = ["--port", "0", "--tls-port", &port, "--tls-cert-file", &chain, "--tls-key-file", &key];
    let redis = redis(address, &[&tls[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat());
    let gateway = Gateway::start(&format!(
        "{}[[endpoints.front.passthrough]]\nserver_names = [\"localhost\"]\nhandler = \"wire\"\n\
         [handlers.show]\ntype = \"respond\"\nbody = \"not redis\"\n\
         [handlers.wire]\ntype = \"tcp-proxy\"\nupstream = \"redis\"\n[upstreams.redis]\nservers = [\"{}\"]\n",
        endpoint("front", &["www"], ""),
        redis.address
    ));
    let by_name = ["--tls", "--sni", "localhost", "--cacert", &ca];
    assert_eq!(redis_cli(gateway.address("front"), &[&by_name[..], &["set", "key", "value"]].concat()), "OK");
    assert_eq!(redis_cli(gateway.address("front"), &[&by_name[..], &["get", "key"]].concat()), "value");
}
