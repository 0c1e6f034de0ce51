//! The configuration's words: addresses, networks, durations, fingerprints. What is read is written back as it was, and
//! what is not read is told in one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::units::{
    LONGEST_DURATION, ServerAddress, duration, fingerprint, listen_address, network, server_address,
};

fuzz_target!(|text: &str| {
    if let Some(address) = read(listen_address(text)) {
        assert_eq!(listen_address(&address.to_string()), Ok(address));
    }
    if let Some(address) = read(server_address(text)) {
        let written = match &address {
            ServerAddress::Address(address) => address.to_string(),
            ServerAddress::Name { host, port } => format!("{host}:{port}"),
        };
        assert_eq!(server_address(&written), Ok(address));
    }
    if let Some(network) = read(network(text)) {
        assert!(network.addr() == network.network(), "bits behind the prefix");
    }
    if let Some(duration) = read(duration(text)) {
        assert!(duration <= LONGEST_DURATION);
    }
    read(fingerprint(text));
});

fn read<T>(result: Result<T, String>) -> Option<T> {
    result.inspect_err(|why| assert!(!why.chars().any(char::is_control), "not one line: {why:?}")).ok()
}
