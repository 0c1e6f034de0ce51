//! Active checks: a server that says it is not well gets nothing until it says that it is.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{GET, ONE_WORKER, answers, counted, of_server, tally};
use crate::support::peers::{Peer, free_address};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Folder, Gateway, http_proxy, with_app};

const HTTP: &str =
    "health = { path = \"/health\", interval = \"20ms\", timeout = \"10s\", healthy = 2, unhealthy = 2 }";
const TCP: &str = "health = { interval = \"20ms\", timeout = \"10s\", healthy = 1, unhealthy = 1 }";

/// A server that answers with `name`, and to checks as `well` says.
fn server(name: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&well);
    let upstream = Upstream::start(move |mut stream| {
        while let Some(head) = read_request(&mut stream) {
            let status = if head.starts_with("GET /health ") && !says.load(SeqCst) { 500 } else { 200 };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (upstream, well)
}

fn healthy(gateway: &Gateway, server: SocketAddr, healthy: bool) {
    gateway.wait_for_metric(&of_server("server_healthy", server), if healthy { 1.0 } else { 0.0 });
}

#[test]
fn a_server_that_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let ((one, well), (two, _)) = (server("one"), server("two"));
    let gateway = Gateway::start(&with_app(&http_proxy(&[one.address, two.address], ONE_WORKER), HTTP));
    assert_eq!(tally(&answers(&gateway, GET, 10)), counted(&[("one", 5), ("two", 5)]));
    well.store(false, SeqCst);
    healthy(&gateway, one.address, false);
    assert_eq!(tally(&answers(&gateway, GET, 10)), counted(&[("two", 10)]));
    well.store(true, SeqCst);
    healthy(&gateway, one.address, true);
    assert_eq!(tally(&answers(&gateway, GET, 10)), counted(&[("one", 5), ("two", 5)]));
    let failed = format!("checks_total{{upstream=\"app\",server=\"{}\",result=\"failed\"}}", one.address);
    assert!(gateway.metric(&format!("portcullis_upstream_{failed}")).unwrap() >= 2.0);
}

#[test]
fn where_no_server_passes_its_checks_requests_are_sent_all_the_same() {
    let (one, well) = server("one");
    well.store(false, SeqCst);
    let gateway = Gateway::start(&with_app(&http_proxy(&[one.address], ONE_WORKER), HTTP));
    healthy(&gateway, one.address, false);
    assert_eq!(tally(&answers(&gateway, GET, 3)), counted(&[("one", 3)]));
}

#[test]
fn without_a_path_a_connection_is_enough() {
    let (address, alive) = (free_address(), Upstream::saying("alive"));
    let gateway = Gateway::start(&with_app(&http_proxy(&[address, alive.address], ONE_WORKER), TCP));
    healthy(&gateway, address, false);
    healthy(&gateway, alive.address, true);
    let _up = Upstream::start_at(address, drop);
    healthy(&gateway, address, true);
}

#[test]
fn nginx_is_well_by_the_status_that_is_asked_for() {
    let nginx = Peer::nginx(Folder::new(), "location / { return 200 nginx; } location = /health { return 404; }");
    let checks = HTTP.replace("healthy = 2, unhealthy = 2", "unhealthy = 1, healthy = 1");
    let config = http_proxy(&[nginx.address], ONE_WORKER);
    let gateway = Gateway::start(&with_app(&config, &checks));
    healthy(&gateway, nginx.address, false);
    gateway.configure(&with_app(&config, &checks.replace("health = {", "health = { status = [404],")));
    gateway.reload();
    healthy(&gateway, nginx.address, true);
    assert_eq!(tally(&answers(&gateway, GET, 2)), counted(&[("nginx", 2)]));
}

#[test]
fn a_reload_keeps_what_is_known_of_the_servers_of_an_unchanged_upstream() {
    let ((one, well), (two, _)) = (server("one"), server("two"));
    let config = with_app(&http_proxy(&[one.address, two.address], ONE_WORKER), HTTP);
    let gateway = Gateway::start(&config);
    well.store(false, SeqCst);
    healthy(&gateway, one.address, false);
    let route = "[[handlers.site.routes]]\npath = \"/new\"\nrespond = { status = 204 }\n";
    gateway.configure(&format!("{config}{route}"));
    gateway.reload();
    assert_eq!(tally(&answers(&gateway, GET, 10)), counted(&[("two", 10)]));
    well.store(true, SeqCst);
    healthy(&gateway, one.address, true);
}
