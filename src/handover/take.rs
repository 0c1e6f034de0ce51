//! The new gateway's side.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{AT_ONCE, MOST, PATIENCE, PROTOCOL, word};

/// The longest head of an answer, in bytes.
const HEAD: usize = 4096;

/// The gateway that is taken over from. Dropping it before [`serving`](Self::serving) leaves that gateway as it is.
#[derive(Debug)]
pub(crate) struct Predecessor(UnixStream);

impl Predecessor {
    /// Asks the gateway behind a control socket for its sockets.
    ///
    /// # Errors
    /// Nobody answers there, or what answers cannot be taken over from.
    pub(crate) fn ask(control: &Path) -> io::Result<(Self, Vec<TcpListener>)> {
        let mut stream = UnixStream::connect(control)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "POST /take-over HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: upgrade\r\n\
             Upgrade: {PROTOCOL}\r\n\r\n"
        )?;
        let head = head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 101 ") {
            let line = head.lines().next().unwrap_or_default();
            return Err(io::Error::other(format!("it answered {line:?} instead of its sockets")));
        }
        stream.write_all(&[word::SEND])?;
        let sockets = sockets(&stream)?;
        Ok((Self(stream), sockets))
    }

    /// Says that this gateway serves, and waits until the old one drains.
    ///
    /// # Errors
    /// The old one is gone, or has waited too long and serves on.
    pub(crate) fn serving(mut self) -> io::Result<()> {
        self.0.write_all(&[word::SERVING])?;
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        if byte == [word::DRAINING] { Ok(()) } else { Err(io::Error::other("an unknown word")) }
    }
}

/// Reads a head, and not a byte more: what comes behind it may carry descriptors, which a plain read would lose.
fn head(stream: &mut UnixStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() > HEAD {
            return Err(io::Error::other("its answer is no HTTP"));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn sockets(from: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    loop {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
        for part in message.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                sockets.extend(descriptors.map(|descriptor: OwnedFd| TcpListener::from(descriptor)));
            }
        }
        match byte {
            _ if received.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if sockets.len() > MOST => return Err(io::Error::other("it sends sockets without end")),
            [word::MORE] => {}
            [word::ALL] => return Ok(sockets),
            _ => return Err(io::Error::other("an unknown word")),
        }
    }
}
