//! What the fuzz targets enter by: readers of a stranger's bytes, whose results do not matter, but that they end.

use super::{pkcs12, probe};

/// Reads a server's first flight.
pub fn read_flight(bytes: &[u8]) {
    let _ = probe::flight::read(bytes);
}

/// Opens a PKCS#12 bundle by the password of the seeds.
pub fn open_bundle(bytes: &[u8]) {
    let _ = pkcs12::open(bytes, "secret");
}
