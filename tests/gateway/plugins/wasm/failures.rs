//! Components that loop, trap, take memory or do not start: the instance ends and comes back, and nothing else is affected.

use std::time::{Duration, Instant};

use super::{component, probe};
use crate::plugins::{Talker, door, series};
use crate::support::client::{End, connect, get, read_to_end};
use crate::support::plugins::wasm;
use crate::support::{Folder, Gateway, PATIENCE, run, stderr};

const RESTARTS: &str = "portcullis_plugin_restarts_total{endpoint=\"internal\",layer=\"0\"}";
const MEMORY: &str = "portcullis_plugin_memory_bytes{endpoint=\"internal\",layer=\"0\"}";

/// Endpoints that have nothing to do with the instance: "other" without plugins, and "twin" with the same component.
fn others() -> String {
    let twin = door("twin", "site", "");
    let other = door("other", "show", "");
    format!("{twin}{other}[handlers.show]\ntype = \"respond\"\nbody = \"ok\"\n[gateway]\nworkers = 1\n")
}

/// Waits until an instance serves that was started this often again.
fn wait_for_restart(gateway: &Gateway, restarts: f64) {
    gateway.wait_for_metric(RESTARTS, restarts);
    gateway.wait_for_metric("portcullis_plugin_up{endpoint=\"internal\"}", 1.0);
}

#[test]
fn an_endless_loop_is_cut_at_its_deadline_and_its_instance_started_again() {
    let mut gateway = probe(&format!("timeout = \"300ms\"\n{}", others()));
    let mut witness = Talker::connect(gateway.address("internal"));
    let mut twin = Talker::connect(gateway.address("twin"));
    witness.ask("generation", "generation 1");
    let (start, mut culprit) = (Instant::now(), Talker::connect(gateway.address("internal")));
    culprit.say("loop");
    assert_eq!(get(gateway.address("other"), "/").body, "ok");
    twin.ask("generation", "generation 1");
    assert_eq!(witness.hear(), "", "the connections of the instance are closed");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    gateway.wait_for_log("a call has not returned within 300ms, and was cut");
    wait_for_restart(&gateway, 1.0);
    Talker::connect(gateway.address("internal")).ask("generation", "generation 1");
    assert_eq!(get(gateway.address("other"), "/").body, "ok");
    twin.ask("generation", "generation 1");
}

#[test]
fn a_trap_ends_the_instance_which_comes_back_with_growing_pauses_and_then_stays_closed() {
    let mut gateway = probe(&others());
    let mut twin = Talker::connect(gateway.address("twin"));
    let start = Instant::now();
    for restart in 1..=5 {
        let mut witness = Talker::connect(gateway.address("internal"));
        witness.ask("generation", "generation 1");
        Talker::connect(gateway.address("internal")).say("trap");
        assert_eq!(read_to_end(witness.stream()), (Vec::new(), End::Reset));
        wait_for_restart(&gateway, f64::from(restart));
    }
    // 100 ms, 200 ms, … 1600 ms.
    assert!(start.elapsed() >= Duration::from_millis(3100), "{:?}", start.elapsed());
    Talker::connect(gateway.address("internal")).say("trap");
    gateway.wait_for_log("the plugin failed too often, and stays closed until a reload");
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("wasm trap: wasm `unreachable` instruction executed, in "), "{}", ready.body);
    assert_eq!(gateway.json("/plugins")["plugins"][0]["state"], "failed");
    assert_eq!(read_to_end(&mut connect(gateway.address("internal"))).0, b"");
    gateway.wait_for_some(&series("refusals_total", "reason", "not_ready"));
    twin.ask("generation", "generation 1");
    assert_eq!(get(gateway.address("other"), "/").body, "ok");
    gateway.reload();
    assert_eq!(gateway.get("/readyz").status, 200);
    Talker::connect(gateway.address("internal")).ask("generation", "generation 1");
    twin.ask("generation", "generation 1");
}

