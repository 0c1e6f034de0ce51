//! The reader of servers' HTTP/1.1 responses: how the bytes are cut makes no difference.
//!
//! The first byte chooses the method of the request.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use portcullis::fuzzing::{Heard, read_response};
use portcullis_fuzz::pieces;

/// Up to this length, an input is read byte by byte too.
const SHORT: usize = 512;

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let method = if first & 1 == 0 { Method::GET } else { Method::HEAD };
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| -> Heard {
        read_response(method.clone(), pieces).expect("a connection to itself")
    };
    let whole = read(&mut [data].into_iter());
    assert!(whole.body.len() <= data.len(), "more content than came: {whole:?}");
    assert!(method != Method::HEAD || whole.body.is_empty(), "content in an answer to HEAD: {whole:?}");
    let cut = read(&mut pieces(data).into_iter());
    assert_eq!(cut, whole, "in pieces, and at once");
    if data.len() <= SHORT {
        assert_eq!(read(&mut data.chunks(1)), whole, "byte by byte, and at once");
    }
});
