//! Plugins that sleep, hang, panic, are not ready or have too much to do: their endpoint suffers, the others do not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Talker, door, plugin, probe, series};
use crate::support::client::{End, connect, get, read_to_end};
use crate::support::plugins::{c, rust};
use crate::support::{Folder, Gateway, PATIENCE, run, stderr};

const UP: &str = "portcullis_plugin_up{endpoint=\"internal\"}";

/// A second endpoint, "other", that has nothing to do with plugins.
fn other() -> String {
    format!("{}[handlers.show]\ntype = \"respond\"\nbody = \"ok\"\n[gateway]\nworkers = 1\n", door("other", "show", ""))
}

/// How long it takes to connect and be answered, at the median and at worst.
fn latency(address: SocketAddr) -> (Duration, Duration) {
    let once = || {
        let start = Instant::now();
        assert_eq!(get(address, "/").body, "ok");
        start.elapsed()
    };
    let mut all: Vec<Duration> = (0..50).map(|_| once()).collect();
    all.sort();
    (all[25], all[49])
}

fn reasons(gateway: &Gateway) -> Value {
    let answer = gateway.get("/readyz");
    assert_eq!(answer.status, 503);
    serde_json::from_str::<Value>(&answer.body).unwrap()["refused"].clone()
}

fn wait_until_ready(gateway: &Gateway) {
    let start = Instant::now();
    while gateway.get("/readyz").status != 200 {
        assert!(start.elapsed() < PATIENCE, "{}", gateway.get("/readyz").body);
        std::thread::yield_now();
    }
}

