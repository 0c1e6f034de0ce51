//! Reload of components: the same bytes and settings keep the instance, others replace it, and nothing is left behind.

use std::path::{Path, PathBuf};

use super::component;
use crate::plugins::Talker;
use crate::support::plugins::wasm;
use crate::support::{Folder, Gateway, stderr};

const MEMORY: &str = "portcullis_plugin_memory_bytes{endpoint=\"internal\",layer=\"0\"}";

/// `component.c` of a generation, put in the place of `path` whole.
fn install(path: &Path, generation: usize) {
    let folder = Folder::new();
    let built = wasm(&folder, "tests/gateway/plugins/component.c", &[&format!("-DGENERATION={generation}")]);
    let beside = path.with_extension("new");
    std::fs::copy(built, &beside).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// A gateway on generation 1; old instances have 200 ms to end.
fn setup() -> (Gateway, PathBuf) {
    let folder = Folder::new();
    let file = folder.path().join("plugin.wasm");
    install(&file, 1);
    (Gateway::start_in(folder, &config(&file, "")), file)
}

fn config(file: &Path, keys: &str) -> String {
    component(file, &format!("{keys}\n[gateway]\ndrain_timeout = \"200ms\""))
}

fn generation(gateway: &Gateway) -> String {
    let mut client = Talker::connect(gateway.address("internal"));
    client.say("generation");
    client.hear()
}

#[test]
fn other_bytes_take_over_new_connections_and_the_old_ones_are_drained() {
    let (gateway, file) = setup();
    let mut old = Talker::connect(gateway.address("internal"));
    old.ask("generation", "generation 1");
    assert_eq!(gateway.reload(), "reloaded: 1 unchanged\n");
    old.ask("generation", "generation 1");
    install(&file, 2);
    assert_eq!(gateway.reload(), "reloaded: changed internal; 0 unchanged\n");
    old.ask("generation", "generation 1");
    assert_eq!(generation(&gateway), "generation 2");
    assert_eq!(old.hear(), "", "its time is over after drain_timeout");
}

#[test]
fn a_component_that_cannot_be_used_leaves_the_old_one_serving() {
    let (gateway, file) = setup();
    std::fs::write(&file, "no component").unwrap();
    let output = gateway.command(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is no WebAssembly component"), "{}", stderr(&output));
    assert_eq!(generation(&gateway), "generation 1");
}

#[test]
fn another_memory_limit_starts_another_instance() {
    let (gateway, file) = setup();
    let took = |gateway: &Gateway| {
        let mut client = Talker::connect(gateway.address("internal"));
        client.say("take");
        client.hear()
    };
    assert_eq!(took(&gateway), "took 63");
    gateway.configure(&config(&file, "max_memory = 10000000"));
    gateway.reload();
    assert_eq!(took(&gateway), "took 9");
}

#[test]
fn a_hundred_reloads_leave_one_instance_and_no_memory_behind() {
    let (gateway, file) = setup();
    let before = gateway.metric(MEMORY).unwrap();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let mut early = 0;
    for number in 1..=100 {
        // Every other one is another component, and each starts an instance.
        install_either(&file, number);
        gateway.configure(&config(&file, &format!("[endpoints.internal.settings]\nnumber = {number}")));
        assert_eq!(gateway.reload(), "reloaded: changed internal; 0 unchanged\n");
        assert_eq!(generation(&gateway), format!("generation {}", 1 + number % 2));
        if number == 20 {
            early = resident();
        }
    }
    gateway.wait_for_metric(MEMORY, before);
    let late = resident();
    assert!(late < early + 30_000, "{late} kB resident after 100 reloads, {early} kB after 20");
}

/// Generation 1 or 2 by turns, each compiled once.
fn install_either(path: &Path, number: usize) {
    let kept = path.with_extension(format!("{}", number % 2));
    if !kept.exists() {
        install(&kept, 1 + number % 2);
    }
    let beside = path.with_extension("new");
    std::fs::copy(kept, &beside).unwrap();
    std::fs::rename(beside, path).unwrap();
}
