//! The strict reader by itself, on generated input: pieces do not matter, and what it accepts another parser reads alike.

use bytes::Bytes;
use hyper::{HeaderMap, Request};
use proptest::prelude::*;

use crate::handler::http::feed::read;
use crate::handler::http::head::{BodyKind, Head};
use crate::handler::http::http1;
use crate::handler::http::scan::Phase;

/// Mostly well-formed pieces of requests, so that the generated ones get far.
fn request_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("GET /a HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        4 => Just("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".to_owned()),
        4 => Just("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        4 => Just("3;a=\"b\\\"\"\r\nabc\r\n".to_owned()),
        4 => Just("0\r\nX: y\r\n\r\n".to_owned()),
        2 => Just("0\r\n\r\n".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => Just("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: y\r\n\r\n".to_owned()),
        1 => "[ -~\r\n]{1,8}",
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

/// Heads that are nearly right: each part now and then wrong.
fn head_text() -> impl Strategy<Value = Vec<u8>> {
    let target = prop_oneof![
        4 => "/[ -~]{0,12}".prop_map(String::into_bytes),
        1 => "https?://[a-z.:0-9@%-]{0,8}[/?]?[!-~]{0,6}".prop_map(String::into_bytes),
        1 => Just(b"*".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    let field = prop_oneof![
        4 => Just(b"Host: x".to_vec()),
        2 => "Content-Length:[ \t]{0,2}[+-]?[0-9, ]{0,22}[ \t]{0,2}".prop_map(String::into_bytes),
        2 => "Transfer-Encoding: ?(chunked|Chunked|gzip|chunked, chunked)[ \t]{0,2}".prop_map(String::into_bytes),
        2 => "[!-~]{1,6}: ?[ -~]{0,6}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    let end = prop_oneof![8 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let method = prop_oneof![8 => Just("GET"), 4 => Just("POST"), 2 => Just("OPTIONS"), 1 => Just("G T")];
    let version = prop_oneof![8 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/1.2")];
    let fields = prop::collection::vec((field, end), 0..5);
    (method, target, version, fields).prop_map(|(method, target, version, fields)| {
        let mut head = [method.as_bytes(), b" ", &target, b" ", version.as_bytes(), b"\r\n"].concat();
        for (field, end) in fields {
            head.extend([field.as_slice(), end.as_bytes()].concat());
        }
        head.extend(b"\r\n");
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_the_bytes_are_cut_makes_no_difference(text in request_text(), cuts in prop::collection::vec(1_usize..9, 1..40)) {
        let bytes = text.as_bytes();
        let whole = read([bytes]);
        let single = read(bytes.chunks(1));
        prop_assert!(single.is_like(&whole), "{single:?} is not {whole:?}");
        let (mut pieces, mut rest) = (Vec::new(), bytes);
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let cut = read(pieces);
        prop_assert!(cut.is_like(&whole), "{cut:?} is not {whole:?}");
    }

    #[test]
    fn what_is_accepted_another_parser_reads_alike(bytes in head_text()) {
        let mut head = Head::default();
        let Ok(Some(accepted)) = head.advance(&bytes) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        prop_assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(accepted.len)));
        let mut made = Request::new(());
        let (whole, space) = (Bytes::from(bytes.clone()), &mut HeaderMap::new());
        http1::begin(&mut made, whole, &accepted, head.fields(), space).unwrap();
        prop_assert_eq!((Some(made.method().as_str()), accepted.is_11), (request.method, request.version == Some(1)));
        prop_assert_eq!(made.headers().len(), request.headers.len());
        for field in request.headers.iter() {
            prop_assert!(made.headers().get_all(field.name).iter().any(|value| value.as_bytes() == field.value));
        }
        prop_assert!(request.path.unwrap().parse::<hyper::Uri>().is_ok(), "{:?}", request.path);
        let values = |name: &str| -> Vec<&[u8]> {
            request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
        };
        match (accepted.body, &values("content-length")[..], &values("transfer-encoding")[..]) {
            (BodyKind::Length(0), [], []) => {}
            (BodyKind::Length(n), [value], []) => prop_assert_eq!(std::str::from_utf8(value).unwrap().parse(), Ok(n)),
            (BodyKind::Chunked, [], [coding]) => prop_assert!(coding.eq_ignore_ascii_case(b"chunked")),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn nothing_makes_the_reader_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read([&b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &bytes]);
        read([&bytes[..]]);
    }
}

#[test]
fn a_body_is_what_was_sent_however_it_is_framed_and_cut() {
    let chunks = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n02\r\nde\r\n0\r\nA: b\r\n\r\n";
    let length = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde";
    let both = [&chunks[..], b"\r\n", length, length].concat();
    for cut in 1..both.len() {
        let outcome = read(both.chunks(cut));
        assert_eq!((outcome.fault, outcome.phase), (None, Phase::Between));
        assert_eq!(outcome.bodies, [b"abcde"; 3]);
    }
}

#[test]
fn chunk_sizes_up_to_sixty_four_bits_are_counted_without_overflow() {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let outcome = read([&head[..], b"ffffffffffffffff\r\n", &[b'a'; 4096]]);
    assert_eq!((outcome.fault, outcome.phase), (None, Phase::Body));
}
