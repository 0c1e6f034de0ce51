//! The access log: what a line says of a request or a session, in text and in JSON, and what routes are counted by.

use std::io::Write;

use serde_json::Value;

use crate::support::client::{ask, connect, curl, get, knock, reset};
use crate::support::h2;
use crate::support::peers::free_address;
use crate::support::tls::{certificates, endpoint_with, s_client};
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, cert, http_proxy, tcp_proxy, with_app};

const JSON: &str = "[log]\nformat = \"json\"\n[gateway]\nworkers = 1\n";

fn line(gateway: &mut Gateway, what: &str) -> Value {
    let line = gateway.wait_for_access(what);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The value of `name=` in a line of text.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn a_line_tells_route_upstream_server_tries_and_phases() {
    let (dead, alive) = (free_address(), Upstream::saying("ok"));
    let config = http_proxy(
        &[dead, alive.address],
        "[[handlers.site.routes]]\nname = \"api\"\npath = \"/v1/\"\nupstream = \"app\"",
    );
    let mut gateway = Gateway::start(&format!("{config}{JSON}"));
    // Each server has its turn, so that one of two requests meets the dead one first.
    let lines: Vec<Value> = (0..2)
        .map(|i| {
            assert_eq!(get(gateway.address("front"), &format!("/v1/{i}")).status, 200);
            line(&mut gateway, &format!("/v1/{i}"))
        })
        .collect();
    for line in &lines {
        assert_eq!((&line["route"], &line["upstream"]), (&"api".into(), &"app".into()), "{line}");
        assert_eq!(line["server"], alive.address.to_string(), "{line}");
        let of = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name}: {line}"));
        assert!(of("duration_ms") >= of("first_byte_ms") && of("first_byte_ms") > 0.0, "{line}");
        assert!(line["queue_ms"].is_null() && line["error"].is_null() && line["tls"].is_null(), "{line}");
    }
    let mut tries: Vec<_> = lines.iter().map(|line| line["tries"].as_u64().unwrap()).collect();
    tries.sort_unstable();
    assert_eq!(tries, [1, 2]);
    assert!(lines[0]["connect_ms"].as_f64().unwrap() <= lines[0]["first_byte_ms"].as_f64().unwrap(), "{lines:?}");
    get(gateway.address("front"), "/other");
    assert_eq!(line(&mut gateway, "/other")["route"], "default");
}

