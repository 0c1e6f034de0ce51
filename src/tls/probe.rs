//! Asks a running server what it presents: its chains, for RSA and for ECDSA, and how it negotiates.
//!
//! The command line's `audit` calls this for `HOST:PORT`; what is presented goes to the same audit as a file. Nothing is
//! trusted here and nothing is sent but handshakes: TLS 1.3 by rustls (`modern`), and the versions before it by a
//! ClientHello of our own (`hello`), since there the server's first flight is in clear (`flight`). Every connection has a
//! deadline and takes a bounded number of bytes.

pub(super) mod flight;
mod hello;
mod modern;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::Serialize;

use crate::tls::audit::rules::RuleId;
use crate::tls::chain::Material;

/// How long a look-up, and each connection with its handshake, may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How much is read of one connection: more than any library sends as a first flight.
const MOST_BYTES: usize = 256 * 1024;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Reads `HOST:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`; `None` for what is none of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bare = host.strip_prefix('[').map(|host| host.strip_suffix(']')).unwrap_or(Some(host))?;
        let named = bare.parse::<IpAddr>().is_err();
        let label = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let good = if named { !bare.is_empty() && host == bare && bare.bytes().all(label) } else { true };
        good.then(|| Self { host: bare.to_owned(), port })
    }

    /// The name that a client would ask for, if it is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.host.parse::<IpAddr>().is_err().then_some(&self.host)
    }

    fn shown(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// How a server answers.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Server {
    /// Where it was asked: `HOST:PORT`.
    pub server: String,
    /// The address that was connected to.
    pub address: Option<String>,
    /// The name that was asked for (SNI).
    pub name: Option<String>,
    /// The protocol versions that it accepts, of "1.0", "1.1", "1.2" and "1.3".
    #[schemars(with = "Vec<String>")]
    pub versions: Vec<&'static str>,
    /// A handshake for each version and kind of key that it accepts.
    pub handshakes: Vec<Handshake>,
}

/// What one handshake came to.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Handshake {
    /// The protocol version, such as "1.3".
    #[schemars(with = "String")]
    pub version: &'static str,
    /// The kind of key that the client offered to verify: "ECDSA" or "RSA".
    #[schemars(with = "String")]
    pub key: &'static str,
    /// The cipher suite, by its IANA name.
    pub cipher_suite: String,
    /// The key-exchange group; null where there was none.
    pub group: Option<String>,
    /// The application protocol; null where none was agreed on.
    pub alpn: Option<String>,
    /// Whether a status came with the certificate (OCSP stapling).
    pub stapled: bool,
    #[serde(skip)]
    chain: Vec<CertificateDer<'static>>,
    /// Whether the server proved that it has the private key; `None` where that was not looked at.
    #[serde(skip)]
    proven: Option<bool>,
}

/// The kinds of keys, each offered alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ecdsa,
    Rsa,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
        }
    }
}

/// Asks a server, and makes a chain of each that it presents; of one that presents none, a chain that says why.
#[must_use]
pub fn probe(target: &Target, name: Option<&str>) -> (Server, Vec<Material>) {
    let name = name.or(target.name()).map(ToOwned::to_owned);
    let mut server =
        Server { server: target.shown(), address: None, name, versions: Vec::new(), handshakes: Vec::new() };
    let faults = match reach(target) {
        Ok(address) => ask(&mut server, address, target),
        Err(why) => vec![why],
    };
    let materials = materials(&server, &faults);
    (server, materials)
}

/// The first of the target's addresses that takes a connection.
fn reach(target: &Target) -> Result<SocketAddr, String> {
    let mut last = "has no address".to_owned();
    for address in resolve(target)?.into_iter().take(8) {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(_) => return Ok(address),
            Err(error) => last = format!("cannot be reached at {address}: {error}"),
        }
    }
    Err(last)
}

/// The system's resolver has deadlines of its own, which are long: it is asked from a thread that may be left behind.
fn resolve(target: &Target) -> Result<Vec<SocketAddr>, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (host, port) = (target.host.clone(), target.port);
    thread::spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let _ = sender.send(found.map_err(|error| error.to_string()));
    });
    match receiver.recv_timeout(DEADLINE) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(format!("has no address: {error}")),
        Err(_) => Err(format!("has no address: no answer within {} seconds", DEADLINE.as_secs())),
    }
}

