//! Feeds bytes to the scanner as the guard does, without a connection around it.
//!
//! For the property tests and the fuzz targets of the strict reader; compiled for them alone.

use super::fault::Fault;
use super::scan::{Phase, Scanner, Then};

/// What became of an input: the bytes that went on, the fault, and what is waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) passed: Vec<u8>,
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
            _ => self.passed == other.passed,
        };
        alike && self.fault == other.fault && self.phase == other.phase
    }
}

/// Reads an input that comes in pieces, as the guard does.
pub(super) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut scanner = Scanner::new();
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let scanned = scanner.scan(&held);
            passed.extend(held.drain(..scanned.pass));
            match scanned.then {
                Then::Drop(n) => drop(held.drain(..n)),
                Then::Refuse(fault) | Then::Break(fault) => {
                    return Outcome { passed, fault: Some(fault), phase: scanner.phase() };
                }
                Then::Nothing | Then::More | Then::Hold => break,
            }
        }
    }
    Outcome { passed, fault: None, phase: scanner.phase() }
}
