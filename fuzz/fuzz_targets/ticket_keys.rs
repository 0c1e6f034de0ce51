//! The file of session-ticket keys.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::tls::tickets::key_file::parse;

/// All that is said of a file, but for numbers and the line: nothing of what it holds, which might be a part of a key.
const SAID: [&str; 6] = [
    "it is not base64",
    "it has more than 64 keys",
    "it has no key; make one with: openssl rand -base64 48",
    "a key has 48 or 80 bytes, and this has 7; make one with: openssl rand -base64 48",
    "the key is one byte repeated; make one with: openssl rand -base64 48",
    "the key stands there before",
];

/// The same text for whatever numbers, which are counts and so have few digits.
fn without_numbers(text: &str) -> String {
    let mut rest = text;
    let mut without = String::new();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        assert!(end <= 6, "{text:?} has a large number");
        without.push_str(before);
        without.push('N');
        rest = &number[end..];
    }
    without + rest
}

fuzz_target!(|bytes: &[u8]| match parse(bytes) {
    Ok(secrets) => {
        assert!(!secrets.is_empty(), "a file without a key");
        for (index, secret) in secrets.iter().enumerate() {
            assert!([48, 80].contains(&secret.len()), "a key of {} bytes", secret.len());
            assert!(!secrets[..index].contains(secret), "a key stands twice");
        }
    }
    Err(why) => {
        let said = without_numbers(&why);
        let said = said.strip_prefix("line N: ").unwrap_or(&said);
        assert!(SAID.iter().any(|known| without_numbers(known) == said), "{why:?} tells of the file");
    }
});
