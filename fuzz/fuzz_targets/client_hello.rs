//! A TLS connection's first bytes: a verdict stands whatever follows, and how many bytes are missing is never too many.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::tls::client_hello::{MAX_BYTES, Parsed, parse};

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    for cut in (0..data.len().min(64)).chain((64..data.len()).step_by(53)) {
        match parse(&data[..cut]) {
            Ok(Parsed::Incomplete(wanted)) => {
                assert!(wanted > cut, "{wanted} bytes wanted, {cut} there");
                assert!(wanted <= data.len() || !matches!(whole, Ok(Parsed::Hello(_))), "more is wanted than it took");
            }
            // Bytes behind a fault do not mend it; bytes behind a hello, and in its last record, break it.
            decided => {
                assert!(decided == whole || whole.is_err(), "decided after {cut} bytes: {decided:?}, then {whole:?}")
            }
        }
    }
    match whole {
        Ok(Parsed::Hello(hello)) => {
            assert!(data.len() >= 5 && hello.alpn.iter().all(|name| !name.is_empty()));
            let name = hello.server_name.unwrap_or_default();
            assert!(name.len() <= 253 && !name.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_control()));
        }
        Ok(Parsed::Incomplete(wanted)) => assert!(data.len() < MAX_BYTES.max(wanted)),
        Ok(Parsed::NotTls) | Err(_) => {}
    }
});
