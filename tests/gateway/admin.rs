//! The admin port of the real binary: health, views, metrics as promtool and Prometheus read them, and who is let in.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::support::client::{Answer, connect, curl, exchange, parse};
use crate::support::peers::Peer;
use crate::support::{Folder, Gateway, PATIENCE, cert, portcullis, run, stderr, stdout};

/// A public endpoint on its fallback, since its first chain is signed with MD5; an internal one; and one that is
/// refused, since it has nothing but such a chain.
fn with_unfit_chains() -> String {
    let chain = |endpoint: &str, name: &str| {
        let (chain, key) = (cert(&format!("{name}.pem")), cert(&format!("{name}.key")));
        format!("[[endpoints.{endpoint}.tls.certificates]]\nchain = {chain:?}\nkey = {key:?}\n")
    };
    let endpoint =
        |name: &str| format!("[endpoints.{name}]\nlisten = \"127.0.0.1:0\"\nclass = \"public\"\nhandler = \"site\"\n");
    let clients = format!(
        "[endpoints.internet.tls.client_auth]\nmode = \"optional\"\nca = {:?}\ncrl = [{:?}]\n",
        cert("clients-ca.pem"),
        cert("clients.crl")
    );
    [
        endpoint("internet"),
        chain("internet", "md5-www"),
        chain("internet", "www-rsa"),
        clients,
        endpoint("legacy"),
        chain("legacy", "md5"),
        PLAIN.into(),
    ]
    .concat()
}

/// A plain endpoint, `internal`.
const PLAIN: &str = "[endpoints.internal]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"site\"\n\
    [handlers.site]\ntype = \"respond\"\n";

/// A request of one's own making to the admin port.
fn ask(admin: SocketAddr, head: &str) -> Answer {
    parse(&exchange(admin, format!("{head}\r\nConnection: close\r\n\r\n")))
}

#[test]
fn a_refused_endpoint_fails_readiness_by_name_and_nothing_else() {
    let gateway = Gateway::start(&with_unfit_chains());
    assert_eq!(gateway.get("/healthz").status, 200);
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 503);
    let ready: Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!((&ready["ready"], &ready["lifecycle"]), (&false.into(), &"serving".into()));
    assert_eq!(ready["refused"].as_array().unwrap().len(), 1, "{ready}");
    assert_eq!(ready["refused"][0]["endpoint"], "legacy");
    let reason = ready["refused"][0]["reasons"][0].as_str().unwrap();
    assert!(reason.contains("certs/md5.pem") && reason.contains("rule sig-md5"), "{reason}");
}

#[test]
fn an_endpoint_that_is_not_required_may_be_refused() {
    let spare = "[endpoints.legacy]\nrequired = false\n";
    let gateway = Gateway::start(&with_unfit_chains().replace("[endpoints.legacy]\n", spare));
    assert_eq!(gateway.get("/readyz").status, 200);
    assert_eq!(gateway.json("/endpoints/legacy")["state"], "refused");
}

#[test]
fn the_audit_view_is_what_the_audit_command_prints_with_the_fallbacks_besides() {
    let gateway = Gateway::start(&with_unfit_chains());
    let file = gateway.folder.path().join("gateway.toml");
    let printed = run(&["audit", "--format", "json", "--config", file.to_str().unwrap()]);
    let printed: Value = serde_json::from_str(&stdout(&printed)).unwrap();
    let mut view = gateway.json("/audit");
    let fallbacks = view.as_object_mut().unwrap().remove("fallbacks").unwrap();
    assert_eq!(view, printed);
    assert_eq!(fallbacks.as_array().unwrap().len(), 1);
    let fallback = &fallbacks[0];
    assert_eq!((&fallback["endpoint"], &fallback["rules"][0]), (&"internet".into(), &"sig-md5".into()));
    assert_eq!((&fallback["unfit"], &fallback["by"]), (&cert("md5-www.pem").into(), &cert("www-rsa.pem").into()));
}

