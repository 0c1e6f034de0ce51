//! Clients that send exactly the bytes that a test says, and curl for everything that a real client does better.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;

/// A response, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A field's value, by its lower-case name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A connection with a read deadline.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connects to one who may reset the connection at once, which an attempt with a deadline can be told of in the place of its
/// success; and leaves.
pub fn knock(address: SocketAddr) {
    drop(TcpStream::connect(address));
}

/// As [`connect`], from an address of this machine's.
pub fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closes a connection by a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends bytes and reads until the other side closes; what came.
pub fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = connect(address);
    // The other side may close before it has read everything, which is what some tests are about.
    let _ = stream.write_all(bytes.as_ref());
    read_to_close(&mut stream)
}

/// Reads until the other side closes or resets.
pub fn read_to_close(stream: &mut impl Read) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no close; came so far: {all:?}"),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads one response's head, and not a byte more.
pub fn read_head(stream: &mut impl Read) -> Answer {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut byte).unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&head)));
        assert_eq!(n, 1, "closed after {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    parse(&String::from_utf8_lossy(&head))
}

/// Reads one response with a Content-Length from a kept connection.
pub fn read_response(stream: &mut impl Read) -> Answer {
    let mut answer = read_head(stream);
    let length = answer.field("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    answer.body = String::from_utf8_lossy(&body).into_owned();
    answer
}

/// Sends a request and reads its response, with a Content-Length, from a kept connection.
pub fn ask(stream: &mut TcpStream, request: impl AsRef<[u8]>) -> Answer {
    stream.write_all(request.as_ref()).unwrap();
    read_response(stream)
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
}

/// Reads until the connection ends; what came, and how it ended.
pub fn read_to_end(stream: &mut impl Read) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => (all, End::Closed),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no end; {} bytes came so far", all.len()),
        Err(_) => (all, End::Reset),
    }
}

/// Takes apart a response that ended with the connection.
pub fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"));
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    parse(&exchange(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")))
}

/// curl, quiet but for errors; its standard output. Panics unless it succeeds.
pub fn curl(args: &[&str]) -> String {
    let output = curl_command(args).output().expect("curl runs; scripts/test installs it");
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// curl, ready to run.
pub fn curl_command(args: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]).args(args);
    command
}
