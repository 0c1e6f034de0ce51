//! What a plugin may ask of the host: queues, buffers, handles, timers.

use std::io::Read;
use std::time::{Duration, Instant};

use super::{Talker, probe, probes, series};
use crate::support::client::End;
use crate::support::client::{connect, read_to_end};

#[test]
fn a_client_that_does_not_read_pauses_the_plugin_and_loses_nothing() {
    for gateway in probes("max_queue = 20000") {
        let mut client = Talker::connect(gateway.address("internal"));
        // 20 MB: far more than the queue and the sockets hold, so the plugin has to wait for `writable` many times.
        client.say("fill 20000");
        gateway.wait_for_some(&series("refusals_total", "reason", "full"));
        let buffered = gateway.metric("portcullis_plugin_buffered_bytes{endpoint=\"internal\",layer=\"0\"}").unwrap();
        assert!(buffered <= 20_064.0, "{buffered} bytes are queued");
        for line in 0..20_000 {
            assert_eq!(client.hear().len(), 999, "line {line}");
        }
        assert_eq!(client.hear(), "filled");
        assert!(gateway.metric(&series("callbacks_total", "callback", "writable")).unwrap() > 10.0);
        gateway.wait_for_metric("portcullis_plugin_buffered_bytes{endpoint=\"internal\",layer=\"0\"}", 0.0);
    }
}

#[test]
fn while_a_queue_is_long_no_input_is_offered() {
    for gateway in probes("max_queue = 20000") {
        let mut client = Talker::connect(gateway.address("internal"));
        client.say("fill 20000");
        gateway.wait_for_some(&series("refusals_total", "reason", "full"));
        gateway.wait_for_metric(&series("callbacks_total", "callback", "data"), 1.0);
        client.say("generation");
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            let data = gateway.metric(&series("callbacks_total", "callback", "data"));
            assert_eq!(data, Some(1.0), "the second line waits");
        }
        for _ in 0..20_000 {
            client.hear();
        }
        assert_eq!([client.hear(), client.hear()], ["filled", "generation 1"]);
    }
}

#[test]
fn memory_that_a_plugin_asks_for_is_bounded() {
    let gateway = probe("max_queue = 1000000\nmax_buffered = 5000000");
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("copies", "copies 50");
    client.ask("copies", "copies 50");
    gateway.wait_for_metric("portcullis_plugin_buffered_bytes{endpoint=\"internal\",layer=\"0\"}", 0.0);
}

#[test]
fn a_wrapped_buffer_is_freed_once_when_nobody_needs_it() {
    let gateway = probe("");
    let mut client = Talker::connect(gateway.address("internal"));
    for freed in 1..4 {
        client.ask("wrap", "outside -3");
        assert_eq!(client.hear(), "own!");
        client.ask("freed", &format!("freed {freed}"));
    }
}

#[test]
fn a_handle_that_outlives_its_connection_is_answered_gone() {
    let gateway = probe("");
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("stale", "stale -1");
    let mut other = Talker::connect(gateway.address("internal"));
    other.ask("generation", "generation 1");
    drop(other);
    gateway.wait_for_metric(&series("callbacks_total", "callback", "close"), 1.0);
    // Whoever comes next has the same slot, and hears nothing that was meant for the one before.
    let mut next = Talker::connect(gateway.address("internal"));
    next.ask("generation", "generation 1");
    client.ask("stale", "stale -1");
    next.ask("generation", "generation 1");
    gateway.wait_for_metric(&series("refusals_total", "reason", "gone"), 2.0);
}

#[test]
fn wrong_arguments_are_answered_and_nothing_more() {
    let gateway = probe("");
    let mut client = Talker::connect(gateway.address("internal"));
    client.ask("wrong", "wrong -3 -3 -3 -13 -3 -13 -3");
    client.ask("generation", "generation 1");
}

#[test]
fn a_timer_runs_out_once_unless_it_is_cancelled() {
    for gateway in probes("") {
        let mut client = Talker::connect(gateway.address("internal"));
        client.ask("timer 1", "timer 1");
        client.say("timer 3600000");
        client.ask("cancel", "cancel 0");
        client.ask("timer 2", "timer 1");
        client.ask("generation", "generation 1");
        assert_eq!(gateway.metric(&series("callbacks_total", "callback", "timer")), Some(2.0));
    }
}

#[test]
fn any_thread_may_write() {
    let gateway = probe("");
    let mut client = Talker::connect(gateway.address("internal"));
    client.say("thread");
    for number in 0..10 {
        assert_eq!(client.hear(), format!("elsewhere {number}"));
    }
}

#[test]
fn a_callback_that_fails_or_lies_ends_its_connection_alone() {
    for gateway in probes("") {
        let mut witness = Talker::connect(gateway.address("internal"));
        for (word, end) in [("fault", End::Closed), ("greedy", End::Closed), ("abort", End::Reset)] {
            let mut client = Talker::connect(gateway.address("internal"));
            client.ask("generation", "generation 1");
            client.say(word);
            assert_eq!(read_to_end(client.stream()).1, end, "{word}");
            witness.ask("generation", "generation 1");
        }
        gateway.wait_for_metric(&series("refusals_total", "reason", "data"), 2.0);
    }
}

#[test]
fn a_line_that_is_too_long_ends_its_connection() {
    for gateway in probes("max_message = 1000") {
        let mut stream = connect(gateway.address("internal"));
        std::io::Write::write_all(&mut stream, &[b'x'; 1000]).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
        gateway.wait_for_metric(&series("refusals_total", "reason", "data"), 1.0);
    }
}
