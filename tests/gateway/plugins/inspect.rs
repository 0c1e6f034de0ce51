//! `portcullis plugin inspect`, and what the admin port shows of plugins.

use super::{Talker, probe, series};
use crate::support::plugins::{c, rust};
use crate::support::{Folder, run, stderr, stdout};

#[test]
fn inspect_shows_what_a_plugin_offers_and_how_the_negotiation_ends() {
    let folder = Folder::new();
    let file = c(&folder, "examples/plugins/c/device.c", &[]);
    let output = run(&["plugin", "inspect", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.starts_with("libdevice.so\n  digest     sha256:"), "{said}");
    for line in [
        "  gateway    speaks 1.0 to 1.0\n",
        "  start-up   asked for 1.0: both keep to 1.0 (its highest: 1.0); cleaned up\n",
        "  run        pool, or inline: it promises never to block\n",
        "  framing    ends with \"\\n\"; 256 bytes at most\n",
        "  functions  cleanup, open, data, close, timer\n",
        "  left out   writable, minimum_size, message_size\n",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    let said = stdout(&run(&["plugin", "inspect", rust("chat").to_str().unwrap()]));
    assert!(said.contains("  run        pool\n") && !said.contains("left out"), "{said}");
}

#[test]
fn inspect_fails_where_the_plugin_could_not_be_used_and_says_why() {
    let folder = Folder::new();
    let new = c(&folder, "tests/gateway/plugins/versions.c", &["-DLOWEST=PC_MAKE_VERSION(2,0)"]);
    let output = run(&["plugin", "inspect", new.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.contains("start-up   asked for 1.0: refused: does not speak version 1.0 or any lower one"), "{said}");
    let probe = c(&folder, "tests/gateway/plugins/probe.c", &[]);
    let inspect = |settings: &str| run(&["plugin", "inspect", probe.to_str().unwrap(), "--settings", settings]);
    assert!(stdout(&inspect("{\"bad\":true}")).contains("refused: bad is not good"));
    assert!(stderr(&inspect("7")).contains("--settings is no JSON object"));
    let text = folder.write("lib.so", "no library");
    let said = stderr(&run(&["plugin", "inspect", text.to_str().unwrap()]));
    assert!(said.contains("lib.so: is no shared library"), "{said}");
}

#[test]
fn a_library_that_is_no_plugin_is_refused_by_name() {
    let folder = Folder::new();
    let source = folder.write("other.c", "int other(void) { return 7; }\n");
    let library = folder.path().join("libother.so");
    let status = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-o", library.to_str().unwrap(), source.to_str().unwrap()])
        .status();
    assert!(status.unwrap().success());
    let said = stderr(&run(&["plugin", "inspect", library.to_str().unwrap()]));
    assert!(said.contains("libother.so: exports no portcullis_plugin_startup; is it a plugin?"), "{said}");
}

#[test]
fn the_admin_port_shows_every_plugin_with_its_version_and_counts() {
    let gateway = probe("threads = 2");
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("generation", "generation 1");
    // An answer may be read before the call that sent it has returned.
    gateway.wait_for_metric(&series("callbacks_total", "callback", "data"), 1.0);
    let shown = gateway.json("/plugins")["plugins"][0].clone();
    assert_eq!(
        (&shown["endpoint"], &shown["handler"], &shown["state"]),
        (&"internal".into(), &"site".into(), &"ready".into())
    );
    let layer = &shown["layers"][0];
    assert_eq!(
        (&layer["plugin"], &layer["version"], &layer["threads"]),
        (&"libprobe.so".into(), &"1.0".into(), &2.into())
    );
    assert_eq!((&layer["callbacks"]["open"], &layer["callbacks"]["data"]), (&1.into(), &1.into()));
    assert!(layer["callback_seconds"].as_f64().unwrap() > 0.0);
    let info = "portcullis_plugin_info{endpoint=\"internal\",layer=\"0\",plugin=\"libprobe.so\",version=\"1.0\"}";
    assert_eq!(gateway.metric(info), Some(1.0));
}
