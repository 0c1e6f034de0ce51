//! An HTTP/2 client that sends and shows single frames (RFC 9113), for what no real client would let a test see.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{PATIENCE, client};

/// Frame types (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// One frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is the last of its stream.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status of a response's HEADERS, of those that a test expects: the first field of the block is `:status`,
    /// from the static table (RFC 7541, appendix A) or literal with its name from there.
    pub fn status(&self) -> u16 {
        match self.payload[0] {
            byte @ 0x88..=0x8E => [200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)],
            _ => {
                let length = usize::from(self.payload[1] & 0x7F);
                let value = &self.payload[2..2 + length];
                if self.payload[1] & 0x80 == 0 {
                    std::str::from_utf8(value).unwrap().parse().unwrap()
                } else {
                    digits(value)
                }
            }
        }
    }

    /// The error code of an RST_STREAM or, behind the last stream's number, of a GOAWAY.
    pub fn error_code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 5 bits for "0" to "2", 6 bits for the others.
fn digits(coded: &[u8]) -> u16 {
    let bits = coded.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = 8 * coded.len();
    (0..3).fold(0, |number, _| {
        let (width, digit) = match bits >> (left - 5) & 0x1F {
            short @ 0..=2 => (5, short),
            _ => (6, (bits >> (left - 6) & 0x3F) - 0x19 + 3),
        };
        left -= width;
        number * 10 + digit as u16
    })
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block, its fields as literals without indexing and without Huffman's code (RFC 7541, section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|n| *n < 127).expect("a short text"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A connection with prior knowledge.
pub struct Client(TcpStream);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let mut stream = client::connect(address);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut client = Self(stream);
        client.send(SETTINGS, 0, 0, &[]);
        client
    }

    /// Sends one frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(kind, flags, stream, payload).unwrap();
    }

    /// As [`send`](Self::send), where the other side may have closed.
    pub fn try_send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.try_write(&frame(kind, flags, stream, payload))
    }

    /// Sends bytes as they stand: many frames at once, or a part of one.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends a request's head; `fields` are written as they stand, pseudo fields too.
    pub fn request(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.try_request(stream, flags, fields).unwrap();
    }

    fn try_request(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> io::Result<()> {
        self.try_send(HEADERS, flags | END_HEADERS, stream, &block(fields))
    }

    /// Asks for a path with GET.
    pub fn get(&mut self, stream: u32, path: &str) {
        self.try_get(stream, path).unwrap();
    }

    /// As [`get`](Self::get), where the other side may have closed.
    pub fn try_get(&mut self, stream: u32, path: &str) -> io::Result<()> {
        let head = [(":method", "GET"), (":scheme", "http"), (":authority", "h2.example"), (":path", path)];
        self.try_request(stream, END_STREAM, &head)
    }

    /// The next frame, but for SETTINGS and PING, which are answered; `None` where the connection has ended.
    pub fn next(&mut self) -> Option<Frame> {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "nothing but SETTINGS and PING comes");
            let mut head = [0; 9];
            if let Err(e) = self.0.read_exact(&mut head) {
                assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "no frame and no end");
                return None;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).ok()?;
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match (frame.kind, frame.flags & ACK) {
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, &[]),
                // hyper measures the path, and sends its goodbye in two steps with a PING between.
                (PING, 0) => self.send(PING, ACK, 0, &frame.payload),
                (SETTINGS | PING, _) => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads until the other side closes or resets; nothing is answered.
    pub fn read_to_end(mut self) {
        client::read_to_end(&mut self.0);
    }

    /// The next frame of one of these types.
    pub fn next_of(&mut self, kinds: &[u8]) -> Frame {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "no frame of {kinds:?} among those that came");
            let frame = self.next().unwrap_or_else(|| panic!("the connection ended before a frame of {kinds:?}"));
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }
}
