//! Moves bytes both ways between two streams until both directions have ended.
//!
//! Owns half-close, the idle deadline and the counts. Used by `handler/tcp_proxy` for whole sessions, and by
//! `handler/http_proxy` after an upgrade.
//!
//! Every session of a worker reads into one buffer. A direction takes it along only where the other side does not take at
//! once what was read, so an idle session holds none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use crate::deadline::Deadline;
use crate::tcp::Tcp;

/// The size of a buffer: three TLS records, and less than a segment of loopback (65,483 bytes). A write of a little more
/// than a segment makes two, of which the kernel paces both: measured, with 64 KiB a megabyte costs half as much again.
const BUFFER: usize = 48 * 1024;
/// How many unused buffers a worker keeps, beside the one that it works with.
const UNUSED: usize = 15;

/// What bytes are relayed between.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// The socket that the next byte comes from as it is, so that the socket tells whether a read would find one; `None`
    /// where it would not, since bytes lie elsewhere or TLS is in between.
    fn source(&self) -> Option<&Tcp> {
        None
    }

    /// False where a read would certainly find nothing.
    fn may_have_news(&self) -> bool {
        self.source().is_none_or(Tcp::may_have_news)
    }
}

/// How a relay ended.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the client to the upstream.
    pub to_upstream: u64,
    /// Bytes from the upstream to the client.
    pub to_client: u64,
    /// The client's end had come, and was passed on.
    pub client_ended: bool,
    /// What broke it off; `None` when both sides ended in order.
    pub broken: Option<Broken>,
}

/// What broke a relay off.
#[derive(Debug)]
pub enum Broken {
    /// Reading from or writing to the client failed.
    Client(io::Error),
    /// Reading from or writing to the upstream failed.
    Upstream(io::Error),
    /// Not a byte moved for the idle deadline.
    Idle,
}

/// Relays until both directions have ended, one breaks, or nothing moves for `idle`.
///
/// An end of one direction is passed on as a half-close while the other goes on (RFC 9293, section 3.6). A direction
/// that breaks is never passed on as an end: the caller resets the other side, so that a truncation looks like one.
pub async fn relay<C, U>(client: &mut C, upstream: &mut U, idle: Duration) -> Relayed
where
    C: End,
    U: End,
{
    let mut up = Direction::default();
    let mut down = Direction::default();
    let mut quiet = Quiet::new(idle);
    let broken = poll_fn(|cx| {
        STOCK.with_borrow_mut(|stock| {
            let up_ended = match up.poll(cx, client, upstream, stock) {
                Poll::Ready(Err(Fault::Read(e))) => return Poll::Ready(Some(Broken::Client(e))),
                Poll::Ready(Err(Fault::Write(e))) => return Poll::Ready(Some(Broken::Upstream(e))),
                other => other.is_ready(),
            };
            let down_ended = match down.poll(cx, upstream, client, stock) {
                Poll::Ready(Err(Fault::Read(e))) => return Poll::Ready(Some(Broken::Upstream(e))),
                Poll::Ready(Err(Fault::Write(e))) => return Poll::Ready(Some(Broken::Client(e))),
                other => other.is_ready(),
            };
            if up_ended && down_ended {
                return Poll::Ready(None);
            }
            quiet.poll(cx, up.moved + down.moved).map(|()| Some(Broken::Idle))
        })
    })
    .await;
    Relayed { to_upstream: up.moved, to_client: down.moved, client_ended: up.stage == Stage::Ended, broken }
}

/// For how long nothing has moved. While bytes do, no clock is read and no timer touched: the alarm rings every eighth of
/// the deadline and looks whether they still do, so a session may end by that much too late, and never too early.
struct Quiet {
    idle: Duration,
    /// The last time that is known of at which something had moved.
    since: Instant,
    /// How many bytes had, by then.
    seen: u64,
    /// More may have since.
    busy: bool,
    /// When to look whether more have.
    next: Instant,
    alarm: Deadline,
}

impl Quiet {
    fn new(idle: Duration) -> Self {
        let since = Instant::now();
        Self { idle, since, seen: 0, busy: false, next: since + idle, alarm: Deadline::default() }
    }

    /// Ready when nothing has moved for the deadline. `moved` is how many bytes have, in all.
    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        if !self.busy && moved != self.seen {
            self.look_again(moved);
        }
        loop {
            ready!(self.alarm.poll(cx, self.next));
            if moved != self.seen {
                self.look_again(moved);
            } else if self.busy {
                (self.busy, self.next) = (false, self.since + self.idle);
            } else {
                return Poll::Ready(());
            }
        }
    }

    /// Something has moved: looks whether it still does in an eighth of the deadline.
    fn look_again(&mut self, moved: u64) {
        let now = Instant::now();
        (self.since, self.seen, self.busy, self.next) = (now, moved, true, now + self.idle / 8);
    }
}

