//! A certificate's DER, alone and above a well-formed leaf with its key, and its audit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::audit_holds;

const LEAF: &[u8] = include_bytes!("../../certs/www.pem");
const KEY: &[u8] = include_bytes!("../../certs/www.key");

fuzz_target!(|der: &[u8]| {
    let pem = pem(der);
    audit_holds(&pem, KEY);
    audit_holds(&[LEAF, &pem].concat(), KEY);
});

fn pem(der: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three.iter().chain([&0; 2]).take(3).fold(0_usize, |bits, b| bits << 8 | usize::from(*b));
            let digits = [18, 12, 6, 0].map(|shift| DIGITS[bits >> shift & 63]);
            text.extend(&digits[..=three.len()]);
            text.extend(&b"=="[..3 - three.len()]);
        }
        text.push(b'\n');
    }
    text.extend(b"-----END CERTIFICATE-----\n");
    text
}
