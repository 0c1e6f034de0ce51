//! Caps on connections, lists of addresses, and descriptors that run out.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::client::{ask, connect, connect_from, get, read_to_end};
use crate::support::h2::{Client, DATA, HEADERS};
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, PATIENCE, cert, http_proxy, with_front};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway that answers everything itself.
const ANSWERING: &str = "[endpoints.front]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"site\"\n\
    [handlers.site]\ntype = \"http-proxy\"\n[[handlers.site.routes]]\nrespond = { status = 200, body = \"ok\" }\n";

fn rejected(endpoint: &str, reason: &str) -> String {
    format!("portcullis_connections_rejected_total{{endpoint=\"{endpoint}\",reason=\"{reason}\"}}")
}

/// A connection that the gateway is known to hold: it has answered on it.
fn held(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    assert_eq!(ask(&mut stream, GET).status, 200);
    stream
}

fn held_from(source: [u8; 4], address: SocketAddr) {
    assert_eq!(ask(&mut connect_from(source, address), GET).status, 200);
}

/// Whether a new connection is closed without a word.
fn is_turned_away(mut stream: TcpStream) -> bool {
    read_to_end(&mut stream).0.is_empty()
}

#[test]
fn an_endpoint_holds_as_many_connections_as_it_may_and_has_room_again_when_one_ends() {
    let mut gateway = Gateway::start(&with_front(ANSWERING, "max_connections = 2"));
    let front = gateway.address("front");
    let (first, mut second) = (held(front), held(front));
    assert!(is_turned_away(connect(front)));
    assert!(gateway.wait_for_log("connection turned away").contains("reason=endpoint_full"));
    gateway.wait_for_metric(&rejected("front", "endpoint_full"), 1.0);
    assert_eq!(ask(&mut second, GET).status, 200, "those inside do not notice");
    assert_eq!(gateway.json("/endpoints/front")["addresses"][0], front.to_string(), "the log and the admin port agree");

    drop(first);
    gateway.wait_for_metric("portcullis_connections_active{endpoint=\"front\"}", 1.0);
    held(front);
}

#[test]
fn the_gateway_holds_as_many_connections_as_it_may_over_all_endpoints() {
    let back = "[endpoints.back]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"site\"\n";
    let gateway = Gateway::start(&format!("{ANSWERING}{back}[gateway]\nmax_connections = 2"));
    let _first = held(gateway.address("front"));
    let second = held(gateway.address("back"));
    assert!(is_turned_away(connect(gateway.address("front"))));
    assert!(is_turned_away(connect(gateway.address("back"))));
    gateway.wait_for_metric(&rejected("front", "gateway_full"), 1.0);
    gateway.wait_for_metric(&rejected("back", "gateway_full"), 1.0);

    drop(second);
    gateway.wait_for_metric("portcullis_connections_active{endpoint=\"back\"}", 0.0);
    held(gateway.address("front"));
}

#[test]
fn many_clients_that_are_turned_away_are_all_counted_and_few_are_logged() {
    let gateway = Gateway::start(&with_front(ANSWERING, "max_connections = 1"));
    let _held = held(gateway.address("front"));
    for _ in 0..200 {
        assert!(is_turned_away(connect(gateway.address("front"))));
    }
    gateway.wait_for_metric(&rejected("front", "endpoint_full"), 200.0);
    let logged = gateway.count_in_log("connection turned away");
    assert!((1..100).contains(&logged), "{logged} lines");
}

#[test]
fn who_is_denied_or_not_allowed_is_turned_away() {
    let lists = "allow = [\"127.0.0.0/30\"]\ndeny = [\"127.0.0.2\"]";
    let mut gateway = Gateway::start(&with_front(ANSWERING, lists));
    let front = gateway.address("front");
    held(front);
    assert_eq!(ask(&mut connect_from([127, 0, 0, 3], front), GET).status, 200);
    assert!(is_turned_away(connect_from([127, 0, 0, 2], front)), "denied");
    assert!(is_turned_away(connect_from([127, 0, 0, 9], front)), "not allowed");
    let line = gateway.wait_for_log("connection turned away");
    assert!(line.contains("client=127.0.0.2:") && line.contains("reason=address"), "{line}");
    gateway.wait_for_metric(&rejected("front", "address"), 2.0);
}