/// Shakes hands in every version with every kind of key, at once; gives what went wrong, in words.
fn ask(server: &mut Server, address: SocketAddr, target: &Target) -> Vec<String> {
    use hello::Version;
    server.address = Some(address.to_string());
    let name = server.name.clone();
    let shake = |version: Option<Version>, kind| {
        let link = Link::open(address)?;
        match version {
            None => modern::handshake(link, name.as_deref(), &target.host, kind),
            Some(version) => older(link, version, name.as_deref(), kind),
        }
    };
    let made: Vec<io::Result<Handshake>> = thread::scope(|scope| {
        let versions = [None, Some(Version::V12), Some(Version::V11), Some(Version::V10)];
        let all = versions.into_iter().flat_map(|version| [(version, Kind::Ecdsa), (version, Kind::Rsa)]);
        let running: Vec<_> = all.map(|(version, kind)| scope.spawn(move || shake(version, kind))).collect();
        let lost = || Err(io::Error::other("the handshake was lost"));
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut faults = Vec::new();
    made.into_iter().for_each(|made| note(server, made, &mut faults));
    faults
}

fn note(server: &mut Server, made: io::Result<Handshake>, faults: &mut Vec<String>) {
    match made {
        Ok(handshake) => {
            if !server.versions.contains(&handshake.version) {
                server.versions.push(handshake.version);
                server.versions.sort_unstable();
            }
            server.handshakes.push(handshake);
        }
        Err(error) => faults.push(format!("takes connections, and no handshake succeeds: {error}")),
    }
}

/// A handshake before TLS 1.3, up to the end of the server's first flight.
fn older(mut link: Link, version: hello::Version, name: Option<&str>, kind: Kind) -> io::Result<Handshake> {
    link.write_all(&hello::client_hello(version, name, kind)?)?;
    let mut bytes = Vec::new();
    let flight = loop {
        let before = bytes.len();
        bytes.resize(before + 16 * 1024, 0);
        let count = link.read(&mut bytes[before..])?;
        bytes.truncate(before + count);
        match flight::read(&bytes) {
            flight::Answer::More if count > 0 => {}
            flight::Answer::More => return Err(io::Error::other("the connection ends before the certificates")),
            flight::Answer::Alert(alert) => return Err(io::Error::other(format!("alert {}", flight::alert(alert)))),
            flight::Answer::Foreign(what) => return Err(io::Error::other(what)),
            flight::Answer::Flight(flight) => break flight,
        }
    };
    if flight.version != version.wire() {
        return Err(io::Error::other("another version was answered than asked for"));
    }
    Ok(Handshake {
        version: version.name(),
        key: kind.name(),
        cipher_suite: flight.suite_name(),
        group: flight.group_name(),
        alpn: flight.alpn.clone(),
        stapled: flight.stapled,
        chain: flight.chain.iter().map(|der| CertificateDer::from(der.clone())).collect(),
        proven: None,
    })
}

/// A chain for each that was presented, with what is wrong with the server at the first.
fn materials(server: &Server, faults: &[String]) -> Vec<Material> {
    let file = Path::new(&server.server);
    let mut chains: Vec<(&[CertificateDer<'static>], bool)> = Vec::new();
    for handshake in server.handshakes.iter().filter(|handshake| !handshake.chain.is_empty()) {
        match chains.iter_mut().find(|(chain, _)| *chain == handshake.chain) {
            Some((_, stapled)) => *stapled |= handshake.stapled,
            None => chains.push((&handshake.chain, handshake.stapled)),
        }
    }
    if chains.is_empty() {
        let why = faults.first().cloned().unwrap_or_else(|| "presents no certificate".to_owned());
        return vec![Material::unread(file, RuleId::ServerUnreachable, why)];
    }
    let mut materials: Vec<Material> =
        chains.into_iter().map(|(chain, stapled)| Material::presented(file, chain, stapled)).collect();
    let first = &mut materials[0];
    let old: Vec<&str> = server.versions.iter().copied().filter(|version| *version < "1.2").collect();
    if !old.is_empty() {
        first.note(RuleId::ServerOldTls, format!("accepts TLS {}", old.join(" and ")));
    }
    if !server.versions.contains(&"1.3") {
        first.note(RuleId::ServerNoTls13, "does not accept TLS 1.3".to_owned());
    }
    if let Some(bad) = server.handshakes.iter().find(|handshake| handshake.proven == Some(false)) {
        let seen =
            format!("signs its TLS {} handshake with another key than its {} certificate's", bad.version, bad.key);
        first.note(RuleId::ServerSignatureInvalid, seen);
    }
    materials
}

/// A connection with a deadline for all that is done on it, and a bound on what is read.
struct Link {
    stream: TcpStream,
    until: Instant,
    left: usize,
}

impl Link {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let until = Instant::now() + DEADLINE;
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, until, left: MOST_BYTES })
    }

    fn patience(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")) } else { Ok(left) }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("more bytes than a handshake has"));
        }
        self.stream.set_read_timeout(Some(self.patience()?))?;
        let most = buffer.len().min(self.left);
        match self.stream.read(&mut buffer[..most]) {
            Ok(count) => {
                self.left -= count;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.patience()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Target;

    #[test]
    fn a_target_is_a_host_or_an_address_with_a_port() {
        for (text, shown, name) in [
            ("example.com:443", "example.com:443", Some("example.com")),
            ("localhost:8443", "localhost:8443", Some("localhost")),
            ("127.0.0.1:443", "127.0.0.1:443", None),
            ("[::1]:443", "[::1]:443", None),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.shown().as_str(), target.name()), (shown, name));
        }
        for text in [
            "example.com",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            ":443",
            "a/b.pem:1",
            "[a]:1",
            "[::1:1",
        ] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }
}
