//! HTTP/2 to servers: bodies and trailers both ways, as gRPC has them, and what a server says about its streams.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use h2::Reason;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};

use super::{GET, ONE_WORKER, POST, answers, counted, of_server, retries, tally};
use crate::support::client::{ask, connect, curl, read_to_end};
use crate::support::h2_upstream::{self, Http2Upstream, read, say};
use crate::support::peers::{Peer, free_address};
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, cert, http_proxy, with_app};

const H2: &str = "protocol = \"h2\"";

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    pairs.iter().for_each(|(name, value)| drop(fields.insert(*name, HeaderValue::from_static(value))));
    fields
}

/// A call as gRPC makes it.
fn call() -> Request<()> {
    let call = Request::post("http://app.example/Greeter/Hello").header("content-type", "application/grpc");
    call.header("te", "trailers").body(()).unwrap()
}

#[test]
fn a_grpc_call_has_its_trailers_both_ways() {
    let (told, heads) = std::sync::mpsc::sync_channel(1);
    let upstream = Http2Upstream::start(10, move |(request, mut answer)| {
        let told = told.clone();
        async move {
            told.send(request.headers().clone()).unwrap();
            assert_eq!(request.uri().to_string(), "http://app.example/Greeter/Hello");
            let (body, trailers) = read(request.into_body()).await.unwrap();
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = answer.send_response(head, false).unwrap();
            stream.send_data(Bytes::from(body), false).unwrap();
            stream.send_trailers(trailers).unwrap();
        }
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), H2));
    let sent = fields(&[("grpc-status", "0"), ("x-sum", "5")]);
    let (head, body, trailers) = h2_upstream::ask(gateway.address("front"), call(), &["hel", "lo"], sent).unwrap();
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"hello"[..]));
    assert_eq!(trailers, fields(&[("grpc-status", "0"), ("x-sum", "5")]));
    let head = heads.recv().unwrap();
    assert_eq!(head["te"], "trailers");
    assert_eq!(head["portcullis-endpoint"], "front");
    assert!(!head.contains_key("host") && !head.contains_key("connection"), "{head:?}");
}

#[test]
fn an_answer_of_a_head_alone_ends_with_it() {
    let upstream = Http2Upstream::start(10, |(_, mut answer)| async move {
        let head = Response::builder().header("grpc-status", "12").body(()).unwrap();
        answer.send_response(head, true).unwrap();
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), H2));
    let (head, body, trailers) = h2_upstream::ask(gateway.address("front"), call(), &["x"], HeaderMap::new()).unwrap();
    assert_eq!((&head.headers()["grpc-status"], body.len(), trailers.len()), (&HeaderValue::from_static("12"), 0, 0));
}

#[test]
fn an_answer_with_two_lengths_or_a_switch_of_protocols_is_not_passed_on() {
    let upstream = Http2Upstream::start(10, |(request, mut answer)| async move {
        let head = Response::builder();
        if request.uri().path() == "/switch" {
            let _ = answer.send_informational(head.status(101).body(()).unwrap());
            return say(answer, "ok");
        }
        let head = head.header("content-length", "2").header("content-length", "3").body(()).unwrap();
        let mut stream = answer.send_response(head, false).unwrap();
        let _ = stream.send_data(Bytes::from_static(b"ok"), true);
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), H2));
    for (path, error) in [("/", "http_protocol_error"), ("/switch", "http_upgrade_failed")] {
        let answer = ask(&mut connect(gateway.address("front")), format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let status = answer.field("proxy-status").unwrap_or_default();
        assert!(answer.status == 502 && status.contains(&format!("error={error}")), "{path} {answer:?}");
    }
}