#[test]
fn views_and_metrics_show_each_chain_its_findings_and_what_is_served() {
    let gateway = Gateway::start(&with_unfit_chains());
    let chains = gateway.json("/certificates");
    let chains: Vec<_> = chains["certificates"].as_array().unwrap().iter().collect();
    let told: Vec<_> =
        chains.iter().map(|c| (c["file"].as_str(), c["verdict"].as_str(), c["served"].as_bool())).collect();
    let (unfit, fit, lone) = (cert("md5-www.pem"), cert("www-rsa.pem"), cert("md5.pem"));
    let expected = [(&unfit, "deny", false), (&fit, "warn", true), (&lone, "deny", false)];
    assert_eq!(told, expected.map(|(file, verdict, served)| (Some(file.as_str()), Some(verdict), Some(served))));
    assert_eq!(chains[0]["leaf"]["subject"], "CN=www.example.com");

    let endpoint = gateway.json("/endpoints/internet");
    assert_eq!((&endpoint["fallback_active"], &endpoint["served"][0]), (&true.into(), &fit.as_str().into()));
    assert_eq!(endpoint["chains"][0]["findings"][0]["rule"], "sig-md5");

    let finding = |endpoint: &str, file: &str| {
        format!(
            "portcullis_certificate_audit_findings{{endpoint=\"{endpoint}\",certificate=\"{file}\",rule=\"sig-md5\",\
             severity=\"deny\"}}"
        )
    };
    let fallback = |endpoint: &str| format!("portcullis_certificate_fallback_active{{endpoint=\"{endpoint}\"}}");
    let ends =
        format!("portcullis_certificate_not_after_timestamp_seconds{{endpoint=\"internet\",certificate=\"{fit}\"}}");
    for (series, value) in [
        (finding("internet", &unfit), Some(1.0)),
        (finding("internet", &fit), None),
        (finding("legacy", &lone), Some(1.0)),
        (fallback("internet"), Some(1.0)),
        (fallback("legacy"), Some(0.0)),
        (ends, Some(253_402_300_799.0)), // the last second of the year 9999
    ] {
        assert_eq!(gateway.metric(&series), value, "{series}");
    }
}

#[test]
fn a_metric_tells_when_a_revocation_list_becomes_stale() {
    let gateway = Gateway::start(&with_unfit_chains());
    let list = cert("clients.crl");
    let openssl = Command::new("openssl").args(["crl", "-noout", "-nextupdate", "-in", &list]).output().unwrap();
    let day = stdout(&openssl).trim().trim_start_matches("nextUpdate=").to_owned();
    let date = Command::new("date").args(["--utc", "--date", &day, "+%s"]).output().unwrap();
    let series = format!("portcullis_crl_next_update_timestamp_seconds{{endpoint=\"internet\",crl=\"{list}\"}}");
    assert_eq!(gateway.metric(&series), Some(stdout(&date).trim().parse().unwrap()));
}