#[test]
fn a_trap_in_a_close_or_in_the_framing_is_found_at_once() {
    let gateway = probe("");
    let mut client = Talker::connect(gateway.address("internal"));
    client.say("trap later");
    client.ask("generation", "generation 1");
    drop(client);
    wait_for_restart(&gateway, 1.0);
    let gateway = probe("[endpoints.internal.settings]\nframing = \"own\"");
    std::io::Write::write_all(&mut connect(gateway.address("internal")), b"!!").unwrap();
    wait_for_restart(&gateway, 1.0);
}

#[test]
fn memory_beyond_the_limit_is_not_given_and_what_there_is_is_counted() {
    let gateway = probe("max_memory = 20000000");
    let mut client = Talker::connect(gateway.address("internal"));
    let before = gateway.metric(MEMORY).unwrap();
    assert!(before > 65_536.0 && before < 1_000_000.0, "{before}");
    client.ask("take", "took 18");
    let after = gateway.metric(MEMORY).unwrap();
    assert!(after > 18_000_000.0 && after <= 20_000_000.0, "{after}");
    assert_eq!(gateway.json("/plugins")["plugins"][0]["layers"][0]["memory_bytes"], after as u64);
    client.ask("generation", "generation 1");
    // A new instance begins with little.
    client.say("trap");
    wait_for_restart(&gateway, 1.0);
    assert_eq!(gateway.metric(MEMORY), Some(before));
}

/// What `check` says of a component that cannot be started.
fn refused(keys: &str) -> String {
    let folder = Folder::new();
    let file = wasm(&folder, "tests/gateway/plugins/component.c", &[]);
    let config = folder.write("gateway.toml", component(&file, keys));
    let output = run(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    stderr(&output)
}

#[test]
fn what_keeps_a_component_from_starting_is_said_at_start_up() {
    for (keys, expected) in [
        (
            "[endpoints.internal.settings]\nbad = true",
            "plugin component.wasm (layer 0) refuses the settings: bad is not good",
        ),
        (
            "timeout = \"200ms\"\n[endpoints.internal.settings]\nstart = \"loop\"",
            "has not returned within 200ms, and was cut",
        ),
        ("[endpoints.internal.settings]\nstart = \"trap\"", "wasm trap: wasm `unreachable` instruction executed"),
        ("[endpoints.internal.settings]\nframing = \"wrong\"", "asks for a delimiter of other than 1 to 8 bytes"),
        (
            "max_message = 4095\n[endpoints.internal.settings]\nframing = \"own\"",
            "messages of 4096 bytes, where max_message is 4095",
        ),
        ("max_memory = 65536", "memory minimum size of"),
        ("max_memory = 1", "handlers.site.max_memory: is between 65536 and 4294967296 bytes"),
        ("timeout = \"0s\"", "handlers.site.timeout"),
    ] {
        let said = refused(keys);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_component_that_is_not_ready_is_tried_again() {
    let gateway = probe("[endpoints.internal.settings]\nstart = \"not ready\"");
    assert!(gateway.get("/readyz").body.contains("the stars are not right"));
    gateway.wait_for_some(RESTARTS);
}

#[test]
fn a_connection_that_the_component_does_not_want_is_closed() {
    let gateway = probe("[endpoints.internal.settings]\nrefuse = true");
    assert_eq!(read_to_end(&mut connect(gateway.address("internal"))), (Vec::new(), End::Closed));
    gateway.wait_for_metric(&series("refusals_total", "reason", "open"), 1.0);
}

#[test]
fn at_the_end_a_component_is_cleaned_up_once() {
    let mut gateway = probe("[log]\nlevel = \"info\"");
    Talker::connect(gateway.address("internal")).ask("generation", "generation 1");
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    assert_eq!(gateway.count_in_log("the component is cleaned up"), 1);
}

#[test]
fn accepts_of_other_endpoints_go_on_while_a_component_computes() {
    let gateway = probe(&format!("timeout = \"60s\"\n{}", others()));
    Talker::connect(gateway.address("internal")).say("loop");
    gateway.wait_for_metric(&series("callbacks_total", "callback", "open"), 1.0);
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(gateway.address("other"), "/").body, "ok");
    }
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(gateway.metric(RESTARTS), Some(0.0), "it computed all the while, {:?}", start.elapsed());
}