#[test]
fn a_client_holds_as_many_connections_as_it_may_and_others_do_not_notice() {
    let mut gateway = Gateway::start(&with_front(ANSWERING, "limits = { client_connections = 2 }"));
    let front = gateway.address("front");
    let (first, mut second) = (held(front), held(front));
    for _ in 0..9 {
        assert!(is_turned_away(connect(front)));
    }
    assert_eq!(ask(&mut connect_from([127, 0, 0, 3], front), GET).status, 200, "another client");
    assert_eq!(ask(&mut second, GET).status, 200);
    assert!(gateway.wait_for_log("connection turned away").contains("reason=client_connections"));
    gateway.wait_for_metric(&rejected("front", "client_connections"), 9.0);

    drop(first);
    gateway.wait_for_metric("portcullis_connections_active{endpoint=\"front\"}", 1.0);
    held(front);
}

#[test]
fn a_client_that_connects_too_often_is_turned_away_whichever_worker_it_meets() {
    let limit = "limits = { client_connection_rate = { rate = \"3/h\" } }";
    let gateway = Gateway::start(&with_front(ANSWERING, limit));
    let front = gateway.address("front");
    (0..3).for_each(|_| drop(held(front)));
    (0..5).for_each(|_| assert!(is_turned_away(connect(front))));
    held_from([127, 0, 0, 3], front);
    gateway.wait_for_metric(&rejected("front", "client_connection_rate"), 5.0);

    gateway.configure(&with_front(ANSWERING, &limit.replace("3/h", "4/h")));
    gateway.reload();
    assert!(is_turned_away(connect(front)), "a reload forgives nothing");
}

#[test]
fn a_client_behind_a_proxy_has_limits_of_its_own() {
    let keys = "accept_proxy_protocol = [\"127.0.0.1\"]\nlimits = { client_connections = 1 }";
    let gateway = Gateway::start(&with_front(ANSWERING, keys));
    let proxied = |client: &str| {
        let mut stream = connect(gateway.address("front"));
        stream.write_all(format!("PROXY TCP4 {client} 127.0.0.1 1 2\r\n").as_bytes()).unwrap();
        stream
    };
    let mut first = proxied("192.0.2.1");
    assert_eq!(ask(&mut first, GET).status, 200);
    assert!(is_turned_away(proxied("192.0.2.1")));
    assert_eq!(ask(&mut proxied("192.0.2.2"), GET).status, 200);
    gateway.wait_for_metric(&rejected("front", "client_connections"), 1.0);
}

#[test]
fn a_client_that_shakes_hands_too_often_is_turned_away_before_it_costs_anything() {
    let tls = format!(
        "limits = {{ client_handshake_rate = {{ rate = \"1/h\", burst = 2 }} }}\n[endpoints.front.tls]\n\
         certificates = [{{ chain = {:?}, key = {:?} }}]",
        cert("www.pem"),
        cert("www.key")
    );
    let gateway = Gateway::start(&ANSWERING.replacen("[handlers.site]", &format!("{tls}\n[handlers.site]"), 1));
    for _ in 0..4 {
        let mut stream = connect(gateway.address("front"));
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        read_to_end(&mut stream);
    }
    gateway.wait_for_metric(&rejected("front", "client_handshake_rate"), 2.0);
    gateway.wait_for_metric("portcullis_tls_handshake_failures_total{endpoint=\"front\",reason=\"plain_http\"}", 2.0);
}

#[test]
fn a_gateway_without_descriptors_rests_says_so_once_and_serves_again() {
    let mut gateway = with_few_descriptors();
    let front = gateway.address("front");
    let mut inside = held(front);
    let crowd: Vec<TcpStream> = (0..100).map(|_| connect(front)).collect();
    gateway.wait_for_log("cannot accept");

    // A second of exhaustion, by way of a read that nothing answers.
    let (cpu, since) = (cpu_time(gateway.pid()), Instant::now());
    inside.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    hears_nothing(&mut inside);
    let (used, passed) = (cpu_time(gateway.pid()) - cpu, since.elapsed());
    assert!(used < passed / 4, "{used:?} of CPU in {passed:?}");
    inside.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&mut inside, GET).status, 200, "those inside are served all the while");

    assert_eq!(gateway.count_in_log("cannot accept"), 1);
    drop(crowd);
    gateway.wait_for_log("accepting again");
    assert_eq!(get(front, "/").status, 200);
    assert!(gateway.metric(&rejected("front", "resources")).unwrap() >= 5.0);
}

