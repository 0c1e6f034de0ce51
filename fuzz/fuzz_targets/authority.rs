//! Host and `:authority`: what is accepted names one host and one port to every reader.

#![no_main]

use http::Uri;
use http::uri::Authority;
use libfuzzer_sys::fuzz_target;
use portcullis::fuzzing::is_authority;

fuzz_target!(|data: &[u8]| {
    let accepted = is_authority(data);
    assert_eq!(accepted, is_authority(&data.to_ascii_uppercase()), "its case counts");
    if !accepted {
        return;
    }
    assert!(data.iter().all(|b| b.is_ascii_graphic() && !b"@/?#%\"\\<>".contains(b)), "a delimiter");
    let text = std::str::from_utf8(data).unwrap();
    let authority: Authority = text.parse().expect("the parser behind refuses it");
    let port = text[authority.host().len()..].strip_prefix(':').unwrap_or_default();
    assert_eq!(authority.port_u16(), port.parse().ok(), "another port");
    assert!(!authority.host().is_empty(), "no host");
    let uri: Uri = format!("http://{text}/x").parse().expect("the parser behind refuses the target");
    assert_eq!(uri.authority(), Some(&authority));
});
