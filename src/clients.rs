//! What each client of an endpoint may use, by its address, and what it has used.
//!
//! Owns the limits per address: connections open, and the rates of connections, handshakes and requests. Made by `plan`;
//! asked by `listener`, `connection` and the HTTP engine, which costs nothing where the endpoint's table sets no limit. The tables are `sketch`'s: their size does not depend on how many clients there are, and all workers share them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Rejection;
use crate::sketch::{Buckets, Counts, Open, Rate};

/// What one address may use; `None` for as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at a time.
    pub connections: Option<u32>,
    /// New connections.
    pub connection_rate: Option<Rate>,
    /// TLS handshakes begun.
    pub handshake_rate: Option<Rate>,
    /// HTTP requests.
    pub request_rate: Option<Rate>,
}

/// An endpoint's clients.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    connections: Option<(Arc<Counts>, u32)>,
    connection_rate: Option<(Arc<Buckets>, Rate)>,
    handshake_rate: Option<(Arc<Buckets>, Rate)>,
    request_rate: Option<(Arc<Buckets>, Rate)>,
}

impl Clients {
    /// With these limits. What is known of clients already is kept: a reload forgives nothing.
    #[must_use]
    pub fn new(limits: ClientLimits, known: Option<&Self>) -> Self {
        let now = Instant::now();
        let bucket = |rate: Option<Rate>, known: Option<&(Arc<Buckets>, Rate)>| {
            let table = || known.map_or_else(|| Arc::new(Buckets::new(now)), |(table, _)| Arc::clone(table));
            rate.map(|rate| (table(), rate))
        };
        let counts = || match known.and_then(|known| known.connections.as_ref()) {
            Some((table, _)) => Arc::clone(table),
            None => Arc::default(),
        };
        Self {
            connections: limits.connections.map(|most| (counts(), most)),
            connection_rate: bucket(limits.connection_rate, known.and_then(|known| known.connection_rate.as_ref())),
            request_rate: bucket(limits.request_rate, known.and_then(|known| known.request_rate.as_ref())),
            handshake_rate: bucket(limits.handshake_rate, known.and_then(|known| known.handshake_rate.as_ref())),
        }
    }

    /// Lets a client in; what is returned is to be kept for as long as its connection lasts.
    ///
    /// # Errors
    /// Why it is turned away.
    pub fn enter(&self, client: IpAddr) -> Result<Option<Open>, Rejection> {
        take(self.connection_rate.as_ref(), client).map_err(|_| Rejection::ClientConnectionRate)?;
        let Some((table, most)) = &self.connections else { return Ok(None) };
        table.open(client, *most).map(Some).ok_or(Rejection::ClientConnections)
    }

    /// Lets a client begin a handshake.
    ///
    /// # Errors
    /// Why it is turned away.
    pub fn shake_hands(&self, client: IpAddr) -> Result<(), Rejection> {
        take(self.handshake_rate.as_ref(), client).map_err(|_| Rejection::ClientHandshakeRate)
    }

    /// Lets a client make a request.
    ///
    /// # Errors
    /// How long it is to wait before the next.
    pub fn request(&self, client: IpAddr) -> Result<(), Duration> {
        take(self.request_rate.as_ref(), client)
    }
}

fn take(bucket: Option<&(Arc<Buckets>, Rate)>, client: IpAddr) -> Result<(), Duration> {
    match bucket {
        None => Ok(()),
        Some((table, rate)) => table.take(client, *rate, Instant::now()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_reload_that_changes_a_limit_forgives_nothing() {
        let rate = Some(Rate { interval: Duration::from_secs(3600), burst: 2 });
        let limits = ClientLimits { connections: Some(1), handshake_rate: rate, ..ClientLimits::default() };
        let clients = Clients::new(limits, None);
        let _held = clients.enter(CLIENT).unwrap();
        clients.shake_hands(CLIENT).unwrap();

        let after = Clients::new(ClientLimits { connection_rate: rate, ..limits }, Some(&clients));
        assert_eq!(after.enter(CLIENT).unwrap_err(), Rejection::ClientConnections);
        assert!(after.shake_hands(CLIENT).is_ok() && after.shake_hands(CLIENT).is_err());
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let clients = Clients::new(ClientLimits::default(), None);
        assert!(clients.enter(CLIENT).unwrap().is_none());
        assert!(clients.shake_hands(CLIENT).is_ok());
    }
}
