//! A plugin's framing: messages are the same however the bytes arrive, and never more than allowed.
//!
//! The first three bytes choose the framing and how the rest is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::plugin::framing::{Broken, Found, Framing};

const MOST: usize = 48;

fuzz_target!(|data: &[u8]| {
    let Some(([kind, flags, cut], stream)) = data.split_first_chunk::<3>() else { return };
    let framing = match kind % 8 {
        size @ 0..4 => {
            Framing::Length { size: 1 << size, little_endian: flags & 1 != 0, counts_itself: flags & 2 != 0 }
        }
        length => Framing::Delimiter(b"\n\r\n\n"[..usize::from(length) - 3].to_vec()),
    };
    let step = usize::from(*cut).max(1);
    assert_eq!(messages(&framing, stream, step), messages(&framing, stream, stream.len().max(1)), "cutting matters");
});

/// The messages of a stream that arrives in pieces, and whether it broke.
fn messages(framing: &Framing, stream: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut have, mut searched, mut found) = (Vec::new(), 0, Vec::new());
    for piece in stream.chunks(step) {
        have.extend_from_slice(piece);
        loop {
            match framing.find(&have, searched, MOST) {
                Ok(Found::Message(length)) => {
                    assert!(length > 0 && length <= have.len() && length <= MOST, "a message of {length} bytes");
                    found.push(have.drain(..length).collect());
                    searched = 0;
                }
                Ok(Found::More(length)) => {
                    assert!(length > have.len() && length <= MOST, "waits for {length} bytes");
                    searched = have.len();
                    break;
                }
                Err(Broken) => return (found, true),
            }
        }
    }
    (found, false)
}
