//! A collector that is reached by TLS: its server is verified, by the roots that the table names.

use crate::support::client::{ask, connect};
use crate::support::collector::{Collector, attribute};
use crate::support::tls::{ECDSA_ROOT, RSA_ROOT};
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, cert, http_proxy};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// A gateway that sends spans to `collector`, whose server it verifies by `root`.
fn gateway(collector: &Collector, root: &str) -> Gateway {
    let upstream = Upstream::saying("ok");
    let tracing = collector.tracing(&format!("ca = {:?}", cert(root)));
    Gateway::start(&http_proxy(&[upstream.address], &tracing))
}

#[test]
fn spans_reach_a_collector_whose_private_authority_is_named() {
    let collector = Collector::with_tls("localhost");
    let gateway = gateway(&collector, ECDSA_ROOT);
    for _ in 0..2 {
        assert_eq!(ask(&mut connect(gateway.address("front")), REQUEST).status, 200);
        let (_, spans) = collector.spans(2);
        assert_eq!(attribute(spans.iter().find(|span| span["kind"] == 2).unwrap(), "portcullis.endpoint"), "front");
    }
    gateway.wait_for_metric("portcullis_trace_spans_total{result=\"exported\"}", 4.0);
    assert_eq!(collector.connections(), 1, "the second batch goes over the connection of the first");
}

#[test]
fn a_collector_that_another_authority_vouches_for_gets_nothing_and_the_log_says_why() {
    let collector = Collector::with_tls("localhost");
    let mut gateway = gateway(&collector, RSA_ROOT);
    assert_eq!(ask(&mut connect(gateway.address("front")), REQUEST).status, 200);
    let said = gateway.wait_for_log("spans are lost");
    let why = format!("the collector at https://localhost:{}/v1/traces does not take them: ", collector.address.port());
    assert!(said.contains(&why) && said.contains("invalid peer certificate: UnknownIssuer"), "{said}");
    assert!(said.contains(&format!("; tracing.ca names {}", cert(RSA_ROOT))), "{said}");
    gateway.wait_for_metric("portcullis_trace_spans_total{result=\"failed\"}", 2.0);
    collector.sees_nothing();
}

#[test]
fn a_reload_reads_the_authority_anew() {
    let (collector, upstream, folder) = (Collector::with_tls("localhost"), Upstream::saying("ok"), Folder::new());
    let authority = |root: &str| std::fs::read(cert(root)).unwrap();
    folder.write("ca.pem", authority(RSA_ROOT));
    let config = http_proxy(&[upstream.address], &collector.tracing("ca = \"ca.pem\""));
    let gateway = Gateway::start_in(folder, &config);
    gateway.folder.write("ca.pem", authority(ECDSA_ROOT));
    assert_eq!(gateway.reload(), "reloaded: changed [tracing]; 1 unchanged\n");
    assert_eq!(ask(&mut connect(gateway.address("front")), REQUEST).status, 200);
    collector.spans(2);
}

#[test]
fn a_collector_whose_certificate_is_for_another_name_gets_nothing() {
    let collector = Collector::with_tls("www");
    let mut gateway = gateway(&collector, ECDSA_ROOT);
    assert_eq!(ask(&mut connect(gateway.address("front")), REQUEST).status, 200);
    let said = gateway.wait_for_log("spans are lost");
    assert!(said.contains("certificate not valid for name \"localhost\""), "{said}");
    collector.sees_nothing();
}
