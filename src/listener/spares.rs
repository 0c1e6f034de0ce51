//! A second descriptor of every listening socket, to be given to a successor.
//!
//! Kept by `reload` and, for the admin port, by `gateway`, which closes them when the drain begins: a socket that is still
//! open anywhere takes connections that nobody would accept.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a successor would be given. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spares(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Each with the number of the address that it belongs to.
    sockets: Vec<(u64, TcpListener)>,
    next: u64,
    closed: bool,
}

/// The descriptors of one address. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct Spare {
    number: u64,
    all: Spares,
}

impl Spares {
    /// Keeps a descriptor of each of these. One that cannot be had is left out, and said: all goes on without it, but a
    /// successor has to open that socket itself.
    pub(crate) fn keep(&self, sockets: &[TcpListener]) -> Spare {
        let mut kept = self.kept();
        let number = kept.next;
        kept.next += 1;
        for socket in sockets.iter().filter(|_| !kept.closed).collect::<Vec<_>>() {
            match socket.try_clone() {
                Ok(copy) => kept.sockets.push((number, copy)),
                Err(error) => tracing::warn!("a successor could not be given a listening socket: {error}"),
            }
        }
        Spare { number, all: self.clone() }
    }

    /// Every socket, by a descriptor of its own. Drop them soon: see above.
    ///
    /// # Errors
    /// There are no descriptors left, or the drain has begun.
    pub(crate) fn all(&self) -> io::Result<Vec<TcpListener>> {
        let kept = self.kept();
        if kept.closed {
            return Err(io::Error::other("the gateway drains already"));
        }
        kept.sockets.iter().map(|(_, socket)| socket.try_clone()).collect()
    }

    /// Closes them, and keeps none from now on.
    pub(crate) fn close(&self) {
        let mut kept = self.kept();
        kept.closed = true;
        kept.sockets.clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.all.kept().sockets.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_until_its_address_or_all_is_closed() {
        let spares = Spares::default();
        let open = || [TcpListener::bind("127.0.0.1:0").unwrap()];
        let first = spares.keep(&open());
        let second = spares.keep(&open());
        assert_eq!(spares.all().unwrap().len(), 2);
        drop(first);
        let address = spares.all().unwrap()[0].local_addr().unwrap();
        spares.close();
        assert!(spares.all().is_err());
        TcpListener::bind(address).unwrap(); // nothing holds it any more
        drop((second, spares.keep(&open())));
        assert!(spares.kept().sockets.is_empty());
    }
}