#[test]
fn nginx_gets_and_gives_a_large_body_over_http_2_with_and_without_tls() {
    let tls = free_address();
    let directives = format!(
        "listen {tls} ssl http2; ssl_certificate {}; ssl_certificate_key {}; dav_methods PUT;
         location = /version {{ return 200 $server_protocol; }}",
        cert("www.pem"),
        cert("www.key"),
    );
    let nginx = Peer::nginx(Folder::new(), &directives);
    let trust = format!("tls = {{ ca = {:?}, server_name = \"www.example.com\" }}", cert("ca.pem"));
    let gateway = Gateway::start(&with_app(&http_proxy(&[tls], ONE_WORKER), &format!("{H2}\n{trust}")));
    let sent: Vec<u8> =
        (0..8_000_000_u32).flat_map(|i| i.wrapping_mul(0x9E37_79B9).to_be_bytes()).take(8_000_000).collect();
    let file = gateway.folder.write("sent", &sent);
    let back = gateway.folder.path().join("back");
    let url = format!("http://{}", gateway.address("front"));
    assert_eq!(curl(&["--fail", &format!("{url}/version")]), "HTTP/2.0");
    for (name, options) in [("length", &[][..]), ("chunks", &["--header", "Transfer-Encoding: chunked"])] {
        let url = format!("{url}/{name}");
        curl(&[options, &["--fail", "--upload-file", file.to_str().unwrap(), &url]].concat());
        assert!(std::fs::read(nginx.folder.path().join(name)).unwrap() == sent, "{name}: nginx got what differs");
        curl(&["--fail", "--output", back.to_str().unwrap(), &url]);
        assert!(std::fs::read(&back).unwrap() == sent, "{name}: curl got what differs");
    }
    gateway.wait_for_metric(&of_server("connects_total", tls), 1.0);
}

#[test]
fn a_connection_never_has_more_streams_than_its_server_allows() {
    const STREAMS: usize = 2;
    let most = Arc::new(AtomicUsize::new(0));
    let record = Arc::clone(&most);
    // Streams of one connection: those of others are others' to count.
    let upstream = Http2Upstream::start_with(STREAMS as u32, move |mut connection| {
        let (working, record) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&record));
        async move {
            while let Some(Ok((_, answer))) = connection.accept().await {
                record.fetch_max(working.fetch_add(1, SeqCst) + 1, SeqCst);
                let working = Arc::clone(&working);
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    working.fetch_sub(1, SeqCst);
                    say(answer, "ok");
                });
            }
        }
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ONE_WORKER), H2));
    let address = gateway.address("front");
    let clients = (0..10).map(|_| {
        std::thread::spawn(move || {
            let mut stream = connect(address);
            (0..20).for_each(|_| assert_eq!(ask(&mut stream, GET).body, "ok"));
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    assert!(most.load(SeqCst) <= STREAMS, "{} at once", most.load(SeqCst));
    assert!(upstream.connections() <= 5, "{} connections for 10 at once", upstream.connections());
}

#[test]
fn a_request_that_a_server_refused_or_did_not_begin_is_sent_to_another() {
    let refusing = Http2Upstream::start(10, |(_, mut answer)| async move { answer.send_reset(Reason::REFUSED_STREAM) });
    let well = Http2Upstream::start(10, |(_, answer)| async move { say(answer, "ok") });
    let config = with_app(&http_proxy(&[refusing.address, well.address], ONE_WORKER), H2);
    let gateway = Gateway::start(&config);
    // Without a body, a POST is as good as a GET: the server says that it did nothing.
    let post = POST.replace("Content-Length: 2\r\n\r\nhi", "Content-Length: 0\r\n\r\n");
    for request in [GET, &post] {
        assert_eq!(tally(&answers(&gateway, request, 4)), counted(&[("ok", 4)]));
    }
    gateway.wait_for_metric(&retries("unprocessed"), 4.0);
    gateway.wait_for_metric(&of_server("ejections_total", refusing.address), 0.0);
}

#[test]
fn a_server_that_goes_away_is_dialled_anew_and_what_it_had_begun_is_finished() {
    let upstream = Http2Upstream::start_with(10, |mut connection| async move {
        // One request a connection.
        let Some(Ok((_, answer))) = connection.accept().await else { return };
        connection.graceful_shutdown();
        say(answer, "ok");
        while let Some(Ok((_, mut answer))) = connection.accept().await {
            answer.send_reset(Reason::REFUSED_STREAM);
        }
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ONE_WORKER), H2));
    for _ in 0..5 {
        // It may be that the goodbye is not read before the next request is sent; that one finds out.
        let answer = ask(&mut connect(gateway.address("front")), GET);
        assert!(answer.status == 200 || answer.status == 502, "{answer:?}");
    }
    assert!(upstream.connections() > 1);
}

#[test]
fn a_response_that_is_reset_or_cut_never_looks_whole() {
    let upstream = Http2Upstream::start_with(10, move |mut connection| async move {
        while let Some(Ok((request, mut answer))) = connection.accept().await {
            let mut stream = answer.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"only this"), false).unwrap();
            // What is said of the stream passes while the connection is polled for another one, which does not come.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(50), connection.accept()).await;
            if request.uri().path() == "/cut" {
                return; // the connection with it
            }
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ONE_WORKER), H2));
    for path in ["/reset", "/cut"] {
        let mut stream = connect(gateway.address("front"));
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (text, _) = read_to_end(&mut stream);
        let text = String::from_utf8_lossy(&text);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("only this"), "{path}: {text}");
        assert!(!text.ends_with("0\r\n\r\n"), "{path}: {text}");
    }
}