/// One direction's state.
#[derive(Default)]
struct Direction {
    /// Holds what was read, where that could not be written at once; empty while it lies in front of the stock.
    in_hand: Buffer,
    /// What was read goes up to `read`, and what is before this is written.
    written: usize,
    read: usize,
    /// Bytes written.
    moved: u64,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The last read found less than there was room for.
    drained: bool,
    /// Everything is written and flushed, and this task is woken when the source has more.
    rests: bool,
    stage: Stage,
}

#[derive(Default, PartialEq)]
enum Stage {
    #[default]
    Moving,
    /// The source has ended; the end is yet to be passed on.
    Ending,
    Ended,
}

enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl Direction {
    /// Moves what can be moved; ready once the end has been passed on.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        stock: &mut Stock,
    ) -> Poll<Result<(), Fault>>
    where
        R: End,
        W: End,
    {
        // As one of two directions moves, the other mostly waits: its source wakes this task, which stays the same.
        if self.rests && !from.may_have_news() {
            return Poll::Pending;
        }
        self.rests = false;
        loop {
            if self.written < self.read {
                ready!(self.poll_write_out(cx, to, stock)).map_err(Fault::Write)?;
            }
            match self.stage {
                Stage::Moving => {
                    if self.poll_read_in(cx, from, stock).map_err(Fault::Read)?.is_pending() {
                        if self.unflushed {
                            ready!(Pin::new(to).poll_flush(cx)).map_err(Fault::Write)?;
                            self.unflushed = false;
                        }
                        // A task that has used up its turn is told to wait too, and nothing but its next turn wakes it.
                        self.rests = has_budget_remaining();
                        return Poll::Pending;
                    }
                }
                Stage::Ending => {
                    match ready!(Pin::new(&mut *to).poll_shutdown(cx)) {
                        // The other side may already be gone, which is no fault of this direction.
                        Err(e) if e.kind() != io::ErrorKind::NotConnected => return Poll::Ready(Err(Fault::Write(e))),
                        _ => self.stage = Stage::Ended,
                    }
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads a buffer full, or what there is; with nothing, the source has ended.
    fn poll_read_in<R: End>(&mut self, cx: &mut Context<'_>, from: &mut R, stock: &mut Stock) -> Poll<io::Result<()>> {
        // The last read left nothing: to wait for more costs less than a read that finds nothing.
        if mem::take(&mut self.drained)
            && let Some(source) = from.source()
        {
            ready!(source.poll_read_ready(cx))?;
        }
        let mut space = ReadBuf::new(stock.front());
        ready!(Pin::new(from).poll_read(cx, &mut space))?;
        (self.written, self.read) = (0, space.filled().len());
        self.drained = self.read < BUFFER;
        if self.read == 0 {
            self.stage = Stage::Ending;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is in hand.
    fn poll_write_out<W: End>(&mut self, cx: &mut Context<'_>, to: &mut W, stock: &mut Stock) -> Poll<io::Result<()>> {
        while self.written < self.read {
            let buffer = if self.in_hand.is_empty() { &stock.front } else { &self.in_hand };
            let Poll::Ready(written) = Pin::new(&mut *to).poll_write(cx, &buffer[self.written..self.read])? else {
                if self.in_hand.is_empty() {
                    self.in_hand = mem::take(&mut stock.front);
                }
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.moved += written as u64;
            self.unflushed = true;
        }
        if !self.in_hand.is_empty() {
            stock.take_back(mem::take(&mut self.in_hand));
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes on their way; empty where there are none.
type Buffer = Vec<u8>;

thread_local! {
    /// This worker's buffers.
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { front: Vec::new(), unused: Vec::new() }) };
}

/// Buffers that no session holds.
struct Stock {
    /// The one that the session which is polled reads into. It parts with it only if what was read cannot be written at once.
    front: Buffer,
    unused: Vec<Buffer>,
}

impl Stock {
    fn front(&mut self) -> &mut [u8] {
        if self.front.is_empty() {
            self.front = self.unused.pop().unwrap_or_else(|| vec![0; BUFFER]);
        }
        &mut self.front
    }

    fn take_back(&mut self, buffer: Buffer) {
        if self.unused.len() < UNUSED {
            self.unused.push(buffer);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    impl End for DuplexStream {}

    impl End for Tcp {
        fn source(&self) -> Option<&Tcp> {
            Some(self)
        }
    }

    async fn pair() -> (TcpStream, Tcp) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (outer, listener.accept().await.unwrap().0.into())
    }

    /// Both directions of a session over sockets, in turns and at once, with more than one turn of a task moves.
    #[tokio::test(flavor = "current_thread")]
    async fn sockets_are_relayed_in_turns_and_both_ways_at_once() {
        let ((mut client, mut gateway_client), (mut server, mut gateway_server)) = (pair().await, pair().await);
        let session =
            tokio::spawn(async move { relay(&mut gateway_client, &mut gateway_server, Duration::from_secs(50)).await });
        let mut byte = [0; 3];
        for _ in 0..500 {
            client.write_all(b"ask").await.unwrap();
            server.read_exact(&mut byte).await.unwrap();
            server.write_all(b"say").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
        }
        let sent: Vec<u8> = (0..30_000_000_u32).map(|i| (i % 251) as u8).collect();
        let both = [client, server].map(|end| {
            let sent = sent.clone();
            tokio::spawn(async move {
                let (mut reading, mut writing) = end.into_split();
                let writer = async {
                    writing.write_all(&sent).await.unwrap();
                    writing.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                let (read, ()) = tokio::join!(reading.read_to_end(&mut got), writer);
                read.unwrap();
                got == sent
            })
        });
        for end in both {
            assert!(end.await.unwrap());
        }
        let relayed = session.await.unwrap();
        assert!(relayed.broken.is_none());
        assert_eq!((relayed.to_upstream, relayed.to_client), (30_001_500, 30_001_500));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_half_close_is_passed_on_while_the_other_direction_goes_on() {
        let (mut client, mut gateway_client) = duplex(100);
        let (mut server, mut gateway_server) = duplex(100);
        let session =
            tokio::spawn(async move { relay(&mut gateway_client, &mut gateway_server, Duration::from_secs(5)).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        let relayed = session.await.unwrap();
        assert!(relayed.broken.is_none());
        assert_eq!((relayed.to_upstream, relayed.to_client), (8, 6));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_session_without_a_byte_ends_at_the_idle_deadline_counted_from_the_last_byte() {
        let (mut client, mut gateway_client) = duplex(100);
        let (mut server, mut gateway_server) = duplex(100);
        let start = Instant::now();
        let session =
            tokio::spawn(async move { relay(&mut gateway_client, &mut gateway_server, Duration::from_secs(10)).await });
        tokio::time::advance(Duration::from_secs(7)).await;
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
        let relayed = session.await.unwrap();
        assert!(matches!(relayed.broken, Some(Broken::Idle)));
        assert_eq!(start.elapsed().as_secs(), 17);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_session_that_was_busy_ends_at_most_an_eighth_of_the_idle_deadline_late() {
        let (mut client, mut gateway_client) = duplex(100);
        let (mut server, mut gateway_server) = duplex(100);
        let session =
            tokio::spawn(async move { relay(&mut gateway_client, &mut gateway_server, Duration::from_secs(16)).await });
        for _ in 0..99 {
            client.write_all(b"x").await.unwrap();
            server.read_u8().await.unwrap();
            tokio::time::advance(Duration::from_millis(700)).await;
        }
        let last = Instant::now() - Duration::from_millis(700);
        assert!(matches!(session.await.unwrap().broken, Some(Broken::Idle)));
        let late = last.elapsed().checked_sub(Duration::from_secs(16)).unwrap();
        assert!(late <= Duration::from_millis(2010), "{late:?}");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_session_that_has_used_up_its_turn_still_ends_at_the_idle_deadline() {
        const MUCH: usize = 200 * BUFFER;
        let (mut client, mut gateway_client) = duplex(MUCH);
        let (mut server, mut gateway_server) = duplex(MUCH);
        client.write_all(&vec![0; MUCH]).await.unwrap(); // more than a task may move in a turn, all of it at hand
        let session =
            tokio::spawn(async move { relay(&mut gateway_client, &mut gateway_server, Duration::from_secs(16)).await });
        server.read_exact(&mut vec![0; MUCH]).await.unwrap();
        let relayed = tokio::time::timeout(Duration::from_secs(60), session).await.unwrap().unwrap();
        assert!(matches!(relayed.broken, Some(Broken::Idle)));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_byte_that_comes_just_as_the_alarm_rings_does_not_silence_it() {
        let (mut client, mut gateway_client) = duplex(100);
        let (mut server, mut gateway_server) = duplex(100);
        let start = Instant::now();
        let session =
            tokio::spawn(async move { relay(&mut gateway_client, &mut gateway_server, Duration::from_secs(10)).await });
        tokio::task::yield_now().await;
        client.write_all(b"x").await.unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        server.read_u8().await.unwrap();
        assert!(matches!(session.await.unwrap().broken, Some(Broken::Idle)));
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn more_bytes_than_every_buffer_holds_arrive_whole_and_in_order() {
        let (mut client, mut gateway_client) = duplex(1000);
        let (mut server, mut gateway_server) = duplex(777);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        tokio::spawn(async move { relay(&mut gateway_client, &mut gateway_server, Duration::from_secs(5)).await });
        tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert!(got == expected);
    }
}
