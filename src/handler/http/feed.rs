//! Feeds bytes to the scanner as the engine does, without a connection around it.
//!
//! For the property tests and the fuzz targets of the strict reader; compiled for them alone.

use super::fault::Fault;
use super::scan::{Beginning, Phase, Piece, Scanner};

/// What became of an input: the bytes that were accepted, the bodies in them, the fault, and what is waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) passed: Vec<u8>,
    /// What a service would read of each message's body.
    pub(super) bodies: Vec<Vec<u8>>,
    pub(super) fault: Option<Fault>,
    pub(super) phase: Phase,
}

impl Outcome {
    /// Whether both are the same. How much of a body passes before it is known to be broken may differ: none of it counts.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let alike = match self.fault {
            Some(fault) if fault.breaks_body() => {
                self.passed.starts_with(&other.passed) || other.passed.starts_with(&self.passed)
            }
            _ => self.passed == other.passed && self.bodies == other.bodies,
        };
        alike && self.fault == other.fault && (self.fault.is_some() || self.phase == other.phase)
    }
}

/// Reads an input that comes in pieces, as the engine does.
pub(super) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut scanner = Scanner::default();
    let mut held = Vec::new();
    let mut outcome = Outcome { passed: Vec::new(), bodies: Vec::new(), fault: None, phase: Phase::Between };
    for piece in pieces {
        held.extend_from_slice(piece);
        // Each turn but the last takes something off.
        loop {
            match step(&mut scanner, &held, &mut outcome) {
                Ok(0) => break,
                Ok(n) => drop(held.drain(..n)),
                Err(fault) => {
                    outcome.fault = Some(fault);
                    return outcome;
                }
            }
        }
        outcome.phase = scanner.phase();
    }
    outcome
}

/// Takes one step; how many bytes it took.
fn step(scanner: &mut Scanner, held: &[u8], outcome: &mut Outcome) -> Result<usize, Fault> {
    let n = if scanner.phase() == Phase::Body {
        match scanner.next_piece(held)? {
            Piece::More => 0,
            Piece::Framing(n) | Piece::Trailers(n) => n,
            Piece::Data(n) => {
                outcome.bodies.last_mut().into_iter().for_each(|body| body.extend_from_slice(&held[..n]));
                n
            }
        }
    } else {
        match scanner.next_head(held)? {
            None => 0,
            Some(Beginning::EmptyLine) => return Ok(2), // it does not go on
            Some(Beginning::Head(accepted)) => {
                outcome.bodies.push(Vec::new());
                accepted.len
            }
        }
    };
    outcome.passed.extend_from_slice(&held[..n]);
    Ok(n)
}
