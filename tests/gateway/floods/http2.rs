//! Floods of HTTP/2 frames, by the names under which they became known.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{GET, MIB, OK, endless_upstream, gateway, read_head, resident, upstream, withstood};
use crate::support::client::{ask, connect};
use crate::support::h2::{
    ACK, CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::support::h2::{Client, END_HEADERS, END_STREAM, block, frame};
use crate::support::upstream::Upstream;
use crate::support::{Gateway, PATIENCE};

/// What the gateway lets a client have open at a time.
const STREAMS: usize = 128;

const ENHANCE_YOUR_CALM: u32 = 11;

fn head(method: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":authority", "a"), (":path", "/")])
}

/// So many streams, each with what `frames` sends on it behind its head.
fn streams(count: u32, method: &str, flags: u8, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let stream = |n| [frame(HEADERS, END_HEADERS | flags, n, &head(method)), frames(n)].concat();
    (0..count).flat_map(|n| stream(2 * n + 1)).collect()
}

/// One stream, and on it the same frame again and again.
fn on_one_stream(count: usize, repeated: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, 1, &head("POST")), repeated.repeat(count)].concat()
}

/// So many requests, each with a head that is larger than it may be once it is decoded.
fn too_large(count: usize) -> Vec<u8> {
    let fields = [head("GET"), block(&[("cookie", "")]).repeat(1500)].concat();
    (0..count).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n as u32 + 1, &fields)).collect()
}

/// Sends bytes on a connection and reads until the gateway ends it.
fn flood(front: SocketAddr, bytes: &[u8]) {
    let mut client = Client::connect(front);
    // The gateway may end the connection before it has read everything.
    for piece in bytes.chunks(16 * 1024) {
        if client.try_write(piece).is_err() {
            break;
        }
    }
    client.read_to_end();
}

/// Waits until so many connections were closed for this reason, and asserts that none was for another: the count follows
/// the end that the client sees by a moment.
#[track_caller]
fn assert_closed(gateway: &Gateway, reason: &str, wanted: usize, what: &str) {
    let wanted =
        format!("portcullis_http2_connections_closed_total{{endpoint=\"front\",reason=\"{reason}\"}} {wanted}");
    let start = Instant::now();
    loop {
        let metrics = gateway.get("/metrics").body;
        let closed = metrics.lines().filter(|line| line.starts_with("portcullis_http2_connections_closed_total{"));
        let closed: Vec<&str> = closed.filter(|line| !line.ends_with(" 0")).collect();
        if closed == [wanted.as_str()] {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {closed:?} instead of {wanted}");
    }
}

/// Runs each flood; it must end its connection for the reason given, and cost next to nothing.
fn each_is_closed(reason: &str, floods: &[(&str, Vec<u8>)]) {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    for (n, (what, bytes)) in floods.iter().enumerate() {
        eprintln!("{what}: {} KiB", bytes.len() / 1024);
        let ((), grown) = withstood(&gateway, |front| flood(front, bytes));
        assert_closed(&gateway, reason, n + 1, what);
        assert!(grown < 8 * MIB, "{what}: memory grew by {grown}");
    }
    assert_eq!(gateway.count_in_log(" WARN "), 0, "a flood does not fill the log");
}

#[test]
fn frames_that_ask_for_nothing_end_the_connection_when_they_are_too_many() {
    each_is_closed(
        "frame_flood",
        &[
            ("PING", frame(PING, 0, 0, &[7; 8]).repeat(20_000)),
            ("PING that nobody asked to be answered", frame(PING, ACK, 0, &[7; 8]).repeat(20_000)),
            ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(20_000)),
            ("empty SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(20_000)),
            ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]).repeat(20_000)),
            ("frames of an unknown type", frame(0xFA, 0, 0, &[]).repeat(20_000)),
        ],
    );
}

#[test]
fn resets_of_either_side_end_the_connection_when_they_are_too_many() {
    let cancel = 8_u32.to_be_bytes();
    each_is_closed(
        "excess",
        &[
            ("rapid reset", streams(4000, "GET", END_STREAM, |n| frame(RST_STREAM, 0, n, &cancel))),
            (
                "a window opened too far",
                streams(1000, "POST", 0, |n| frame(WINDOW_UPDATE, 0, n, &0x7FFF_FFFF_u32.to_be_bytes())),
            ),
            (
                "a head behind the end",
                streams(1000, "POST", END_STREAM, |n| frame(HEADERS, END_HEADERS, n, &head("GET"))),
            ),
            ("bytes without end in small frames", on_one_stream(200_000, &frame(DATA, 0, 1, b""))),
            ("heads too large, each answered 431", too_large(2000)),
        ],
    );
}

