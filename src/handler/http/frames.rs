//! Follows the heads of an HTTP/2 client's frames (RFC 9113, section 4.1), without looking inside them.
//!
//! Owns what h2 keeps no account of: whether a frame or a header block was begun and not ended, and how many frames came
//! that ask for nothing. Pure: `paced` feeds it with what was read, in whatever pieces it came.

use super::serve::PREFACE;

/// A frame's head: length, type, flags, stream.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Where in the sequence of frames the reading stands.
#[derive(Debug)]
pub(super) struct Frames {
    /// The head of the frame that is being read, as far as it has come.
    head: [u8; HEAD],
    have: usize,
    /// So many bytes of its payload are to come.
    left: usize,
    /// A header block goes on in the next frame.
    block: bool,
    /// How often nothing was open, so that two blocks in a row can be told apart.
    turns: u32,
}

impl Frames {
    /// Before the client's preface.
    pub(super) fn new() -> Self {
        // The preface is passed over as the payload of a frame that says nothing; `serve` has its deadline.
        Self { head: [0, 0, 0, DATA, END_STREAM, 0, 0, 0, 0], have: HEAD, left: PREFACE.len(), block: false, turns: 0 }
    }

    /// Passes over what was read; how many frames ended in it that ask for nothing.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> u32 {
        let mut idle = 0;
        while !bytes.is_empty() {
            if self.have < HEAD {
                let n = bytes.len().min(HEAD - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                if self.have < HEAD {
                    break;
                }
                self.left = self.length();
            }
            let n = bytes.len().min(self.left);
            self.left -= n;
            bytes = &bytes[n..];
            if self.left == 0 {
                idle += u32::from(self.is_idle());
                self.end_frame();
            }
        }
        idle
    }

    /// Which header block, or other frame but DATA, was begun and has not ended; a number that changes with each.
    ///
    /// A DATA frame that stands still is its body's matter.
    pub(super) fn open(&self) -> Option<u32> {
        let begun = match self.have {
            0 => false,
            HEAD => self.kind() != DATA,
            _ => true,
        };
        (begun || self.block).then_some(self.turns)
    }

    fn end_frame(&mut self) {
        if matches!(self.kind(), HEADERS | CONTINUATION) {
            self.block = self.flags() & END_HEADERS == 0;
        }
        self.have = 0;
        if !self.block {
            self.turns = self.turns.wrapping_add(1);
        }
    }

    /// Whether the frame moves nothing on: no request, no byte of a body.
    ///
    /// A reset belongs to a request, and h2 counts those that come too soon. WINDOW_UPDATE belongs to an answer: as many
    /// come as the answer had frames, and each costs an addition.
    fn is_idle(&self) -> bool {
        match self.kind() {
            DATA => self.length() == 0 && self.flags() & END_STREAM == 0,
            HEADERS | RST_STREAM | WINDOW_UPDATE | CONTINUATION => false,
            _ => true, // PRIORITY, SETTINGS, PING, GOAWAY, and types that nobody knows
        }
    }

    fn length(&self) -> usize {
        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2])
    }

    fn kind(&self) -> u8 {
        self.head[3]
    }

    fn flags(&self) -> u8 {
        self.head[4]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PREFACE, WINDOW_UPDATE};

    const PRIORITY: u8 = 2;
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len().to_be_bytes();
        [&length[5..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        assert_eq!(frames.pass(PREFACE), 0);
        assert_eq!(frames.open(), None);
        frames
    }

    #[test]
    fn only_frames_that_move_nothing_on_are_counted() {
        for (kind, flags, payload, idle) in [
            (PING, 0, &[0; 8][..], 1),
            (PRIORITY, 0, &[0; 5], 1),
            (0xFF, 0, b"grease", 1),
            (DATA, 0, b"", 1),
            (DATA, END_STREAM, b"", 0),
            (DATA, 0, b"x", 0),
            (HEADERS, END_HEADERS, b"x", 0),
            (WINDOW_UPDATE, 0, &[0, 0, 0, 1], 0),
        ] {
            assert_eq!(begun().pass(&frame(kind, flags, payload)), idle, "type {kind}, flags {flags}");
        }
    }

    #[test]
    fn a_header_block_is_open_until_its_last_frame_has_ended() {
        let mut frames = begun();
        frames.pass(&frame(HEADERS, 0, b"block"));
        let open = frames.open();
        assert!(open.is_some());
        frames.pass(&frame(CONTINUATION, 0, b""));
        assert_eq!(frames.open(), open, "the same block");
        let last = frame(CONTINUATION, END_HEADERS, b"end");
        frames.pass(&last[..last.len() - 1]);
        assert_eq!(frames.open(), open);
        frames.pass(b"d");
        assert_eq!(frames.open(), None);
        frames.pass(&frame(HEADERS, 0, b"block"));
        assert!(frames.open().is_some() && frames.open() != open, "another block");
    }

    #[test]
    fn data_that_stands_still_is_not_open_but_half_a_head_is() {
        let mut frames = begun();
        frames.pass(&frame(DATA, 0, b"body")[..10]);
        assert_eq!(frames.open(), None);
        frames.pass(b"ody\0");
        assert!(frames.open().is_some());
    }

    proptest! {
        #[test]
        fn the_pieces_make_no_difference(
            list in prop::collection::vec((0_u8..12, 0_u8..8, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cut in 1_usize..50,
        ) {
            let bytes: Vec<u8> = list.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let (mut whole, mut pieces) = (begun(), begun());
            let all = whole.pass(&bytes);
            prop_assert_eq!(bytes.chunks(cut).map(|piece| pieces.pass(piece)).sum::<u32>(), all);
            prop_assert_eq!(whole.open(), pieces.open());
        }
    }
}
