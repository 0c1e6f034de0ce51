//! A TCP socket as the data path reads and writes it: by system calls of its own.
//!
//! libc's `recv` and `send` make a thread cancellable for as long as they take, in every process that has more than one
//! thread: a fiftieth of what passing a small message on costs. Readiness is tokio's, and so is everything else. Used by
//! `stream` for clients and by `upstream/wire` for servers.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;

/// A connected socket.
#[derive(Debug)]
pub struct Tcp(TcpStream);

impl From<TcpStream> for Tcp {
    fn from(tcp: TcpStream) -> Self {
        Self(tcp)
    }
}

impl Deref for Tcp {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl Tcp {
    /// Whether a read might find something, as far as tokio knows: if not, it would find nothing. Neither asks the kernel nor has
    /// anybody woken.
    #[must_use]
    pub fn may_have_news(&self) -> bool {
        self.0.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    /// Makes a call that moves up to `wanted` bytes, where the socket is ready for it.
    ///
    /// Fewer bytes say that it is ready no more, as an error of the kind `WouldBlock` does: tokio is told so at once, which
    /// saves the call that would find out.
    fn once(&self, interest: Interest, wanted: usize, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let mut partial = None;
        let moved = self.0.try_io(interest, || match call()? {
            n if (1..wanted).contains(&n) => {
                partial = Some(n);
                Err(io::ErrorKind::WouldBlock.into())
            }
            n => Ok(n),
        });
        partial.map_or(moved, Ok)
    }
}

/// What a message mostly fits into: to copy it from the stack costs less than libc's call does.
const SMALL: usize = 8 * 1024;

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wanted = buf.remaining();
        let is_initialized = buf.initialized().len() == buf.capacity();
        if !is_initialized && wanted > SMALL {
            return Pin::new(&mut self.0).poll_read(cx, buf); // to write zeros first, or to copy, would cost more
        }
        let turn = ready!(poll_proceed(cx));
        loop {
            let read = self.once(Interest::READABLE, wanted, || {
                if is_initialized {
                    let n = recv(&self.0, buf.initialize_unfilled(), RecvFlags::empty())?.0;
                    buf.advance(n);
                    return Ok(n);
                }
                let mut space = [const { MaybeUninit::uninit() }; SMALL];
                let ((got, _), n) = recv(&self.0, &mut space[..wanted], RecvFlags::empty())?;
                buf.put_slice(got);
                Ok(n)
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_read_ready(cx))?,
                read => {
                    turn.made_progress();
                    return Poll::Ready(read.map(drop));
                }
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let turn = ready!(poll_proceed(cx));
        loop {
            let write = || Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?);
            match self.once(Interest::WRITABLE, bytes.len(), write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_write_ready(cx))?,
                written => {
                    turn.made_progress();
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces) // large, so that the call is a small part of it
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Tcp, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near.into(), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_so_does_the_end() {
        let (mut near, mut far) = pair().await;
        let mut room = [0; 16];
        for word in ["one", "two", "a longer one"] {
            near.write_all(word.as_bytes()).await.unwrap();
            far.read_exact(&mut room[..word.len()]).await.unwrap();
            far.write_all(&room[..word.len()]).await.unwrap();
            let n = near.read(&mut room).await.unwrap();
            assert_eq!(&room[..n], word.as_bytes());
        }
        drop(far);
        assert_eq!(near.read(&mut room).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn more_than_the_kernel_takes_waits_and_arrives_whole() {
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move { near.write_all(&sent).await.map(|()| near) });
        let mut got = vec![0; expected.len()];
        far.read_exact(&mut got).await.unwrap();
        assert!(got == expected);
        let mut near = writer.await.unwrap().unwrap();

        let writer = tokio::spawn(async move { far.write_all(&got).await });
        let mut back = vec![0; expected.len()];
        near.read_exact(&mut back).await.unwrap();
        writer.await.unwrap().unwrap();
        assert!(back == expected);
    }

    #[tokio::test]
    async fn a_reset_is_an_error_to_whoever_reads_or_writes() {
        let (mut near, far) = pair().await;
        far.set_zero_linger().unwrap();
        drop(far);
        assert_eq!(near.read(&mut [0; 4]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(near.write(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
