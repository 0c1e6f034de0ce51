//! Which server is chosen.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use super::{GET, ONE_WORKER, answers, counted, tally};
use crate::support::client::{ask, connect, read_response};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Folder, Gateway, PATIENCE, http_proxy, run, stderr, tcp_proxy, with_app};

#[test]
fn a_server_with_three_times_the_weight_gets_three_times_the_requests() {
    let (light, heavy) = (Upstream::saying("light"), Upstream::saying("heavy"));
    let servers = format!("servers = [\"{}\", {{ address = \"{}\", weight = 3 }}]", light.address, heavy.address);
    let config = http_proxy(&[], ONE_WORKER).replace("servers = []", &servers);
    let gateway = Gateway::start(&config);
    assert_eq!(tally(&answers(&gateway, GET, 40)), counted(&[("heavy", 30), ("light", 10)]));
}

#[test]
fn requests_with_the_same_field_or_cookie_have_the_same_server_over_all_workers() {
    let servers = ["one", "two", "three"].map(Upstream::saying);
    for (hash, field) in [("header:X-User", "X-User: "), ("cookie:sid", "Cookie: a=b; sid=")] {
        let config = http_proxy(&servers.each_ref().map(|server| server.address), "[gateway]\nworkers = 2");
        let gateway = Gateway::start(&with_app(&config, &format!("balance = {{ hash = {hash:?} }}")));
        let mut used = BTreeSet::new();
        for user in 0..30 {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}user-{user}\r\n\r\n");
            let bodies: BTreeSet<String> =
                (0..3).map(|_| ask(&mut connect(gateway.address("front")), &request).body).collect();
            assert_eq!(bodies.len(), 1, "{hash}: user {user} had {bodies:?}");
            used.extend(bodies);
        }
        assert_eq!(used.len(), 3, "{hash}: all servers have users");
    }
}

#[test]
fn a_client_has_the_same_server_for_requests_and_sessions() {
    let servers = ["one", "two", "three"].map(Upstream::saying);
    for proxy in [http_proxy, tcp_proxy] {
        let config = proxy(&servers.each_ref().map(|server| server.address), "");
        let gateway = Gateway::start(&with_app(&config, "balance = { hash = \"client-address\" }"));
        let bodies: BTreeSet<String> = (0..8).map(|_| ask(&mut connect(gateway.address("front")), GET).body).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
    }
}

#[test]
fn the_server_with_the_fewest_requests_in_work_is_chosen() {
    for balance in ["least-connections", "two-choices"] {
        let (came, comes) = sync_channel(1);
        let (go, may_go) = sync_channel::<()>(1);
        let may_go = Mutex::new(may_go);
        let slow = Upstream::start(move |mut stream| {
            while read_request(&mut stream).is_some() {
                came.send(()).unwrap();
                may_go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").unwrap();
            }
        });
        let quick = Upstream::saying("quick");
        let config = http_proxy(&[slow.address, quick.address], ONE_WORKER);
        let gateway = Gateway::start(&with_app(&config, &format!("balance = {balance:?}")));
        let mut waiting = stuck(&gateway, &comes);
        assert_eq!(tally(&answers(&gateway, GET, 20)), counted(&[("quick", 20)]), "{balance}");
        go.send(()).unwrap();
        assert_eq!(read_response(&mut waiting).body, "slow");
    }
}

/// Asks until a request is stuck at the server that tells `comes` of it.
fn stuck(gateway: &Gateway, comes: &Receiver<()>) -> TcpStream {
    let begun = Instant::now();
    loop {
        let mut stream = connect(gateway.address("front"));
        stream.write_all(GET.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        while stream.peek(&mut [0]).is_err() {
            if comes.try_recv().is_ok() {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            assert!(begun.elapsed() < PATIENCE, "the slow one is never chosen");
            std::thread::yield_now();
        }
    }
}

#[test]
fn what_cannot_be_done_is_said_with_its_place() {
    let upstream = |keys: &str| format!("[upstreams.app]\nservers = [\"127.0.0.1:9\"]\n{keys}\n");
    for (handler, keys, said) in [
        ("http-proxy", "balance = \"round-robbin\"", "upstreams.app.balance: \"round-robbin\" is no way"),
        ("http-proxy", "balance = { hash = \"header:\" }", "upstreams.app.balance.hash: \"\" is no field's name"),
        ("http-proxy", "queue = { length = 5 }", "upstreams.app.queue: without max_connections nobody ever waits"),
        ("http-proxy", "max_connections = 0", "upstreams.app.max_connections: 0 is out of range"),
        ("http-proxy", "retries = { statuses = [200] }", "upstreams.app.retries.statuses.0: 200 is out of place"),
        ("http-proxy", "health = { path = \"x\" }", "upstreams.app.health.path: \"x\" is not a path"),
        (
            "tcp-proxy",
            "balance = { hash = \"cookie:sid\" }",
            "handlers.site.upstream: its servers are chosen by a field",
        ),
    ] {
        let folder = Folder::new();
        let config = format!(
            "[endpoints.front]\nlisten = \"127.0.0.1:0\"\nhandler = \"site\"\n\
             [handlers.site]\ntype = \"{handler}\"\nupstream = \"app\"\n{}",
            upstream(keys)
        );
        let path = folder.write("gateway.toml", config);
        let output = run(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(said), "{said:?} is not in\n{}", stderr(&output));
    }
}