#[test]
fn every_view_answers_and_none_takes_anything_but_get_and_head() {
    let gateway = Gateway::start(&with_unfit_chains());
    let views = [
        ("/", "text/html"),
        ("/metrics", "text/plain"),
        ("/healthz", "application/json"),
        ("/stats", "application/json"),
        ("/endpoints", "application/json"),
        ("/endpoints/internet", "application/json"),
        ("/endpoints/internal", "application/json"),
        ("/endpoints/legacy", "application/json"),
        ("/certificates", "application/json"),
        ("/audit", "application/json"),
        ("/config", "application/json"),
        ("/version", "application/json"),
    ];
    for (path, content) in views {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.field("content-type").unwrap().starts_with(content), "{path}");
        let posted = ask(gateway.admin, &format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0"));
        assert_eq!((posted.status, posted.field("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    assert_eq!(gateway.get("/reload").status, 404, "nothing here changes anything");
}

#[test]
fn a_foreign_host_or_origin_is_refused() {
    let gateway = Gateway::start(PLAIN);
    let status = |fields: &str| ask(gateway.admin, &format!("GET /config HTTP/1.1\r\n{fields}")).status;
    assert_eq!(status("Host: localhost"), 200);
    assert_eq!(status("Host: rebound.example"), 421);
    assert_eq!(status("Host: localhost\r\nOrigin: https://page.example"), 403);
    assert_eq!(status("Host: localhost\r\nSec-Fetch-Site: cross-site"), 403);
}

#[test]
fn another_machine_is_let_in_by_a_token_only() {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", format!("{PLAIN}[admin]\nlisten = \"0.0.0.0:0\"\n"));
    let refused = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("set token_file"), "{}", stderr(&refused));

    let token = "correct-horse-battery";
    folder.write("token", format!("{token}\n"));
    let open = folder.path().join("open.toml");
    std::fs::write(&open, format!("{PLAIN}[admin]\nlisten = \"0.0.0.0:0\"\ntoken_file = \"token\"\n")).unwrap();
    let gateway = Gateway::start_by(folder, PLAIN, |_| portcullis(&["run", "--config", open.to_str().unwrap()]));
    for path in ["/", "/healthz", "/metrics", "/config"] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.field("www-authenticate").unwrap().starts_with("Bearer"), "{path}");
    }
    let with = |token: &str| {
        let head = format!("GET /config HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}");
        ask(gateway.admin, &head)
    };
    assert_eq!(with("incorrect-horse-battery").status, 401);
    let config = with(token);
    assert_eq!(config.status, 200);
    assert!(!config.body.contains(token));
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    let gateway = Gateway::start(&with_unfit_chains());
    assert_eq!(gateway_answers(&gateway), 200);
    let metrics = gateway.get("/metrics").body;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs; scripts/test installs it");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}{}", stdout(&output), stderr(&output));
}

#[test]
fn prometheus_scrapes_the_gateway() {
    let gateway = Gateway::start(&with_unfit_chains());
    assert_eq!(gateway_answers(&gateway), 200);
    let prometheus = Peer::prometheus(Folder::new(), gateway.admin);
    for (query, value) in [
        ("up", "1"),
        ("portcullis_certificate_fallback_active{endpoint=\"internet\"}", "1"),
        ("portcullis_endpoint_up{endpoint=\"legacy\"}", "0"),
        ("sum(portcullis_http_requests_total{endpoint=\"internal\"})", "1"),
        ("histogram_quantile(1, portcullis_http_request_duration_seconds_bucket{endpoint=\"internal\"}) > bool 0", "1"),
    ] {
        wait_for_answer(prometheus.address, query, value);
    }
}

/// Asks Prometheus until a query has one sample with this value.
fn wait_for_answer(prometheus: SocketAddr, query: &str, wanted: &str) {
    let (url, query) = (format!("http://{prometheus}/api/v1/query"), format!("query={query}"));
    let start = Instant::now();
    loop {
        // While it starts, it answers in plain text that it does.
        let answer = curl(&["--get", "--data-urlencode", &query, &url]);
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        if answer["data"]["result"][0]["value"][1] == wanted {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{query}: {answer}");
    }
}

/// What tells an operator the cause must not need a descriptor itself.
#[test]
fn metrics_name_the_cause_when_no_descriptor_is_left() {
    let config = format!("{PLAIN}[gateway]\nworkers = 1\n");
    let mut gateway = Gateway::start_by(Folder::new(), &config, |args| {
        let mut command = Command::new("prlimit");
        command.args(["--nofile=64", env!("CARGO_BIN_EXE_portcullis")]).args(args).env_remove("PORTCULLIS_CONFIG");
        command
    });
    let internal = gateway.address("internal");
    let _crowd: Vec<TcpStream> = (0..100).map(|_| connect(internal)).collect();
    gateway.wait_for_log("cannot accept");
    assert_eq!(gateway.metric("process_max_fds"), Some(64.0));
    assert!(gateway.metric("process_open_fds").unwrap() > 55.0);
    assert!(gateway.metric("process_cpu_seconds_total").is_some());
}

/// The status of one request to the plain endpoint, so that there is something to count.
fn gateway_answers(gateway: &Gateway) -> u16 {
    ask(gateway.address("internal"), "GET / HTTP/1.1\r\nHost: a").status
}
