//! Paths and routes: a normal form is its own and never leads above the root, and no spelling of a path gets past a route
//! that guards it, however leniently the upstream reads.
//!
//! The input is the route's path, a line end, and the request's target.

#![no_main]

use http::Uri;
use libfuzzer_sys::fuzz_target;
use portcullis::fuzzing::{Guarded, normal_path};

fuzz_target!(|data: &str| {
    let Some((guarded, target)) = data.split_once('\n') else { return };
    if let Some(normal) = normal_path(target) {
        assert!(normal.starts_with('/'));
        assert_eq!(normal_path(&normal).as_ref(), Some(&normal), "the normal form has another");
    }
    let (Some(guard), Ok(uri)) = (Guarded::new(guarded), target.parse::<Uri>()) else { return };
    let Some(sent) = guard.passes_on(&uri) else { return };
    let forbidden = Reader { parameters: Parameters::Kept, backslash: false, rounds: 1 }.segments(guarded);
    for parameters in [Parameters::Kept, Parameters::DroppedFirst, Parameters::DroppedLast] {
        for (backslash, rounds) in [(false, 1), (true, 1), (false, 2), (true, 2), (true, 3)] {
            let read = Reader { parameters, backslash, rounds }.segments(&sent);
            assert!(!read.iter().any(|segment| segment == b"." || segment == b".."), "a dot segment in {sent:?}");
            assert!(!read.starts_with(&forbidden), "{sent:?} is read as under {guarded:?}");
        }
    }
});

/// A way in which an upstream may read a path.
struct Reader {
    parameters: Parameters,
    /// A backslash is a slash.
    backslash: bool,
    /// How often escapes are taken back.
    rounds: usize,
}

/// What it makes of `;` and what follows in a segment.
#[derive(Clone, Copy, PartialEq)]
enum Parameters {
    Kept,
    /// Dropped, and escapes taken back after that.
    DroppedFirst,
    /// Dropped after escapes were taken back.
    DroppedLast,
}

impl Reader {
    fn segments(&self, path: &str) -> Vec<Vec<u8>> {
        let path: Vec<u8> = match self.parameters {
            Parameters::DroppedFirst => {
                let names = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
                names.collect::<Vec<_>>().join("/").into_bytes()
            }
            _ => path.as_bytes().to_vec(),
        };
        let plain = (0..self.rounds).fold(path, |path, _| unescaped(&path));
        let segments = plain.split(|b| *b == b'/' || (self.backslash && *b == b'\\')).map(|segment| {
            let end = segment.iter().position(|b| *b == b';' && self.parameters == Parameters::DroppedLast);
            segment[..end.unwrap_or(segment.len())].to_vec()
        });
        segments.filter(|segment| !segment.is_empty()).collect()
    }
}

fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (byte, after) = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, &after[2..]),
            (byte, ..) => (*byte, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}
