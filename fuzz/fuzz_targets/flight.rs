//! A server's first flight before TLS 1.3.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::fuzzing::read_flight;

fuzz_target!(|data: &[u8]| read_flight(data));