#[test]
fn a_server_that_does_not_speak_http_2_or_never_answers_is_an_error_in_time() {
    let timeouts = "timeouts = { connect = \"300ms\", response = \"300ms\" }";
    let http1 = Upstream::saying("ok");
    let gateway = Gateway::start(&with_app(&http_proxy(&[http1.address], ""), &format!("{H2}\n{timeouts}")));
    assert_eq!(ask(&mut connect(gateway.address("front")), GET).status, 502);

    let hanging = Http2Upstream::start(10, |(_, answer)| async move {
        let _answer = answer;
        std::future::pending().await
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[hanging.address], ONE_WORKER), &format!("{H2}\n{timeouts}")));
    for connections in 1..3 {
        let answer = ask(&mut connect(gateway.address("front")), GET);
        assert_eq!(answer.status, 504);
        assert!(answer.field("proxy-status").unwrap().contains("error=http_response_timeout"), "{answer:?}");
        assert_eq!(hanging.connections(), connections, "a connection that may be dead is not used again");
    }
}

#[test]
fn a_client_that_breaks_off_makes_the_servers_stream_end_in_a_reset() {
    let (told, ended) = std::sync::mpsc::sync_channel(1);
    let upstream = Http2Upstream::start(10, move |(request, _answer)| {
        let told = told.clone();
        async move { told.send(read(request.into_body()).await.is_err()).unwrap() }
    });
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), H2));
    for framing in ["Content-Length: 100\r\n\r\nsome", "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"] {
        let mut stream = connect(gateway.address("front"));
        write!(stream, "POST / HTTP/1.1\r\nHost: a\r\n{framing}").unwrap();
        drop(stream);
        assert!(ended.recv_timeout(crate::support::PATIENCE).unwrap(), "{framing}");
    }
}

#[test]
fn checks_speak_http_2_too() {
    let upstream = Http2Upstream::start(10, |(request, answer)| async move {
        assert_eq!(request.headers()["user-agent"], "portcullis-health");
        say(answer, "well");
    });
    let keys = format!("{H2}\nhealth = {{ path = \"/health\", interval = \"20ms\" }}");
    let gateway = Gateway::start(&with_app(&http_proxy(&[upstream.address], ""), &keys));
    let series = format!("checks_total{{upstream=\"app\",server=\"{}\",result=\"passed\"}}", upstream.address);
    let begun = std::time::Instant::now();
    while gateway.metric(&format!("portcullis_upstream_{series}")).unwrap() < 2.0 {
        assert!(begun.elapsed() < crate::support::PATIENCE);
        std::thread::yield_now();
    }
}