#[test]
fn heads_beyond_all_measure_end_the_connection() {
    // An entry of 4,000 bytes for the dynamic table, then references to it (RFC 7541, sections 6.2.1 and 6.1).
    let entry = [&[0x40, 1, b'x', 0x7F, 0xA1, 0x1E][..], &[b'v'; 4000]].concat();
    let bomb = [entry, vec![0xBE; 12_000]].concat();
    let endless = |piece: &[u8]| {
        [frame(HEADERS, END_STREAM, 1, &head("GET")), frame(CONTINUATION, 0, 1, piece).repeat(10_000)].concat()
    };
    each_is_closed(
        "excess",
        &[
            ("empty CONTINUATION", endless(&[])),
            ("CONTINUATION with a field each", endless(&block(&[("a", "b")]))),
            ("cookie crumbs", endless(&block(&[("cookie", "")]).repeat(10))),
            ("HPACK bomb", frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)),
        ],
    );
}

#[test]
fn what_breaks_the_protocol_ends_the_connection_and_is_counted() {
    each_is_closed(
        "protocol",
        &[
            ("a window opened too far", frame(WINDOW_UPDATE, 0, 0, &0x7FFF_FFFF_u32.to_be_bytes()).repeat(2)),
            ("a window opened by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
            ("a stream's window opened by nothing", streams(9, "POST", 0, |n| frame(WINDOW_UPDATE, 0, n, &[0; 4]))),
            ("CONTINUATION of nothing", frame(CONTINUATION, 0, 1, &[])),
            ("a frame too large", frame(DATA, 0, 1, &[0; 17_000])),
            ("DATA behind the end", streams(1, "POST", END_STREAM, |n| frame(DATA, 0, n, b"x"))),
            ("malformed heads", streams(1, "GE T", END_STREAM, |_| Vec::new())),
            ("a stream that was never opened", frame(DATA, 0, 9, b"x")),
        ],
    );
}

#[test]
fn many_small_fields_are_refused_with_their_request_alone() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    for (name, count) in [("a", 200), ("cookie", 200), ("a", 400), ("cookie", 400)] {
        let mut client = Client::connect(gateway.address("front"));
        let fields = [head("GET"), block(&[(name, "")]).repeat(count)].concat();
        client.send(HEADERS, END_STREAM | END_HEADERS, 1, &fields);
        let answer = client.next_of(&[HEADERS, RST_STREAM, GOAWAY]);

        assert_eq!((answer.kind, answer.status()), (HEADERS, 431), "{count} times {name:?}");
        client.get(3, "/");
        assert_eq!(client.next_of(&[HEADERS, GOAWAY]).stream, 3, "{count} times {name:?}");
    }
}

#[test]
fn a_header_block_that_does_not_end_in_time_ends_the_connection() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { header = \"200ms\" }", "");
    let whole = frame(HEADERS, 0, 1, &head("GET"));
    let cases = [
        ("half a frame's head", whole[..4].to_vec()),
        ("half a block", whole[..20].to_vec()),
        ("a block to go on", whole.clone()),
        ("half a PING", frame(PING, 0, 0, &[0; 8])[..12].to_vec()),
    ];
    for (n, (what, bytes)) in cases.iter().enumerate() {
        let since = Instant::now();
        flood(gateway.address("front"), bytes);
        assert!(since.elapsed() < PATIENCE / 4, "{what}: {:?}", since.elapsed());
        assert_closed(&gateway, "header_timeout", n + 1, what);
    }
}

#[test]
fn a_header_block_in_parts_that_does_not_end_is_closed_within_a_second_or_so() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    let mut client = Client::connect(gateway.address("front"));
    client.get(1, "/");
    assert_eq!(client.next_of(&[HEADERS]).status(), 200, "and the settings are settled");
    client.send(HEADERS, 0, 3, &head("GET"));
    let since = Instant::now();
    assert_eq!(client.next_of(&[GOAWAY]).error_code(), ENHANCE_YOUR_CALM);
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}, as long as a head that moves may take", since.elapsed());
    assert!(client.next().is_none());
    assert_closed(&gateway, "header_timeout", 1, "a header block in parts");
}

#[test]
fn who_floods_is_told_so_and_held_up_before_he_can_come_back() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    let mut client = Client::connect(gateway.address("front"));
    client.get(1, "/");
    assert_eq!(client.next_of(&[HEADERS]).status(), 200);
    client.try_write(&frame(0xFA, 0, 0, &[]).repeat(10_001)).unwrap();
    let goodbye = client.next_of(&[GOAWAY]);
    let told = Instant::now();
    assert_eq!((goodbye.error_code(), goodbye.payload[3]), (ENHANCE_YOUR_CALM, 1), "and the last stream");
    assert!(client.next().is_none());
    assert!(told.elapsed() > Duration::from_millis(150), "{:?}", told.elapsed());
}

