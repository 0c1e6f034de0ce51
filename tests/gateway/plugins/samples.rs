//! The samples that people start from, in C and in Rust.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Talker, plugin, suite};
use crate::support::plugins::{c, rust};
use crate::support::tls::{certificates, endpoint_with};
use crate::support::{Folder, Gateway, portcullis, stdout};

/// Runs a test on a sample in C, then on the same in Rust.
fn both(name: &str, test: impl Fn(&Path)) {
    let folder = Folder::new();
    let in_c: PathBuf = c(&folder, &format!("examples/plugins/c/{name}.c"), &[]);
    test(&in_c);
    test(&rust(name));
}

/// A configuration with a plain internal door and a public TLS door to one plugin.
fn two_doors(file: &Path) -> String {
    let world = endpoint_with("world", "public", "site", &certificates(&["localhost"]), "");
    format!("{}{world}", plugin(file, ""))
}

#[test]
fn the_echo_sends_back_what_comes_on_the_pool_and_inline() {
    both("echo", |file| {
        for run in ["pool", "inline"] {
            let gateway = Gateway::start(&plugin(file, &format!("run = \"{run}\"")));
            suite::echoes(gateway.address("internal"));
        }
    });
}

#[test]
fn the_message_server_gets_whole_messages_however_they_arrive() {
    both("messages", |file| {
        for run in ["pool", "inline"] {
            let gateway = Gateway::start(&plugin(file, &format!("run = \"{run}\"")));
            suite::answers_messages(gateway.address("internal"));
        }
    });
}

#[test]
fn those_who_chat_by_a_plain_internal_door_and_by_a_public_tls_door_hear_each_other() {
    both("chat", |file| {
        suite::chats_by_one_door(Gateway::start(&plugin(file, "")).address("internal"));
        let gateway = Gateway::start(&two_doors(file));
        suite::chats(gateway.address("internal"), gateway.address("world"));
    });
}

#[test]
fn the_device_can_be_set_by_its_internal_door_alone() {
    both("device", |file| {
        let outside = suite::outside("room = \"lobby\"");
        let gateway = Gateway::start(&format!("{}{outside}", plugin(file, "run = \"inline\"")));
        // One value for all doors.
        suite::sets_a_device(&gateway, "{\"room\":\"lobby\"}", 7);
    });
}

/// A gateway with a C sample that was built with sanitizers: the first error ends the process.
fn sanitized(name: &str, config: impl Fn(&Path) -> String) -> Gateway {
    let folder = Folder::new();
    let flags = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let file = c(&folder, &format!("examples/plugins/c/{name}.c"), &flags);
    let runtime = Command::new("cc").arg("-print-file-name=libasan.so").output().unwrap();
    let gateway = Gateway::start_by(Folder::new(), &config(&file), |args| {
        let mut command = portcullis(args);
        // The gateway itself is not built with them; what it keeps until the end is no leak of the plugin's.
        command.env("LD_PRELOAD", stdout(&runtime).trim()).env("ASAN_OPTIONS", "detect_leaks=0");
        command
    });
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", gateway.pid())).unwrap();
    assert!(maps.contains("libasan") && maps.contains("libubsan"), "the sanitizers are there");
    gateway
}

#[test]
fn the_samples_in_c_are_quiet_under_the_address_and_undefined_behaviour_sanitizers() {
    let mut gateways = Vec::new();
    for run in ["pool", "inline"] {
        let run = format!("run = \"{run}\"");
        let echo = sanitized("echo", |file| plugin(file, &run));
        suite::echoes(echo.address("internal"));
        let messages = sanitized("messages", |file| plugin(file, &run));
        suite::answers_messages(messages.address("internal"));
        let chat = sanitized("chat", two_doors);
        suite::chats(chat.address("internal"), chat.address("world"));
        let device = sanitized("device", |file| plugin(file, &run));
        Talker::connect(device.address("internal")).ask("SET 7", "OK");
        gateways.extend([echo, messages, chat, device]);
    }
    for mut gateway in gateways {
        gateway.signal("TERM");
        assert_eq!(gateway.wait(), 0, "the cleanup was quiet too");
    }
}
