//! The strict reader, as the fuzz targets see it.

use super::authority;
use super::feed::{self, Outcome};
use super::scan::Phase;

/// What became of an input that came in pieces.
#[derive(Debug)]
pub struct Reading(Outcome);

/// Reads an HTTP/1.1 connection's bytes as the engine does.
pub fn read_requests<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    Reading(feed::read(pieces))
}

impl Reading {
    /// The bytes that were accepted, empty lines between requests left out.
    pub fn passed(&self) -> &[u8] {
        &self.0.passed
    }

    /// Whether it ended without a fault between two messages.
    pub fn is_between(&self) -> bool {
        self.0.fault.is_none() && self.0.phase == Phase::Between
    }

    /// What a service would read of each message's body.
    pub fn bodies(&self) -> &[Vec<u8>] {
        &self.0.bodies
    }

    /// Whether a body that was begun is broken.
    pub fn breaks_body(&self) -> bool {
        self.0.fault.is_some_and(|fault| fault.breaks_body())
    }

    /// Whether both readings come to the same.
    pub fn is_like(&self, other: &Self) -> bool {
        self.0.is_like(&other.0)
    }
}

/// Whether `Host` or `:authority` may say this.
pub fn is_authority(text: &[u8]) -> bool {
    authority::is_valid(text)
}
