//! A connection to a server for bytes instead of requests.
//!
//! Called by `handler/tcp_proxy`. Nothing was sent before the connection stands, so every server may be tried, each once.

use std::sync::Arc;

use tokio::time::Instant;

use super::Upstream;
use super::dial::{Open, Use};
use super::exchange::{ExchangeError, Failure};
use super::lease::Lease;
use super::retry::Course;
use super::wire::Wire;
use crate::trail::Trail;

/// A connection to a server. It counts as open, and the server as busy with it, until it is dropped.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub wire: Wire,
    /// The server.
    pub lease: Lease,
    /// How it was come by.
    pub trail: Trail,
    _open: Open,
}

impl Upstream {
    /// Connects to a server, chosen by `key` where the upstream is balanced by one.
    ///
    /// # Errors
    /// No server could be reached, or none has room; it is counted.
    pub async fn open_session(&self, key: Option<u64>) -> Result<Session, ExchangeError> {
        let mut course = Course::new(Instant::now(), key, &self.timeouts);
        let mut lease = self.first_lease(&mut course).await?;
        loop {
            match self.dial(&lease, None, Use::Bytes, &mut course.trail.connect).await {
                Ok(wire) => {
                    lease.health.succeeded(Instant::now());
                    lease.metrics.here().requests.add(1);
                    let open = lease.opened();
                    course.trail.server = Some(Arc::clone(&lease.name));
                    return Ok(Session { wire, lease, trail: course.end(), _open: open });
                }
                Err(error) => {
                    let failure = Failure::Dial(error);
                    match self.another(&mut course, &lease, &failure, true) {
                        Some(next) => lease = next,
                        None => return Err(lease.failed(failure, &mut course)),
                    }
                }
            }
        }
    }
}
