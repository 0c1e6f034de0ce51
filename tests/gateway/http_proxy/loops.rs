//! Requests that come back to where they have been (RFC 9110, section 7.6.3), and chains that only look like it.

use crate::support::client::{ask, connect, get};
use crate::support::peers::free_address;
use crate::support::upstream::Upstream;
use crate::support::{Gateway, http_proxy};

#[test]
fn a_request_that_comes_back_is_answered_508_and_counted_once() {
    let itself = free_address();
    let config = http_proxy(&[itself], "").replacen("127.0.0.1:0", &itself.to_string(), 1);
    let gateway = Gateway::start(&config);
    let answer = get(itself, "/round");
    assert_eq!(answer.status, 508, "{}", answer.head);
    let status = answer.field("proxy-status").unwrap();
    assert!(status.starts_with("portcullis; error=proxy_loop_detected"), "{status}");
    let looped = "portcullis_failures_total{endpoint=\"front\",reason=\"proxy_loop_detected\"}";
    gateway.wait_for_metric(looped, 1.0);
}

#[test]
fn gateways_in_a_row_and_endpoints_before_one_another_are_no_loop() {
    let upstream = Upstream::saying("there");
    let last = Gateway::start(&http_proxy(&[upstream.address], ""));
    let inner = free_address();
    let more = format!(
        "[endpoints.inner]\nlisten = \"{inner}\"\nclass = \"internal\"\nhandler = \"onward\"\n\
         [handlers.onward]\ntype = \"http-proxy\"\nupstream = \"last\"\n\
         [upstreams.last]\nservers = [\"{}\"]",
        last.address("front")
    );
    let first = Gateway::start(&http_proxy(&[inner], &more));
    let mut client = connect(first.address("front"));
    for _ in 0..2 {
        assert_eq!(
            ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 portcullis, 2 x (a, b)\r\n\r\n").body,
            "there"
        );
    }
}

#[test]
fn what_an_upstream_sends_back_with_our_name_in_it_is_a_loop_wherever_it_stands() {
    let (upstream, heads) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::start(&http_proxy(&[upstream.address], ""));
    let mut client = connect(gateway.address("front"));
    assert_eq!(ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    let head = heads.recv().unwrap();
    let via = head.lines().find_map(|line| line.strip_prefix("via: ")).unwrap();
    for line in [via.to_owned(), format!("1.1 a (b),{via}(c)\r\nVia: 1.1 d"), format!("1.1 a\r\nVia: 2 e,\t{via} ,")] {
        let answer = ask(&mut client, format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {line}\r\n\r\n"));
        assert_eq!(answer.status, 508, "{line}");
    }
}

#[test]
fn gateways_that_share_a_configured_name_are_told_apart_and_answers_have_the_name_alone() {
    let (upstream, heads) = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let last = Gateway::start(&http_proxy(&[upstream.address], "via = \"edge\""));
    let first = Gateway::start(&http_proxy(&[last.address("front")], "via = \"edge\""));
    let mut client = connect(first.address("front"));
    let answer = ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.head.matches("via: 1.1 edge\r\n").count()), (200, 2), "{}", answer.head);
    let head = heads.recv().unwrap();
    let names: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("via: 1.1 edge-")).collect();
    assert!(names.len() == 2 && names[0] != names[1], "{head}");
    let round = format!("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 edge-{}\r\n\r\n", names[0]);
    assert_eq!(ask(&mut client, round).status, 508);
}