#[test]
fn a_plugin_that_sleeps_leaves_the_accepts_and_answers_of_other_endpoints_as_they_were() {
    let gateway = probe(&other());
    let before = latency(gateway.address("other"));
    let mut sleepers: Vec<Talker> = (0..8).map(|_| Talker::connect(gateway.address("internal"))).collect();
    let start = Instant::now();
    sleepers.iter_mut().for_each(|sleeper| sleeper.say("sleep 3000"));
    gateway.wait_for_some("portcullis_plugin_queue{endpoint=\"internal\",layer=\"0\"}");
    let during = latency(gateway.address("other"));
    eprintln!("another endpoint while a plugin sleeps: median and worst {during:?}, before {before:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "they slept on meanwhile");
    assert!(during.0 < Duration::from_millis(500), "{during:?}, before {before:?}");
    assert_eq!(sleepers[0].hear(), "slept");
}

#[test]
fn a_callback_that_hangs_quarantines_its_instance_and_nothing_else() {
    let mut gateway = probe(&format!("timeout = \"300ms\"\n{}", other()));
    let mut witness = Talker::connect(gateway.address("internal"));
    witness.ask("generation", "generation 1");
    assert_eq!(gateway.metric(UP), Some(1.0));
    Talker::connect(gateway.address("internal")).say("hang");
    gateway.wait_for_log("quarantined");
    assert_eq!(witness.hear(), "", "its connections are closed");
    let reasons = reasons(&gateway).to_string();
    assert!(reasons.contains("a callback of layer 0 has not returned within 300ms"), "{reasons}");
    assert_eq!(gateway.metric(UP), Some(0.0));
    assert_eq!(gateway.metric("portcullis_endpoint_up{endpoint=\"internal\"}"), Some(0.0));
    assert_eq!(gateway.json("/plugins")["plugins"][0]["state"], "quarantined");
    assert_eq!(read_to_end(&mut connect(gateway.address("internal"))).0, b"");
    gateway.wait_for_some("portcullis_connections_rejected_total{endpoint=\"internal\",reason=\"handler\"}");
    gateway.wait_for_some(&series("refusals_total", "reason", "not_ready"));
    assert_eq!(get(gateway.address("other"), "/").body, "ok");
    // A reload with nothing changed starts an instance that works.
    gateway.reload();
    assert_eq!(gateway.get("/readyz").status, 200);
    Talker::connect(gateway.address("internal")).ask("generation", "generation 1");
    gateway.signal("TERM");
    gateway.wait_for_log("left behind");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn an_instance_whose_callback_returns_late_is_cleaned_up_and_started_again() {
    let folder = Folder::new();
    let file = c(&folder, "tests/gateway/plugins/probe.c", &[]);
    let journal = folder.path().join("journal");
    let keys = format!("timeout = \"200ms\"\n[endpoints.internal.settings]\njournal = {journal:?}\n");
    let mut gateway = Gateway::start_in(folder, &plugin(&file, &keys));
    let mut client = Talker::connect(gateway.address("internal"));
    client.say("sleep 1000");
    gateway.wait_for_log("quarantined");
    assert_eq!(client.hear(), "");
    gateway.wait_for_log("the callback has returned; the plugin is started again");
    wait_until_ready(&gateway);
    Talker::connect(gateway.address("internal")).ask("generation", "generation 1");
    let lines = std::fs::read_to_string(journal).unwrap();
    assert_eq!(lines, "start internal 0 1\ncleanup internal 0 1\nstart internal 0 1\n");
    assert_eq!(gateway.metric("portcullis_plugin_restarts_total{endpoint=\"internal\",layer=\"0\"}"), Some(1.0));
}

#[test]
fn a_panic_in_a_rust_plugin_ends_its_connection_and_is_logged() {
    let mut gateway = Gateway::start(&plugin(&rust("test-panics"), ""));
    let mut witness = Talker::connect(gateway.address("internal"));
    let words = [
        ("data", End::Closed, "data panicked: told to in data"),
        ("timer", End::Reset, "timer panicked: told to in timer"),
        ("!", End::Closed, "message_size panicked"),
    ];
    for (word, end, said) in words {
        let mut client = Talker::connect(gateway.address("internal"));
        client.ask("hello", "hello");
        client.say(word);
        assert_eq!(read_to_end(client.stream()).1, end, "{word}");
        gateway.wait_for_log(said);
        witness.ask("still here", "still here");
    }
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("close", "close");
    drop(client);
    gateway.wait_for_log("close panicked");
    witness.ask("still here", "still here");
}

#[test]
fn a_rust_plugin_keeps_wraps_and_shares_buffers() {
    let gateway = Gateway::start(&plugin(&rust("test-panics"), ""));
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("kept", "kept");
    assert_eq!(client.hear(), "kept");
    client.ask("wrapped", "wrapped");
    assert_eq!(client.hear(), "wrapped");
}

/// What start-up says of a configuration that it refuses.
fn refused(config: &str) -> String {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config);
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    stderr(&output)
}

#[test]
fn what_keeps_a_plugin_from_starting_is_said_at_start_up() {
    let folder = Folder::new();
    let file = c(&folder, "tests/gateway/plugins/probe.c", &[]);
    let with = |file: &std::path::Path, keys: &str| refused(&plugin(file, keys));
    let said = with(&file, "[endpoints.internal.settings]\nbad = true");
    assert!(
        said.contains(
            "endpoints.internal.settings: plugin libprobe.so (layer 0) refuses the settings: bad is not good"
        ),
        "{said}"
    );
    let said = with(&file, "timeout = \"300ms\"\n[endpoints.internal.settings]\nstart = \"slowly\"");
    assert!(said.contains("start-up did not return within 300ms"), "{said}");
    let said = with(&file, "run = \"inline\"");
    assert!(said.contains("does not promise that it never blocks"), "{said}");
    let said = with(&rust("test-panics"), "[endpoints.internal.settings]\npanic = true");
    assert!(said.contains("start-up panicked: told to by the settings"), "{said}");
    let versions = c(&folder, "tests/gateway/plugins/versions.c", &["-DLOWEST=PC_MAKE_VERSION(2,0)"]);
    let said = with(&versions, "");
    assert!(said.contains("does not speak version 1.0 or any lower one; use an older plugin"), "{said}");
    let old = "-DLOWEST=0 -DHIGHEST=PC_MAKE_VERSION(0,9)".split(' ').collect::<Vec<_>>();
    let versions = c(&folder, "tests/gateway/plugins/versions.c", &old);
    let said = with(&versions, "");
    assert!(said.contains("speaks version 0.9 at most, and this gateway 1.0 at least; use a newer plugin"), "{said}");
}

#[test]
fn a_plugin_that_is_not_ready_is_tried_again_and_the_other_endpoints_serve_meanwhile() {
    let folder = Folder::new();
    let file = c(&folder, "tests/gateway/plugins/probe.c", &[]);
    let flag = folder.path().join("flag");
    let keys = format!("{}\n[endpoints.internal.settings]\nwaits_for = {flag:?}\n", other());
    let gateway = Gateway::start_in(folder, &plugin(&file, &keys));
    assert!(reasons(&gateway).to_string().contains("flag is not there"));
    assert_eq!(gateway.json("/endpoints/internal")["state"], "not_ready");
    assert_eq!(get(gateway.address("other"), "/").body, "ok");
    assert_eq!(read_to_end(&mut connect(gateway.address("internal"))).0, b"");
    std::fs::write(flag, "").unwrap();
    wait_until_ready(&gateway);
    Talker::connect(gateway.address("internal")).ask("generation", "generation 1");
    assert_eq!(gateway.json("/endpoints/internal")["state"], "ready");
}

#[test]
fn a_pool_with_too_much_to_do_refuses_connections_of_its_endpoint_until_it_has_caught_up() {
    let gateway = probe(&format!("threads = 1\nqueue = 2\n{}", other()));
    let mut sleeper = Talker::connect(gateway.address("internal"));
    sleeper.ask("generation", "generation 1");
    sleeper.say("sleep 2000");
    gateway.wait_for_metric(&series("callbacks_total", "callback", "data"), 1.0);
    // Two whose `open` waits; then the queue is full.
    let mut waiting: Vec<Talker> = (0..2).map(|_| Talker::connect(gateway.address("internal"))).collect();
    gateway.wait_for_metric("portcullis_plugin_queue{endpoint=\"internal\",layer=\"0\"}", 2.0);
    assert_eq!(read_to_end(&mut connect(gateway.address("internal"))).0, b"");
    gateway.wait_for_metric(&series("refusals_total", "reason", "overloaded"), 1.0);
    assert_eq!(get(gateway.address("other"), "/").body, "ok");
    assert_eq!(sleeper.hear(), "slept");
    waiting.iter_mut().for_each(|client| client.ask("generation", "generation 1"));
    Talker::connect(gateway.address("internal")).ask("generation", "generation 1");
}

#[test]
fn a_connection_that_the_plugin_does_not_want_is_closed() {
    let folder = Folder::new();
    let file = c(&folder, "tests/gateway/plugins/probe.c", &[]);
    let gateway = Gateway::start_in(folder, &plugin(&file, "[endpoints.internal.settings]\nrefuse = true"));
    assert_eq!(read_to_end(&mut connect(gateway.address("internal"))), (Vec::new(), End::Closed));
    gateway.wait_for_metric(&series("refusals_total", "reason", "open"), 1.0);
    assert_eq!(gateway.metric(&series("callbacks_total", "callback", "close")), Some(0.0));
}
