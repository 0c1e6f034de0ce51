//! The strict reader of HTTP/1.1 requests: how the bytes are cut makes no difference, and what is accepted an independent
//! parser reads in the same way, message by message and body by body.

#![no_main]

use http::{HeaderName, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use portcullis::fuzzing::read_requests;
use portcullis_fuzz::pieces;

fuzz_target!(|data: &[u8]| {
    let whole = read_requests([data]);
    let single = read_requests(data.chunks(1));
    assert!(single.is_like(&whole), "byte by byte: {single:?}\nat once: {whole:?}");
    let cut = read_requests(pieces(data));
    assert!(cut.is_like(&whole), "in pieces: {cut:?}\nat once: {whole:?}");

    let mut rest = whole.passed();
    let mut bodies = whole.bodies().iter();
    while !rest.is_empty() {
        let read = bodies.next().expect("a body for each head, empty or not");
        let Some((length, body)) = message(rest) else {
            assert!(!whole.is_between(), "the other parser waits for more: {whole:?}");
            return;
        };
        assert_eq!(*read, body, "the body of {:?}", String::from_utf8_lossy(&rest[..length]));
        rest = &rest[length..];
    }
    assert_eq!(bodies.next(), None, "a message too many: {whole:?}");
    assert!(!whole.breaks_body(), "the other parser takes a broken body for a whole one: {whole:?}");
});

/// The length of the message at the start, and its body, as an independent reader sees them; `None` where it goes on.
fn message(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else { panic!("httparse refuses the head") };
    let (method, target) = (request.method.unwrap(), request.path.unwrap());
    Method::from_bytes(method.as_bytes()).expect("the method");
    let target: Uri = target.parse().expect("the target");
    assert!(!target.authority().is_some_and(|authority| authority.as_str().contains('@')), "user information");
    for field in request.headers.iter() {
        HeaderName::from_bytes(field.name.as_bytes()).expect("a field's name");
        HeaderValue::from_bytes(field.value).expect("a field's value");
    }
    let values = |name: &str| -> Vec<&[u8]> {
        request.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value).collect()
    };
    assert!(values("host").len() <= 1 && (request.version == Some(0) || values("host").len() == 1), "Host");
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Some((head, Vec::new())),
        ([length], []) => {
            let length: u64 = std::str::from_utf8(length).unwrap().parse().expect("the length");
            (length <= (bytes.len() - head) as u64)
                .then(|| (head + length as usize, bytes[head..head + length as usize].to_vec()))
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1), "the transfer coding");
            chunks(&bytes[head..]).map(|(length, body)| (head + length, body))
        }
        _ => panic!("two framings"),
    }
}

fn chunks(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return None,
            Err(error) => panic!("a chunk's size: {error}"),
        };
        at += line;
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            return match httparse::parse_headers(&bytes[at..], &mut fields) {
                Ok(httparse::Status::Complete((length, _))) => Some((at + length, body)),
                Ok(httparse::Status::Partial) => None,
                Err(error) => panic!("the trailers: {error}"),
            };
        }
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size))?;
        match bytes.get(end..)? {
            [] | [b'\r'] => return None,
            [b'\r', b'\n', ..] => {
                body.extend_from_slice(&bytes[at..end]);
                at = end + 2;
            }
            _ => panic!("a chunk has no end"),
        }
    }
}
