//! Reload: the same code and settings keep the instance; others replace it, and the old one is drained and cleaned up.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Talker, plugin, series};
use crate::support::plugins::c;
use crate::support::{Folder, Gateway, PATIENCE, run, stderr, stdout};

/// `probe.c` of a generation, put in the place of `path` whole.
fn install(path: &Path, generation: usize) {
    let folder = Folder::new();
    let built = c(&folder, "tests/gateway/plugins/probe.c", &[&format!("-DGENERATION={generation}")]);
    let beside = path.with_extension("new");
    std::fs::copy(built, &beside).unwrap();
    std::fs::rename(beside, path).unwrap();
}

struct Setup {
    gateway: Gateway,
    file: PathBuf,
    journal: PathBuf,
}

/// A gateway on generation 1 with a journal; old instances have half a second to end.
fn setup() -> Setup {
    let folder = Folder::new();
    let (file, journal) = (folder.path().join("probe.so"), folder.path().join("journal"));
    install(&file, 1);
    let gateway = Gateway::start_in(folder, &config(&file, &journal, ""));
    Setup { gateway, file, journal }
}

fn config(file: &Path, journal: &Path, more: &str) -> String {
    let settings = format!("[endpoints.internal.settings]\njournal = {journal:?}\n{more}");
    plugin(file, &format!("[gateway]\ndrain_timeout = \"500ms\"\n{settings}"))
}

impl Setup {
    fn generation(&self) -> String {
        let mut client = Talker::connect(self.gateway.address("internal"));
        client.say("generation");
        client.hear()
    }

    /// How many start-ups and cleanups the journal has.
    fn counts(&self) -> (usize, usize) {
        let lines = std::fs::read_to_string(&self.journal).unwrap();
        (lines.matches("start ").count(), lines.matches("cleanup ").count())
    }

    fn wait_for_counts(&self, wanted: (usize, usize)) {
        let since = Instant::now();
        while self.counts() != wanted {
            assert!(since.elapsed() < PATIENCE, "{:?}, not {wanted:?}", self.counts());
            std::thread::yield_now();
        }
    }

    /// Reloads by the control socket itself, which is quicker than a process each time.
    fn reload(&self) {
        let mut socket = UnixStream::connect(self.gateway.folder.path().join("control.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn check_starts_and_cleans_up_without_opening_a_port() {
    let folder = Folder::new();
    let (file, journal) = (folder.path().join("probe.so"), folder.path().join("journal"));
    install(&file, 1);
    let path = folder.write("gateway.toml", config(&file, &journal, ""));
    let output = run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("handler site (plugin)"));
    assert_eq!(std::fs::read_to_string(journal).unwrap(), "start internal 0 1\ncleanup internal 0 1\n");
}

#[test]
fn the_end_of_the_gateway_cleans_up_once() {
    let mut it = setup();
    assert_eq!(it.generation(), "generation 1");
    it.gateway.signal("TERM");
    assert_eq!(it.gateway.wait(), 0);
    assert_eq!(it.counts(), (1, 1));
}

#[test]
fn new_code_takes_new_connections_and_the_old_is_drained_and_cleaned_up() {
    let it = setup();
    let mut old = Talker::connect(it.gateway.address("internal"));
    old.ask("generation", "generation 1");
    install(&it.file, 2);
    assert_eq!(it.gateway.reload(), "reloaded: changed internal; 0 unchanged\n");
    old.ask("generation", "generation 1");
    assert_eq!(it.generation(), "generation 2");
    assert_eq!(it.counts().0, 2);
    assert_eq!(old.hear(), "", "its time is over after drain_timeout");
    it.wait_for_counts((2, 1));
    assert_eq!(it.generation(), "generation 2");
}

#[test]
fn a_change_that_does_not_concern_the_plugin_keeps_its_instance() {
    let it = setup();
    let mut old = Talker::connect(it.gateway.address("internal"));
    old.ask("generation", "generation 1");
    let changed =
        config(&it.file, &it.journal, "").replace("handler = \"site\"\n", "handler = \"site\"\nmax_connections = 5\n");
    it.gateway.configure(&changed);
    assert_eq!(it.gateway.reload(), "reloaded: changed internal; 0 unchanged\n");
    assert_eq!(it.generation(), "generation 1");
    old.ask("generation", "generation 1");
    assert_eq!(it.counts(), (1, 0));
}

#[test]
fn a_thousand_reloads_start_an_instance_for_each_change_and_lose_none() {
    let mut it = setup();
    let mut kept = Talker::connect(it.gateway.address("internal"));
    kept.ask("generation", "generation 1");
    for number in 1..=1000 {
        if number % 50 == 0 {
            // Another setting: another instance. The old one's connections have half a second.
            it.gateway.configure(&config(&it.file, &it.journal, &format!("number = {number}")));
        }
        it.reload();
        if number == 49 {
            kept.ask("generation", "generation 1");
            assert_eq!(it.counts(), (1, 0));
        }
    }
    assert_eq!(it.generation(), "generation 1");
    it.wait_for_counts((21, 20));
    let asked = it.gateway.metric(&series("callbacks_total", "callback", "data")).unwrap();
    assert!(asked >= 3.0, "the counters go on: {asked}");
    it.gateway.signal("TERM");
    assert_eq!(it.gateway.wait(), 0);
    assert_eq!(it.counts(), (21, 21));
}

#[test]
fn after_eight_generations_of_code_a_restart_is_asked_for() {
    let it = setup();
    for generation in 2..=8 {
        install(&it.file, generation);
        it.reload();
        assert_eq!(it.generation(), format!("generation {generation}"));
    }
    install(&it.file, 9);
    let output = it.gateway.command(&["reload"]);
    let said = stderr(&output);
    assert!(said.contains("has loaded 8 versions of it, and none can be unloaded; restart the gateway"), "{said}");
    assert_eq!(it.generation(), "generation 8", "the plan before is served");
    // Going back to code that is loaded already costs no generation.
    install(&it.file, 3);
    it.reload();
    assert_eq!(it.generation(), "generation 3");
}

#[test]
fn settings_that_the_plugin_refuses_leave_the_old_instance_serving() {
    let it = setup();
    it.gateway.configure(&config(&it.file, &it.journal, "bad = true"));
    let output = it.gateway.command(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("bad is not good"), "{}", stderr(&output));
    assert_eq!((it.generation().as_str(), it.counts()), ("generation 1", (1, 0)));
}
