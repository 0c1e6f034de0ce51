//! What is taken for a component and what is not: `check`, and `portcullis plugin inspect`.

use std::path::Path;

use super::component;
use crate::support::plugins::wasm;
use crate::support::{Folder, run, stderr, stdout};

/// What `inspect` says of a file that it cannot use.
fn refused(file: &Path) -> String {
    let output = run(&["plugin", "inspect", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    stderr(&output)
}

/// The bytes of a file with a text in place of another that is as long.
fn replaced(file: &Path, old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = std::fs::read(file).unwrap();
    let places: Vec<usize> =
        bytes.windows(old.len()).enumerate().filter(|(_, it)| *it == old.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at..*at + new.len()].copy_from_slice(new.as_bytes()));
    bytes
}

#[test]
fn inspect_shows_what_a_component_offers() {
    let folder = Folder::new();
    let file = wasm(&folder, "examples/plugins/wasm/device.c", &[]);
    let output = run(&["plugin", "inspect", file.to_str().unwrap(), "--settings", "{\"value\":3}"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.starts_with("device.wasm\n  digest     sha256:"), "{said}");
    for line in [
        "  gateway    speaks 1.0 of the world portcullis:plugin\n",
        "  component  made for 1.0; imports portcullis:plugin/types@1.0.0, portcullis:plugin/host@1.0.0\n",
        "  start-up   done, and cleaned up\n",
        "  run        pool, of one thread\n",
        "  framing    ends with \"\\n\"; 256 bytes at most\n",
        "  memory     ",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    let output = run(&["plugin", "inspect", file.to_str().unwrap(), "--settings", "{\"value\":\"x\"}"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("start-up   refused: settings.value is no number"), "{}", stdout(&output));
}

#[test]
fn what_is_no_component_for_this_gateway_is_refused_by_name() {
    let folder = Folder::new();
    let file = wasm(&folder, "examples/plugins/wasm/echo.c", &[]);
    let said = refused(&folder.path().join("module.wasm"));
    assert!(said.contains("module.wasm: is a WebAssembly module, not a component"), "{said}");
    let said = refused(&folder.write("short.wasm", &std::fs::read(&file).unwrap()[..1000]));
    assert!(said.contains("short.wasm: cannot be compiled: "), "{said}");
    let other = replaced(&file, "portcullis:plugin/host@1.0.0", "wasiwasiwa:plugin/host@1.0.0");
    let said = refused(&folder.write("wasi.wasm", other));
    assert!(said.contains("imports wasiwasiwa:plugin/host@1.0.0") && said.contains("build it without WASI"), "{said}");
    let said = refused(&folder.write("new.wasm", replaced(&file, "@1.0.0", "@1.1.0")));
    assert!(said.contains("was made for version 1.1, and this gateway speaks 1.0; use an older plugin"), "{said}");
    let patched = folder.write("patched.wasm", replaced(&file, "@1.0.0", "@1.0.9"));
    let output = run(&["plugin", "inspect", patched.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let config = folder.write("gateway.toml", component(&folder.write("text.wasm", "(component)"), ""));
    let said = stderr(&run(&["check", "--config", config.to_str().unwrap()]));
    assert!(said.contains("text.wasm: is no WebAssembly component in binary form"), "{said}");
}