#[test]
fn requests_that_are_given_up_leave_room_for_others_when_the_upstream_has_noticed() {
    let (working, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let (now, came) = (working.clone(), last.clone());
    let upstream = Upstream::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST") {
                *came.lock().unwrap() = Some(Instant::now());
                now.fetch_add(1, SeqCst);
                continue; // waits for the end
            }
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    let gateway = gateway(&[upstream.address], "", "");
    let arrived = |wanted: usize| {
        let start = Instant::now();
        while working.load(SeqCst) < wanted {
            assert!(start.elapsed() < PATIENCE, "{} of {wanted} came", working.load(SeqCst));
            std::thread::yield_now();
        }
    };
    let mut client = Client::connect(gateway.address("front"));
    let numbers = |round: usize| (0..STREAMS).map(move |n| 2 * (round * STREAMS + n) as u32 + 1);
    let open = |round| numbers(round).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n, &head("POST")));
    let cancel = |round| numbers(round).flat_map(|n| frame(RST_STREAM, 0, n, &8_u32.to_be_bytes()));
    client.try_write(&open(0).collect::<Vec<u8>>()).unwrap();
    arrived(STREAMS);
    let given_up = Instant::now();
    client.try_write(&cancel(0).chain(open(1)).collect::<Vec<u8>>()).unwrap();
    arrived(STREAMS + 1);
    let waited = last.lock().unwrap().unwrap() - given_up;
    assert!(waited >= Duration::from_millis(100), "{waited:?}");

    arrived(2 * STREAMS);
    client.try_write(&cancel(1).chain(open(2)).collect::<Vec<u8>>()).unwrap();
    assert_eq!(client.next_of(&[GOAWAY]).error_code(), ENHANCE_YOUR_CALM, "too many were given up");
    assert_closed(&gateway, "excess", 1, "slow rapid reset");
}

#[test]
fn a_header_block_that_trickles_in_gets_no_more_time() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { header = \"300ms\" }", "");
    let ((), _) = withstood(&gateway, |front| {
        let mut client = Client::connect(front);
        client.send(HEADERS, 0, 1, &head("GET"));
        let since = Instant::now();
        let (field, mut asked) = (block(&[("a", "b")]), connect(front));
        // Each answer to another request is a beat of the trickle; as many as h2's own count of them allows.
        for _ in 0..1000 {
            if client.try_send(CONTINUATION, 0, 1, &field).is_err() {
                break;
            }
            if since.elapsed() > Duration::from_secs(2) {
                panic!("the trickle keeps the connection");
            }
            ask(&mut asked, GET);
            asked.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = std::io::Read::read(&mut asked, &mut [0]); // nothing comes: the beat's length
            asked.set_read_timeout(Some(PATIENCE)).unwrap();
        }
    });
    assert_closed(&gateway, "header_timeout", 1, "the trickle");
}

#[test]
fn a_client_that_pings_as_often_as_a_good_one_might_is_served_on() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    let mut client = Client::connect(gateway.address("front"));
    client.try_write(&frame(PING, 0, 0, &[7; 8]).repeat(5000)).unwrap();
    client.get(1, "/");
    assert_eq!(client.next_of(&[HEADERS, GOAWAY]).status(), 200);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_upstream_never_sees_them() {
    const SENT: usize = 160;
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (working.clone(), most.clone());
    let upstream = Upstream::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST") {
                peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                continue; // waits for the end
            }
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    let gateway = gateway(&[upstream.address], "", "");
    let (refused, grown) = withstood(&gateway, |front| {
        let mut client = Client::connect(front);
        client.try_write(&streams(SENT as u32, "POST", END_STREAM, |_| Vec::new())).unwrap();
        let refused = (0..SENT - STREAMS).filter(|_| client.next_of(&[RST_STREAM]).error_code() == 7).count();
        let start = Instant::now();
        while working.load(SeqCst) < STREAMS {
            assert!(start.elapsed() < PATIENCE, "{} of {STREAMS} came", working.load(SeqCst));
            std::thread::yield_now();
        }
        refused
    });
    assert_eq!(refused, SENT - STREAMS, "REFUSED_STREAM");
    assert_eq!(most.load(SeqCst), STREAMS);
    assert!(grown < 16 * MIB, "memory grew by {grown}");
}

#[test]
fn a_client_that_never_opens_its_window_holds_little_and_not_for_long() {
    let upstream = endless_upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { body = \"1s\" }", "");
    let before = resident(&gateway);
    let (held, _) = withstood(&gateway, |front| {
        let mut client = Client::connect(front);
        client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]); // SETTINGS_INITIAL_WINDOW_SIZE: 0
        client.try_write(&streams(100, "POST", END_STREAM, |_| Vec::new())).unwrap();
        (0..100).for_each(|_| assert_eq!(client.next_of(&[HEADERS, RST_STREAM]).kind, HEADERS));
        let held = resident(&gateway).saturating_sub(before);
        (0..100).for_each(|_| drop(client.next_of(&[RST_STREAM])));
        held
    });
    eprintln!("{} KiB held for 100 streams", held / 1024);
    assert!(held < 32 * MIB, "{held} bytes held for 100 streams");
}

#[test]
fn a_client_that_reads_no_answers_is_not_read_from_and_cut_off() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "timeouts = { body = \"500ms\" }", "");
    let ((), grown) = withstood(&gateway, |front| {
        let mut client = Client::connect(front);
        let one = |n: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head("GET"));
        let sent = (0..1_000_000).try_for_each(|n| client.try_write(&one(n)));
        assert!(sent.is_err(), "the gateway takes a million requests without an answer being read");
    });
    assert!(grown < 16 * MIB, "memory grew by {grown}");
}
