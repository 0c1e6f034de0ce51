//! One gateway takes over from another: the new process is given the listening sockets of the old one, so that none is ever
//! closed and no connection refused; then the old one drains.
//!
//! `admin/control.rs` answers `POST /take-over` with [`give`]; `gateway` calls [`Predecessor`] before it opens anything; and
//! [`Successor`] starts the new process for `portcullis upgrade`. Both sides speak over one connection to the old gateway's
//! control socket: the old one sends its sockets (unix(7), SCM_RIGHTS), the new one says that it serves, the old one says
//! that it drains. A connection that ends before that changes nothing.

mod give;
mod successor;
mod take;

pub(crate) use self::give::give;
pub(crate) use self::successor::Successor;
pub(crate) use self::take::Predecessor;

use std::time::Duration;

/// What the control socket's connection becomes (RFC 9110, section 7.8).
pub(crate) const PROTOCOL: &str = "portcullis-take-over";

/// How many descriptors go with one message; Linux takes 253 (SCM_MAX_FD).
const AT_ONCE: usize = 64;
/// How many sockets a gateway can give away: a bound on what a successor waits for.
const MOST: usize = 4096;
/// How long either side waits for the other's next word. A successor reads and audits every chain in that time.
const PATIENCE: Duration = Duration::from_secs(300);

/// The words, a byte each.
mod word {
    /// The successor is ready for the sockets.
    pub(super) const SEND: u8 = b'S';
    /// Sockets come with this byte, and more will.
    pub(super) const MORE: u8 = b'M';
    /// That was all of them.
    pub(super) const ALL: u8 = b'A';
    /// The successor serves.
    pub(super) const SERVING: u8 = b'R';
    /// The old gateway drains.
    pub(super) const DRAINING: u8 = b'D';
}
