//! The file of session-ticket keys.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::tls::tickets::key_file::parse;

fuzz_target!(|bytes: &[u8]| match parse(bytes) {
    Ok(secrets) => {
        assert!(!secrets.is_empty(), "a file without a key");
        for (index, secret) in secrets.iter().enumerate() {
            assert!([48, 80].contains(&secret.len()), "a key of {} bytes", secret.len());
            assert!(!secrets[..index].contains(secret), "a key stands twice");
        }
    }
    Err(why) => {
        assert!(!why.chars().any(char::is_control), "not one line: {why:?}");
        // No piece of the file that could be a part of a key is told.
        let told = |piece: &[u8]| why.as_bytes().windows(piece.len()).any(|window| window == piece);
        let own = b"openssl rand -base64 48 a key has 48 or 80 bytes, and this has";
        let pieces = bytes.windows(12).filter(|piece| !own.windows(12).any(|window| window == *piece));
        assert!(!pieces.into_iter().any(told), "{why:?} tells of the file");
    }
});
