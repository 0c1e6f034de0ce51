//! A reload that changes `[tracing]`: it holds from the next request on, of connections that are open too.

use std::net::TcpStream;
use std::sync::mpsc::Receiver;

use super::{OK, PARENT, TRACE, request, told};
use crate::support::client::{ask, connect};
use crate::support::collector::Collector;
use crate::support::peers::free_address;
use crate::support::upstream::Upstream;
use crate::support::{Gateway, http_proxy, stderr};

const EXPORTED: &str = "portcullis_trace_spans_total{result=\"exported\"}";

/// Asks by a kept connection; the `traceparent` that the upstream was told.
fn traced(client: &mut TcpStream, heads: &Receiver<String>) -> Vec<String> {
    assert_eq!(ask(client, request("01")).status, 200);
    told(heads, "traceparent")
}

#[test]
fn traces_come_go_and_move_to_another_collector_without_a_restart() {
    let (upstream, heads) = Upstream::answering(OK);
    let (first, second) = (Collector::answering(&[]), Collector::answering(&[]));
    let config = |tracing: &str| http_proxy(&[upstream.address], tracing);
    let gateway = Gateway::start(&config(""));
    let client = &mut connect(gateway.address("front"));
    let untraced = [format!("00-{TRACE}-{PARENT}-01")];
    assert_eq!(traced(client, &heads), untraced);

    gateway.configure(&config(&first.tracing("")));
    let tried = gateway.command(&["reload", "--dry-run"]);
    assert!(String::from_utf8_lossy(&tried.stdout).contains("changed [tracing]; 1 unchanged"), "{tried:?}");
    assert_eq!(traced(client, &heads), untraced, "it was only tried");
    assert_eq!(gateway.reload(), "reloaded: changed [tracing]; 1 unchanged\n");
    assert_ne!(traced(client, &heads), untraced);
    first.spans(2);

    gateway.configure(&config(&second.tracing("service = \"edge\"")));
    gateway.reload();
    assert_ne!(traced(client, &heads), untraced);
    second.spans(2);
    assert_eq!(gateway.reload(), "reloaded: 1 unchanged\n");

    gateway.configure(&config(""));
    gateway.reload();
    assert_eq!(traced(client, &heads), untraced);
    gateway.wait_for_metric(EXPORTED, 4.0); // what was counted stays
    first.sees_nothing();
    second.sees_nothing();
}

#[test]
fn what_was_recorded_before_a_reload_is_sent() {
    let (upstream, heads) = Upstream::answering(OK);
    let (first, second) = (Collector::answering(&[]), Collector::answering(&[]));
    let gateway = Gateway::start(&http_proxy(&[upstream.address], &first.tracing("")));
    let client = &mut connect(gateway.address("front"));
    traced(client, &heads);
    gateway.configure(&http_proxy(&[upstream.address], &second.tracing("")));
    gateway.reload();
    gateway.wait_for_metric(EXPORTED, 2.0);
    traced(client, &heads);
    gateway.wait_for_metric(EXPORTED, 4.0);
}

#[test]
fn a_collector_that_is_gone_does_not_hold_up_the_one_that_takes_its_place() {
    let (upstream, heads) = Upstream::answering(OK);
    let collector = Collector::answering(&[]);
    let gone = format!("[tracing]\notlp = \"http://{}/\"", free_address());
    let mut gateway = Gateway::start(&http_proxy(&[upstream.address], &gone));
    let client = &mut connect(gateway.address("front"));
    traced(client, &heads);
    gateway.wait_for_some("portcullis_trace_spans_total{result=\"failed\"}");
    traced(client, &heads);
    gateway.configure(&http_proxy(&[upstream.address], &collector.tracing("")));
    gateway.reload();
    traced(client, &heads);
    gateway.wait_for_some(EXPORTED);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn a_wrong_table_changes_nothing() {
    let (upstream, heads) = Upstream::answering(OK);
    let collector = Collector::answering(&[]);
    let gateway = Gateway::start(&http_proxy(&[upstream.address], &collector.tracing("")));
    gateway.configure(&http_proxy(&[upstream.address], &collector.tracing("sampling = \"half\"\nca = \"none.pem\"")));
    let said = stderr(&gateway.command(&["reload"]));
    assert!(said.contains("tracing.sampling: \"half\" is not a share") && said.contains("none.pem"), "{said}");
    traced(&mut connect(gateway.address("front")), &heads);
    collector.spans(2);
}
