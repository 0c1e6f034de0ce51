//! Chains of several plugins: bytes go through all of them, both ways.

use std::path::Path;

use super::{Talker, door, suite};
use crate::support::plugins::c;
use crate::support::{Folder, Gateway};

/// A chain of these files; each runs where its number says.
fn chain(files: &[&Path]) -> String {
    let layers: Vec<String> = files
        .iter()
        .enumerate()
        .map(|(index, file)| format!("{{ file = {file:?}, run = {:?} }}", ["inline", "pool"][index % 2]))
        .collect();
    format!("{}[handlers.site]\ntype = \"plugin\"\nlayers = [{}]\n", door("internal", "site", ""), layers.join(", "))
}

#[test]
fn bytes_go_through_every_layer_in_order_and_back() {
    let folder = Folder::new();
    let caesar = c(&folder, "tests/gateway/plugins/caesar.c", &[]);
    let device = c(&folder, "examples/plugins/c/device.c", &[]);
    let gateway = Gateway::start_in(folder, &chain(&[&caesar, &caesar, &device]));
    let shifted = |text: &str, by: i8| text.bytes().map(|b| b.wrapping_add_signed(by) as char).collect::<String>();
    let mut client = Talker::connect(gateway.address("internal"));
    // Two layers move each letter on by one on its way out, the newline too.
    let question = shifted("GET\n", 2);
    std::io::Write::write_all(client.stream(), question.as_bytes()).unwrap();
    let mut answer = [0; 8];
    std::io::Read::read_exact(client.stream(), &mut answer).unwrap();
    assert_eq!(shifted(std::str::from_utf8(&answer).unwrap(), -2), "VALUE 0\n");
    let layers = gateway.json("/plugins")["plugins"][0]["layers"].clone();
    let shown: Vec<_> = layers.as_array().unwrap().iter().map(|layer| layer["plugin"].as_str().unwrap()).collect();
    assert_eq!(shown, ["libcaesar.so", "libcaesar.so", "libdevice.so"]);
    // The server closes: what it said before comes through all layers, then the end.
    std::io::Write::write_all(client.stream(), shifted("QUIT\n", 2).as_bytes()).unwrap();
    let (rest, _) = crate::support::client::read_to_end(client.stream());
    assert_eq!(shifted(std::str::from_utf8(&rest).unwrap(), -2), "BYE\n");
}

#[test]
fn a_chain_keeps_the_order_the_end_and_every_byte() {
    let folder = Folder::new();
    let caesar = c(&folder, "tests/gateway/plugins/caesar.c", &[]);
    let echo = c(&folder, "examples/plugins/c/echo.c", &[]);
    for files in [vec![&*caesar, &echo], vec![&*caesar, &caesar, &caesar, &echo]] {
        let gateway = Gateway::start(&chain(&files));
        suite::echoes(gateway.address("internal"));
    }
}

#[test]
fn a_chain_whose_last_layer_refuses_cleans_up_those_before_it() {
    let folder = Folder::new();
    let probe = c(&folder, "tests/gateway/plugins/probe.c", &[]);
    let versions = c(&folder, "tests/gateway/plugins/versions.c", &["-DLOWEST=PC_MAKE_VERSION(3,0)"]);
    let journal = folder.path().join("journal");
    let settings = format!("[endpoints.internal.settings]\njournal = {journal:?}\n");
    let layers = format!("layers = [{{ file = {probe:?} }}, {{ file = {probe:?} }}, {{ file = {versions:?} }}]");
    let config = format!("{}[handlers.site]\ntype = \"plugin\"\n{layers}\n{settings}", door("internal", "site", ""));
    let file = folder.write("gateway.toml", config);
    let output = crate::support::run(&["check", "--config", file.to_str().unwrap()]);
    let said = crate::support::stderr(&output);
    assert!(said.contains("plugin libversions.so (layer 2): does not speak version 1.0"), "{said}");
    let lines = std::fs::read_to_string(journal).unwrap();
    let expected = "start internal 0 1\nstart internal 1 1\ncleanup internal 1 1\ncleanup internal 0 1\n";
    assert_eq!(lines, expected);
}
