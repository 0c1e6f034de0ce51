//! A PKCS#12 bundle, opened by the seeds' password.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::fuzzing::open_bundle;

fuzz_target!(|data: &[u8]| open_bundle(data));