#[test]
fn the_admin_port_answers_as_often_as_it_is_asked_while_no_descriptor_is_left() {
    let mut gateway = with_few_descriptors();
    let front = gateway.address("front");
    let mut inside = held(front);
    let _crowd: Vec<TcpStream> = (0..100).map(|_| connect(front)).collect();
    gateway.wait_for_log("cannot accept");
    for _ in 0..10 {
        assert_eq!(gateway.get("/healthz").status, 200);
        // Long enough for the endpoint to try again, and to take whatever descriptor the admin port let go of.
        inside.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        hears_nothing(&mut inside);
    }
}

/// Nothing comes until the read's time is over. A process that is stopped for a while has its reads interrupted.
fn hears_nothing(stream: &mut TcpStream) {
    let kind = loop {
        match stream.read(&mut [0]).unwrap_err().kind() {
            ErrorKind::Interrupted => {}
            kind => break kind,
        }
    };
    assert_eq!(kind, ErrorKind::WouldBlock);
}

/// A gateway with one worker, and fewer descriptors than it is about to have clients.
fn with_few_descriptors() -> Gateway {
    Gateway::start_by(Folder::new(), &format!("{ANSWERING}[gateway]\nworkers = 1"), |args| {
        let mut command = Command::new("prlimit");
        command.args(["--nofile=96", env!("CARGO_BIN_EXE_portcullis")]).args(args).env_remove("PORTCULLIS_CONFIG");
        command
    })
}

/// The CPU time that a process has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Fields 14 and 15, of which the third is the first behind the name in parentheses (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10) // 100 ticks a second wherever Linux is built as usual
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back_and_keeps_its_connection() {
    let limit = "limits = { client_request_rate = { rate = \"1/h\", burst = 3 } }";
    let mut gateway = Gateway::start(&with_front(ANSWERING, limit));
    let front = gateway.address("front");
    let mut client = connect(front);
    let statuses: Vec<u16> = (0..5).map(|_| ask(&mut client, GET).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = ask(&mut connect(front), GET);
    let wait: u32 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3601).contains(&wait), "{wait}");

    let mut http2 = Client::connect(front);
    http2.get(1, "/");
    assert_eq!(http2.next_of(&[HEADERS]).status(), 429);
    held_from([127, 0, 0, 3], front);
    gateway.wait_for_metric(&refusals("client_request_rate"), 4.0);
    assert!(gateway.wait_for_log("request refused").contains("reason=client_request_rate"));
    assert!(gateway.count_in_log("request refused") < 4, "a sample");
}

fn refusals(reason: &str) -> String {
    format!("portcullis_http_requests_refused_total{{endpoint=\"front\",reason=\"{reason}\"}}")
}

#[test]
fn heads_targets_and_bodies_have_the_sizes_that_the_endpoint_says() {
    let sizes = "limits = { head_size = \"40KiB\", request_line_size = \"100B\", body_size = \"10B\" }";
    let gateway = Gateway::start(&with_front(ANSWERING, sizes));
    let front = gateway.address("front");
    let status = |request: String| ask(&mut connect(front), request).status;
    let field = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(length));
    assert_eq!([status(field(39_000)), status(field(41_000))], [200, 431]);
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length));
    assert_eq!([status(target(80)), status(target(100))], [200, 414]);
    let length =
        |length: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    assert_eq!([status(length(10)), status(length(11))], [200, 413]);

    let mut http2 = Client::connect(front);
    let path = format!("/{}", "x".repeat(110));
    http2.get(1, &path);
    assert_eq!(http2.next_of(&[HEADERS]).status(), 414);
    gateway.wait_for_metric(&refusals("head_too_large"), 1.0);
    gateway.wait_for_metric(&refusals("target_too_long"), 2.0);
    gateway.wait_for_metric(&refusals("body_too_large"), 1.0);
}

#[test]
fn a_body_without_a_length_is_cut_off_where_it_becomes_too_large() {
    let upstream = Upstream::start(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let gateway = Gateway::start(&with_front(&http_proxy(&[upstream.address], ""), "limits = { body_size = \"10B\" }"));
    let front = gateway.address("front");
    let mut client = connect(front);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = ask(&mut client, format!("{head}6\r\n123456\r\n6\r\n123456\r\n"));
    assert_eq!((answer.status, answer.field("connection")), (413, Some("close")));

    let mut http2 = Client::connect(front);
    http2.request(1, 0, &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")]);
    http2.send(DATA, 0, 1, b"12345678901");
    assert_eq!(http2.next_of(&[HEADERS]).status(), 413);
    gateway.wait_for_metric(&refusals("body_too_large"), 2.0);
}
