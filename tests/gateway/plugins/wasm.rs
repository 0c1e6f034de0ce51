//! Plugins in Wasm: the suite of every kind, and what a box is for: loops, traps and memory end the instance alone.

mod failures;
mod files;
mod reload;

use std::path::Path;

use super::{Talker, door, suite};
use crate::support::plugins::wasm;
use crate::support::tls::{certificates, endpoint_with};
use crate::support::{Folder, Gateway};

/// A configuration: endpoint "internal" of that class, plain, whose handler is the component `file`; `keys` go to the handler.
fn component(file: &Path, keys: &str) -> String {
    format!("{}[handlers.site]\ntype = \"wasm\"\nfile = {file:?}\n{keys}\n", door("internal", "site", ""))
}

/// A gateway whose endpoint "internal" is served by `component.c`.
pub(super) fn probe(keys: &str) -> Gateway {
    let folder = Folder::new();
    let file = wasm(&folder, "tests/gateway/plugins/component.c", &[]);
    Gateway::start_in(folder, &component(&file, keys))
}

/// A gateway on a sample.
fn sample(name: &str, more: &str) -> Gateway {
    let folder = Folder::new();
    let file = wasm(&folder, &format!("examples/plugins/wasm/{name}.c"), &[]);
    Gateway::start_in(folder, &component(&file, more))
}

#[test]
fn the_echo_sends_back_what_comes() {
    suite::echoes(sample("echo", "").address("internal"));
}

#[test]
fn the_message_server_gets_whole_messages_however_they_arrive() {
    suite::answers_messages(sample("messages", "").address("internal"));
}

#[test]
fn a_component_that_tells_where_messages_end_gets_whole_ones() {
    let gateway = probe("[endpoints.internal.settings]\nframing = \"own\"");
    suite::answers_messages(gateway.address("internal"));
}

#[test]
fn those_who_chat_by_one_door_hear_each_other_and_nobody_else() {
    let world = endpoint_with("world", "public", "site", &certificates(&["localhost"]), "");
    let gateway = sample("chat", &world);
    let mut elsewhere = crate::support::tls::rustls(gateway.address("world"));
    std::io::Write::write_all(&mut elsewhere, b"psst\n").unwrap();
    suite::chats_by_one_door(gateway.address("internal"));
}

#[test]
fn the_device_can_be_set_by_its_internal_door_alone() {
    let gateway = sample("device", &suite::outside("value = 5"));
    // A value for each door, since each has a component of its own.
    suite::sets_a_device(&gateway, "{\"value\":5}", 5);
}

#[test]
fn bytes_go_through_every_layer_and_back() {
    let folder = Folder::new();
    let file = wasm(&folder, "tests/gateway/plugins/component.c", &[]);
    let layers = format!("layers = [{{ file = {file:?} }}, {{ file = {file:?} }}, {{ file = {file:?} }}]");
    let config = format!("{}[handlers.site]\ntype = \"wasm\"\n{layers}\n", door("internal", "site", ""));
    let gateway = Gateway::start_in(folder, &config);
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("generation", "generation 1");
    client.say("fill 3000");
    for _ in 0..3000 {
        assert_eq!(client.hear().len(), 999);
    }
    assert_eq!(client.hear(), "filled");
    assert_eq!(gateway.json("/plugins")["plugins"][0]["layers"].as_array().unwrap().len(), 3);
}

#[test]
fn wrong_arguments_are_answered_and_nothing_more() {
    let gateway = probe("");
    let mut client = Talker::connect(gateway.address("internal"));
    // limit, limit, limit, invalid, and nobody took it.
    client.ask("wrong", "wrong 4 4 4 5 0");
    client.ask("generation", "generation 1");
}

#[test]
fn a_handle_that_outlives_its_connection_is_answered_gone() {
    let gateway = probe("");
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("stale", "stale 1");
    let mut other = Talker::connect(gateway.address("internal"));
    other.ask("generation", "generation 1");
    drop(other);
    gateway.wait_for_metric(&super::series("callbacks_total", "callback", "close"), 1.0);
    // Whoever comes next has the same slot, and hears nothing that was meant for the one before.
    let mut next = Talker::connect(gateway.address("internal"));
    next.ask("generation", "generation 1");
    client.ask("stale", "stale 1");
    next.ask("generation", "generation 1");
}
