//! Pebble, an ACME authority made for tests, with a name server that sends every name here.

use std::net::SocketAddr;
use std::process::Command;

use super::peers::{Peer, free_address};
use super::{Folder, cert};

/// A running authority. It remembers nothing once it is stopped.
pub struct Pebble {
    _names: Peer,
    _peer: Peer,
    management: SocketAddr,
}

/// Where an authority is, and where it expects its challenges to be answered.
#[derive(Clone, Copy)]
pub struct Places {
    pub directory: SocketAddr,
    pub http: SocketAddr,
    pub tls: SocketAddr,
}

impl Places {
    pub fn new() -> Self {
        Self { directory: free_address(), http: free_address(), tls: free_address() }
    }
}

/// The account that Pebble knows of where it wants one: its identifier and key.
pub const EXTERNAL: (&str, &str) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

impl Pebble {
    /// An authority whose certificates live for `seconds`; `external` where it wants accounts bound to others.
    pub fn start(places: Places, seconds: u32, external: bool) -> Self {
        let (names, management) = (free_address(), free_address());
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        command.args(["-dns01", &names.to_string(), "-management", &free_address().to_string()]);
        let server = Peer::start(command, names, Folder::new());
        let folder = Folder::new();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": places.directory.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": cert("localhost.pem"),
            "privateKey": cert("localhost.key"),
            "httpPort": places.http.port(),
            "tlsPort": places.tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": external,
            "externalAccountMACKeys": { EXTERNAL.0: EXTERNAL.1 },
            "certificateValidityPeriod": seconds,
        }});
        let file = folder.write("pebble.json", config.to_string());
        let mut command = Command::new("pebble");
        // Of a hundred nonces it refuses two that are good, as it may (RFC 8555, section 6.5). A request is tried three times, so
        // with ten a test in a hundred would fail for that alone.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0").env("PEBBLE_WFE_NONCEREJECT", "2");
        command.arg("-config").arg(file).args(["-strict", "-dnsserver", &names.to_string()]);
        let peer = Peer::start(command, places.directory, folder);
        Self { _names: server, _peer: peer, management }
    }

    /// What its management port says: roots, or the status of a certificate.
    pub fn ask(&self, path: &str) -> String {
        let url = format!("https://{}{path}", self.management);
        let output = Command::new("curl").args(["-sS", "--max-time", "10", "--cacert", &cert("ca.pem"), &url]).output();
        let output = output.expect("curl runs; scripts/test installs it");
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}
