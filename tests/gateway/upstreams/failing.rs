//! Servers that refuse, die or hang: who is asked next, who is taken out, and who is back at once.

use std::io::Write;
use std::time::Instant;

use super::{GET, ONE_WORKER, POST, answers, counted, of_server, retries, tally};
use crate::support::client::{ask, connect, read_to_end};
use crate::support::peers::free_address;
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Gateway, PATIENCE, http_proxy, tcp_proxy, with_app};

/// An upstream that takes requests and never answers.
fn hanging() -> Upstream {
    Upstream::start(|mut stream| {
        read_request(&mut stream);
        let _ = read_to_end(&mut stream);
    })
}

#[test]
fn the_only_server_is_tried_by_every_request_so_it_is_back_with_the_first_after_it_came_up() {
    let address = free_address();
    let gateway = Gateway::start(&http_proxy(&[address], ""));
    let begun = Instant::now();
    assert_eq!(tally(&answers(&gateway, GET, 20)), counted(&[("502", 20)]));
    assert!(begun.elapsed() < PATIENCE / 10, "a refusal is answered at once, not after a wait");
    let _server = Upstream::start_at(address, |mut stream| {
        while read_request(&mut stream).is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    assert_eq!(answers(&gateway, GET, 1)[0].status, 200);
}

#[test]
fn a_server_that_fails_in_a_row_is_taken_out_and_never_the_last_one() {
    let (dying, alive) = (Upstream::dying(), Upstream::saying("ok"));
    let gateway = Gateway::start(&http_proxy(&[dying.address, alive.address], ONE_WORKER));
    // A POST may not be sent twice, so every one that meets the dying server fails: five, then it is out.
    assert_eq!(tally(&answers(&gateway, POST, 40)), counted(&[("502", 5), ("ok", 35)]));
    gateway.wait_for_metric(&of_server("ejections_total", dying.address), 1.0);
    gateway.wait_for_metric(&of_server("server_healthy", dying.address), 0.0);
    gateway.wait_for_metric(&of_server("server_healthy", alive.address), 1.0);

    let gateway = Gateway::start(&http_proxy(&[dying.address], ONE_WORKER));
    assert_eq!(tally(&answers(&gateway, POST, 20)), counted(&[("502", 20)]));
    gateway.wait_for_metric(&of_server("ejections_total", dying.address), 0.0);
}

#[test]
fn where_all_others_fail_an_ejected_server_is_tried_again_and_serves() {
    let (first, second) = (free_address(), free_address());
    let gateway = Gateway::start(&http_proxy(&[first, second], ONE_WORKER));
    assert_eq!(tally(&answers(&gateway, GET, 20)), counted(&[("502", 20)]));
    let ejected = [first, second]
        .into_iter()
        .find(|server| gateway.metric(&of_server("server_healthy", *server)) == Some(0.0))
        .expect("one of them is out");
    let _back = Upstream::start_at(ejected, |mut stream| {
        while read_request(&mut stream).is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    assert_eq!(tally(&answers(&gateway, GET, 5)), counted(&[("ok", 5)]));
    gateway.wait_for_metric(&of_server("server_healthy", ejected), 1.0);
}

#[test]
fn an_idempotent_request_without_a_body_is_sent_to_another_server_within_the_budget() {
    let (dying, alive) = (Upstream::dying(), Upstream::saying("ok"));
    let config = http_proxy(&[dying.address, alive.address], ONE_WORKER);
    let gateway = Gateway::start(&config);
    assert_eq!(tally(&answers(&gateway, GET, 20)), counted(&[("ok", 20)]));
    gateway.wait_for_metric(&retries("closed"), 5.0);

    // Nothing is ejected and nothing earned: ten retries that were saved up, and then none.
    let config = with_app(&config, "ejection = { failures = 0 }\nretries = { budget = 0 }");
    let gateway = Gateway::start(&config);
    let tally = tally(&answers(&gateway, GET, 60));
    gateway.wait_for_metric(&retries("closed"), 10.0);
    assert_eq!(tally.values().sum::<usize>(), 60);
    assert!(tally["502"] >= 10, "{tally:?}");
}

#[test]
fn a_status_that_counts_as_failure_is_retried_where_it_may_be_and_passed_on_where_not() {
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    let (busy, _) = Upstream::answering(BUSY);
    let alive = Upstream::saying("ok");
    let config = http_proxy(&[busy.address, alive.address], ONE_WORKER);
    let gateway = Gateway::start(&with_app(&config, "retries = { statuses = [503] }\nejection = { failures = 0 }"));
    assert_eq!(tally(&answers(&gateway, GET, 10)), counted(&[("ok", 10)]));
    gateway.wait_for_metric(&retries("status"), 5.0);
    let answers = answers(&gateway, POST, 10);
    assert_eq!(tally(&answers), counted(&[("503", 5), ("ok", 5)]));
    assert!(answers.iter().filter(|answer| answer.status == 503).all(|answer| answer.body == "busy"));

    let gateway = Gateway::start(&with_app(&http_proxy(&[busy.address], ""), "retries = { statuses = [503] }"));
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).body, "busy", "there is no other");
}

#[test]
fn an_attempt_that_takes_too_long_is_followed_by_one_at_another_server() {
    let (hanging, alive) = (hanging(), Upstream::saying("ok"));
    let config =
        with_app(&http_proxy(&[hanging.address, alive.address], ONE_WORKER), "timeouts = { attempt = \"200ms\" }");
    let gateway = Gateway::start(&config);
    assert_eq!(tally(&answers(&gateway, GET, 4)), counted(&[("ok", 4)]));
    gateway.wait_for_metric(&retries("timeout"), 2.0);
}

#[test]
fn a_request_as_a_whole_has_a_deadline_before_the_head_and_within_the_body() {
    let hanging = hanging();
    let keys = "timeouts = { total = \"300ms\" }";
    let gateway = Gateway::start(&with_app(&http_proxy(&[hanging.address], ""), keys));
    let answer = ask(&mut connect(gateway.address("front")), GET);
    assert_eq!(answer.status, 504);
    assert!(answer.field("proxy-status").unwrap().contains("error=http_response_timeout"), "{answer:?}");

    // Something always moves, so no other deadline would end it.
    let dripping = Upstream::start(|mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"1\r\nx\r\n").is_ok() {
            std::thread::yield_now();
        }
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[dripping.address], ""), keys));
    let mut stream = connect(gateway.address("front"));
    stream.write_all(GET.as_bytes()).unwrap();
    let (text, _) = read_to_end(&mut stream);
    assert!(!text.ends_with(b"0\r\n\r\n"), "what was cut off does not look whole");
}

#[test]
fn a_session_goes_to_the_next_server_where_one_refuses() {
    let alive = Upstream::saying("ok");
    let gateway = Gateway::start(&tcp_proxy(&[free_address(), alive.address], ONE_WORKER));
    for _ in 0..10 {
        assert_eq!(ask(&mut connect(gateway.address("front")), GET).body, "ok");
    }
    assert!(gateway.metric(&retries("connect")).unwrap() >= 1.0);
}
