//! The old gateway's side.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{AT_ONCE, PATIENCE, word};
use crate::listener::spares::Spares;

/// Gives every socket to the successor at the other end and waits until it serves; then calls `drain`. Blocks.
///
/// # Errors
/// The successor went away, failed to start, or took too long. Nothing has changed here then.
pub(crate) fn give(mut to: UnixStream, spares: &Spares, drain: impl FnOnce()) -> io::Result<()> {
    to.set_nonblocking(false)?;
    to.set_read_timeout(Some(PATIENCE))?;
    to.set_write_timeout(Some(PATIENCE))?;
    expect(&mut to, word::SEND)?;
    send(&to, &spares.all()?)?;
    expect(&mut to, word::SERVING)?;
    to.write_all(&[word::DRAINING])?;
    drain();
    Ok(())
}

fn send(to: &UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    for some in sockets.chunks(AT_ONCE) {
        let descriptors: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        if !message.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        sendmsg(to, &[IoSlice::new(&[word::MORE])], &mut message, SendFlags::NOSIGNAL)?;
    }
    (&mut &*to).write_all(&[word::ALL])
}

fn expect(from: &mut UnixStream, word: u8) -> io::Result<()> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    if byte == [word] { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown word")) }
}
