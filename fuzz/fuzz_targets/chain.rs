//! Chain and key files as text, and their audit. The input is both: a file that holds the chain and the key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::audit_holds;

fuzz_target!(|data: &[u8]| audit_holds(data, data));
