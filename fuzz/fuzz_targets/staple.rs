//! A stapled status: an OCSP response.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::tls::ocsp::Response;

fuzz_target!(|der: &[u8]| match Response::read(der) {
    Ok(_) => {
        // What follows a whole response is never passed over.
        let longer = [der, &[0]].concat();
        assert!(Response::read(&longer).is_err(), "a byte was passed over");
    }
    Err(why) => assert!(!why.is_empty() && !why.chars().any(char::is_control), "not one line: {why:?}"),
});
