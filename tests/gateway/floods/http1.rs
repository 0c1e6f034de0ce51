//! Floods in HTTP/1.1.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::{GET, MIB, endless_upstream, gateway, resident, upstream, withstood};
use crate::support::client::{ask, connect, exchange, parse, read_to_end, reset};

fn refused(reason: &str) -> String {
    format!("portcullis_http_requests_refused_total{{endpoint=\"front\",reason=\"{reason}\"}}")
}

/// What [`endless_upstream`] answers without end.
const ENDLESS: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
const ACTIVE: &str = "portcullis_connections_active{endpoint=\"front\"}";

/// Many connections that have each sent the same bytes are answered and closed; the statuses.
fn statuses(crowd: Vec<TcpStream>) -> BTreeSet<u16> {
    let answers = crowd.into_iter().map(|mut stream| read_to_end(&mut stream).0);
    answers.map(|bytes| parse(&String::from_utf8_lossy(&bytes)).status).collect()
}

#[test]
fn many_heads_that_trickle_in_cost_little_and_end_at_their_deadline() {
    const CROWD: usize = 300;
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { header = \"500ms\" }", "");
    let before = resident(&gateway);
    let ((), _) = withstood(&gateway, |front| {
        let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| connect(front)).collect();
        for byte in b"POST / HTTP/1.1\r\nHost: a\r\nX-" {
            for stream in &mut crowd {
                let _ = stream.write_all(&[*byte]); // those that came first may be over already
            }
        }
        let held = resident(&gateway).saturating_sub(before);
        assert!(held < CROWD as u64 * 64 * 1024, "{} bytes for each", held / CROWD as u64);
        assert_eq!(statuses(crowd), [408].into());
    });
    gateway.wait_for_metric(&refused("head_timeout"), CROWD as f64);
}

#[test]
fn many_bodies_that_stand_still_cost_little_and_end_at_their_deadline() {
    const CROWD: usize = 200;
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { body = \"500ms\" }", "");
    let claims = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
    let ((), grown) = withstood(&gateway, |front| {
        let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| connect(front)).collect();
        crowd.iter_mut().for_each(|stream| stream.write_all(claims.as_bytes()).unwrap());
        assert_eq!(statuses(crowd), [408].into());
    });
    gateway.wait_for_metric(&refused("body_timeout"), CROWD as f64);
    assert!(grown < 32 * MIB, "memory grew by {grown}");
}

#[test]
fn ten_thousand_requests_in_one_write_are_answered_one_after_the_other() {
    const REQUESTS: usize = 10_000;
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    let (answers, grown) = withstood(&gateway, |front| {
        let mut stream = connect(front);
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let request = GET.replace("GET", "PUT").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n");
                writer.write_all(request.repeat(REQUESTS).as_bytes()).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            String::from_utf8(read_to_end(&mut stream).0).unwrap().matches("HTTP/1.1 200 OK").count()
        })
    });
    assert_eq!(answers, REQUESTS);
    assert!(grown < 8 * MIB, "memory grew by {grown}");
}

#[test]
fn a_client_that_asks_and_does_not_read_is_soon_not_read_from_either() {
    let upstream = endless_upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { body = \"500ms\" }", "");
    let ((), grown) = withstood(&gateway, |front| {
        let mut stream = connect(front);
        let requests = ENDLESS.repeat(1000);
        let end = (0..100_000).try_for_each(|_| stream.write_all(requests.as_bytes()));
        assert!(end.is_err(), "the gateway takes requests without end");
    });
    assert!(grown < 8 * MIB, "memory grew by {grown}");
}

#[test]
fn many_slow_readers_of_answers_without_end_cost_a_buffer_each() {
    const CROWD: usize = 50;
    let upstream = endless_upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { body = \"500ms\" }", "");
    let before = resident(&gateway);
    let (held, _) = withstood(&gateway, |front| {
        let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| connect(front)).collect();
        crowd.iter_mut().for_each(|stream| stream.write_all(ENDLESS.as_bytes()).unwrap());
        crowd.iter_mut().for_each(|stream| stream.read_exact(&mut [0]).unwrap());
        let held = resident(&gateway).saturating_sub(before);
        // The upstream is left for each of them, so what they are sent ends.
        gateway.wait_for_metric(ACTIVE, 1.0);
        held
    });
    eprintln!("{} KiB held for each slow reader", held / 1024 / CROWD as u64);
    assert!(held < CROWD as u64 * 512 * 1024, "{} bytes for each", held / CROWD as u64);
}

#[test]
fn what_is_claimed_is_not_set_aside_and_what_has_no_end_is_refused() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { body = \"500ms\" }", "");
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let large = 4 << 20;
    let cases = [
        ("a chunk of 100 MB that does not come", format!("{chunked}5F5E100\r\nx"), "body_timeout", &[408][..]),
        ("a chunk extension without end", format!("{chunked}1;{}", "e".repeat(large)), "chunk", &[400]),
        ("a chunk size without end", format!("{chunked}{}", "0".repeat(large)), "chunk", &[400]),
        ("trailers without end", format!("{chunked}0\r\n{}", "a: b\r\n".repeat(large / 6)), "chunk", &[400]),
        ("one trailer without end", format!("{chunked}0\r\na: {}", "b".repeat(large)), "chunk", &[400]),
        (
            "fields without end",
            GET.replace("\r\n\r\n", &format!("\r\n{}", "a: b\r\n".repeat(large / 6))),
            "head_too_large",
            &[431],
        ),
        (
            "a field without end",
            GET.replace("\r\n\r\n", &format!("\r\na: {}", "b".repeat(large))),
            "head_too_large",
            &[431],
        ),
        ("a target without end", format!("GET /{}", "a".repeat(large)), "target_too_long", &[414]),
    ];
    for (what, bytes, reason, statuses) in cases {
        let before = gateway.metric(&refused(reason)).unwrap();
        let (text, grown) = withstood(&gateway, |front| exchange(front, bytes));
        // A client that floods on may lose the answer to the reset that its own bytes bring about.
        assert!(text.is_empty() || statuses.contains(&parse(&text).status), "{what}: {text}");
        gateway.wait_for_metric(&refused(reason), before + 1.0);
        assert!(grown < 4 * MIB, "{what}: memory grew by {grown}");
    }
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    let churn = |front, count| {
        for n in 0..count {
            let mut stream = connect(front);
            match n % 4 {
                0 => assert_eq!(ask(&mut stream, GET).status, 200),
                1 => stream.write_all(b"GET / HT").unwrap(),
                2 => reset(stream),
                _ => {}
            }
        }
    };
    withstood(&gateway, |front| churn(front, 500)); // whatever is made once is made now
    gateway.wait_for_metric(ACTIVE, 0.0);
    let ((), grown) = withstood(&gateway, |front| churn(front, 2000));
    gateway.wait_for_metric(ACTIVE, 0.0);
    assert!(grown < 2 * MIB, "memory grew by {grown}");
}