#[test]
fn waiting_for_room_is_a_phase() {
    let slow = Upstream::start(|mut stream| {
        while let Some(head) = read_request(&mut stream) {
            if head.contains("/first") {
                // Half an answer: the server is busy with it until the client leaves.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
                continue;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let config =
        with_app(&http_proxy(&[slow.address], JSON), "max_connections = 1\nqueue = { length = 10, timeout = \"20s\" }");
    let mut gateway = Gateway::start(&config);
    let mut first = connect(gateway.address("front"));
    first.write_all(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.wait_for_metric(
        "portcullis_upstream_requests_active{upstream=\"app\",server=\"SERVER\"}"
            .replace("SERVER", &slow.address.to_string())
            .as_str(),
        1.0,
    );
    let mut second = connect(gateway.address("front"));
    second.write_all(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.wait_for_metric("portcullis_upstream_queue_length{upstream=\"app\"}", 1.0);
    reset(first);
    let line = line(&mut gateway, "/second");
    assert!(line["queue_ms"].as_f64().unwrap() > 0.0 && line["status"] == 200, "{line}");
}

#[test]
fn a_line_tells_what_tls_settled_and_who_the_client_is() {
    let auth = format!("[endpoints.front.tls.client_auth]\nmode = \"optional\"\nca = {:?}\n", cert("clients-ca.pem"));
    let handler = "[handlers.show]\ntype = \"respond\"\nbody = \"shown: x\"\n";
    let config = format!("{handler}{}", endpoint_with("front", "public", "show", &certificates(&["localhost"]), &auth));
    let openssl = std::process::Command::new("openssl");
    let fingerprint =
        { openssl }.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &cert("client.pem")]).output();
    let fingerprint = String::from_utf8(fingerprint.unwrap().stdout).unwrap();
    let fingerprint = fingerprint.trim().split('=').nth(1).unwrap().replace(':', "").to_lowercase();
    let (chain, key) = (cert("client.pem"), cert("client.key"));
    let args = ["-servername", "x.localhost", "-alpn", "http/1.1", "-cert", &chain, "-key", &key];

    let mut gateway = Gateway::start(&format!("{config}{JSON}"));
    assert!(s_client(gateway.address("front"), &args).answered());
    let seen = line(&mut gateway, "\"GET\"");
    let tls = &seen["tls"];
    assert_eq!((&tls["version"], &tls["alpn"], &tls["resumed"]), (&"1.3".into(), &"http/1.1".into(), &false.into()));
    assert_eq!(
        (&tls["server_name"], &tls["client_certificate"]),
        (&"x.localhost".into(), &format!("sha256:{fingerprint}").into())
    );
    assert!(tls["cipher"].as_str().unwrap().starts_with("TLS13_"), "{tls}");
    assert!(tls["client_subject"].as_str().unwrap().contains("CN="), "{tls}");
    assert!(!tls["group"].as_str().unwrap().is_empty() && seen["handshake_ms"].as_f64().unwrap() > 0.0, "{seen}");

    let mut gateway = Gateway::start(&config);
    assert!(s_client(gateway.address("front"), &args).answered());
    let seen = gateway.wait_for_access(" GET ");
    let certificate = format!("sha256:{fingerprint}");
    for (name, value) in [
        ("tls", "1.3"),
        ("alpn", "http/1.1"),
        ("sni", "x.localhost"),
        ("resumed", "false"),
        ("client_certificate", &certificate),
    ] {
        assert_eq!(field(&seen, name), Some(value), "{seen}");
    }
    assert!(field(&seen, "handshake").is_some_and(|took| took.ends_with("ms")), "{seen}");
}

#[test]
fn the_handshake_is_told_once_for_a_connection_whatever_it_speaks() {
    for version in ["--http1.1", "--http2"] {
        let upstream = Upstream::saying("ok");
        let site = endpoint_with("tls", "internal", "site", &certificates(&["localhost"]), "");
        let mut gateway = Gateway::start(&http_proxy(&[upstream.address], &format!("{site}{JSON}")));
        let urls = ["one", "two"].map(|path| format!("https://{}/{path}", gateway.address("tls")));
        curl(&["--insecure", version, &urls[0], &urls[1]]);
        assert!(line(&mut gateway, "/one")["handshake_ms"].is_number());
        let second = line(&mut gateway, "/two");
        assert!(second["handshake_ms"].is_null() && second["tls"]["version"] == "1.3", "{second}");
        assert_eq!((&second["upstream"], &second["tries"], &second["received"]), (&"app".into(), &1.into(), &0.into()));
    }
}

#[test]
fn what_went_wrong_is_one_word_in_the_log_in_proxy_status_and_in_the_metrics() {
    let dead = free_address();
    let mut gateway = Gateway::start(&http_proxy(&[dead], JSON));
    let counted = |reason: &str| format!("portcullis_failures_total{{endpoint=\"front\",reason=\"{reason}\"}}");
    let answer = get(gateway.address("front"), "/dead");
    assert!(answer.field("proxy-status").unwrap().contains("error=connection_refused;"), "{answer:?}");
    let seen = line(&mut gateway, "/dead");
    assert_eq!(
        (&seen["error"], &seen["server"], &seen["status"]),
        (&"connection_refused".into(), &dead.to_string().into(), &502.into())
    );
    gateway.wait_for_metric(&counted("connection_refused"), 1.0);
    // What the engine refuses is called what the metric of refusals calls it, and is no failure.
    let refused = ask(&mut connect(gateway.address("front")), "GET /refused HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(refused.status, 400);
    assert_eq!(line(&mut gateway, "400")["error"], "host");
    gateway.wait_for_metric("portcullis_http_requests_refused_total{endpoint=\"front\",reason=\"host\"}", 1.0);
    gateway.wait_for_metric(&counted("http_request_error"), 0.0);
}

#[test]
fn a_client_that_leaves_is_told_from_an_upstream_that_fails() {
    let (silent, heads) = Upstream::answering("");
    let mut gateway = Gateway::start(&http_proxy(&[silent.address], JSON));
    let mut client = connect(gateway.address("front"));
    client.write_all(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    heads.recv().unwrap();
    reset(client);
    let mut client = h2::Client::connect(gateway.address("front"));
    client.get(1, "/reset");
    heads.recv().unwrap();
    client.send(h2::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    for path in ["/left", "/reset"] {
        let line = line(&mut gateway, path);
        assert_eq!((&line["error"], &line["status"]), (&"client_closed".into(), &499.into()), "{path}");
    }
    gateway.wait_for_metric("portcullis_failures_total{endpoint=\"front\",reason=\"client_closed\"}", 2.0);
    gateway.wait_for_metric("portcullis_http_requests_total{endpoint=\"front\",method=\"GET\",code=\"499\"}", 2.0);
}

#[test]
fn a_sessions_line_tells_upstream_and_phases_and_why_it_failed() {
    let upstream = Upstream::start(drop);
    let mut gateway = Gateway::start(&format!("{}{JSON}", tcp_proxy(&[upstream.address], "")));
    knock(gateway.address("front"));
    let seen = line(&mut gateway, "front");
    assert_eq!((&seen["upstream"], &seen["server"]), (&"app".into(), &upstream.address.to_string().into()), "{seen}");
    assert!(seen["connect_ms"].as_f64().unwrap() > 0.0 && seen["method"].is_null(), "{seen}");

    let dead = free_address();
    let mut gateway = Gateway::start(&tcp_proxy(&[dead], ""));
    knock(gateway.address("front"));
    let seen = gateway.wait_for_access(" session ");
    assert_eq!(
        (field(&seen, "error"), field(&seen, "server")),
        (Some("connection_refused"), Some(dead.to_string().as_str())),
        "{seen}"
    );
    gateway.wait_for_metric("portcullis_failures_total{endpoint=\"front\",reason=\"connection_refused\"}", 1.0);
}

#[test]
fn routes_are_counted_by_name_and_a_reload_keeps_the_counts_and_drops_what_is_gone() {
    let upstream = Upstream::saying("ok");
    let route = |name: &str, path: &str| {
        format!("[[handlers.site.routes]]\nname = \"{name}\"\npath = \"{path}\"\nrespond = {{ status = 403 }}\n")
    };
    let config = |routes: &str| http_proxy(&[upstream.address], &format!("{routes}{JSON}"));
    let counted = |route: &str, code: &str| {
        format!("portcullis_http_route_requests_total{{endpoint=\"front\",route=\"{route}\",code=\"{code}\"}}")
    };
    let gateway = Gateway::start(&config(&format!("{}{}", route("one", "/1"), route("two", "/2"))));
    for path in ["/1", "/2", "/2", "/", "/"] {
        get(gateway.address("front"), path);
    }
    gateway.wait_for_metric(&counted("one", "4xx"), 1.0);
    gateway.wait_for_metric(&counted("two", "4xx"), 2.0);
    gateway.wait_for_metric(&counted("default", "2xx"), 2.0);
    gateway
        .wait_for_metric("portcullis_http_route_request_duration_seconds_count{endpoint=\"front\",route=\"two\"}", 2.0);
    gateway.configure(&config(&format!("{}{}", route("two", "/2"), route("three", "/3"))));
    gateway.reload();
    get(gateway.address("front"), "/2");
    gateway.wait_for_metric(&counted("two", "4xx"), 3.0);
    assert_eq!((gateway.metric(&counted("one", "4xx")), gateway.metric(&counted("three", "4xx"))), (None, Some(0.0)));
}
