//! The PROXY header: a verdict stands whatever follows, and what is read is written back as it was.

#![no_main]

use std::net::SocketAddr;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use portcullis::config::ProxyProtocol;
use portcullis::identity::{Class, ConnectionInfo, Endpoint, EndpointName, Kept, Local, Remote};
use portcullis::proxy_protocol::{Claim, Parsed, V2_MAX, header, parse};

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    for cut in (0..data.len().min(32)).chain((32..data.len()).step_by(29)) {
        match parse(&data[..cut]) {
            Ok(Parsed::Incomplete) => {}
            decided => assert_eq!(decided, whole, "decided after {cut} bytes"),
        }
    }
    match whole {
        Ok(Parsed::Incomplete) => assert!(data.len() < V2_MAX, "{} bytes decide nothing", data.len()),
        Ok(Parsed::Header { length, claim }) => {
            assert!(length <= data.len() && length <= V2_MAX);
            assert_eq!(parse(&data[..length]), whole, "bytes behind the header count");
            if let Claim::Proxied { source, destination } = claim {
                written_back(source, destination);
            }
        }
        Err(_) => {}
    }
});

fn written_back(source: SocketAddr, destination: SocketAddr) {
    let Ok(name) = EndpointName::new("internet") else { return };
    let endpoint = Arc::new(Endpoint { name, class: Class::Public, tls: false });
    let info = ConnectionInfo {
        endpoint,
        client: Remote(source),
        local: Local(destination),
        tls: None,
        asked: None,
        kept: Kept::default(),
    };
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let bytes = header(version, &info);
        let Ok(Parsed::Header { length, claim: Claim::Proxied { source: s, destination: d } }) = parse(&bytes) else {
            panic!("{version:?}: what was written cannot be read: {bytes:?}")
        };
        assert_eq!(length, bytes.len());
        // An IPv4 address may have been written as a mapped one, and the other way round.
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        assert_eq!((plain(s), plain(d)), (plain(source), plain(destination)), "{version:?}");
    }
}
