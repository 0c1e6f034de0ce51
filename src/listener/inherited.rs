//! Listening sockets that were open before this process was: from a service manager, or from the gateway that it takes over
//! from.
//!
//! Filled by `gateway`; `reload` takes from it before it opens a socket of its own. A socket belongs to the address that it
//! is bound to, so nothing has to be named twice.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::SockRef;

/// Open sockets that nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Adds a socket.
    ///
    /// # Errors
    /// It is no TCP socket that listens.
    pub(crate) fn add(&mut self, socket: TcpListener) -> io::Result<()> {
        let address = socket.local_addr()?;
        let asked = SockRef::from(&socket);
        if !asked.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the socket at {address} does not listen"),
            ));
        }
        asked.set_cloexec(true)?;
        socket.set_nonblocking(true)?;
        self.0.push((address, socket));
        Ok(())
    }

    /// Every socket that is bound to an address, each only once.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        self.0.extract_if(.., |(bound, _)| *bound == address).map(|(_, socket)| socket).collect()
    }

    /// The addresses of those that are left.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }
}

/// Makes as many of one address's sockets as there are workers, so that each can accept. What is more than that stays too:
/// connections wait in its queue.
pub(super) fn shared_out(mut sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<TcpListener>> {
    let own = sockets.len();
    for index in own..workers {
        // The same queue by another descriptor, where a service manager opened one socket alone.
        let copy = sockets[index % own].try_clone()?;
        sockets.push(copy);
    }
    Ok(sockets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_given_to_its_address_once_and_every_worker_gets_one() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = Inherited::default();
        inherited.add(socket).unwrap();
        assert_eq!(inherited.addresses().collect::<Vec<_>>(), [address]);
        assert!(inherited.take("127.0.0.1:1".parse().unwrap()).is_empty());
        let sockets = shared_out(inherited.take(address), 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert!(inherited.take(address).is_empty());
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        assert!(Inherited::default().add(socket.into()).is_err());
    }
}
