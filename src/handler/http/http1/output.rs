//! What is on its way to an HTTP/1.1 client: framing and small pieces in one buffer, a large piece behind it.
//!
//! Owns the order of the bytes and how few writes they make. Filled by `framing`; written by `wire`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Pieces up to this size are copied behind the framing: cheaper than a vector of pieces.
const COPIED: usize = 1024;
/// When so much waits in the buffer, it is written before more is taken.
const FULL: usize = 16 * 1024;

/// Bytes to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    /// So much of the buffer is written.
    written: usize,
    /// What comes behind the buffer, and what ends it.
    piece: Bytes,
    tail: &'static [u8],
    /// Something was written since the last flush.
    unflushed: bool,
}

impl Output {
    /// The buffer, to add to. Nothing may be behind it: there is [room](Self::has_room).
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.piece.is_empty() && self.tail.is_empty(), "the order of the bytes");
        &mut self.buffer
    }

    /// Adds content, and what ends it.
    pub(super) fn add(&mut self, piece: Bytes, tail: &'static [u8]) {
        if piece.len() <= COPIED {
            self.buffer.extend_from_slice(&piece);
            self.buffer.extend_from_slice(tail);
        } else {
            (self.piece, self.tail) = (piece, tail);
        }
    }

    /// Whether more may be added.
    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.tail.is_empty() && self.buffer.len() - self.written < FULL
    }

    /// Writes and flushes all of it.
    pub(super) fn poll_write<W>(&mut self, cx: &mut Context<'_>, stream: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            let head = &self.buffer[self.written..];
            let polled = match (head.is_empty(), self.piece.is_empty() && self.tail.is_empty()) {
                (true, true) => break,
                (false, true) => Pin::new(&mut *stream).poll_write(cx, head),
                _ => {
                    let pieces = [head, &self.piece, self.tail].map(IoSlice::new);
                    Pin::new(&mut *stream).poll_write_vectored(cx, &pieces)
                }
            };
            match ready!(polled)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.advance(n),
            }
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut n: usize) {
        self.unflushed = true;
        let of_buffer = n.min(self.buffer.len() - self.written);
        self.written += of_buffer;
        if self.written == self.buffer.len() {
            self.written = 0;
            self.buffer.clear();
            if self.buffer.capacity() > FULL {
                self.buffer = Vec::new(); // what a large head has left behind
            }
        }
        n -= of_buffer;
        let of_piece = n.min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = &self.tail[n - of_piece..];
    }
}
